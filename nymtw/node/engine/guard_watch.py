"""Syncs the replay guard for a loss of power, and keeps a flood from filling it for an epoch."""

from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from nymtw.errors import DiskError
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.node.service import PeriodicService

# Seconds until a replay tag survives a loss of power. It survives kill -9 at once.
SYNC_INTERVAL: Final = 10.0
LOOK_INTERVAL: Final = 1.0


class GuardWatch(PeriodicService):
    """Looks every second, syncs every ten seconds.

    For each key (number) whose filter is three quarters full it logs a warning and calls `ration(number)`, both once:
    each peer then has only a share of the rest. It calls `renew(number)` until that has announced a new key, which has
    an empty filter.
    """

    log = Logger()

    def __init__(
        self, clock: Any, guard: ReplayGuard, ration: Callable[[int], None], renew: Callable[[int], bool]
    ) -> None:
        super().__init__(clock, LOOK_INTERVAL)
        self._guard = guard
        self._ration = ration
        self._renew = renew
        self._rationed: set[int] = set()
        self._looks = 0

    def tick(self) -> None:
        """Check how full the guard is, and sync it in every tenth call. Closing the guard syncs it once again."""
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
