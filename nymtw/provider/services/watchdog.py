"""Detects that the reactor's thread is blocked, and by which code: a second thread inspects its stack."""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from twisted.application.service import Service
from twisted.logger import Logger

LIMIT: Final = 1.0  # seconds
MOST_OF_IT: Final = 0.5  # of the time for which it was late
POLLING: Final = frozenset({"doPoll", "doSelect", "doIteration", "doKEvent"})
QUIET: Final = 60.0  # seconds between two lines of a kind
_LONGEST_STACK: Final = 12


class Times(NamedTuple):
    """Of a thread, in seconds: the processor time that it had, and for how long it was ready to run and had none."""

    used: float
    waited: float


class BlockDetector:
    """`beat` is called by the reactor, `look` by its watcher; `late(seconds, times)` once for each blockage, with
    the times of the reactor's thread since it last gave a sign.

    `seconds` is a clock that goes on while the reactor does not, `times` those of the reactor's thread so far.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        times: Callable[[], Times],
        late: Callable[[float, Times], None],
        limit: float = LIMIT,
    ) -> None:
        self._seconds, self._times, self._late, self._limit = seconds, times, late, limit
        self._last, self._before = seconds(), times()
        self._logged = False

    def beat(self) -> None:
        """The reactor is alive."""
        self._last, self._before = self._seconds(), self._times()
        self._logged = False

    def look(self) -> None:
        """Check whether the reactor still runs."""
        late = self._seconds() - self._last
        if late >= self._limit and not self._logged:
            self._logged = True
            now = self._times()
            self._late(late, Times(now.used - self._before.used, now.waited - self._before.waited))


def is_the_machines(late: float, times: Times, innermost: str) -> bool:
    """Whether the machine had no time for a thread that was `late` seconds, rather than its code having taken them.

    `innermost` is the function on top of its stack: the call in which a reactor waits for something to do blocks
    nobody, so that a process that is late in it was stopped, or not given a core.
    """
    if times.waited >= MOST_OF_IT * late:
        return True
    return innermost in POLLING and times.used < MOST_OF_IT * late


class Watchdog(Service):
    """Watches the thread that starts it, which is the reactor's.

    `count(files)` is called for each blockage with the files whose code is on the stack; where the machine had no time
    for the process, nobody is blamed. A line of each kind a minute at most, which says how many there were.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        count: Callable[[frozenset[str]], None],
        limit: float = LIMIT,
        *,
        times: "Callable[[], Callable[[], Times]] | None" = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`times()`, called in the thread to be watched, gives what tells its times; None: what the system says."""
        self._reactor, self._count, self._limit = reactor, count, limit
        self._times = times or thread_times
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: Any = None
        self._quiet: dict[bool, tuple[float, int]] = {}  # kind -> when it was last said, how many since

    def startService(self) -> None:
        """Begin to watch."""
        super().startService()
        self._stop.clear()
        self.watch()
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

    def watch(self) -> None:
        """The thread that calls this is the one to be watched; `beat` is its sign, `look` what another one does."""
        watched = threading.get_ident()
        detector = BlockDetector(
            self._seconds, self._times(), lambda late, times: self._report(watched, late, times), self._limit
        )
        self.beat, self.look = detector.beat, detector.look

    def _beat(self) -> None:
        self.beat()
        self._timer = self._reactor.callLater(self._limit / 4, self._beat)

    def _watch(self) -> None:
        while not self._stop.wait(self._limit / 4):
            self.look()

    def _report(self, watched: int, late: float, times: Times) -> None:
        frame = sys._current_frames().get(watched)
        stack = [] if frame is None else list(traceback.extract_stack(frame))
        machine = is_the_machines(late, times, stack[-1].name if stack else "")
        if not machine:
            self._count(frozenset(entry.filename for entry in stack))
        # Places alone: what stands in variables may be what a request held.
        places = " < ".join(
            f"{entry.name} ({entry.filename}:{entry.lineno})" for entry in stack[: -_LONGEST_STACK - 1 : -1]
        )
        self._log_blockage(machine, late, times, places)

    def _log_blockage(self, machine: bool, late: float, times: Times, places: str) -> None:
        when, others = self._quiet.get(machine, (-QUIET, 0))
        now = self._seconds()
        if now - when < QUIET:
            self._quiet[machine] = when, others + 1
            return
        self._quiet[machine] = now, 0
        had = f"of which it computed for {times.used:.1f} s and waited for a core for {times.waited:.1f} s"
        more = f"; {others} more times since this was last said" if others else ""
        if machine:
            self.log.warn(
                "The machine had no time for this process for {late:.1f} s, {had}{more}", late=late, had=had, more=more
            )
        else:
            self.log.error(
                "The reactor has been blocked for {late:.1f} s, {had}, by {places}{more}",
                late=late,
                had=had,
                places=places,
                more=more,
            )


def thread_times() -> Callable[[], Times]:
    """Those of the calling thread, readable from every thread. Linux alone says for how long a thread has waited."""
    schedule = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
    if schedule.exists():

        def from_schedule() -> Times:
            used, waited, *_ = schedule.read_text().split()
            return Times(int(used) / 1e9, int(waited) / 1e9)

        return from_schedule
    try:
        clock = time.pthread_getcpuclockid(threading.get_ident())
    except (AttributeError, OSError):  # the stack alone must tell
        return lambda: Times(0.0, 0.0)
    return lambda: Times(time.clock_gettime(clock), 0.0)
