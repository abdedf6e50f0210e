"""How a localnet starts: in steps, patiently, and with its folder kept where it fails."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twisted.internet.defer import Deferred

from nymtw.localnet import localnet as localnet_module
from nymtw.localnet import session as session_module
from nymtw.localnet.layout import Layout
from nymtw.localnet.localnet import Localnet, NetworkIncomplete
from nymtw.localnet.processes import Component
from nymtw.localnet.rates import Machine
from nymtw.localnet.session import Session
from nymtw.testing.clock import FakeClock


class Started:
    """Processes that never run."""

    def __init__(self, reactor: Any, home: Path, logs: Path) -> None:
        self.names: list[str] = []

    def start(self, component: Component) -> Any:
        self.names.append(component.name)
        return type("Process", (), {"component": component})()

    def __iter__(self) -> Iterator[Any]:
        return iter([type("Process", (), {"component": Component(name, (), "")})() for name in self.names])

    def check(self) -> None:
        """None has died."""

    async def stop(self) -> list[str]:
        return []


class Seen:
    """A lookout that sees what it is told to."""

    there: set[str]
    signs = (0,)

    def __init__(self, reactor: Any, layout: Layout, connect: Any) -> None:
        self.names = [component.name for component in layout.components]

    async def missing(self) -> list[str]:
        return [name for name in self.names if name not in Seen.there]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    monkeypatch.setattr(localnet_module, "Processes", Started)
    monkeypatch.setattr(localnet_module, "Lookout", Seen)
    Seen.there = {"directory"}
    return FakeClock()


def test_processes_start_a_few_at_a_time(clock: FakeClock, tmp_path: Path) -> None:
    net = Localnet(clock, tmp_path, 1, 1, 0, at_once=3)
    names = [component.name for component in net.layout.components]
    net.processes.start(net.layout.components[0])
    logged: list[str] = []
    done: Deferred[None] = Deferred.fromCoroutine(net.complete(logged.append))
    processes: Any = net.processes
    clock.advance(60)
    assert processes.names == names[:4]
    assert logged[-1] == "1 of 8 are there; waiting for mixnode-1-1, mixnode-2-1, mixnode-3-1, then 4 more"
    for number in range(1, len(names)):
        Seen.there.add(names[number])
        clock.advance(0.5)
        assert processes.names == names[: number + 4]
    assert done.called
    assert done.result is None


def test_a_start_lasts_while_there_is_progress_and_then_says_what_is_missing(clock: FakeClock, tmp_path: Path) -> None:
    net = Localnet(clock, tmp_path, 1, 1, 0, at_once=3, timeout=100)
    names = [component.name for component in net.layout.components]
    done: Deferred[None] = Deferred.fromCoroutine(net.complete())
    for number in range(1, 4):
        clock.advance(95)
        Seen.there.add(names[number])
    (net.logs / "provider-1.log").write_text("cannot do this\n")
    clock.advance(95)
    assert not done.called
    clock.advance(10)
    failed: list[Any] = []
    done.addErrback(failed.append)
    assert failed[0].check(NetworkIncomplete)
    text = str(failed[0].value)
    assert "nothing has gone on for 100 seconds (--timeout); missing: provider-1, webproxy, alice, bob" in text
    assert "    cannot do this" in text
    assert re.search(r"webproxy has written nothing yet to .*/logs/webproxy.log", text)


class Silent:
    """A console that keeps what it is told."""

    is_terminal = False

    def __init__(self) -> None:
        self.logged: list[str] = []

    def write_line(self, text: str = "") -> None:
        self.logged.append(text)

    def show(self, text: str) -> None:
        """Nothing, without a terminal."""

    def end_progress(self) -> None:
        """There is none."""


@pytest.mark.parametrize("fails", [True, False])
def test_the_folder_is_kept_where_the_start_failed(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr(session_module, "measure", lambda random: Machine(9000, 2, 1.0))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def start(net: Localnet) -> None:
        if fails:
            raise NetworkIncomplete("nothing has gone on")
        await Deferred()

    monkeypatch.setattr(Localnet, "start", start)
    options = {"mixnodes-per-layer": 1, "providers": 1, "gateways": 0, "dir": None}
    options |= {"rate": None, "timeout": 60.0, "padded": 0, "validators": 0}
    console: Any = Silent()
    session = Session(clock, options, None, console)
    done: Deferred[int] = Deferred.fromCoroutine(session.run())
    if not fails:
        session.interrupt(2)
    outcome: list[Any] = []
    done.addBoth(outcome.append)
    [kept] = list(tmp_path.glob("nymtw-localnet-*")) or [None]
    if fails:
        assert outcome[0].check(NetworkIncomplete)
        assert kept is not None
        assert f"Keys and logs are kept in {kept}" in console.logged
    else:
        assert outcome == [130]
        assert kept is None
    assert "clients send 40 packets a second" in console.logged[0]


def test_the_validator_side_starts_behind_the_mixnet_and_shows_tokens(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("eth_account", reason="needs nymtw[ethereum]")
    from nymtw.localnet import token_flow

    order: list[str] = []

    async def nothing(*_: Any) -> None:
        """Done at once."""

    class Side:
        components = (Component("ethereum", (), "http://127.0.0.1:8545"),)

        def __init__(self, reactor: Any, folder: Path, home: Path, processes: Any, plan: Any, *rest: Any) -> None:
            order.append(f"{plan.consensus} on {plan.ethereum}, directory {rest[0]}")

        async def start(self, show: Any) -> None:
            order.append("started")

    class Flow:
        def __init__(self, reactor: Any, side: Any, home: Any, show: Any) -> None:
            order.append(f"tokens of {home.id}")

        async def run(self) -> None:
            order.append("shown")

    class Post:
        def __init__(self, *_: Any) -> None:
            """No sockets."""

        open = nothing

        async def deliver(self, message: bytes) -> Any:
            order.append("message")
            return type("Delivered", (), {"kept": message, "seconds": 1.0})()

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr(session_module, "measure", lambda random: Machine(9000, 2, 1.0))
    monkeypatch.setattr(Localnet, "start", nothing)
    monkeypatch.setattr(Localnet, "complete", nothing)
    monkeypatch.setattr(Started, "watch", lambda self, died: None, raising=False)
    monkeypatch.setattr(session_module.Plan, "check", lambda self: order.append("everything is installed"))
    monkeypatch.setattr(session_module, "ValidatorSide", Side)
    monkeypatch.setattr(session_module, "Mail", Post)
    monkeypatch.setattr(token_flow, "TokenFlow", Flow)
    options = {"mixnodes-per-layer": 1, "providers": 1, "gateways": 0, "dir": str(tmp_path), "exit": 1}
    options |= {"rate": None, "timeout": 60.0, "padded": 0, "validators": 1, "consensus": "cometbft", "ethereum": None}
    console: Any = Silent()
    outcome: list[Any] = []
    Deferred.fromCoroutine(Session(clock, options, None, console).run()).addBoth(outcome.append)
    assert outcome == [0]
    assert order[0] == "everything is installed"
    assert order[1].startswith("cometbft on evm, directory http://127.0.0.1:")
    assert order[2:] == ["started", "message", "tokens of alice", "shown"]
    assert any("http://127.0.0.1:8545" in line for line in console.logged)
