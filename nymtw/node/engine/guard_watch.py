"""Keeps an eye on the replay guard: syncs it for a loss of power, and keeps a flood from filling it for an epoch."""

from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.logger import Logger

from nymtw.errors import DiskError
from nymtw.mixing.replay_guard import ReplayGuard

# A replay tag survives kill -9 at once, and a loss of power at the latest so many seconds later.
SYNC_INTERVAL: Final = 10.0
LOOK_INTERVAL: Final = 1.0


class GuardWatch(Service):
    """Looks every second, syncs every ten.

    For each key (number) whose filter is three quarters full it says so, once; calls `ration(number)`, so that whoever
    floods the node finds only his share of the rest; and calls `renew(number)` until that has announced a new key,
    with an empty filter, in its place.
    """

    log = Logger()

    def __init__(
        self, clock: Any, guard: ReplayGuard, ration: Callable[[int], None], renew: Callable[[int], bool]
    ) -> None:
        self._clock = clock
        self._guard = guard
        self._ration = ration
        self._renew = renew
        self._rationed: set[int] = set()
        self._call: Any = None
        self._looks = 0

    def startService(self) -> None:
        """Look from now on."""
        super().startService()
        self._call = self._clock.callLater(LOOK_INTERVAL, self._look)

    def stopService(self) -> None:
        """Look no more; closing the guard syncs it once again."""
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = self._clock.callLater(LOOK_INTERVAL, self._look)
        full = [number for number in self._guard.epochs if self._guard.nearly_full(number)]
        self._rationed &= set(full)
        for number in full:
            if number not in self._rationed:
                self._rationed.add(number)
                self.log.warn(
                    "The replay guard of a key is three quarters full: each peer gets a share of the rest. "
                    "If this is no attack, raise the configured rate"
                )
                self._ration(number)
            if self._renew(number):
                self.log.warn("A new key is announced in its place")
        self._looks += 1
        if self._looks * LOOK_INTERVAL >= SYNC_INTERVAL:
            self._looks = 0
            self._sync()

    def _sync(self) -> None:
        try:
            self._guard.sync()
        except DiskError as error:
            self.log.error("{error}", error=error)
