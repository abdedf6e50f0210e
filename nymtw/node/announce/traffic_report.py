"""Reports a node's traffic to the directory every second: received and sent packets, without names."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from twisted.internet.interfaces import IReactorTime

from nymtw.interfaces import IDirectory
from nymtw.node.announce.poster import Poster
from nymtw.node.engine.packet_counters import PacketCounters

INTERVAL = 1.0  # seconds


class TrafficReport(Poster):
    """Posts what `make(sent, received, ...)` returns: a signed metric of what was since the last one that was taken."""

    trouble = "cannot report metrics, trying again"
    relief = "metrics are reported again"

    def __init__(
        self,
        clock: IReactorTime,
        directory: IDirectory,
        counters: PacketCounters,
        make: Callable[..., Mapping[str, Any]],
        random: Random,
        interval: float = INTERVAL,
        more: Callable[[], tuple[int, ...]] = tuple,
        is_known: Callable[[], bool] = lambda: True,
    ) -> None:
        """`interval` in seconds; `more` returns further sums, for the further arguments of `make`.

        What was before the service starts is not reported. `is_known()`: whether the directory knows this node; it
        takes metrics of no other.
        """
        super().__init__(clock, self._report, random, interval)
        self._directory = directory
        self._counters = counters
        self._make = make
        self._more = more
        self._is_known = is_known
        self._reported: tuple[int, ...] = ()
        self._reporting: tuple[int, ...] = ()

    def startService(self) -> None:
        """Count from now on."""
        self._reported = self._reporting = self._totals()
        super().startService()

    def is_due(self) -> bool:
        """Once a heartbeat has been accepted, and while they are."""
        return self._is_known()

    def succeeded(self) -> None:
        """Leave posted packets out of the next report."""
        self._reported = self._reporting

    def _report(self) -> Any:
        self._reporting = self._totals()
        since = (now - before for now, before in zip(self._reporting, self._reported, strict=True))
        return self._directory.report(self._make(*since))

    def _totals(self) -> tuple[int, ...]:
        return (self._counters.forwarded_total, self._counters.received_total, *self._more())
