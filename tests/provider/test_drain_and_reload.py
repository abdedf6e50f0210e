"""A node that is told to stop lets its packets leave, and one that is told to reread its configuration does."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mixing_services import World
from msgspec import structs

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from nymtw.drop_reasons import DropReason
from nymtw.errors import ConfigError
from nymtw.link.frames import Frame, FrameType
from nymtw.mixing.loop_loss import PAUSE
from nymtw.mixnode import options as mixnode
from nymtw.mixnode.service import MixnodeService
from nymtw.node.process import reload
from nymtw.node.process.reload import Hangup
from nymtw.sphinx import Hop, build_packet


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, seed=90)
    yield made
    made.close()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    def listen(event: dict[str, Any]) -> None:
        if event.get("log_format", "").startswith("The configuration"):
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(listen)
    yield lines
    globalLogPublisher.removeObserver(listen)


def give(world: World, node: MixnodeService, delays: list[float]) -> None:
    """Packets from the layer before, to be held for so many seconds, on to the next layer."""
    topology = world.directory.newest()
    own, behind = topology.find(node.core.own.identity), topology.mixnodes(node.core.own.layer + 1)[0]
    assert own is not None
    route = [Hop(hop.identity, hop.sphinx_key(topology.epoch)) for hop in (own, behind)]
    packets = [build_packet(b"", route, [int(delay * 1e9)], bytes(32), random=world.random) for delay in delays]
    node.core.receive(b"edge", [Frame(FrameType.PACKET, 0, topology.epoch, packet) for packet in packets])


def test_packets_that_are_held_leave_before_the_end_and_no_more_are_taken(world: World) -> None:
    node = world.mixnode("m", 1, drain=5.0)
    world.network_of_four()
    give(world, node, [0.1, 1.0, 4.9])
    stopping = node.stopService()
    world.running.remove(node)
    give(world, node, [0.0])
    world.clock.advance(4.0)
    assert not stopping.called
    assert node.counters.forwarded_total == 2
    world.clock.wait_for(stopping, 2.0)
    assert node.counters.forwarded_total == 3
    assert node.counters.snapshot().dropped == {DropReason.SHUTDOWN: 1}


def test_the_end_comes_within_the_bound(world: World) -> None:
    node = world.mixnode("m", 1, drain=5.0)
    world.network_of_four()
    give(world, node, [1.0, 60.0, 60.0])
    began = world.clock.seconds()
    world.stop(node)
    assert world.clock.seconds() - began == pytest.approx(5.0, abs=0.2)
    assert node.counters.snapshot().dropped == {DropReason.SHUTDOWN: 2}
    assert node.counters.queued == 0


def test_nothing_held_nothing_waited_for(world: World) -> None:
    node = world.mixnode("m", 1, drain=3600.0)
    world.clock.advance(5.0)
    began = world.clock.seconds()
    world.stop(node)
    assert world.clock.seconds() - began < 0.1


def test_a_paused_node_ends_within_the_bound_too(world: World) -> None:
    node = world.mixnode("m", 1, drain=2.0)
    world.network_of_four()
    node.core.act(PAUSE)
    give(world, node, [0.1])
    world.stop(node)
    assert node.counters.snapshot().dropped == {DropReason.SHUTDOWN: 1}


def test_what_can_change_changes_and_the_rest_is_named(world: World, logged: list[str]) -> None:
    node = world.mixnode("m", 1, loop_rate=0)
    world.network_of_four()
    was = node.section
    node.reread = lambda: structs.replace(
        was, max_delay=1.0, drain=1.5, loop_rate=5.0, metrics=False, on_loop_loss="pause", port=9, rate=7
    )
    node.reload()
    assert logged[-1] == (
        "The configuration was reread; changed: max_delay, drain, metrics, loop_rate, on_loop_loss; "
        "these need a restart: port, rate"
    )
    give(world, node, [1.1])
    assert node.counters.snapshot().dropped == {DropReason.DELAY_TOO_LONG: 1}
    assert node.drain.seconds == 1.5
    assert node.loops.policy.action == PAUSE
    told = list(world.directory.metrics[node.core.own.identity])
    world.clock.advance(20.0)
    assert node.loops.ledger.sent > 50
    assert world.directory.metrics[node.core.own.identity] == told
    node.reload()
    assert logged[-1] == "The configuration was reread; changed: nothing; these need a restart: port, rate"
    node.reread = lambda: was
    node.reload()
    assert logged[-1].endswith("these need a restart: none")
    world.clock.advance(1.0)
    give(world, node, [0.1])
    world.clock.advance(5.0)
    assert world.directory.metrics[node.core.own.identity] != told


def test_a_provider_rereads_too(world: World, logged: list[str]) -> None:
    provider = world.provider()
    was = provider.section
    provider.reread = lambda: structs.replace(was, drain=9.0, client_port=1)
    provider.reload()
    assert provider.drain.seconds == 9.0
    assert logged[-1] == "The configuration was reread; changed: drain; these need a restart: client_port"


def test_a_configuration_that_cannot_be_read_changes_nothing(world: World, logged: list[str]) -> None:
    node = world.mixnode("m", 1)

    def broken() -> Any:
        raise ConfigError("config.toml:3: unknown key 'colour' in [node]")

    node.reread = broken
    node.reload()
    assert logged[-1] == "The configuration stays as it was: config.toml:3: unknown key 'colour' in [node]"


def test_the_command_line_still_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))
    options = mixnode.Options()
    options.parseOptions(["--id=m", "--directory-key", "A" * 43 + "=", "--max-delay=30"])
    home, first = mixnode.configure(options)
    text = home.config_file.read_text()
    home.config_file.write_text(
        text.replace("max_delay = 30.0", "max_delay = 40.0").replace("drain = 5.0", "drain = 6.0")
    )
    again = mixnode.configure(options)[1]
    assert (again.node.max_delay, again.node.drain) == (30.0, 6.0)
    assert first.node.drain == 5.0


class Reactor(Clock):
    def callFromThread(self, function: Any) -> None:
        self.callLater(0, function)


def test_a_hang_up_rereads_and_afterwards_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "has_terminal", lambda: False)
    reactor, calls = Reactor(), []
    before = signal.getsignal(signal.SIGHUP)
    hangup = Hangup(reactor, lambda: calls.append(1))
    hangup.startService()
    os.kill(os.getpid(), signal.SIGHUP)
    reactor.advance(0)
    assert calls == [1]
    hangup.stopService()
    assert signal.getsignal(signal.SIGHUP) == before


def test_on_a_terminal_a_hang_up_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "has_terminal", lambda: True)
    before = signal.getsignal(signal.SIGHUP)
    hangup = Hangup(Reactor(), lambda: None)
    hangup.startService()
    assert signal.getsignal(signal.SIGHUP) == before
    hangup.stopService()
