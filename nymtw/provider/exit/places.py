"""The places of an exit: who makes room when all are taken, how long idle streams stay, and what opening one costs.

Tags cost a client nothing, so a limit for each tag keeps nobody from taking all places. When they are taken, the idlest
stream of the tag that holds most goes, if that has more than the newcomer. The fuller the exit, the shorter a stream
may be idle, and the more opening one costs.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from zope.interface import implementer

from nymtw.interfaces import IOpeningPrice
from nymtw.message.opening import bits_of, is_worked, work_price
from nymtw.provider.exit.stream import ExitStream

GRACE: Final = 10.0  # seconds without a byte before which a stream makes room for nobody
LEAST_IDLE: Final = 30.0  # seconds that a stream may be idle at a full exit
LEAST_WAITING: Final = 128  # streams that may wait for a place in any case
PRESSED: Final = 0.5  # the load from which on opening costs something, and idle streams go earlier
LEAST_WORK, MOST_WORK = 8, 16  # bits: less than a millisecond, a tenth of a second


class Holder(Protocol):
    """A client of an exit, as it is asked to make room."""

    streams: dict[bytes, ExitStream]

    def evict(self, stream: ExitStream) -> None:
        """End a stream for another client."""


@implementer(IOpeningPrice)
class ProofOfWork:
    """The default `IOpeningPrice`: nothing up to half of the places, then eight to sixteen bits of work."""

    def ask(self, load: float) -> str:
        """As `IOpeningPrice`."""
        if load < PRESSED:
            return ""
        share = (min(load, 1.0) - PRESSED) / (1.0 - PRESSED)
        return work_price(LEAST_WORK + round((MOST_WORK - LEAST_WORK) * share))

    def accepts(self, price: str, tag: bytes, stream: bytes, payment: bytes) -> bool:
        """As `IOpeningPrice`."""
        bits = bits_of(price)
        return bits is not None and is_worked(bits, tag, stream, payment)


class Places:
    """`most` streams for all `clients()`; each may be idle for `idle` seconds while there is room."""

    def __init__(
        self, clock: Any, most: int, idle: float, clients: Callable[[], Iterable[Holder]], price: Any = None
    ) -> None:
        """`price`: an `IOpeningPrice`, `ProofOfWork` by default."""
        self._clock, self._most, self._idle, self._clients = clock, most, idle, clients
        self.price = price or ProofOfWork()
        self.taken = 0
        self._waiting: dict[ExitStream, Holder] = {}  # not yet opened or paid for, the oldest first

    @property
    def load(self) -> float:
        """The share of the places that is taken."""
        return self.taken / self._most

    def patience(self, stream: ExitStream) -> float:
        """Seconds that this stream may be idle now."""
        if self.load < PRESSED:
            return self._idle
        share = (1.0 - self.load) / (1.0 - PRESSED)
        return min(self._idle, LEAST_IDLE + (self._idle - LEAST_IDLE) * max(0.0, share))

    def wait(self, stream: ExitStream, client: Holder) -> None:
        """A stream that has no place yet. A quarter as many as there are places may wait; the oldest makes room."""
        self._waiting[stream] = client
        if len(self._waiting) > max(LEAST_WAITING, self._most // 4):
            oldest = next(iter(self._waiting))
            self._waiting[oldest].evict(oldest)

    def enter(self, stream: ExitStream, client: Holder) -> bool:
        """Give a stream a place. False if there is none."""
        if self.taken >= self._most and not self._make_room(client):
            return False
        self._waiting.pop(stream, None)
        stream.has_place = True
        self.taken += 1
        return True

    def leave(self, stream: ExitStream) -> None:
        """A stream is over."""
        self._waiting.pop(stream, None)
        if stream.has_place:
            stream.has_place = False
            self.taken -= 1

    def _make_room(self, newcomer: Holder) -> bool:
        """End the idlest stream of the fullest client that has one, and more streams than the newcomer has places."""
        least = sum(stream.has_place for stream in newcomer.streams.values())
        before = self._clock.seconds() - GRACE
        fullest: tuple[int, float, ExitStream, Holder] | None = None
        for client in self._clients():
            held = [stream for stream in client.streams.values() if stream.has_place]
            if len(held) <= least or (fullest is not None and len(held) < fullest[0]):
                continue
            idlest = min(held, key=lambda stream: stream.seen)
            if idlest.seen > before:
                continue
            if fullest is None or (-len(held), idlest.seen) < (-fullest[0], fullest[1]):
                fullest = (len(held), idlest.seen, idlest, client)
        if fullest is None:
            return False
        fullest[3].evict(fullest[2])
        return True
