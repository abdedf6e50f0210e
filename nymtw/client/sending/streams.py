"""The four Poisson streams of a client. They run while it is logged in, whether it has anything to say or not."""

from collections.abc import Callable
from random import Random

from twisted.internet.interfaces import IReactorTime

from nymtw.client.config import Rates
from nymtw.mixing.poisson import PoissonStream


class Streams:
    """Sending (a real packet if one waits, else drop cover), loops, more drop cover, fetching (Loopix, section 4)."""

    def __init__(
        self,
        clock: IReactorTime,
        random: Random,
        *,
        send: Callable[[], object],
        loop: Callable[[], object],
        drop: Callable[[], object],
        fetch: Callable[[], object],
    ) -> None:
        self._sending = PoissonStream(clock, 0, send, random)
        self._loops = PoissonStream(clock, 0, loop, random)
        self._drops = PoissonStream(clock, 0, drop, random)
        self._fetching = PoissonStream(clock, 0, fetch, random)
        self.all = (self._sending, self._loops, self._drops, self._fetching)

    def set_rates(self, rates: Rates) -> None:
        """Go on at these rates; a stream whose rate is the same goes on as it is."""
        for stream, rate in zip(self.all, (rates.sending, rates.loops, rates.drops, rates.fetching), strict=True):
            stream.set_rate(rate)

    def start(self, fetching: bool) -> None:
        """Begin; without `fetching` that stream stands still, since mail comes by itself."""
        for stream in self.all:
            if fetching or stream is not self._fetching:
                stream.start()

    @property
    def skipped(self) -> int:
        """How many events all streams together have left out since the machine, or this process, was late for them."""
        return sum(stream.skipped for stream in self.all)

    @property
    def skipped_share(self) -> float:
        """The share of all events that was left out: how much too slow the machine is."""
        events = self.skipped + sum(stream.fired for stream in self.all)
        return self.skipped / events if events else 0.0

    def stop(self) -> None:
        for stream in self.all:
            stream.stop()
