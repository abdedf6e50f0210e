"""A worker's counts, in memory shared with the node: they are readable at any time, even after a kill -9."""

import mmap
import os
import tempfile
from collections import Counter
from typing import Any, Final

from nymtw.drop_reasons import DropReason
from nymtw.link.padding import PaddingCounts
from nymtw.node.engine.packet_counters import PacketCounters

_REASONS: Final = tuple(DropReason)
_FORWARDED, _RECEIVED, _ENDED_CONNECTIONS, _BEATS, _PENDING, _LINKS_IN, _LINKS_OUT, _PADDING, _DROPPED = (
    *range(8),
    10,
)
LENGTH: Final = 8 * (_DROPPED + len(_REASONS))  # bytes


def shared_file() -> int:
    """The descriptor of a new file in memory, with `LENGTH` zero bytes. Raises OSError."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("nymtw-counts", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile(buffering=0) as file:
            descriptor = os.dup(file.fileno())
    os.write(descriptor, bytes(LENGTH))
    return descriptor


def shared_memory(descriptor: int) -> mmap.mmap:
    """The memory of such a file. The descriptor may be closed afterwards."""
    return mmap.mmap(descriptor, LENGTH)


class WorkerCounts:
    """The counts of one worker since its start: numbers of 8 bytes in a writable buffer of `LENGTH` bytes.

    The worker writes, with the methods of `PacketCounters`; the node only reads.
    """

    def __init__(self, buffer: Any) -> None:
        self._counts = memoryview(buffer).cast("Q")
        self._place = {reason: _DROPPED + number for number, reason in enumerate(_REASONS)}

    def received(self, count: int = 1) -> None:
        self._counts[_RECEIVED] += count

    def forwarded(self, count: int = 1) -> None:
        self._counts[_FORWARDED] += count

    def dropped(self, reason: DropReason, count: int = 1) -> None:
        self._counts[self._place[reason]] += count

    def connection_ended(self) -> None:
        """Count the end of a connection that the node has handed over."""
        self._counts[_ENDED_CONNECTIONS] += 1

    def beat(self, pending: int, links: tuple[int, int], padding: PaddingCounts) -> None:
        """Show that the worker's reactor runs, once a second. `pending`: packets in its links; `links`: in, out."""
        counts = self._counts
        for place, number in enumerate((padding.sent, padding.received, padding.skipped), _PADDING):
            counts[place] = number
        counts[_PENDING] = pending
        counts[_LINKS_IN], counts[_LINKS_OUT] = links
        counts[_BEATS] += 1

    @property
    def received_total(self) -> int:
        return self._counts[_RECEIVED]

    @property
    def forwarded_total(self) -> int:
        return self._counts[_FORWARDED]

    @property
    def dropped_by_reason(self) -> Counter[DropReason]:
        return Counter({reason: count for reason, place in self._place.items() if (count := self._counts[place])})

    @property
    def connections_ended(self) -> int:
        return self._counts[_ENDED_CONNECTIONS]

    @property
    def beats(self) -> int:
        return self._counts[_BEATS]

    @property
    def pending(self) -> int:
        """Packets in the links, at most a second old."""
        return self._counts[_PENDING]

    @property
    def padding(self) -> PaddingCounts:
        """A second ago at the most."""
        return PaddingCounts(*self._counts[_PADDING:_DROPPED])

    @property
    def links(self) -> tuple[int, int]:
        """Links that are up, in and out, at most a second old."""
        return self._counts[_LINKS_IN], self._counts[_LINKS_OUT]


class CountTransfer:
    """Adds a worker's counts to the node's counters; remembers what has been added already."""

    def __init__(self, counts: WorkerCounts) -> None:
        self._counts = counts
        self._forwarded = self._received = 0
        self._dropped: Counter[DropReason] = Counter()

    def add_departures(self, counters: PacketCounters) -> None:
        """Add the packets that have left the node since the last call."""
        forwarded, dropped = self._counts.forwarded_total, self._counts.dropped_by_reason
        counters.forwarded(forwarded - self._forwarded)
        for reason, count in (dropped - self._dropped).items():
            counters.dropped(reason, count)
        self._forwarded, self._dropped = forwarded, dropped

    def add_arrivals(self, counters: PacketCounters) -> None:
        """Add the packets that have arrived since the last call. Call `add_departures` of all workers first, so that
        the queued number is never negative.
        """
        received = self._counts.received_total
        counters.received(received - self._received)
        self._received = received
