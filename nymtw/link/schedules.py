"""When a padded line sends its frames: by its published rate, whatever waits (`ILinkSchedule`). Pure."""

import random as random_module
from collections.abc import Iterator
from math import ceil
from typing import Final

from zope.interface import implementer

from nymtw.interfaces import ILinkSchedule

SHORTEST: Final = 0.005  # seconds between two slots of a line, at least: a busy reactor keeps that, and hardly less


@implementer(ILinkSchedule)
class ConstantSlots:
    """One slot after the other, at equal distances; the first comes at a random moment of the first one.

    A slot has one frame, or as many as keep slots `SHORTEST` apart. Of all schedules without memory of what was sent it
    lets packets wait the least: slots of a Poisson process double the time.
    """

    def slots(self, rate: float, random: random_module.Random) -> Iterator[tuple[float, int]]:
        """As `ILinkSchedule`."""
        frames = max(1, ceil(rate * SHORTEST - 1e-9))
        interval = frames / rate
        yield interval * random.random(), frames
        while True:
            yield interval, frames


@implementer(ILinkSchedule)
class PoissonSlots:
    """Slots of one frame as a Poisson process: for comparison, since an observer learns no less from constant ones."""

    def slots(self, rate: float, random: random_module.Random) -> Iterator[tuple[float, int]]:
        """As `ILinkSchedule`."""
        while True:
            yield random.expovariate(rate), 1
