"""Delay distributions: the sender draws from them how long each hop holds a packet (`IDelayStrategy`). Pure."""

import math
import random as random_module
from collections.abc import Sequence

from zope.interface import implementer

from nymtw.errors import NymtwError
from nymtw.interfaces import IDelayStrategy

_NANOSECONDS = 1e9


@implementer(IDelayStrategy)
class ExponentialDelays:
    """Delays from an exponential distribution with this mean, in seconds; zero means no delay at all.

    The only memoryless distribution: the time that a packet has already waited tells nothing about when it will leave
    (Loopix, section 3.2). Never truncated.
    """

    def __init__(self, mean_seconds: float) -> None:
        if not (math.isfinite(mean_seconds) and 0 <= mean_seconds <= 86400):
            raise NymtwError(f"a mean delay is 0 to 86400 seconds, not {mean_seconds}")
        self.mean_seconds = mean_seconds

    def draw(self, hops: int, random: random_module.Random) -> Sequence[int]:
        """`hops` delays in nanoseconds."""
        if not self.mean_seconds:
            return [0] * hops
        rate = 1 / (self.mean_seconds * _NANOSECONDS)
        return [int(random.expovariate(rate)) for _ in range(hops)]
