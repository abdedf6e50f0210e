"""A clock that stands still while the process does: a directory does not count silence that it slept through.

A process that is stopped, starved or swapped out hears nobody, however much they say. It notices by a tick that comes
late on the monotonic clock.
"""

from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

TICK: Final = 1.0  # seconds
TOLERANCE: Final = 1.0  # seconds by which a tick may be late on a busy machine
WORTH_SAYING: Final = 5.0  # seconds


class AttendedClock(Service):
    """`seconds()` counts the seconds of `clock` in which this process ran, once it is started; all of them before."""

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock: Any = clock
        self._due: float | None = None
        self._call: Any = None
        self.slept = 0.0

    def startService(self) -> None:
        """Tick from now on."""
        super().startService()
        self._tick()

    def stopService(self) -> None:
        """Tick no more."""
        super().stopService()
        self._due = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def seconds(self) -> float:
        """Seconds that were attended; it never goes back."""
        now: float = self._clock.seconds()
        # Whatever runs first after a sleep asks first: posts may be read before the late tick is.
        if self._due is not None and now - self._due > TOLERANCE:
            away = now - self._due
            self._due = now
            self.slept += away
            if away > WORTH_SAYING:
                self.log.warn(
                    "The directory did not run for {away:.0f} s: silence in that time does not count", away=away
                )
        return now - self.slept

    def _tick(self) -> None:
        self.seconds()
        self._due = self._clock.seconds() + TICK
        self._call = self._clock.callLater(TICK, self._tick)
