"""Loops of mixnodes cross the whole network and come back; what follows where they do not."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from mixing_services import World

from zope.interface import implementer

from nymtw.drop_reasons import DropReason
from nymtw.errors import TopologyError
from nymtw.interfaces import ICoverPolicy
from nymtw.link.frames import Frame
from nymtw.mixing.loop_loss import GO_ON, LOSS, PAUSE, SLOW_DOWN, WARN, LoopLoss
from nymtw.mixnode.loops import loop_route, make_loop
from nymtw.mixnode.service import MixnodeService

pytestmark = pytest.mark.long

RATE = 2.0
WINDOW = 30.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, seed=80)
    yield made
    made.close()


@implementer(ICoverPolicy)
class Noting:
    """Says what it was told to, and keeps what it was asked."""

    def __init__(self, action: str = GO_ON) -> None:
        self.action = action
        self.losses: list[LoopLoss] = []

    def decide(self, loss: LoopLoss) -> str:
        self.losses.append(loss)
        return self.action


def network(world: World, **given: object) -> list[MixnodeService]:
    """A mixnode in each layer, all with loops, and a provider."""
    nodes = [world.mixnode(f"m{layer}", layer, loop_rate=RATE, loop_window=WINDOW, **given) for layer in (1, 2, 3)]
    world.provider()
    world.clock.advance(15.0)
    return nodes


def test_loops_of_every_layer_come_back_and_are_accounted_for(world: World) -> None:
    nodes = network(world)
    policies = [Noting() for _ in nodes]
    for node, policy in zip(nodes, policies, strict=True):
        node.loops.policy = policy
    world.run_exactly(WINDOW + 45.0)
    for node, policy in zip(nodes, policies, strict=True):
        ledger = node.loops.ledger
        assert ledger.sent > RATE * WINDOW
        assert ledger.sent - 10 <= ledger.returned == node.counters.delivered_total
        assert node.counters.dropped_total == 0
        (loss,) = [each for each in policy.losses if each.kind == LOSS]
        assert loss.returned == loss.sent
        assert abs(loss.sent - RATE * WINDOW) < 6 * (RATE * WINDOW) ** 0.5
    provider = world.running[-1]
    assert provider.counters.delivered_total == provider.counters.dropped_total == 0
    # Each loop passes each other node once, whatever its own layer.
    total = sum(node.loops.ledger.sent for node in nodes)
    assert total - 30 <= provider.counters.forwarded_total <= total


def test_loops_leave_as_a_poisson_process(world: World) -> None:
    node = network(world)[0]
    times: list[float] = []
    node.loops.ledger.left = lambda *loop: times.append(world.clock.seconds())  # type: ignore[method-assign]
    world.clock.advance(200.0)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / RATE, rel=0.1)
    assert deviation == pytest.approx(mean, rel=0.15)


def test_no_rate_no_loops(world: World) -> None:
    node = world.mixnode("quiet", 1, loop_rate=0)
    world.network_of_four()
    world.clock.advance(100.0)
    assert node.loops.ledger.sent == 0


def test_an_incomplete_network_gets_no_loops(world: World) -> None:
    node = world.mixnode("m1", 1, loop_rate=RATE)
    world.mixnode("m2", 2)
    world.clock.advance(100.0)
    assert node.loops.ledger.sent == node.counters.received_total == 0


def test_a_route_is_the_rest_of_the_layers_a_provider_and_back(world: World) -> None:
    world.network_of_four()
    topology = world.directory.newest()
    for node in topology.nodes:
        if node.layer:
            route = loop_route(topology, node.identity, Random(1))
            assert [hop.layer for hop in route] == [(node.layer + step) % 4 for step in (1, 2, 3, 4)]
            assert make_loop(topology, node.identity, Random(1)).first_hop == route[0].identity
    with pytest.raises(TopologyError, match="this mixnode is not in the topology"):
        loop_route(topology, b"?" * 32, Random(1))


def test_blocking_a_node_is_noticed(world: World) -> None:
    """The layer behind the first mixnode vanishes: its loops are lost, and the default policy warns."""
    node = network(world)[0]
    world.clock.advance(WINDOW + 45.0)
    assert (node.loops.action, node.loops.last and node.loops.last.ratio) == (GO_ON, 0.0)
    world.network.cut("m1", "m2")
    world.clock.advance(2 * WINDOW + 45.0)
    assert node.loops.action == WARN
    assert node.loops.last is not None
    assert node.loops.last.ratio > 0.9
    assert b"nymtw_loop_alarm 1.0" in node.metrics.text()
    world.network.mend("m1", "m2")
    world.clock.advance(3 * WINDOW + 45.0)
    assert node.loops.action == GO_ON


def test_a_loop_that_was_tampered_with_did_not_come_back(world: World) -> None:
    nodes = network(world)
    receive = nodes[2].links.receive
    before = nodes[2].loops.ledger.returned

    def tag(peer: bytes, frames: list[Frame]) -> None:
        receive(peer, [Frame(each.type, each.size_class, each.epoch, _flipped(each.body)) for each in frames])

    nodes[2].links.receive = tag
    world.clock.advance(60.0)
    lost = nodes[2].loops.ledger.sent - before
    assert nodes[2].loops.ledger.returned == before
    assert nodes[2].counters.snapshot().dropped == {DropReason.MALFORMED_PAYLOAD: pytest.approx(lost, abs=10)}


def _flipped(packet: bytes) -> bytes:
    return packet[:-1] + bytes([packet[-1] ^ 1])


@pytest.mark.parametrize("action", [SLOW_DOWN, PAUSE])
def test_what_a_policy_decides_holds_until_the_next_window(world: World, action: str) -> None:
    node = network(world)[0]
    node.loops.policy = policy = Noting(action)
    world.clock.advance(WINDOW + 45.0)
    assert node.loops.action == action
    before, began = node.counters.forwarded_total, node.loops.ledger.sent
    world.clock.advance(20.0)
    passed_on = node.counters.forwarded_total - before - (node.loops.ledger.sent - began)
    if action == PAUSE:
        assert passed_on == 0
        assert node.core.queued == node.core.capacity
        assert node.counters.snapshot().dropped[DropReason.DELAY_QUEUE_FULL] > 0
        assert node.loops.ledger.sent > began  # its own loops show when the way is free again
    else:
        assert passed_on > RATE * 20
        assert node.core.stretch == 2
    policy.action = GO_ON
    world.clock.advance(2 * WINDOW)
    assert node.core.stretch == 1
    assert node.core.queued < RATE * 10


def test_a_policy_that_talks_nonsense_changes_nothing(world: World) -> None:
    node = network(world)[0]
    node.loops.policy = Noting("panic")
    world.clock.advance(WINDOW + 45.0)
    assert node.loops.action == GO_ON


def test_the_directory_learns_how_many_loops_came_back(world: World) -> None:
    reports: list[dict[str, int]] = []
    take = world.directory.report

    def report(metric: dict[str, int]) -> object:
        reports.append(metric)
        return take(metric)

    world.directory.report = report  # type: ignore[method-assign, assignment]
    nodes = network(world)
    world.clock.advance(30.0)
    sent = sum(node.loops.ledger.sent for node in nodes)
    assert sum(post["loopsSent"] for post in reports) == pytest.approx(sent, rel=0.1)
    assert sum(post["loopsReturned"] for post in reports) == pytest.approx(sent, rel=0.15)
