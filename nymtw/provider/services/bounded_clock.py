"""The clock of an implementation: limits its timers, contains their errors, and cancels them at the end."""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from nymtw.errors import QueueFull


@implementer(IReactorTime)
class BoundedClock:
    """An `IReactorTime` that knows its timers. `failed` is called while an error of a timer is being handled."""

    def __init__(self, clock: Any, limit: int, failed: Callable[[], None]) -> None:
        self._clock, self.limit, self._failed = clock, limit, failed
        self._calls: dict[Any, None] = {}
        self._over = False

    def seconds(self) -> float:
        """Seconds of the node's clock."""
        return float(self._clock.seconds())

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `IReactorTime`. Raises `QueueFull` beyond the limit, and after the implementation has stopped."""
        if len(self._calls) >= self.limit:
            self._calls = {call: None for call in self._calls if call.active()}
        if self._over or len(self._calls) >= self.limit:
            raise QueueFull(f"an implementation has at most {self.limit} timers, and none after it has stopped")
        holder: list[Any] = []

        def run() -> None:
            self._calls.pop(holder[0], None)
            try:
                callable(*args, **kwargs)
            except Exception:
                self._failed()

        call = self._clock.callLater(delay, run)
        holder.append(call)
        self._calls[call] = None
        return call

    def getDelayedCalls(self) -> list[Any]:
        """The timers of this implementation."""
        return [call for call in self._calls if call.active()]

    def release(self) -> int:
        """Cancel all timers, and refuse new ones. Returns the number of cancelled timers."""
        self._over = True
        left = self.getDelayedCalls()
        for call in left:
            call.cancel()
        self._calls.clear()
        return len(left)
