"""A hang-up signal (SIGHUP) rereads the configuration."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec

from twisted.application.service import Service


def changed(old: msgspec.Struct, new: msgspec.Struct) -> list[str]:
    """The names of the fields in which two configurations of one kind differ."""
    return [name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name)]


class Hangup(Service):
    """Calls `reload` in the reactor at each SIGHUP, while it runs.

    Where standard input is a terminal the signal keeps its meaning, the end: the terminal has gone.
    """

    def __init__(self, reactor: Any, reload: Callable[[], None]) -> None:
        self._reactor = reactor
        self._reload = reload
        self._before: Any = None

    def startService(self) -> None:
        """Take the signal. To be called in the main thread."""
        super().startService()
        if not has_terminal():
            self._before = signal.signal(signal.SIGHUP, self._signalled)

    def stopService(self) -> None:
        """Give it back."""
        super().stopService()
        if self._before is not None:
            signal.signal(signal.SIGHUP, self._before)
            self._before = None

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reload)


def has_terminal() -> bool:
    """Whether standard input is a terminal."""
    try:
        return os.isatty(0)
    except OSError:
        return False
