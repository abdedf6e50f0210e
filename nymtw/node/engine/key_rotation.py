"""Moves a node's Sphinx keys from one key epoch to the next, on time."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.errors import NymtwError
from nymtw.node.keys import KeyRing, epoch_of

# The wall clock may be stepped while the timer runs on another: look at it at least this often (seconds).
LONGEST_SLEEP: Final = 30.0
# A key whose place was taken within its epoch is used for so long (seconds): topologies that announce it may be valid
# for thirty refreshes.
SUPERSEDED_FOR: Final = 1800.0
# What an attacker who fills one filter after the other can make a node do: this many keys of an epoch at once, and a
# new one each minute.
MOST_KEYS: Final = 3
RENEWED_AT_MOST_EVERY: Final = 60.0


class KeyRotation(Service):
    """Keeps `ring` at the epoch of the wall clock: current, previous and next are held, older ones are destroyed.

    `use` gets the private keys by number after each change. The length of an epoch comes from the topology
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
        self._log_once = ""
        self._until: dict[int, float] = {}  # when a superseded key (number) is destroyed, on `clock`
        self._renewed: dict[int, float] = {}  # epoch -> when it last got a new key
        self.epoch: int | None = None
        self.renewals = 0

    def public_keys(self) -> dict[int, bytes]:
        """The keys to announce: those of the current and the next epoch."""
        if self.epoch is None:
            return {}
        keys = self._ring.public_keys()
        return {epoch: keys[epoch] for epoch in (self.epoch, self.epoch + 1)}

    def number(self, epoch: int) -> int:
        """The number of the key that is announced for `epoch`, as `KeyRing` counts."""
        return self._ring.newest(epoch)

    def renew(self, number: int) -> bool:
        """Announce a new key for the epoch of the key `number`, if that is what is announced now.

        Whether there is one. The old key is used for half an hour more.
        """
        epoch = epoch_of(number)
        now = self._clock.seconds()
        if self.epoch is None or epoch not in (self.epoch, self.epoch + 1) or self._ring.newest(epoch) != number:
            return False
        if now - self._renewed.get(epoch, -RENEWED_AT_MOST_EVERY) < RENEWED_AT_MOST_EVERY:
            return False
        try:
            self._ring.renew(epoch)
            old = [number for number in self._ring.superseded() if epoch_of(number) == epoch]
            for oldest in old[: -(MOST_KEYS - 1)]:
                self._ring.destroy(oldest)
        except NymtwError as error:
            self._warn(f"no new key for key epoch {epoch}: {error}")
            return False
        self._renewed = {other: at for other, at in self._renewed.items() if other >= self.epoch} | {epoch: now}
        self.renewals += 1
        self._destroy_superseded()
        self._use_ring()
        return True

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
        if self._destroy_superseded():
            self._use_ring()
        self._call = self._clock.callLater(max(wait, 0.0), self._wake)

    def _destroy_superseded(self) -> bool:
        """Forget keys whose time is over. A key that was found at the start gets its half hour again."""
        now = self._clock.seconds()
        superseded = self._ring.superseded()
        self._until = {number: self._until.get(number, now + SUPERSEDED_FOR) for number in superseded}
        over = [number for number in superseded if self._until[number] <= now]
        try:
            for number in over:
                self._ring.destroy(number)
        except NymtwError as error:
            self._warn(f"an unused key could not be removed, trying again: {error}")
        return bool(over)

    def _wake(self) -> None:
        self._call = None
        self._look()

    def _advance(self, epoch: int) -> bool:
        try:
            self._ring.advance(epoch)
            self._use(self._ring.private_keys())
        except (NymtwError, OSError) as error:
            self._warn(f"no keys for key epoch {epoch}, trying again: {error}")
            return False
        self._log_once = ""
        self.epoch = epoch
        return True

    def _use_ring(self) -> None:
        try:
            self._use(self._ring.private_keys())
        except (NymtwError, OSError) as error:
            self._warn(f"files of an unused key could not be removed: {error}")

    def _warn(self, trouble: str) -> None:
        if trouble != self._log_once:
            self._log.error("{trouble}", trouble=trouble)
        self._log_once = trouble
