"""A node's public packet counts: sums over whole minutes, and nothing about any peer."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime

from nymtw.node.engine.packet_counters import CountersSnapshot

RESOLUTION: Final = 60.0  # seconds
_NOTHING: Final = CountersSnapshot(0, 0, 0, 0, {})


@dataclass(frozen=True, slots=True)
class Counts:
    """The packet counts at `time` (wall-clock seconds)."""

    time: float
    counters: CountersSnapshot


class Statistics(Service):
    """Reads the packet counts at the start and once a minute. In between, the answers do not change.

    The longer the period of the sums, the less an observer of one link learns from them.
    """

    def __init__(
        self, clock: IReactorTime, wall_clock: Callable[[], float], counters: Callable[[], CountersSnapshot]
    ) -> None:
        self._clock: Any = clock
        self._wall_clock = wall_clock
        self._counters = counters
        self._call: Any = None
        self.started = self._clock.seconds()
        self.last = self.before = Counts(wall_clock(), _NOTHING)

    @property
    def uptime(self) -> float:
        """Seconds since the node was created."""
        return float(self._clock.seconds()) - self.started

    def startService(self) -> None:
        """Begin to read the counts."""
        super().startService()
        self._take()

    def stopService(self) -> None:
        """Stop reading the counts."""
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _take(self) -> None:
        self._call = self._clock.callLater(RESOLUTION, self._take)
        self.before, self.last = self.last, Counts(self._wall_clock(), self._counters())

    def mixing(self) -> dict[str, Any]:
        """Packets received, sent and dropped, since the start and within the last whole minute."""
        now, before = self.last.counters, self.before.counters
        return {
            "update_time": _time_text(self.last.time),
            "previous_update_time": _time_text(self.before.time),
            "received_since_startup": now.received,
            "sent_since_startup": now.forwarded,
            "dropped_since_startup": sum(now.dropped.values()),
            "received_since_last_update": now.received - before.received,
            "sent_since_last_update": now.forwarded - before.forwarded,
            "dropped_since_last_update": sum(now.dropped.values()) - sum(before.dropped.values()),
        }

    def packets(self) -> dict[str, Any]:
        """All counts: received = forwarded + delivered + queued + dropped."""
        counters = self.last.counters
        return {
            "update_time": _time_text(self.last.time),
            "received": counters.received,
            "forwarded": counters.forwarded,
            "delivered": counters.delivered,
            "queued": counters.queued,
            "dropped": {reason.value: number for reason, number in sorted(counters.dropped.items()) if number},
        }


def _time_text(seconds: float) -> str:
    """RFC 3339, in UTC, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
