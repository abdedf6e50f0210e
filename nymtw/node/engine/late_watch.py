"""Says that a node has more to do than it can: packets were dropped because they were late."""

from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.drop_reasons import DropReason
from nymtw.node.engine.packet_counters import PacketCounters

INTERVAL: Final = 10.0  # seconds
AGAIN: Final = 60.0  # seconds between two lines while it goes on


class LateWatch(Service):
    """Says once that packets are dropped as too late, then how many each minute, and once that it is over."""

    log = Logger()

    def __init__(self, clock: IReactorTime, counters: PacketCounters) -> None:
        self._clock: Any = clock
        self._counters = counters
        self._call: Any = None
        self._counted = 0  # that are known here
        self._said = 0  # that have been said
        self._when: float | None = None  # of the last line; None while all is well

    def startService(self) -> None:
        """Watch from now on."""
        super().startService()
        self._call = self._clock.callLater(INTERVAL, self._look)

    def stopService(self) -> None:
        """Watch no more."""
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = self._clock.callLater(INTERVAL, self._look)
        now = self._clock.seconds()
        total = self._counters.snapshot().dropped.get(DropReason.TOO_LATE, 0)
        grown, self._counted = total > self._counted, total
        if self._when is not None and now - self._when < AGAIN:
            return
        if total > self._said:
            self.log.warn(
                "This node is late, and has dropped its {count} oldest packets: there is more to do than it can",
                count=total - self._said,
            )
            self._said, self._when = total, now
        elif self._when is not None and not grown:
            self.log.info("This node is in time again")
            self._when = None
