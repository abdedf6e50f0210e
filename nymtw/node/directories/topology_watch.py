"""Keeps the newest signed topology at hand."""

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.errors import DirectoryError, NymtwError, TopologyError, TopologyExpired, TopologyIncomplete
from nymtw.interfaces import IDirectory
from nymtw.node.process.log_once import LogOnce
from nymtw.topology.document import Topology, Trust, check_usable, verify_topology

FIRST_RETRY = 0.5  # seconds
LONGEST_RETRY = 30.0
INCOMPLETE_RETRY = 5.0  # a network that is being started is asked for more often


class TopologyWatch(Service):
    """Asks the directory every `topology.refresh` seconds, jittered by a fifth; every 0.5 to 30 s while it is away.

    It says once that the directory is away, or that what it sends cannot be used, and once that it is back.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directory: IDirectory,
        trust: Trust,
        random: Random,
        wall_clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._trust = trust
        self._random = random
        self._wall_clock = wall_clock
        self._subscribers: list[Callable[[Topology], None]] = []
        self._call: Any = None
        self._asking: Deferred[Any] | None = None
        self._retry: float | None = None
        self._log_once = LogOnce()
        self.current: Topology | None = None

    def usable(self) -> Topology:
        """The newest topology. Raises `TopologyError` if there is none yet, `TopologyExpired` if its keys are too old.

        What this process has is used past its validity, as long as nodes have its keys: a network whose directory is
        away must not fall silent. One that comes past its validity is not taken.
        """
        if self.current is None:
            raise TopologyError("there is no topology yet: the directory has not answered")
        if self.current.keys_until < self._wall_clock():
            raise TopologyExpired("the keys of the newest topology are too old: the directory has been silent")
        return self.current

    def subscribe(self, callback: Callable[[Topology], None]) -> Callable[[], None]:
        """Call `callback` with every new topology, and at once if there is one. Returns what ends that."""
        self._subscribers.append(callback)
        if self.current is not None:
            callback(self.current)
        return lambda: self._subscribers.remove(callback)

    def startService(self) -> None:
        """Ask at once, then keep asking."""
        super().startService()
        self._ask()

    def stopService(self) -> None:
        """Stop asking."""
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._asking is not None:
            self._asking.cancel()

    def _ask(self) -> None:
        self._call = None
        self._asking = asking = maybeDeferred(self._directory.topology)
        asking.addCallback(self._received)
        asking.addCallbacks(self._succeeded, self._failed)
        asking.addErrback(lambda failure: self._log.failure("the topology watch failed", failure=failure))
        asking.addBoth(self._schedule)

    def _received(self, data: bytes) -> None:
        newest = 0 if self.current is None else self.current.serial
        topology = verify_topology(data, self._trust, self._wall_clock(), newer_than=newest)
        if self.current is not None and topology.serial == self.current.serial:
            return
        self.current = topology
        for callback in list(self._subscribers):
            try:
                callback(topology)
            except Exception:
                self._log.failure("a subscriber to the topology failed")

    def _succeeded(self, _: object) -> None:
        self._retry = None
        if self._log_once.is_over():
            self._log.info("the directory is back")

    def _failed(self, failure: Any) -> None:
        if not self.running:
            return
        failure.trap(NymtwError)
        cause = str(failure.value)
        if self._log_once.is_new(cause):
            what = "the directory is away" if failure.check(DirectoryError) else "the topology cannot be used"
            self._log.warn("{what}, trying again: {cause}", what=what, cause=cause)
        # Who has no network waits for nothing else.
        longest = LONGEST_RETRY if self.current is not None and _is_complete(self.current) else INCOMPLETE_RETRY
        self._retry = FIRST_RETRY if self._retry is None else min(self._retry * 1.6, longest)

    def _schedule(self, _: object) -> None:
        self._asking = None
        if not self.running:
            return
        wait = FIRST_RETRY if self._retry is None else self._retry
        if self._retry is None and self.current is not None:
            wait = self.current.refresh if _is_complete(self.current) else min(self.current.refresh, INCOMPLETE_RETRY)
        self._call = self._clock.callLater(wait * self._random.uniform(0.8, 1.2), self._ask)


def _is_complete(topology: Topology) -> bool:
    try:
        check_usable(topology)
    except TopologyIncomplete:
        return False
    return True
