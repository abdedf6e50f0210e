"""Detects that the reactor's thread is blocked, and by which code: a second thread inspects its stack."""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.logger import Logger

LIMIT: Final = 1.0  # seconds
_LONGEST_STACK: Final = 12


class BlockDetector:
    """Calls `blocked(seconds)` once for each blockage. The reactor calls `beat`, the watching thread calls `look`.

    `seconds`: a clock that goes on while the reactor is blocked.
    """

    def __init__(self, seconds: Callable[[], float], blocked: Callable[[float], None], limit: float = LIMIT) -> None:
        self._seconds, self._blocked, self._limit = seconds, blocked, limit
        self._last = seconds()
        self._said = False

    def beat(self) -> None:
        """Note that the reactor runs."""
        self._last = self._seconds()
        self._said = False

    def look(self) -> None:
        """Check whether the reactor still runs."""
        late = self._seconds() - self._last
        if late >= self._limit and not self._said:
            self._said = True
            self._blocked(late)


class Watchdog(Service):
    """Watches the thread that starts it, which is the reactor's.

    `count(files)` is called for each blockage, with the files whose code is on the stack.
    """

    log = Logger()

    def __init__(self, reactor: Any, count: Callable[[frozenset[str]], None], limit: float = LIMIT) -> None:
        self._reactor, self._count, self._limit = reactor, count, limit
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: Any = None

    def startService(self) -> None:
        """Begin to watch."""
        super().startService()
        self._stop.clear()
        watched = threading.get_ident()
        self._detector = BlockDetector(time.monotonic, lambda late: self._report(watched, late), self._limit)
        self._beat()
        self._thread = threading.Thread(target=self._watch, name="nymtw watchdog", daemon=True)
        self._thread.start()

    def stopService(self) -> None:
        """Stop watching."""
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _beat(self) -> None:
        self._detector.beat()
        self._timer = self._reactor.callLater(self._limit / 4, self._beat)

    def _watch(self) -> None:
        while not self._stop.wait(self._limit / 4):
            self._detector.look()

    def _report(self, watched: int, late: float) -> None:
        frame = sys._current_frames().get(watched)
        stack = [] if frame is None else list(traceback.extract_stack(frame))
        # Only places in the code: variables may hold content of a request.
        places = " < ".join(
            f"{entry.name} ({entry.filename}:{entry.lineno})" for entry in stack[: -_LONGEST_STACK - 1 : -1]
        )
        self._count(frozenset(entry.filename for entry in stack))
        self.log.error("The reactor has been blocked for {late:.1f} s by {places}", late=late, places=places)
