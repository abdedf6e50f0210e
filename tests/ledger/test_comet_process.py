"""CometBFT's files, and what is done when its process ends."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ledger_world import SIGNERS, some_genesis

from twisted.internet.error import ProcessTerminated
from twisted.python.failure import Failure

from nymtw.errors import ConfigError, LedgerError
from nymtw.ledger.cometbft.files import CometPorts, find_cometbft, socket_path, write_home
from nymtw.ledger.cometbft.process import CometBFTProcess
from nymtw.testing.clock import FakeClock


class Transport:
    def __init__(self, protocol: Any) -> None:
        self.protocol, self.pid, self.signals = protocol, 4_000_000, list[str]()

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    def end(self) -> None:
        self.protocol.processEnded(Failure(ProcessTerminated(1)))


class Reactor(FakeClock):
    """Starts no processes."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Transport] = []
        self.commands: list[Any] = []

    def spawnProcess(self, protocol: Any, executable: str, args: Any, env: Any) -> Transport:
        self.commands.append(args)
        self.started.append(Transport(protocol))
        return self.started[-1]


def running(tmp_path: Path) -> tuple[Reactor, CometBFTProcess, list[LedgerError]]:
    reactor, failures = Reactor(), list[LedgerError]()
    process = CometBFTProcess(reactor, "/bin/cometbft", tmp_path, failures.append)
    process.startService()
    return reactor, process, failures


def test_it_is_started_again(tmp_path: Path) -> None:
    reactor, process, failures = running(tmp_path)
    assert reactor.commands == [["/bin/cometbft", "start", "--home", str(tmp_path)]]
    reactor.started[0].end()
    reactor.advance(1)
    assert len(reactor.started) == process.starts == 2
    assert failures == []
    stopped: list[Any] = []
    process.stopService().addCallback(stopped.append)
    assert reactor.started[1].signals == ["TERM"]
    assert stopped == []
    reactor.started[1].end()
    assert stopped == [None]
    reactor.advance(100)
    assert len(reactor.started) == 2


def test_who_ends_again_and_again_is_given_up(tmp_path: Path) -> None:
    reactor, process, failures = running(tmp_path)
    for number in range(5):
        reactor.started[number].protocol.outReceived(b"panic: number %d\n" % number)
        reactor.started[number].end()
        reactor.advance(1)
    assert len(reactor.started) == 5
    assert "panic: number 4" in str(failures[0])
    process.stopService()


def test_who_does_not_stop_is_killed(tmp_path: Path) -> None:
    reactor, process, _ = running(tmp_path)
    process.stopService()
    reactor.advance(25)
    assert reactor.started[0].signals == ["TERM", "KILL"]
    reactor.started[0].end()


def test_files(tmp_path: Path) -> None:
    genesis = some_genesis()
    write_home(
        tmp_path,
        genesis,
        SIGNERS[0],
        SIGNERS[1],
        CometPorts("127.0.0.1", 26656, 26658),
        "unix:///x/abci.sock",
        peers=["a@127.0.0.1:1", "b@127.0.0.1:2"],
        block_seconds=0.5,
        idle=0.0,
        strict=False,
    )
    config = tmp_path / "config"
    settings = tomllib.loads((config / "config.toml").read_text())
    assert settings["rpc"]["laddr"] == "tcp://127.0.0.1:26658"
    assert settings["p2p"]["persistent_peers"] == "a@127.0.0.1:1,b@127.0.0.1:2"
    assert settings["consensus"]["create_empty_blocks"] is False
    shown = json.loads((config / "genesis.json").read_text())
    assert [each["power"] for each in shown["validators"]] == ["10"] * 4
    key = json.loads((config / "priv_validator_key.json").read_text())
    assert key["address"] == shown["validators"][0]["address"]
    assert all(path.stat().st_mode & 0o77 == 0 for path in config.iterdir())
    state = tmp_path / "data" / "priv_validator_state.json"
    state.write_text('{"height": "9", "round": 0, "step": 3}')
    write_home(
        tmp_path,
        genesis,
        SIGNERS[0],
        SIGNERS[1],
        CometPorts("::1", 1, 2),
        "unix:///x",
        peers=[],
        block_seconds=1,
        idle=5,
        strict=True,
    )
    assert '"9"' in state.read_text()  # what it has signed is never forgotten
    assert "tcp://[::1]:1" in (config / "config.toml").read_text()


def test_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    assert socket_path(Path("/data"), lambda: tmp_path) == Path("/data/abci.sock")
    assert socket_path(Path("/" + "d" * 100), lambda: Path("/tmp/x")) == Path("/tmp/x/abci.sock")


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tools/build-cometbft"):
        find_cometbft({"PATH": str(tmp_path)})
    with pytest.raises(ConfigError, match="NYMTW_COMETBFT=/no/such"):
        find_cometbft({"PATH": str(tmp_path), "NYMTW_COMETBFT": "/no/such"})
    program = tmp_path / "cometbft"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_cometbft({"PATH": str(tmp_path)}) == str(program)
