"""Poisson streams: events whose gaps are drawn from an exponential distribution (Loopix, section 4.1)."""

import random
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

TOLERANCE: Final = 0.005  # seconds: events that are later than this are skipped, but for the one that is next
SLEPT: Final = 1.0  # seconds: after so long what was skipped is not even drawn, but counted by the rate


class PoissonStream:
    """Calls `fire` as a Poisson process of `rate` events per second; a rate of zero or less never fires.

    The next event is drawn from the time at which the last one was due, so that timers a little late do not lower the
    rate. A stream that is really late makes up for nothing: a burst would say that something held it. `skipped` counts
    the events that it left out, `fired` the others.
    """

    def __init__(self, clock: IReactorTime, rate: float, fire: Callable[[], object], random: random.Random) -> None:
        self._clock: Any = clock
        self._rate = rate
        self._fire = fire
        self._random = random
        self._running = False
        self._due = 0.0
        self._timer: IDelayedCall | None = None
        self.fired = self.skipped = 0

    @property
    def rate(self) -> float:
        """Events per second."""
        return self._rate

    def start(self) -> None:
        """Begin; a stream that runs goes on as it is."""
        if not self._running:
            self._running = True
            self._draw(self._clock.seconds())

    def stop(self) -> None:
        """End; no timer is left, and `fire` is not called again before `start`."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def set_rate(self, rate: float) -> None:
        """Go on with another rate from now: the process has no memory, so the next event is drawn anew."""
        if rate == self._rate:
            return
        self._rate = rate
        if self._running:
            self.stop()
            self.start()

    def _draw(self, last: float) -> None:
        """Arm the timer for the event after the one at `last`."""
        if self._rate > 0:
            now = self._clock.seconds()
            self._due = last + self._random.expovariate(self._rate)
            while self._due < now - TOLERANCE:
                self.skipped += 1
                self._due += self._random.expovariate(self._rate)
            self._timer = self._clock.callLater(max(0.0, self._due - now), self._fire_due)

    def _fire_due(self) -> None:
        self._timer = None
        due, now = self._due, self._clock.seconds()
        if now - due > SLEPT:
            self.skipped += int((now - due) * self._rate)
            due = now
        self.fired += 1
        try:
            self._fire()
        finally:
            if self._running and self._timer is None:
                self._draw(due)
