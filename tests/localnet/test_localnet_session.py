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
