"""The packet rate of this machine, which a node measures before it promises a rate."""

import time
from collections.abc import Callable
from random import Random
from typing import Final

from nymtw.errors import ConfigError
from nymtw.sphinx import Hop, Unwrapper, build_packet, generate_keypair

# Of the time of a node at its limit, unwrapping is at least this share; links, queue and guard take the rest.
# benchmarks/mixnode.py measures more.
CARRIED_SHARE: Final = 0.5
_PACKETS: Final = 50
_ROUNDS: Final = 5
_NOBODY: Final = bytes(32)


class UnwrapTrial:
    """Regular packets, to be unwrapped again and again."""

    def __init__(self, random: Random) -> None:
        private, public = generate_keypair(random)
        _, behind = generate_keypair(random)
        route = [Hop(_NOBODY, public), Hop(_NOBODY, behind)]
        self._packets = [(0, build_packet(b"", route, [0], _NOBODY, random=random)) for _ in range(_PACKETS)]
        self._unwrapper = Unwrapper({0: private})

    def unwraps_per_second(self, clock: Callable[[], float] = time.thread_time) -> float:
        """The packets a second that one core unwraps, from one round of fifty."""
        began = clock()
        self._unwrapper.unwrap_many(self._packets)
        return _PACKETS / max(clock() - began, 1e-9)


def unwraps_per_second(random: Random, clock: Callable[[], float] = time.thread_time) -> float:
    """The regular packets a second that one core unwraps: the best of five rounds of fifty. Takes about 30 ms.

    `clock` counts the seconds of processor time that this thread has had.
    """
    trial = UnwrapTrial(random)
    return max(trial.unwraps_per_second(clock) for _ in range(_ROUNDS))


def carried_rate(unwraps: float, rate: int, processes: int) -> int:
    """The packets a second that a node of so many processes carries, each of which unwraps `unwraps` a second.

    Raises `ConfigError` where that is less than `rate`.
    """
    carried = int(unwraps * CARRIED_SHARE * processes)
    if carried < rate:
        raise ConfigError(
            f"this machine carries {carried} packets a second (an unwrap takes {1e6 / unwraps:.0f} microseconds), "
            f"and {rate} are configured: lower --rate, or rate in config.toml"
        )
    return carried
