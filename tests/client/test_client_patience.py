"""What a client does while the network has a gap: it says so once, takes messages, and goes round what is dead."""

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from client_and_edge import Net, Person

from twisted.logger import formatEvent, globalLogPublisher

from nymtw.client.config import Rates
from nymtw.client.sending.hop_watch import (
    AVOIDED_FOR,
    LATE,
    LEAST_MISSED,
    LEAST_SECONDS,
    AvoidingRoutes,
    HopWatch,
)
from nymtw.message.packets import Outgoing
from nymtw.message.round_trip import LEAST, RoundTrips
from nymtw.mixing.routes import UniformRoutes
from nymtw.topology.document import Topology

SLOW = Rates(sending=2.0, loops=0.5, drops=0.0, fetching=2.0, mean_delay=0.02)  # so that a minute is soon over


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if str(event.get("log_namespace", "")).startswith("nymtw.client.core"):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def without(topology: Topology, *identities: bytes, serial: int = 2) -> Topology:
    left = tuple(node for node in topology.nodes if node.identity not in identities)
    return msgspec.structs.replace(topology, serial=serial, nodes=left)


@pytest.fixture
def net() -> Net:
    return Net()


def good(net: Net) -> Topology:
    assert isinstance(net.good, Topology)
    return net.good


def test_a_missing_edge_of_its_own_is_a_state_that_is_logged_once(net: Net, logged: list[str]) -> None:
    alice = Person(net, "alice")
    net.clock.advance(5)
    own = good(net).providers()[0].identity
    for number in range(3):
        sent = len(alice.connection.sent)
        net.topology = without(good(net), own)
        net.clock.advance(10)
        assert len(alice.connection.sent) == sent
        assert not alice.core.status()["ready"]
        net.topology = good(net)
        net.clock.advance(2)
        assert alice.core.status()["trouble"] == ""
        assert len(logged) == 2 * (number + 1)
    assert logged[0] == "nothing is sent: this client's own provider or gateway is not in the topology"
    assert logged[1] == "The topology can be used again: sending goes on"
    alice.stop()


def test_another_trouble_is_logged_too_and_only_the_end_of_the_last_is_the_end(net: Net, logged: list[str]) -> None:
    alice = Person(net, "alice")
    net.clock.advance(1)
    layer = [node.identity for node in good(net).mixnodes(2)]
    net.topology = without(good(net), *layer)
    net.clock.advance(5)
    net.topology = without(good(net), good(net).providers()[0].identity, serial=3)
    net.clock.advance(5)
    net.topology = good(net)
    net.clock.advance(1)
    assert [line[:32] for line in logged] == [
        "nothing is sent: layer 2 has no ",
        "nothing is sent: this client's o",
        "The topology can be used again: ",
    ]
    alice.stop()


def test_a_message_is_taken_while_the_topology_has_a_gap_and_says_why_it_waits(net: Net) -> None:
    alice, bob = Person(net, "alice"), Person(net, "bob")
    bob.listen()
    net.clock.advance(1)
    net.topology = without(good(net), *[node.identity for node in good(net).mixnodes(3)])
    accepted = alice.wait(alice.core.send(b"hello", bob.core.address))
    assert accepted.waits == "nothing is sent: layer 3 has no mixnode"
    net.clock.advance(10)
    assert bob.received == []
    net.topology = good(net)
    net.clock.advance(4)
    assert [one.data for one in bob.received] == [b"hello"]
    assert alice.wait(alice.core.send(b"again", bob.core.address)).waits == ""
    for person in (alice, bob):
        person.stop()


def test_a_message_for_an_edge_that_is_away_leaves_when_that_is_listed_again(net: Net) -> None:
    alice, bob = Person(net, "alice"), Person(net, "bob")
    bob.listen()
    net.clock.advance(1)
    stranger = msgspec.structs.replace(good(net).providers()[1], identity=b"p" * 32)
    address = bob.core.address.__class__(bob.core.address.mailbox, bob.public, stranger.identity)
    accepted = alice.wait(alice.core.send(b"hello", address))
    assert "is not in the topology: it may be away for a moment" in accepted.waits
    alice.core.streams.set_rates(SLOW)
    bob.core.streams.set_rates(SLOW)
    net.clock.advance(60)
    progress = alice.core.progress(accepted.message_id)
    assert progress is not None
    assert progress.state.value == "sending"
    net.keys[stranger.identity] = net.keys[good(net).providers()[1].identity]
    net.topology = msgspec.structs.replace(good(net), serial=3, nodes=(*good(net).nodes, stranger))
    alice.core.use_topology(net.topology)
    net.clock.advance(5)  # and not after the half minute that the next try was away
    assert [one.data for one in bob.received] == [b"hello"]
    for person in (alice, bob):
        person.stop()


