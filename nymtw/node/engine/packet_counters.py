"""The account of a node's packets: received = forwarded + delivered + queued + dropped, each drop with its reason."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from nymtw.drop_reasons import DropReason


@dataclass(frozen=True, slots=True)
class CountersSnapshot:
    """The counts since the start of the process; `queued` is what makes the sum come out."""

    received: int
    forwarded: int
    delivered: int
    queued: int
    dropped: dict[DropReason, int]


def _nothing() -> None:
    pass


class PacketCounters:
    """Counts packets. Every packet that is `received` must end in exactly one of the other three.

    Where others count too, `update` brings their counts here: it is called before anybody reads the sum.
    """

    def __init__(self) -> None:
        self.update: Callable[[], None] = _nothing
        self.received_total = 0
        self.forwarded_total = 0
        self.delivered_total = 0
        self._dropped: Counter[DropReason] = Counter()

    def received(self, count: int = 1) -> None:
        self.received_total += count

    def forwarded(self, count: int = 1) -> None:
        self.forwarded_total += count

    def delivered(self, count: int = 1) -> None:
        self.delivered_total += count

    def dropped(self, reason: DropReason, count: int = 1) -> None:
        self._dropped[reason] += count

    @property
    def dropped_total(self) -> int:
        return self._dropped.total()

    @property
    def queued(self) -> int:
        """The number of packets inside the node; negative only if something was counted twice."""
        self.update()
        return self.received_total - self.forwarded_total - self.delivered_total - self._dropped.total()

    def snapshot(self) -> CountersSnapshot:
        """The counts for the metrics."""
        queued = self.queued
        return CountersSnapshot(
            self.received_total, self.forwarded_total, self.delivered_total, queued, dict(self._dropped)
        )
