"""Counts of what an implementation does, by reason; and its faults, each said once."""

from collections import Counter
from types import TracebackType
from typing import Final

from twisted.logger import Logger

_NAMES: Final = 200
_KINDS_OF_FAULT: Final = 100


class Metrics:
    """Counters by name; those of the framework are listed in `docs/writing-a-provider.md`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, name: str, number: int = 1) -> None:
        """Add `number` to the counter `name`; a name beyond the 200th is counted as `other`."""
        self._counts[name if name in self._counts or len(self._counts) < _NAMES else "other"] += number

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def snapshot(self) -> dict[str, int]:
        """All counts since the start, by name."""
        return {name: self._counts[name] for name in sorted(self._counts)}

    def __str__(self) -> str:
        return ", ".join(f"{name} {number}" for name, number in self.snapshot().items()) or "nothing yet"


class Faults:
    """Says each kind of fault once: whoever sends requests must not be able to fill the log, nor to read in it."""

    def __init__(self, name: str, log: Logger) -> None:
        self._name, self._log = name, log
        self._said: set[str] = set()

    def say(self, fault: str) -> None:
        """Log `fault`, which holds nothing that came from a request."""
        if fault not in self._said and len(self._said) < _KINDS_OF_FAULT:
            self._said.add(fault)
            self._log.error(
                "The implementation {name} {fault}; from now on this is only counted", name=self._name, fault=fault
            )

    def say_raised(self, error: BaseException) -> None:
        """Log the type of an error and where it was raised; its text may hold what the request held."""
        self.say(f"raised {type(error).__name__}{_place(error.__traceback__)}")


def _place(traceback: TracebackType | None) -> str:
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f" ({traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno})"
