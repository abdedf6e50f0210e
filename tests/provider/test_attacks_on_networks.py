"""Attacks and faults on whole nodes: strangers at the door, stepped clocks, full disks, a directory that is away."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mixing_services import World

from nymtw.drop_reasons import DropReason
from nymtw.link.frames import Frame
from nymtw.link.node_link import NodeLinks
from nymtw.mixing import replay_guard
from nymtw.mixnode.service import MixnodeService
from nymtw.node.engine.mix_node import Environment
from nymtw.testing.security import MemorySecurity

pytestmark = pytest.mark.long

HOUR = 3600.0


class SteppedWorld(World):
    """Nodes whose wall clock can be stepped; the directory's cannot."""

    step = 0.0

    def environment(self) -> Environment:
        return replace(super().environment(), wall_clock=lambda: self.clock.wall_clock() + self.step)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SteppedWorld]:
    made = SteppedWorld(tmp_path, seed=110)
    yield made
    made.step = 0.0
    made.close()


class Attacker:
    """Speaks the links' language under an identity of its choice, and sends what it likes."""

    def __init__(self, world: World, identity: bytes, target: Any) -> None:
        self.target = target.core.own.identity
        self.world = world
        self.sent = 0
        self.dropped: list[DropReason] = []
        self.links = NodeLinks(
            world.network.host("attacker"),
            MemorySecurity(identity, world.random),
            receive=self._receive,
            admit=lambda peer: False,
            sent=self._sent,
            dropped=lambda reason, count: self.dropped.extend([reason] * count),
            random=world.random,
        )
        self.links.set_peers({self.target: ("127.0.0.1", target.listener.port)})

    def _receive(self, peer: bytes, frames: list[Frame]) -> None:
        raise AssertionError("nobody connects to an attacker")

    def _sent(self, count: int) -> None:
        self.sent += count

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.links.send(self.target, self.world.directory.newest().epoch, self.world.random.randbytes(2413))

    def stop(self) -> None:
        self.world.clock.wait_for(self.links.stop(), 10.0)


@pytest.mark.parametrize("layer", [2, 3, 0])
def test_a_node_of_another_layer_gets_nothing_in(world: World, layer: int) -> None:
    """At layer 2 only layer 1 is let in: not layer 2 itself, not layer 3, not a provider."""
    world.network_of_four()
    second = world.running[1]
    knocking = next(node for node in world.running if node.core.own.layer == layer)
    assert second.core.own.layer == 2
    before = second.counters.received_total
    attacker = Attacker(world, knocking.core.own.identity, second)
    attacker.send(5)
    world.clock.advance(60.0)
    assert attacker.sent == 0
    assert set(attacker.dropped) == {DropReason.LINK_DOWN}
    assert second.counters.received_total == before
    attacker.stop()


def test_the_right_layer_gets_in_and_its_garbage_is_counted(world: World) -> None:
    """The control: the door opens to the layer before."""
    world.network_of_four()
    first, second = world.running[:2]
    attacker = Attacker(world, first.core.own.identity, second)
    attacker.send(5)
    world.clock.advance(5.0)
    assert attacker.sent == second.counters.received_total == second.counters.dropped_total == 5
    attacker.stop()


def test_a_stranger_gets_nothing_in(world: World) -> None:
    world.network_of_four()
    for node in world.running:
        attacker = Attacker(world, b"?" * 32, node)
        attacker.send()
        world.clock.advance(30.0)
        assert (attacker.sent, node.counters.received_total) == (0, 0)
        attacker.stop()


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_clock_that_is_stepped_releases_nothing_early_and_holds_nothing_back(
    world: SteppedWorld, step: float
) -> None:
    provider = world.network_of_four()
    client = world.client(provider)
    for _ in range(20):
        client.send(b"on the way")
        world.clock.advance(0.002)
    held = sum(node.core.queued for node in world.running)
    assert held > 10
    world.step = step
    world.clock.advance(0.0)
    assert sum(node.core.queued for node in world.running) == held
    world.clock.advance(3.0)
    assert len(client.pull()[1]) > 0
    world.clock.advance(600.0)
    assert all(node.counters.dropped_total == 0 for node in world.running)
    client.connection.abort()
    client.connection = client.connect()
    world.clock.wait_for(client.connection.login(client.token), 5.0)
    client.send(b"afterwards")
    world.clock.advance(3.0)
    assert provider.counters.delivered_total == 42
    client.connection.abort()


def test_a_full_disk_stops_packets_and_not_the_node(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = world.network_of_four()
    client = world.client(provider)
    client.send(b"before")
    world.clock.advance(3.0)
    real: Callable[..., int] = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(replay_guard.os, "pwrite", full)
    for _ in range(5):
        client.send(b"lost")
    world.run_exactly(20.0)
    first = world.running[0]
    assert first.counters.snapshot().dropped == {DropReason.DISK_ERROR: 5}
    monkeypatch.setattr(replay_guard.os, "pwrite", real)
    client.send(b"after")
    world.run_exactly(5.0)
    assert provider.counters.delivered_total == 4  # two messages and their acks
    client.connection.abort()


def test_ten_minutes_without_a_directory_and_nodes_that_come_back_meanwhile(world: World) -> None:
    """It mixes on; a node that is restarted in that time takes part again when the directory is back."""
    provider = world.network_of_four()
    client = world.client(provider)
    world.directory.away = True
    for minute in range(10):
        client.send(b"%d" % minute)
        world.clock.advance(30.0)
        client.pull()
        world.clock.advance(30.0)
        client.pull()
    assert provider.counters.delivered_total == 20
    restarted = world.running[0]
    assert isinstance(restarted, MixnodeService)
    world.stop(restarted)
    again = world.mixnode("m1", 1)
    world.directory.away = False
    world.clock.advance(60.0)
    client.send(b"and on")
    world.clock.advance(3.0)
    assert again.counters.forwarded_total == 2
    assert provider.counters.delivered_total == 22
    client.connection.abort()
