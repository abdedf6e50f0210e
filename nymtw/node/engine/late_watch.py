"""Logs an overload of the node: packets were dropped because they were late."""

from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.drop_reasons import DropReason
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.node.service import PeriodicService

INTERVAL: Final = 10.0  # seconds
AGAIN: Final = 60.0  # seconds between two lines while it goes on


class LateWatch(PeriodicService):
    """Logs the first drops of late packets, then their number each minute, and the end of the overload."""

    log = Logger()

    def __init__(self, clock: IReactorTime, counters: PacketCounters) -> None:
        super().__init__(clock, INTERVAL)
        self._counters = counters
        self._counted = 0  # late packets
        self._logged = 0  # late packets that were logged
        self._when: float | None = None  # of the last line; None while all is well

    def tick(self) -> None:
        """Compare the count of late packets with the last one, and log a change."""
        now = self._clock.seconds()
        total = self._counters.snapshot().dropped.get(DropReason.TOO_LATE, 0)
        grown, self._counted = total > self._counted, total
        if self._when is not None and now - self._when < AGAIN:
            return
        if total > self._logged:
            self.log.warn(
                "This node is late, and has dropped its {count} oldest packets: it gets more than it can process",
                count=total - self._logged,
            )
            self._logged, self._when = total, now
        elif self._when is not None and not grown:
            self.log.info("This node is in time again")
            self._when = None
