"""Ends a process whose parent has died: the parent holds the other end of a pipe, named by `NYMTW_LIFELINE`."""

import os
from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.errors import ConfigError

VARIABLE = "NYMTW_LIFELINE"
GRACE = 10.0  # seconds an orderly stop may take


def watch_parent(reactor: Any, environ: Mapping[str, str]) -> "ParentWatch | None":
    """The service for the file descriptor that `NYMTW_LIFELINE` names; None if it is not set. Raises `ConfigError`."""
    text = environ.get(VARIABLE)
    if not text:
        return None
    try:
        descriptor = int(text)
        os.fstat(descriptor)
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)
    except (ValueError, OSError):
        raise ConfigError(f"{VARIABLE}={text!r:.40}: not an open file descriptor") from None
    return ParentWatch(reactor, descriptor)


@implementer(IReadDescriptor)
class ParentWatch(Service):
    """Stops the reactor when `descriptor` (a pipe's reading end) reads its end, and the process itself 10 s later."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def startService(self) -> None:
        """Begin to watch."""
        super().startService()
        self._reactor.addReader(self)

    def stopService(self) -> None:
        """Stop watching; the descriptor stays open."""
        super().stopService()
        self._reactor.removeReader(self)

    def fileno(self) -> int:
        """The descriptor, for the reactor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """For the reactor's own log lines."""
        return "parent watch"

    def doRead(self) -> None:
        """The parent says nothing down this pipe; it only ends."""
        try:
            if os.read(self._descriptor, 4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._parent_died()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw the pipe end before we read it."""
        self._parent_died()

    def _parent_died(self) -> None:
        self._reactor.removeReader(self)
        if self.running:
            self._reactor.callLater(GRACE, os._exit, 1)
            self._reactor.stop()
