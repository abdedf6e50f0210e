"""No mixing: packets leave as they come. What a measure of anonymity must be able to tell from mixing."""

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from zope.interface import implementer

from nymtw.interfaces import IMixing

T = TypeVar("T")


@implementer(IMixing)
class AtOnce(Generic[T]):
    """Hands every item to `release` in the next turn of the clock, in order, whatever its delay."""

    def __init__(
        self,
        clock: Any,
        release: Callable[[list[T]], object],
        random: Any,
        capacity: int,
        patience: float = math.inf,
        late: Callable[[int], object] = lambda count: None,
    ) -> None:
        """As `IMixing` says; nothing is ever held, so nothing is late."""
        self._clock, self._release, self._capacity = clock, release, capacity
        self._items: list[T] = []
        self._timer: Any = None
        self._paused = False

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: T, delay_ns: int) -> bool:
        """As `IMixing`; the delay is passed over."""
        if len(self._items) >= self._capacity:
            return False
        self._items.append(item)
        self._arm()
        return True

    def pause(self) -> None:
        """As `IMixing`."""
        self._paused = True

    def resume(self) -> None:
        """As `IMixing`."""
        self._paused = False
        self._arm()

    def drain(self) -> list[T]:
        """As `IMixing`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        items, self._items = self._items, []
        return items

    def _arm(self) -> None:
        if self._timer is None and self._items and not self._paused:
            self._timer = self._clock.callLater(0, self._pass_on)

    def _pass_on(self) -> None:
        self._timer = None
        if not self._paused:
            items, self._items = self._items, []
            self._release(items)