def test_nothing_goes_out_twice_on_a_slow_network_once_it_is_known(net: Net) -> None:
    alice, bob = Person(net, "alice"), Person(net, "bob")
    bob.listen()
    alice.core.streams.set_rates(SLOW)
    bob.core.streams.set_rates(SLOW)
    deliver, clock = net.deliver, net.clock
    net.deliver = lambda *mail: clock.callLater(6.0, deliver, *mail)  # type: ignore[method-assign]
    net.clock.advance(30)  # cover alone teaches it
    for number in range(5):
        alice.wait(alice.core.send(b"%d" % number, bob.core.address))
        net.clock.advance(3)
    net.clock.advance(30)
    assert len(bob.received) == 5
    assert alice.core.status()["retransmissions"] == 0
    for person in (alice, bob):
        person.stop()


# which mixnodes are gone round


class Packets:
    """Packets over chosen mixnodes, a tenth of a second apart."""

    def __init__(self) -> None:
        self.topology = good(Net())
        self.now = 0.0
        self.round_trips = RoundTrips()
        self.watch = HopWatch(lambda: self.now, self.round_trips)
        self.random = random.Random(1)
        self.layers = [[node.identity for node in self.topology.mixnodes(layer)] for layer in (1, 2, 3)]

    def run(self, seconds: float, dead: set[bytes]) -> None:
        routes = AvoidingRoutes(UniformRoutes(), self.watch)
        for _ in range(int(seconds * 10)):
            there = [node.identity for node in routes.draw(self.topology, self.random)]
            back = [node.identity for node in routes.draw(self.topology, self.random)]
            packet = Outgoing(
                7, there[0], b"", self.random.randbytes(21), b"", (*there, b"e"), (0,), (*back, b"e"), (0,)
            )
            self.watch.sent(packet)
            self.now += 0.1
            if not dead & {*there, *back}:
                self.watch.acknowledged(packet.ack_id)


def test_a_mixnode_that_nothing_comes_back_through_is_avoided_and_tried_again() -> None:
    packets = Packets()
    packets.run(10, set())
    assert packets.watch.avoided(packets.topology) == frozenset()
    dead = packets.layers[1][0]
    packets.run(LATE + LEAST + LEAST_SECONDS + LEAST_MISSED / 5, {dead})
    assert packets.watch.avoided(packets.topology) == {dead}
    packets.run(AVOIDED_FOR, set())
    packets.run(10, set())
    assert packets.watch.avoided(packets.topology) == frozenset()


def test_never_more_than_half_of_a_layer_is_avoided() -> None:
    packets = Packets()
    packets.run(10, set())
    packets.run(60, set(packets.layers[0]))
    assert len(packets.watch.avoided(packets.topology) & set(packets.layers[0])) <= 1


def test_where_nothing_comes_back_at_all_nobody_is_avoided() -> None:
    packets = Packets()
    packets.run(10, set())
    packets.run(60, {identity for layer in packets.layers for identity in layer})
    assert packets.watch.avoided(packets.topology) == frozenset()


def test_what_is_under_way_when_the_link_breaks_says_nothing() -> None:
    packets = Packets()
    packets.run(10, set())
    packets.run(LATE, {packets.layers[0][0]})
    packets.watch.disconnected()
    packets.now += 100
    packets.run(1, set())
    assert packets.watch.avoided(packets.topology) == frozenset()


def test_drawing_round_a_dead_mixnode_leaves_the_others_equally_likely() -> None:
    packets = Packets()
    packets.run(10, set())
    dead = packets.layers[2][1]
    packets.run(25, {dead})
    routes = AvoidingRoutes(UniformRoutes(), packets.watch)
    drawn = [tuple(node.identity for node in routes.draw(packets.topology, packets.random)) for _ in range(2000)]
    assert {route[2] for route in drawn} == {packets.layers[2][0]}
    for layer in (0, 1):
        share = sum(route[layer] == packets.layers[layer][0] for route in drawn) / len(drawn)
        assert 0.45 < share < 0.55
