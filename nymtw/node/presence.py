"""Tells the directory, every two seconds, that a node is there."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.errors import NymtwError
from nymtw.interfaces import IDirectory
from nymtw.node.said_once import SaidOnce

if TYPE_CHECKING:
    import random

INTERVAL = 2.0  # seconds between heartbeats; the directory forgets a node after 5
FIRST_RETRY = 0.5
LONGEST_RETRY = 15.0


class Presence(Service):
    """Posts what `make` returns (a signed heartbeat, made anew each time) to the presence `path`, one post at a time.

    A post that fails is repeated after a jittered, growing wait. Each cause is said once, and once that it is over.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directory: IDirectory,
        make: Callable[[], Mapping[str, Any]],
        path: str,
        random: "random.Random",
        interval: float = INTERVAL,
    ) -> None:
        """`path`: "mixnodes", "mixproviders" or "gateways"; `interval` in seconds."""
        self._clock = clock
        self._directory = directory
        self._make = make
        self._path = path
        self._random = random
        self._interval = interval
        self._retry: float | None = None
        self._call: Any = None
        self._posting: Deferred[Any] | None = None
        self._said = SaidOnce()
        self.announced = False

    def startService(self) -> None:
        """Post at once, then keep posting."""
        super().startService()
        self._post()

    def stopService(self) -> None:
        """Stop posting; the directory forgets the node by itself."""
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._posting is not None:
            self._posting.cancel()

    def _post(self) -> None:
        self._call = None
        self._posting = posting = maybeDeferred(lambda: self._directory.announce(self._path, self._make()))
        posting.addCallbacks(self._succeeded, self._failed)
        posting.addErrback(lambda failure: self._log.failure("the presence failed", failure=failure))
        posting.addBoth(self._schedule)

    def _succeeded(self, _: object) -> None:
        self.announced = True
        self._retry = None
        if self._said.is_over():
            self._log.info("announced to the directory again")

    def _failed(self, failure: Any) -> None:
        if not self.running:
            return
        failure.trap(NymtwError)
        self.announced = False
        cause = str(failure.value)
        if self._said.is_new(cause):
            self._log.warn("cannot announce this node, trying again: {cause}", cause=cause)
        self._retry = FIRST_RETRY if self._retry is None else min(self._retry * 1.6, LONGEST_RETRY)

    def _schedule(self, _: object) -> None:
        self._posting = None
        if self.running:
            wait = self._interval if self._retry is None else self._retry
            self._call = self._clock.callLater(wait * self._random.uniform(0.9, 1.1), self._post)
