"""Moves a node's Sphinx keys from one key epoch to the next, on time."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.errors import NymtwError
from nymtw.node.keys import KeyRing

# The wall clock may be stepped while the timer runs on another: look at it at least this often (seconds).
LONGEST_SLEEP: Final = 30.0


class KeyRotation(Service):
    """Keeps `ring` at the epoch of the wall clock: current, previous and next are held, older ones are destroyed.

    `use` is told the private keys by epoch whenever they have changed. How long an epoch is comes from the topology
    (`follow`); before the first one `epoch` is None and there is nothing to announce.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        ring: KeyRing,
        use: Callable[[Mapping[int, bytes]], None],
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._ring = ring
        self._use = use
        self._epoch_seconds = 0
        self._call: Any = None
        self._said = ""
        self.epoch: int | None = None

    def public_keys(self) -> dict[int, bytes]:
        """The keys to announce: those of the current and the next epoch."""
        if self.epoch is None:
            return {}
        keys = self._ring.public_keys()
        return {epoch: keys[epoch] for epoch in (self.epoch, self.epoch + 1)}

    def follow(self, epoch_seconds: int) -> None:
        """Called with every topology's `epoch_seconds`."""
        if epoch_seconds != self._epoch_seconds:
            self._epoch_seconds = epoch_seconds
            self._look()

    def startService(self) -> None:
        """Look at the clock from now on."""
        super().startService()
        self._look()

    def stopService(self) -> None:
        """Look no more; the keys stay as they are."""
        super().stopService()
        self._cancel()

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        if not self.running or not self._epoch_seconds:
            return
        self._cancel()
        now = self._wall_clock()
        epoch = int(now // self._epoch_seconds)
        wait = min((epoch + 1) * self._epoch_seconds - now, LONGEST_SLEEP)
        if epoch != self.epoch and not self._advance(epoch):
            wait = min(wait, 2.0)
        self._call = self._clock.callLater(max(wait, 0.0), self._wake)

    def _wake(self) -> None:
        self._call = None
        self._look()

    def _advance(self, epoch: int) -> bool:
        try:
            self._ring.advance(epoch)
            self._use(self._ring.private_keys())
        except (NymtwError, OSError) as error:
            if str(error) != self._said:
                self._log.error("No keys for key epoch {epoch}, trying again: {error}", epoch=epoch, error=error)
            self._said = str(error)
            return False
        self._said = ""
        self.epoch = epoch
        return True
