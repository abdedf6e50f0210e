"""A clock that is moved by hand: `IReactorTime` on a heap, fast enough for millions of timers in one test."""

import heapq
from collections.abc import Callable
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

T = TypeVar("T")

# 2026-01-01: where the wall clock of a simulation starts, so that epochs and timestamps have real sizes.
WALL_CLOCK_START = 1_767_225_600.0


@implementer(IDelayedCall)
class ScheduledCall:
    """One call that a `FakeClock` will make. Obtained from `FakeClock.callLater`."""

    __slots__ = ("_args", "_clock", "_function", "_kwargs", "_sequence", "_state", "_time", "owner")

    def __init__(
        self,
        clock: "FakeClock",
        time: float,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._clock = clock
        self._time = time
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._sequence = -1
        self._state = "active"
        self.owner: object = None

    def getTime(self) -> float:
        """When it is due, in seconds of its clock."""
        return self._time

    def active(self) -> bool:
        return self._state == "active"

    def cancel(self) -> None:
        """Raises `AlreadyCancelled` or `AlreadyCalled`."""
        self._check_active()
        self._state = "cancelled"
        self._function, self._args, self._kwargs = _nothing, (), {}
        self._clock._cancelled_one()

    def reset(self, secondsFromNow: float) -> None:
        """Make it due `secondsFromNow` from now."""
        self._check_active()
        self._move(self._clock.seconds() + secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """Make it due `secondsLater` later than it was; negative: sooner."""
        self._check_active()
        self._move(self._time + secondsLater)

    def _move(self, time: float) -> None:
        sooner = time < self._time
        self._time = time
        if sooner:
            self._clock._push(self)

    def _check_active(self) -> None:
        if self._state == "cancelled":
            raise AlreadyCancelled
        if self._state == "called":
            raise AlreadyCalled

    def __repr__(self) -> str:
        name = getattr(self._function, "__qualname__", repr(self._function))
        return f"<ScheduledCall {name} at {self._time:.6f} {self._state}>"


def _nothing() -> None:
    pass


@implementer(IReactorTime)
class FakeClock:
    """Time that passes only when a test says so.

    Each call is made at its own time: while it runs, `seconds()` says when it was due, so that timers which start
    timers behave in one long `advance` as they would in reality. Calls due at one time are made in the order in which
    they were scheduled; those of an owner that sleeps (`asleep_until`) are made late. An error raised by a call is
    raised by `advance`.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._heap: list[tuple[float, int, ScheduledCall]] = []
        self._sequence = 0
        self._cancelled = 0

    def seconds(self) -> float:
        return self._now

    def wall_clock(self) -> float:
        """Seconds since 1970: this clock's seconds after `WALL_CLOCK_START`."""
        return WALL_CLOCK_START + self._now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> ScheduledCall:
        """Call `callable` in `delay` >= 0 seconds. Raises `ValueError` for a negative delay or no number."""
        if not delay >= 0:
            raise ValueError(f"{delay!r} is not a delay")
        call = ScheduledCall(self, self._now + delay, callable, args, kwargs)
        self._push(call)
        return call

    def stall(self, seconds: float) -> None:
        """Let time pass without running what falls due, as for a process that is suspended; `advance` runs it late."""
        self._now += seconds

    @property
    def entries(self) -> int:
        """Calls in memory, those that were cancelled and not yet removed among them."""
        return len(self._heap)

    def getDelayedCalls(self) -> list[ScheduledCall]:
        """The waiting calls, in no particular order."""
        return [call for _, sequence, call in self._heap if call._sequence == sequence and call._state == "active"]

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass and make every call that falls due."""
        end = self._now + seconds
        while (due := self._next()) is not None and due <= end:
            self._make_next()
        self._now = end

    def advance_until(self, condition: Callable[[], bool], limit: float) -> float:
        """Let time pass until `condition()` holds, asked after each call; at most `limit` seconds.

        Returns the seconds that have passed. Raises `TimeoutError` if it does not hold in time.
        """
        start = self._now
        while not condition():
            due = self._next()
            if due is None or due > start + limit:
                self._now = start + limit
                raise TimeoutError(f"still waiting after {limit} seconds of simulated time")
            self._make_next()
        return self._now - start

    def wait_for(self, deferred: "Deferred[T]", limit: float) -> T:
        """Let time pass until `deferred` fires; return its result or raise its error."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.advance_until(lambda: bool(results), limit)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return cast(T, results[0])

    def _push(self, call: ScheduledCall) -> None:
        self._sequence += 1
        call._sequence = self._sequence
        heapq.heappush(self._heap, (call._time, self._sequence, call))

    def _next(self) -> float | None:
        """The time of the next call, with everything outdated removed from the top of the heap."""
        heap = self._heap
        while heap:
            time, sequence, call = heap[0]
            if call._sequence == sequence and call._state == "active":
                if call._time <= time:
                    return time
                # It was put off since: only now is it worth moving.
                heapq.heappop(heap)
                self._push(call)
            else:
                heapq.heappop(heap)
                if call._state == "cancelled":
                    self._cancelled = max(0, self._cancelled - 1)
        return None

    def _make_next(self) -> None:
        time, _, call = heapq.heappop(self._heap)
        if time > self._now:
            self._now = time
        wakes = getattr(call.owner, "asleep_until", 0.0)
        if wakes > self._now:
            # As with a process that is stopped: what fell due meanwhile is done when it goes on, in that order.
            call._time = wakes
            self._push(call)
            return
        call._state = "called"
        call._function(*call._args, **call._kwargs)

    def _cancelled_one(self) -> None:
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [
                entry for entry in self._heap if entry[2]._sequence == entry[1] and entry[2]._state == "active"
            ]
            heapq.heapify(self._heap)
            self._cancelled = 0
