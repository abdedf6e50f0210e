"""Lets the packets that a node holds leave before it ends, within a bound."""

from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nymtw.node.engine.packet_engine import PacketEngine

_LOOK_INTERVAL: Final = 0.02  # seconds


class Drain(Service):
    """When it is stopped, `core` takes no more, and has `seconds` to pass on what it and the links still hold."""

    log = Logger()

    def __init__(self, clock: Any, core: PacketEngine, links: Any, seconds: float) -> None:
        self._clock = clock
        self._core = core
        self._links = links
        self.seconds = seconds

    def stopService(self) -> "Deferred[None] | None":
        """A Deferred that fires when nothing is left, or the time is over; None where nothing was."""
        super().stopService()
        self._core.drain()
        if not self._left():
            return None
        drained: Deferred[None] = Deferred()
        self._look(drained, self._clock.seconds() + self.seconds)
        return drained

    def _left(self) -> int:
        return self._core.queued + int(self._links.pending)

    def _look(self, drained: "Deferred[None]", end: float) -> None:
        wait = min(_LOOK_INTERVAL, end - self._clock.seconds())
        if self._left() and wait > 0:
            self._clock.callLater(wait, self._look, drained, end)
            return
        if left := self._left():
            self.log.info("{left} packets were still held after {seconds} s", left=left, seconds=self.seconds)
        drained.callback(None)
