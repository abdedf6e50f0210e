"""Work that is done again and again, whatever goes wrong."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from prometheus_client.core import Metric

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from nymtw.errors import NymtwError
from nymtw.node.metrics import counter, gauge


class Rounds(Service):
    """Calls `work` while it runs, `pause` seconds from the end of one round to the next. An error ends a round only.

    What goes wrong is logged when it begins, or is another thing, and when it is over.
    """

    _log = Logger()

    def __init__(self, clock: Any, work: Callable[[], Awaitable[object]], pause: float, what: str) -> None:
        """`what`: names the work in the log."""
        self._clock = clock
        self._work = work
        self._pause = pause
        self._what = what
        self._loop: Deferred[None] | None = None
        self.done = 0
        self.failed = 0
        self.trouble = ""  # what goes wrong now
        self.last: float | None = None  # when a round was done

    @property
    def age(self) -> float:
        """Seconds since a round was done; -1 before the first one."""
        return -1.0 if self.last is None else float(self._clock.seconds() - self.last)

    def startService(self) -> None:
        """Begin with the first round."""
        super().startService()
        self._loop = Deferred.fromCoroutine(self._follow())
        self._loop.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def stopService(self) -> "Deferred[None] | None":
        """End the round that is under way."""
        super().stopService()
        if self._loop is not None:
            self._loop.cancel()
        return self._loop

    async def _follow(self) -> None:
        while self.running:
            try:
                await self._work()
                self.done += 1
                self.last = self._clock.seconds()
                self._log_change("")
            except CancelledError:
                raise
            except NymtwError as error:
                if not self.running:
                    return  # what was waited for was cancelled
                self.failed += 1
                self._log_change(str(error))
            except Exception:
                self.failed += 1
                self.trouble = "an error of the program; the log has it"
                self._log.failure("{what} has failed", what=self._what)
            await deferLater(self._clock, self._pause)

    def _log_change(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            self._log.warn("{what} does not go on: {trouble}", what=self._what, trouble=trouble)
        elif self.trouble and not trouble:
            self._log.info("{what} goes on", what=self._what)
        self.trouble = trouble


def rounds_figures(role: str, rounds: Rounds) -> Iterable[Metric]:
    """How a role's rounds go."""
    yield counter(f"{role}_rounds", "Rounds that were done.", rounds.done)
    yield counter(f"{role}_failed_rounds", "Rounds that an error has ended.", rounds.failed)
    yield gauge(f"{role}_round_age_seconds", "Since a round was done; -1 before the first one.", rounds.age)
