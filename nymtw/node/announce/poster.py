"""Posts something to the directory again and again: what the presence and the metrics have in common."""

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.errors import NymtwError
from nymtw.node.process.log_once import LogOnce

FIRST_RETRY = 0.5  # seconds


class Poster(Service):
    """Calls `post` at once and every `interval` seconds (jittered by a tenth), one at a time.

    A post that fails is repeated after 0.5 s, then less often, and never less often than every `interval`: a directory
    that is back must not wait for its nodes. Each cause is said once, and once that it is over: `trouble` and `relief`
    are the sentences.
    """

    log = Logger()
    trouble = "cannot post, trying again"
    relief = "posted again"

    def __init__(
        self,
        clock: IReactorTime,
        post: "Callable[[], Deferred[None]]",
        random: Random,
        interval: float,
    ) -> None:
        self._clock = clock
        self._post = post
        self._random = random
        self._interval = interval
        self._retry: float | None = None
        self._call: Any = None
        self._posting: Deferred[Any] | None = None
        self._log_once = LogOnce()

    def startService(self) -> None:
        """Post at once, then keep posting."""
        super().startService()
        self._next()

    def stopService(self) -> None:
        """Stop posting."""
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._posting is not None:
            self._posting.cancel()

    def is_due(self) -> bool:
        """Whether there is something to post now."""
        return True

    def succeeded(self) -> None:
        """The directory has taken a post."""

    def failed(self) -> None:
        """The directory has not taken it."""

    def _next(self) -> None:
        self._call = None
        if not self.is_due():
            self._schedule(None)
            return
        self._posting = posting = maybeDeferred(self._post)
        posting.addCallbacks(self._succeeded, self._failed)
        posting.addErrback(lambda failure: self.log.failure("a post to the directory failed", failure=failure))
        posting.addBoth(self._schedule)

    def _succeeded(self, _: object) -> None:
        self._retry = None
        self.succeeded()
        if self._log_once.is_over():
            self.log.info("{relief}", relief=self.relief)

    def _failed(self, failure: Any) -> None:
        if not self.running:
            return
        self.failed()
        failure.trap(NymtwError)
        cause = str(failure.value)
        if self._log_once.is_new(cause):
            self.log.warn("{trouble}: {cause}", trouble=self.trouble, cause=cause)
        self._retry = FIRST_RETRY if self._retry is None else min(self._retry * 1.6, self._interval)

    def _schedule(self, _: object) -> None:
        self._posting = None
        if self.running:
            wait = self._interval if self._retry is None else self._retry
            self._call = self._clock.callLater(wait * self._random.uniform(0.9, 1.1), self._next)
