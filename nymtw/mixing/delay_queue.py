"""Packets wait here for as long as their senders asked: one heap, and one timer armed for its earliest entry."""

import math
import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final, Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from nymtw.interfaces import IMixing

T = TypeVar("T")

# A queue with more items than BUSY releases no sooner than BEAT seconds after it last did, because packets that leave
# together cost less, in turns of the reactor and in writes. Nobody leaves early, and nobody later than by a beat.
BUSY: Final = 128
BEAT: Final = 0.002


@implementer(IMixing)
class DelayQueue(Generic[T]):
    """Holds at most `capacity` items and hands those that are due to `release`, in random order.

    Where the process was late, and an item is overdue by more than `patience` seconds, it is dropped: `late` is told
    how many were.
    """

    def __init__(
        self,
        clock: IReactorTime,
        release: Callable[[list[T]], object],
        random: random.Random,
        capacity: int,
        patience: float = math.inf,
        late: Callable[[int], object] = lambda count: None,
    ) -> None:
        self._patience = patience
        self._late = late
        self._resumed = float("-inf")  # when: what fell due in a pause was not late
        self._clock: Any = clock
        self._release = release
        self._random = random
        self._capacity = capacity
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0  # of all items ever: keeps the heap from comparing items
        self._timer: IDelayedCall | None = None
        self._armed_for = 0.0
        self._released = float("-inf")  # when
        self._paused = False

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, item: T, delay_ns: int) -> bool:
        """Hold `item` for `delay_ns` nanoseconds, however many. False where the queue is full: then it is not held."""
        heap = self._heap
        if len(heap) >= self._capacity:
            return False
        due = self._clock.seconds() + delay_ns * 1e-9
        self._count += 1
        heappush(heap, (due, self._count, item))
        if self._timer is None or due < self._armed_for:
            self._arm()
        return True

    def pause(self) -> None:
        """Release nothing before `resume`; packets are still taken, as many as there is room for."""
        self._paused = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """Go on: what fell due in the meantime leaves at once, in random order."""
        self._paused = False
        self._resumed = self._clock.seconds()
        if self._heap and self._timer is None:
            self._arm()

    def drain(self) -> list[T]:
        """Take out everything, due or not, in random order; the queue is empty and no timer is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        items = [item for _, _, item in self._heap]
        self._heap.clear()
        self._random.shuffle(items)
        return items

    def _arm(self) -> None:
        """Arm the timer for the earliest entry, if the queue is not paused."""
        if self._paused:
            return
        when = self._heap[0][0]
        if len(self._heap) > BUSY:
            when = max(when, self._released + BEAT)
        if self._timer is not None:
            if when == self._armed_for:
                return
            self._timer.cancel()
        self._armed_for = when
        self._timer = self._clock.callLater(max(0.0, self._armed_for - self._clock.seconds()), self._due)

    def _due(self) -> None:
        self._timer = None
        # What the timer was armed for is due, even where rounding made it fire a hair early.
        now = max(self._clock.seconds(), self._armed_for)
        heap = self._heap
        self._released = now
        items, late, oldest = [], 0, now - self._patience
        while heap and heap[0][0] <= now:
            due, _, item = heappop(heap)
            if due < oldest and self._resumed < oldest:
                late += 1
            else:
                items.append(item)
        self._random.shuffle(items)
        try:
            if late:
                self._late(late)
            if items:
                self._release(items)
        finally:
            if heap and self._timer is None:
                self._arm()
