"""The CometBFT process that belongs to a node: it starts once the application listens, and stops with it."""

import os
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.errors import LedgerError

_PAUSE: Final = 1.0  # seconds before it is started again
_MOST_DEATHS: Final = 5  # within
_WINDOW: Final = 60.0  # seconds
_PATIENCE: Final = 20.0  # seconds for it to stop by itself
_LONGEST_LINE: Final = 2000  # bytes


class _Process(ProcessProtocol):
    def __init__(self, log_line: Callable[[str], None], ended: Callable[[Failure], None]) -> None:
        self._log_line, self._ended = log_line, ended
        self._rest = b""

    def outReceived(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_LONGEST_LINE:]
        for line in lines:
            self._log_line(line.decode("utf-8", "replace")[:_LONGEST_LINE])

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self._ended(reason)


class CometBFTProcess(Service):
    """Runs `binary start --home HOME` while it runs itself."""

    _log = Logger()

    def __init__(self, reactor: Any, binary: str, home: Path, failed: Callable[[LedgerError], object]) -> None:
        """`failed(error)`: it ends again and again."""
        self._reactor = reactor
        self._binary = binary
        self._home = home
        self._failed = failed
        self._transport: Any = None
        self._deaths: deque[float] = deque()
        self._again: Any = None
        self._stopped: Deferred[None] | None = None
        self.last_lines: deque[str] = deque(maxlen=20)
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return None if self._transport is None else self._transport.pid

    def startService(self) -> None:
        """Start it; one that an earlier run of ours has left behind is ended before."""
        super().startService()
        self._end_orphan()
        self._start()

    def stopService(self) -> "Deferred[None] | None":
        """A Deferred that fires when it has ended."""
        super().stopService()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._transport is None:
            return None
        self._stopped = Deferred()
        self._signal("TERM")
        kill = self._reactor.callLater(_PATIENCE, self._signal, "KILL")
        return self._stopped.addCallback(lambda _: kill.cancel() if kill.active() else None)

    def _start(self) -> None:
        self._again = None
        self.starts += 1
        protocol = _Process(self._log_line, self._ended)
        arguments = [self._binary, "start", "--home", str(self._home)]
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        self._transport = self._reactor.spawnProcess(protocol, self._binary, arguments, environment)
        self._pid_file.write_text(f"{self._transport.pid}\n")

    @property
    def _pid_file(self) -> Path:
        return self._home / "cometbft.pid"

    def _log_line(self, line: str) -> None:
        self.last_lines.append(line)
        if line.startswith("E["):
            self._log.error("CometBFT: {line}", line=line)

    def _ended(self, reason: Failure) -> None:
        self._transport = None
        self._pid_file.unlink(missing_ok=True)
        if self._stopped is not None:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)
        if not self.running:
            return
        now = self._reactor.seconds()
        self._deaths.append(now)
        while self._deaths[0] < now - _WINDOW:
            self._deaths.popleft()
        self._log.error("CometBFT has ended: {reason}", reason=reason.getErrorMessage())
        if len(self._deaths) >= _MOST_DEATHS:
            last = " / ".join(list(self.last_lines)[-3:])
            self._failed(LedgerError(f"CometBFT has ended {len(self._deaths)} times in a minute; it said: {last}"))
        else:
            self._again = self._reactor.callLater(_PAUSE, self._start)

    def _signal(self, name: str) -> None:
        if self._transport is not None:
            try:
                self._transport.signalProcess(name)
            except ProcessExitedAlready:
                pass

    def _end_orphan(self) -> None:
        """One that waits for an application which was killed before it had connected; it has the files locked."""
        try:
            pid = int(self._pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return
        if os.fsencode(str(self._home)) in command:
            self._log.warn("ending a CometBFT that an earlier run has left behind")
            os.kill(pid, signal.SIGKILL)
