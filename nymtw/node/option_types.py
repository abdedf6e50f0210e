"""Help with `twisted.python.usage`: types of options, which check a text and return its value, and argument order."""

from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from twisted.python import usage

T = TypeVar("T")


class CommandOptions(usage.Options):
    """The options of every command of nymtw."""

    def opt_version(self) -> NoReturn:
        """Print nymtw's version and exit."""
        from importlib.metadata import version

        print(f"nymtw {version('nymtw')}")
        raise SystemExit(0)


def whole_number(least: int, most: int, unit: str = "") -> Callable[[str], int]:
    """A parser of whole numbers from `least` to `most`. The parser raises ValueError."""
    rule = f"a number{f' of {unit}' if unit else ''} from {least} to {most}"

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise ValueError(f"this is {rule}")
        return int(text)

    return _described(parse, rule)


def number(least: float, most: float, unit: str = "") -> Callable[[str], float]:
    """A parser of numbers from `least` to `most`. The parser raises ValueError."""
    rule = f"a number{f' of {unit}' if unit else ''} from {least:g} to {most:g}"

    def parse(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise ValueError(f"this is {rule}")
        return value

    return _described(parse, rule)


def options_first(options: usage.Options, words: Sequence[str]) -> list[str]:
    """The words of a command line with all options before the arguments: `usage.Options` stops at the first one."""
    left = list(words)
    with_value = {name.rstrip("=") for name in options.longOpt if name.endswith("=")}
    first: list[str] = []
    last: list[str] = []
    while left:
        word = left.pop(0)
        if word == "--":
            last += left
            break
        if not word.startswith("-") or word == "-":
            last.append(word)
            continue
        first.append(word)
        if word[2:] in with_value and left:
            first.append(left.pop(0))
    return [*first, "--", *last]


def argument_last(arguments: Sequence[str]) -> list[str]:
    """The arguments with a first one that is not an option moved to the end: `usage.Options` would stop there."""
    first, rest = list(arguments[:1]), list(arguments[1:])
    return [*first, *rest] if first and first[0].startswith("-") else [*rest, *first]


def _described(parse: Callable[[str], T], rule: str) -> Callable[[str], T]:
    """Set the text that `usage.Options` shows for a wrong value."""
    parse.coerceDoc = f"{rule[0].upper()}{rule[1:]}."  # type: ignore[attr-defined]
    return parse
