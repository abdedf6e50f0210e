"""anvil or geth as a process below ours, which ends with it."""

import os
import shutil
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.errors import ConfigError, EthereumError
from nymtw.node.tap import stop_with
from nymtw.pipe.devchain.tap import PROGRAM

_PATIENCE: Final = 15.0  # seconds for it to stop by itself
_LINES: Final = 10


def find_program(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """The program: what NYMTW_ANVIL or NYMTW_GETH names, or it on the PATH. Raises `ConfigError`."""
    variable = f"NYMTW_{name.upper()}"
    named = environ.get(variable)
    found = shutil.which(named or name, path=environ.get("PATH"))
    if found is None:
        how = "`npm install @foundry-rs/anvil` brings it" if name == "anvil" else "`tools/build-geth` builds it"
        raise ConfigError(f"there is no {name} at {f'{variable}={named}' if named else 'the PATH'}; {how}")
    return found


def command_line(backend: str, program: str, folder: Path, port: int, period: float) -> list[str]:
    """How the program is started: its chain in `folder`, on 127.0.0.1 alone, with nobody else."""
    if backend == "anvil":
        options = ["--host", "127.0.0.1", "--port", str(port), "--block-time", f"{period:g}", "--silent"]
        return [program, *options, "--state", str(folder / "anvil.json"), "--state-interval", "2"]
    options = ["--dev", "--dev.period", str(max(1, round(period))), "--datadir", str(folder / "geth"), "--ipcdisable"]
    served = ["--http", "--http.addr", "127.0.0.1", "--http.port", str(port), "--http.api", "eth,net,web3"]
    return [program, *options, *served, "--authrpc.port", "0", "--port", "0", "--nodiscover", "--verbosity", "2"]


class ProgramChain(Service):
    """Runs the program while it runs itself. Where it ends by itself, so does the process, and says what it said."""

    _log = Logger()

    def __init__(self, reactor: Any, folder: Path, backend: str, port: int, period: float) -> None:
        """Raises `ConfigError` where the program is not installed."""
        self._reactor = reactor
        self._backend = backend
        words = command_line(backend, find_program(backend), folder, port, period)
        # It must not outlive us, however we end: util-linux has the program that asks the kernel for it.
        guard = shutil.which("setpriv")
        self._words = [guard, "--pdeathsig", "KILL", "--", *words] if guard else words
        self._folder = folder
        self._transport: Any = None
        self._stopped: Deferred[None] | None = None
        self._said: deque[str] = deque(maxlen=_LINES)

    def startService(self) -> None:
        """Start it."""
        super().startService()
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        protocol = _Process(self._said, self._ended)
        self._transport = self._reactor.spawnProcess(
            protocol, self._words[0], self._words, environment, str(self._folder)
        )

    def stopService(self) -> "Deferred[None] | None":
        """A Deferred that fires when it has ended."""
        super().stopService()
        if self._transport is None:
            return None
        self._stopped = Deferred()
        self._signal("INT")
        kill = self._reactor.callLater(_PATIENCE, self._signal, "KILL")
        return self._stopped.addCallback(lambda _: kill.cancel() if kill.active() else None)

    def _ended(self, reason: Failure) -> None:
        self._transport = None
        if self._stopped is not None:
            self._stopped.callback(None)
        elif self.running:
            said = " / ".join(self._said)
            error = EthereumError(f"{self._backend} has ended: {reason.getErrorMessage()} It said: {said}")
            stop_with(self._reactor, PROGRAM, error)

    def _signal(self, name: str) -> None:
        if self._transport is not None:
            try:
                self._transport.signalProcess(name)
            except ProcessExitedAlready:
                pass


class _Process(ProcessProtocol):
    def __init__(self, said: "deque[str]", ended: Any) -> None:
        self._said, self._ended = said, ended

    def outReceived(self, data: bytes) -> None:
        self._said.extend(line[:500] for line in data.decode("utf-8", "replace").splitlines())

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self._ended(reason)
