"""Takes what many links of a busy node receive within two milliseconds as one: packets cost less together than alone.

Between two packets the processor's caches fill with the kernel's, the reactor's and OpenSSL's code; eight unwraps in a
row share what one alone has to fetch. At 4,000 packets/s that is a tenth of a node's time (`benchmarks/mixnode.py`).
Below `BUSY` the processor has time to spare and a packet does not wait.
"""

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nymtw.link.frames import Frame

BUSY: Final = 3000.0  # frames/s from which on frames wait for each other
WAIT: Final = 0.002  # seconds
MOST: Final = 64  # frames that wait
_MEMORY: Final = 0.01  # the weight of a frame in the running mean of the time between frames
_LONGEST: Final = 0.01  # seconds: a longer silence counts as this much, so that a burst is noticed within 100 frames


class Gatherer:
    """Calls `receive(peer, frames)` for what its own `receive` was given, in order, `WAIT` seconds later at most.

    On a node that gets fewer than `BUSY` frames/s it calls at once.
    """

    def __init__(self, clock: IReactorTime, receive: Callable[[bytes, list[Frame]], None]) -> None:
        self._clock: Any = clock
        self._receive = receive
        self._waiting: list[tuple[bytes, list[Frame]]] = []
        self._count = 0
        self._last = float("-inf")  # when the last frames came
        self._between = _LONGEST  # seconds between frames, the running mean
        self._timer: IDelayedCall | None = None

    def receive(self, peer: bytes, frames: list[Frame]) -> None:
        """All frames of one read from one peer."""
        last, self._last = self._last, self._clock.seconds()
        number = len(frames)
        self._between += _MEMORY * (min(self._last - last, _LONGEST) - self._between * min(number, MOST))
        if self._timer is None and self._between * BUSY > 1:
            self._receive(peer, frames)
            return
        self._waiting.append((peer, frames))
        self._count += number
        if self._count >= MOST:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(WAIT, self._end)

    def flush(self) -> None:
        """Hand over what waits; no timer is left."""
        if self._timer is not None:
            self._timer.cancel()
        self._end()

    def _end(self) -> None:
        self._timer = None
        waiting, self._waiting, self._count = self._waiting, [], 0
        for peer, frames in waiting:
            self._receive(peer, frames)
