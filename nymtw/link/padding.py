"""Padded lines: frames leave in slots that a published rate decides on, a packet if one waits, else a dummy.

What an observer of the line counts and times is then the same for any senders and recipients. A line that is offered
more than its rate for long drops the oldest packets: its pattern says nothing of that either.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nymtw.drop_reasons import DropReason
from nymtw.link.frames import encode_dummy
from nymtw.sphinx.geometry import GEOMETRIES, SizeClass

LONGEST_WAIT: Final = 1.0  # seconds that a packet waits for a slot: its sender sends it again soon after
_SLEPT: Final = 10.0  # seconds: after so long the slots in between are not even drawn
_ROUNDING: Final = 1e-6  # a timer may be early by so many seconds

# Frames a second of each size class that has slots on a line.
Rates = Mapping[int, float]


@dataclass(slots=True)
class PaddingCounts:
    """Of all padded lines of a node, since its start: dummies sent and received, and how many frames were skipped
    because the machine was late, or the other end did not read."""

    sent: int = 0
    received: int = 0
    skipped: int = 0


class Line(Protocol):
    """The connection of a padded link."""

    @property
    def blocked(self) -> bool:
        """Whether the transport takes no more for now."""

    def send(self, data: bytes) -> None:
        """Write one frame."""


class PaddedLink(Protocol):
    """What a slot queue asks of its link, and tells it."""

    def ready(self) -> Line | None:
        """The connection, if frames can leave; else it is being made."""

    def take(self, slot_queue: "SlotQueue") -> bytes:
        """The oldest frame of a slot queue, which leaves now."""

    def drop(self, slot_queue: "SlotQueue", reason: DropReason) -> None:
        """The oldest frame of a slot queue has waited for too long."""

    def was_sent(self, packets: int, records: int) -> None:
        """A slot was used: so many packets, so many records."""


class SlotQueue:
    """The slots of one size class on one line, and the packets that wait for them (since when, encoded frame)."""

    __slots__ = (
        *("_counts", "_length", "_link", "_random", "_rate", "_size_class"),
        *("closed", "due", "frames", "slots", "waiting"),
    )

    def __init__(
        self,
        link: PaddedLink,
        size_class: int,
        rate: float,
        slots: Iterator[tuple[float, int]],
        random: Random,
        counts: PaddingCounts,
    ) -> None:
        self._link = link
        self._size_class = size_class
        self._rate = rate
        self._length = GEOMETRIES[SizeClass(size_class)].packet_length
        self._random = random
        self._counts = counts
        self.slots = slots
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.due = 0.0
        self.frames = 0
        self.closed = False

    def fire(self, now: float) -> None:
        """A slot has come: as many frames as it has, each a TLS record of its own."""
        link, waiting = self._link, self.waiting
        connection = link.ready()
        if connection is None:
            return
        oldest = now - LONGEST_WAIT
        while waiting and waiting[0][0] < oldest:
            link.drop(self, DropReason.LINE_FULL)
        if connection.blocked:
            self._counts.skipped += self.frames
            return
        packets = 0
        for _ in range(self.frames):
            if waiting:
                connection.send(link.take(self))
                packets += 1
            else:
                connection.send(encode_dummy(self._size_class, self._random.randbytes(self._length)))
        self._counts.sent += self.frames - packets
        link.was_sent(packets, self.frames)

    def go_on(self, now: float) -> None:
        """Set `due` and `frames` to those of the next slot; those that should have been by now are skipped."""
        behind = now - self.due
        if behind > _SLEPT:
            self._counts.skipped += int(behind * self._rate)
            self.due = now
        gap, self.frames = next(self.slots)
        self.due += gap
        while self.due <= now:
            self._counts.skipped += self.frames
            gap, self.frames = next(self.slots)
            self.due += gap


class SlotClock:
    """One timer for the slots of all lines of a node. A slot that the reactor is late for is skipped, not made up
    for.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock: Any = clock
        self._heap: list[tuple[float, int, SlotQueue]] = []
        self._order = count()
        self._timer: IDelayedCall | None = None

    def add(self, slot_queue: SlotQueue) -> None:
        """Give this slot queue its slots from now on, until it is `closed`."""
        gap, slot_queue.frames = next(slot_queue.slots)
        slot_queue.due = self._clock.seconds() + gap
        heapq.heappush(self._heap, (slot_queue.due, next(self._order), slot_queue))
        self._arm()

    def stop(self) -> None:
        """No more slots; no timer is left."""
        self._heap.clear()
        self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        heap = self._heap
        while heap and heap[0][2].closed:
            heapq.heappop(heap)
        if not heap:
            self._disarm()
        elif self._timer is None or heap[0][0] < self._timer.getTime():
            self._disarm()
            self._timer = self._clock.callLater(max(0.0, heap[0][0] - self._clock.seconds()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        heap, now = self._heap, self._clock.seconds()
        while heap and heap[0][0] <= now + _ROUNDING:
            slot_queue = heap[0][2]
            if slot_queue.closed:
                heapq.heappop(heap)
                continue
            slot_queue.fire(now)
            if not heap or heap[0][2] is not slot_queue:  # what was sent has led to the end of it all
                break
            slot_queue.go_on(now)
            heapq.heapreplace(heap, (slot_queue.due, next(self._order), slot_queue))
        self._arm()


def slot_queues(
    link: PaddedLink,
    rates: Rates,
    slots: Callable[[float, Random], Iterator[tuple[float, int]]],
    random: Random,
    counts: PaddingCounts,
) -> dict[int, SlotQueue]:
    """The slot queues of a line, by the length of their frames."""
    queues = {}
    for size_class, rate in rates.items():
        if rate > 0:
            slot_queue = SlotQueue(link, size_class, rate, slots(rate, random), random, counts)
            queues[len(encode_dummy(size_class, bytes(GEOMETRIES[SizeClass(size_class)].packet_length)))] = slot_queue
    return queues
