"""Types of command-line options: functions that check a text and return its value, for `twisted.python.usage`."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


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


def _described(parse: Callable[[str], T], rule: str) -> Callable[[str], T]:
    """Set the text that `usage.Options` shows for a wrong value."""
    parse.coerceDoc = f"must be {rule}."  # type: ignore[attr-defined]
    return parse
