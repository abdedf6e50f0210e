"""An implementation's counts by name, and its faults, each logged once."""

from collections import Counter
from types import TracebackType
from typing import Final

from twisted.logger import Logger

_NAMES: Final = 200
_KINDS_OF_FAULT: Final = 100


class Metrics:
    """Counters by name; `docs/writing-a-provider.md` explains those of the framework."""

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
    """Logs each kind of fault once. Senders of requests must not be able to fill the log, or to get content into it."""

    def __init__(self, name: str, log: Logger) -> None:
        self._name, self._log = name, log
        self._reported: set[str] = set()

    def report(self, fault: str) -> None:
        """Log `fault`, which must hold nothing from a request."""
        if fault not in self._reported and len(self._reported) < _KINDS_OF_FAULT:
            self._reported.add(fault)
            self._log.error(
                "The implementation {name} {fault}; from now on this is only counted", name=self._name, fault=fault
            )

    def report_error(self, error: BaseException) -> None:
        """Log the type and the place of an error. Its text may hold content of a request, so it is not logged."""
        self.report(f"raised {type(error).__name__}{_place(error.__traceback__)}")


def _place(traceback: TracebackType | None) -> str:
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f" ({traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno})"
