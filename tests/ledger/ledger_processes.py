"""Validators as processes, each with a CometBFT of its own where there is one, asked over real sockets."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from ledger_contract import LedgerUnderTest
from ledger_world import some_parameters

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed

from nymtw.errors import LedgerError, TransactionRefused
from nymtw.ledger.cometbft.files import BINARY, node_id
from nymtw.ledger.light import Trust
from nymtw.ledger.machine.parameters import Genesis, Validator
from nymtw.ledger.rpc.client import HTTPLedger
from nymtw.node.home import NodeHome
from nymtw.validator.setup import genesis_file, load_keys, write_genesis

PATIENCE = 120.0  # seconds, on a machine that has other things to do
_RUN = "import sys; from nymtw.validator.commands import main; sys.exit(main())"

NO_COMETBFT = shutil.which(os.environ.get(BINARY) or "cometbft") is None
needs_cometbft = pytest.mark.skipif(
    NO_COMETBFT, reason=f"CometBFT is not installed: tools/build-cometbft builds it; then set {BINARY}"
)


class BlockingClient:
    """`JSONClient` that waits: its Deferreds have fired."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, patience: float) -> "Deferred[tuple[int, Any]]":
        return self._ask(Request(self.url + path), patience)

    def post(self, path: str, body: bytes, content_type: str, patience: float) -> "Deferred[tuple[int, Any]]":
        return self._ask(Request(self.url + path, body, {"Content-Type": content_type}), patience)

    def close(self) -> "Deferred[None]":
        return succeed(None)

    def _ask(self, asked: Request, patience: float) -> "Deferred[tuple[int, Any]]":
        try:
            with urlopen(asked, timeout=patience + 60) as answer:
                return succeed((answer.status, json.load(answer)))
        except HTTPError as error:
            with error:
                return succeed((error.code, json.load(error)))
        except (URLError, OSError, ValueError) as error:
            return fail(LedgerError(f"{self.url}: {error}"))


class Clock:
    """Time that passes by itself."""

    def seconds(self) -> float:
        return time.monotonic()


def eventually(what: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What `what()` returns once that is something; errors of the ledger are nothing."""
    end = time.monotonic() + patience
    while True:
        with contextlib.suppress(LedgerError):
            if found := what():
                return found
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.1)


def result_of(answer: Any) -> Any:
    """The result of a coroutine or Deferred that has one."""
    results: list[Any] = []
    found = answer if isinstance(answer, Deferred) else Deferred.fromCoroutine(answer)
    found.addBoth(results.append)
    assert results, "it waits for something"
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class ValidatorProcess:
    """`nym-validator run`."""

    def __init__(self, base: Path, number: int, consensus: str, *options: str) -> None:
        self.home = NodeHome("validator", f"v{number}", base)
        self.home.create()
        self.keys = load_keys(self.home)
        self.port, self.p2p, self.rpc = free_ports(3)
        self.log = base / f"v{number}.log"
        self._base, self._consensus, self._options = base, consensus, options
        self.peers: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.client = BlockingClient(f"http://127.0.0.1:{self.port}")
        self.ledger = HTTPLedger(Clock(), [], [self.client])

    @property
    def peer(self) -> str:
        return f"{node_id(self.keys.node)}@127.0.0.1:{self.p2p}"

    def start(self) -> None:
        arguments = [
            f"--id={self.home.id}",
            f"--port={self.port}",
            f"--consensus={self._consensus}",
            f"--p2p-port={self.p2p}",
            f"--cometbft-port={self.rpc}",
            "--any-addresses",
            "--block-seconds=0.3",
            *(f"--peer={peer}" for peer in self.peers),
            *self._options,
        ]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _RUN, "run", *arguments],
                env={**os.environ, "NYMTW_HOME": str(self._base)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill the process of the application; CometBFT ends by itself then."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def kill_cometbft(self) -> None:
        """kill -9 of CometBFT alone."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(self.cometbft, signal.SIGKILL)

    @property
    def cometbft(self) -> int:
        return int((self.home.data / "cometbft" / "cometbft.pid").read_text())

    @property
    def height(self) -> int:
        return int(result_of(self.ledger.status()).height)

    @property
    def answers(self) -> bool:
        """Whether it takes transactions: it refuses what is none."""
        try:
            result_of(self.ledger.submit(b"none"))
        except TransactionRefused:
            return True
        return False

    @property
    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def roots(self) -> dict[int, bytes]:
        """The root after each block, as this one's own file has it."""
        with sqlite3.connect(f"file:{self.home.data / 'ledger.sqlite'}?mode=ro", uri=True) as database:
            return dict(database.execute("SELECT height, root FROM roots").fetchall())


class Testnet(LedgerUnderTest):
    """So many validators with the genesis of the tests' world, on this machine."""

    __test__ = False

    def __init__(self, base: Path, consensus: str, count: int = 1, *options: str) -> None:
        self.nodes = [ValidatorProcess(base, number, consensus, *options) for number in range(count)]
        listed = tuple(
            Validator(node.keys.account.address, bytes(node.keys.identity.verify_key), 10) for node in self.nodes
        )
        self.genesis = Genesis(chain="nymtw-test", parameters=some_parameters(validators=listed))
        for node in self.nodes:
            write_genesis(genesis_file(node.home), self.genesis)
            node.peers = [other.peer for other in self.nodes if other is not node]
        self.ledger = HTTPLedger(Clock(), [], [node.client for node in self.nodes])
        self.trust = Trust(self.genesis, time.time)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        self.until_up()

    def until_up(self) -> None:
        for node in self.nodes:
            eventually(lambda node=node: node.answers)

    def stop(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.process.terminate()
        for node in self.nodes:
            if node.process is not None:
                assert node.process.wait(60) == 0
                node.process = None

    def wait(self, answer: Any) -> Any:
        return result_of(maybeDeferred(lambda: answer) if isinstance(answer, Deferred) else answer)

    def pause(self) -> None:
        time.sleep(1.0)

    def restart(self) -> None:
        self.stop()
        self.start()

    def confirm(self, height: int, root: bytes) -> None:
        self.wait(self.trust.confirm(self.ledger, height, root))
