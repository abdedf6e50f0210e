"""The processes of a localnet: started through twistd's plugins, watched, stopped together, gone if their parent is."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from nymtw.errors import NymtwError
from nymtw.node.process.parent_watch import VARIABLE

# Popen reports an end when it is asked; this often.
WATCH_INTERVAL = 0.1
STOP_INTERVAL = 0.02
STOP_LIMIT = 10.0
# How much of a log is shown when its process has died.
TAIL_LINES = 12
_TWISTD = "from twisted.scripts.twistd import run; run()"


class ComponentDied(NymtwError):
    """A process of the localnet has ended by itself."""


@dataclass(frozen=True, slots=True)
class Component:
    """One process: `command` is what follows twistd's own options, `where` its text in the table."""

    name: str
    command: tuple[str, ...]
    where: str


class Process:
    """A running component."""

    def __init__(self, component: Component, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.component = component
        self.popen = popen
        self.log = log
        self.reported = False

    @property
    def status(self) -> int | None:
        """None while it runs, else the exit status, negative for a signal's number."""
        return self.popen.poll()

    def epitaph(self) -> str:
        """Its exit, with the last lines of its log."""
        lines = [f"{self.component.name} has died ({describe_status(self.status)}); the end of {self.log}:"]
        return "\n".join(lines + [f"    {line}" for line in tail(self.log)])


class Processes:
    """All processes of one localnet. Their logs are `logs/NAME.log`; `home` is their NYMTW_HOME."""

    def __init__(self, reactor: Any, home: Path, logs: Path) -> None:
        self._reactor = reactor
        self._logs = logs
        self._running: dict[str, Process] = {}
        # The children hold the end that reads, this process alone the end that writes: it closes when this process
        # ends, however it ends.
        self._pipe, self._held = os.pipe()
        self._environment = {**os.environ, "NYMTW_HOME": str(home), VARIABLE: str(self._pipe)}
        self._watch: Any = None

    def start(self, component: Component) -> Process:
        """Start `component`, or start it again. Its folder of work is where the logs are."""
        path = self._logs / f"{component.name}.log"
        # -P: what lies in the folder it is started from is not importable.
        command = [sys.executable, "-P", "-c", _TWISTD, "--nodaemon", "--pidfile=", "--logfile=-", *component.command]
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._logs,
                pass_fds=[self._pipe],
                # A group of its own: Ctrl-C reaches the parent alone, which then stops its children in order.
                process_group=0,
            )
        process = self._running[component.name] = Process(component, popen, path)
        return process

    def __getitem__(self, name: str) -> Process:
        return self._running[name]

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._running.values()))

    def dead(self) -> list[Process]:
        """The processes that have ended since the last call."""
        found = [process for process in self if process.status is not None and not process.reported]
        for process in found:
            process.reported = True
        return found

    def check(self) -> None:
        """Raises `ComponentDied`, with the end of its log, if one has ended."""
        for process in self.dead():
            raise ComponentDied(process.epitaph())

    def watch(self, died: Callable[[Process], None]) -> None:
        """Call `died` for each one that ends from now on, until `stop`."""
        for process in self.dead():
            died(process)
        self._watch = self._reactor.callLater(WATCH_INTERVAL, self.watch, died)

    async def stop(self, limit: float = STOP_LIMIT) -> list[str]:
        """Ask all to stop, wait up to `limit` seconds, kill the rest. Returns the names of those that were killed."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._signal(signal.SIGTERM)
        end = self._reactor.seconds() + limit
        while self._alive() and self._reactor.seconds() < end:
            await sleep(self._reactor, STOP_INTERVAL)
        killed = [process.component.name for process in self._alive()]
        self.kill()
        return killed

    def kill(self) -> None:
        """End all that still run, at once."""
        self._signal(signal.SIGKILL)
        for process in self:
            process.popen.wait()
        for descriptor in (self._pipe, self._held):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._pipe = self._held = -1

    def _alive(self) -> list[Process]:
        return [process for process in self if process.status is None]

    def _signal(self, number: int) -> None:
        for process in self._alive():
            process.popen.send_signal(number)


def sleep(reactor: Any, seconds: float) -> "Deferred[None]":
    return deferLater(reactor, seconds, lambda: None)


def describe_status(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "still running"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


def tail(path: Path, lines: int = TAIL_LINES) -> Sequence[str]:
    """The last lines of a log."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 200 * lines))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []
