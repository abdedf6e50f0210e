"""The reported traffic of mixnodes, summed over one window after the other. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nymtw.errors import DirectoryError
from nymtw.topology.presence import Metric

WINDOW = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Counts:
    """One mixnode's reports within a window: packets, and the time of the last one (nanoseconds since 1970)."""

    public_key: str
    sent: int
    received: int
    timestamp: int


class TrafficWindows:
    """The window that is being filled, and the one before it, which is complete.

    Windows are `window` seconds of `seconds`, one behind the other. One Counts for each mixnode and window, so that the
    memory is bounded by the number of nodes.
    """

    def __init__(self, seconds: Callable[[], float], wall_clock: Callable[[], float], window: float = WINDOW) -> None:
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._window = window
        self._number = self._now()
        self._filling: dict[bytes, Counts] = {}
        self._complete: dict[bytes, Counts] = {}
        self._newest: dict[bytes, int] = {}

    @property
    def reporters(self) -> frozenset[bytes]:
        """Identities of the mixnodes whose newest metric is remembered."""
        return frozenset(self._newest)

    def accept(self, metric: Metric, is_live: Callable[[bytes], bool]) -> None:
        """Add a metric that has been checked but for its time: one that is not newer than the last is refused.

        Raises `DirectoryError`.
        """
        self._roll(is_live)
        if metric.timestamp <= self._newest.get(metric.identity, -1):
            raise DirectoryError("this metric is not newer than the last one of this identity")
        self._newest[metric.identity] = metric.timestamp
        before = self._filling.get(metric.identity)
        self._filling[metric.identity] = Counts(
            metric.public_key,
            metric.sent + (before.sent if before else 0),
            metric.received + (before.received if before else 0),
            int(self._wall_clock() * 1e9),
        )

    def complete(self, is_live: Callable[[bytes], bool]) -> list[Mapping[str, Any]]:
        """The last complete window: JSON-able objects, by identity."""
        self._roll(is_live)
        return [
            {
                "pubKey": counts.public_key,
                "sent": counts.sent,
                "received": counts.received,
                "timestamp": counts.timestamp,
            }
            for _, counts in sorted(self._complete.items())
        ]

    def _now(self) -> int:
        return int(self._seconds() // self._window)

    def _roll(self, is_live: Callable[[bytes], bool]) -> None:
        number = self._now()
        if number == self._number:
            return
        self._complete = self._filling if number == self._number + 1 else {}
        self._filling = {}
        self._number = number
        for identity in [identity for identity in self._newest if not is_live(identity)]:
            del self._newest[identity]
