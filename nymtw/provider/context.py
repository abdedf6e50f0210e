"""What an implementation is given of the node that it runs in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from nymtw.interfaces import IProviderContext


@implementer(IProviderContext)
@dataclass(frozen=True, slots=True)
class ProviderContext:
    """An `IProviderContext`: clock, wall clock, randomness, a data folder (mode 0700), a logger."""

    clock: Any
    wall_clock: Callable[[], float]
    random: Random
    data: Path
    log: Logger
