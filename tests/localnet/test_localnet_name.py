"""A localnet's name on this machine: taken when it is complete, gone with its keys."""

from pathlib import Path
from typing import Any

import pytest

from twisted.internet.defer import Deferred

from nymtw.encoding import key_text
from nymtw.localnet import session as session_module
from nymtw.localnet.layout import Layout
from nymtw.localnet.processes import Component
from nymtw.localnet.session import Session
from nymtw.node.networks import LOCALNET, Network, Networks
from nymtw.testing.clock import FakeClock
from nymtw.topology.document import Trust

LAYOUT = Layout((Component("directory", (), "here"),), "http://127.0.0.1:8080", key_text(bytes(32)))
OTHER = Network(("http://10.0.0.1:8080",), Trust((bytes(range(32)),)))


class Complete:
    """A localnet that is complete at once, and of which nothing runs."""

    def __init__(self, reactor: Any, folder: Path, *arguments: Any, **named: Any) -> None:
        self.layout, self.logs = LAYOUT, folder
        self.processes: Any = self

    async def start(self) -> None:
        """There is nothing to start."""

    async def complete(self, show: Any) -> None:
        """It is."""

    def watch(self, died: Any) -> None:
        """Nothing dies."""

    async def client(self, name: str, pushed: Any) -> Any:
        await Deferred()

    async def stop(self) -> list[str]:
        return []


class Console:
    is_terminal = False

    def __init__(self) -> None:
        self.said: list[str] = []

    def write_line(self, text: str = "") -> None:
        self.said.append(text)

    def end_progress(self) -> None:
        """There is none."""


def run(folder: str | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Session, "Deferred[int]", list[str]]:
    monkeypatch.setattr(session_module, "Localnet", Complete)
    options = {"mixnodes-per-layer": 1, "providers": 1, "gateways": 0, "dir": folder, "rate": 20.0, "timeout": 60.0}
    console: Any = Console()
    session = Session(FakeClock(), {**options, "padded": 0, "exit": 0, "validators": 0}, None, console)
    return session, Deferred.fromCoroutine(session.run()), console.said


@pytest.mark.parametrize("kept", [True, False])
def test_a_localnet_registers_itself(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path / "home"))
    session, _, said = run(str(tmp_path / "net") if kept else None, monkeypatch)
    networks = Networks()
    assert networks.load(networks.in_use()) == LAYOUT.network()
    assert said[-1] == f"The network is called localnet and is in use; its digest is {LAYOUT.network().digest()}"
    session.interrupt(2)
    assert networks.names() == ([LOCALNET] if kept else [])


def test_it_does_not_take_the_place_of_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path / "home"))
    Networks().save("mine", OTHER)
    session, _, said = run(None, monkeypatch)
    assert "localnet and is not in use, mine is: --network localnet chooses it" in said[-1]
    # Another localnet was started in the meantime: the name is its own.
    Networks().save(LOCALNET, OTHER)
    session.interrupt(2)
    assert Networks().load(LOCALNET) == OTHER


def test_a_home_that_cannot_be_written_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path / "home"))
    session, _, said = run(None, monkeypatch)
    assert said[-1].startswith("It has no name on this machine: ")
    session.interrupt(2)
