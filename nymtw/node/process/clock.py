"""A reactor whose clock cannot be stepped."""

import time
from typing import Any


def use_monotonic(reactor: Any) -> None:
    """Make `reactor.seconds` the monotonic clock, on which all its timers then run.

    Twisted takes `time.time`: a stepped wall clock would release all delayed packets at once, or none for hours.
    To be called before anything is scheduled: raises `RuntimeError` if a timer is pending on the other clock.
    """
    if reactor.seconds is time.monotonic:
        return
    if reactor.getDelayedCalls():
        raise RuntimeError("timers are pending: the clock of a reactor is chosen before its first timer")
    reactor.seconds = time.monotonic
