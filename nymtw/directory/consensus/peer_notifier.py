"""Sends notices to another directory."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.directory.consensus.peers import IPeer
from nymtw.errors import NymtwError
from nymtw.node.process.log_once import LogOnce

ATTEMPTS = 6  # for one notice to an absent directory; the next slot has a new one


class PeerNotifier:
    """Sends `make()` to `peer`: one notice at a time, and always the newest."""

    log = Logger()

    def __init__(self, clock: IReactorTime, peer: IPeer, make: Callable[[], bytes], retry: float) -> None:
        """`retry`: seconds until it is tried again."""
        self._clock = clock
        self._peer = peer
        self._make = make
        self._retry = retry
        self._is_new = False
        self._left = 0
        self._stopped = False
        self._telling: Deferred[Any] | None = None
        self._call: Any = None
        self._log_once = LogOnce()

    def tell(self) -> None:
        """There is something new."""
        self._is_new = True
        if self._telling is None:
            self._send()

    def stop(self) -> None:
        """No more."""
        self._stopped = True
        self._no_call()
        if self._telling is not None:
            self._telling.cancel()

    def _send(self) -> None:
        self._no_call()
        if self._is_new:
            self._is_new, self._left = False, ATTEMPTS
        self._left -= 1
        self._telling = telling = maybeDeferred(self._peer.notify, self._make())
        telling.addCallbacks(self._told, self._failed)
        telling.addErrback(
            lambda failure: self.log.failure("sending a notice to another directory failed", failure=failure)
        )
        telling.addBoth(self._next)

    def _told(self, _: object) -> None:
        self._left = 0
        if self._log_once.is_over():
            self.log.info("The directory {peer} is back", peer=self._peer.name)

    def _failed(self, failure: Any) -> None:
        if self._stopped:
            return
        failure.trap(NymtwError)
        cause = str(failure.value)
        if self._log_once.is_new(cause):
            self.log.warn("The directory {peer} does not take a notice: {cause}", peer=self._peer.name, cause=cause)

    def _next(self, _: object) -> None:
        self._telling = None
        if self._stopped:
            return
        if self._is_new:
            self._send()
        elif self._left > 0:
            self._call = self._clock.callLater(self._retry, self._send)

    def _no_call(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
