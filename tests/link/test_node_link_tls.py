"""Links between nodes over real TLS, in memory and over loopback sockets."""

import random
import select
from collections import Counter

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from raw_connections import Raw, Single

from twisted.internet.defer import Deferred

from nymtw.drop_reasons import DropReason
from nymtw.link.limits import LinkLimits
from nymtw.link.node_link import NodeLinks
from nymtw.link.security import TLSSecurity
from nymtw.sphinx.geometry import GEOMETRIES
from nymtw.testing.clock import FakeClock
from nymtw.testing.network import MemoryNetwork

pytestmark = pytest.mark.pythons

KEYS = [SigningKey(bytes([number]) * 32) for number in range(4)]
LIMITS = LinkLimits()


class Node:
    def __init__(self, reactor, key, rng, admits=None, on_receive=lambda: None, **limits):
        self.identity = bytes(key.verify_key)
        self.received, self.sent, self.drops = [], 0, Counter()
        self.on_receive = on_receive
        self.links = NodeLinks(
            reactor,
            TLSSecurity(key),
            receive=self.receive,
            admit=lambda peer: admits is None or peer in admits,
            sent=self.count_sent,
            dropped=lambda reason, count: self.drops.update({reason: count}),
            random=rng,
            limits=LinkLimits(**limits),
        )

    def receive(self, peer, frames):
        self.received += [(peer, frame) for frame in frames]
        self.on_receive()

    def count_sent(self, count):
        self.sent += count


class World:
    def __init__(self):
        self.clock = FakeClock()
        self.network = MemoryNetwork(self.clock, latency=0.001)
        self.rng = random.Random(1)
        self.nodes = []

    def node(self, number, **options):
        host = self.network.host(f"node {number}", f"10.0.0.{number + 1}")
        node = Node(host, KEYS[number], self.rng, **options)
        node.address = (host.address, 1789)
        node.port = host.listenTCP(1789, node.links.factory)
        self.nodes.append(node)
        return node

    def stop(self):
        for node in self.nodes:
            node.port.stopListening()
            self.clock.wait_for(node.links.stop(), 10)
        self.clock.advance(1)
        assert self.clock.getDelayedCalls() == []
        assert self.network.connections() == []


@pytest.fixture
def world():
    world = World()
    yield world
    world.stop()


def test_packets_of_every_size_arrive_whole_and_in_order(world):
    one, two = world.node(0), world.node(1)
    one.links.set_peers({two.identity: two.address})
    packets = [world.rng.randbytes(world.rng.choice(list(GEOMETRIES.values())).packet_length) for _ in range(300)]
    for packet in packets:
        one.links.send(two.identity, 7, packet)
    world.clock.advance(5)
    assert [frame.body for _, frame in two.received] == packets
    assert {peer for peer, _ in two.received} == {one.identity}
    assert one.sent == 300


def test_only_peers_that_are_admitted_get_through(world):
    """A node of layer 3 that knocks at layer 2 has a good certificate and no business there."""
    one, two, three = world.node(0), world.node(1), world.node(2, admits={bytes(KEYS[1].verify_key)})
    for node in (one, two):
        node.links.set_peers({three.identity: three.address})
        node.links.send(three.identity, 7, bytes(386))
    world.clock.advance(60)
    assert [peer for peer, _ in three.received] == [two.identity]
    assert (one.sent, one.drops) == (0, {DropReason.LINK_DOWN: 1})
    assert (two.sent, two.drops) == (1, {})


def test_a_certificate_of_another_node_ends_in_no_packet(world):
    one, two, impostor = world.node(0), world.node(1), world.node(2)
    one.links.set_peers({two.identity: impostor.address})
    one.links.send(two.identity, 7, bytes(386))
    world.clock.advance(60)
    assert impostor.received == two.received == []
    assert (one.sent, one.drops) == (0, {DropReason.LINK_DOWN: 1})


def test_a_peer_that_never_reads_is_felt_through_tls(world):
    one, two = world.node(0, queue_bytes_per_peer=100_000), world.node(1)
    one.links.set_peers({two.identity: two.address})
    one.links.send(two.identity, 7, bytes(2413))
    world.clock.advance(1)
    (receiver,) = two.links.incoming.values()
    receiver.transport.pauseProducing()
    for _ in range(200):
        one.links.send(two.identity, 7, bytes(2413))
        world.clock.advance(0.01)
    assert one.links.pending == 100_000 // 2419
    assert one.drops[DropReason.LINK_QUEUE_FULL] > 50
    receiver.transport.resumeProducing()
    world.clock.advance(1)
    assert one.links.pending == 0
    assert len(two.received) == one.sent


def test_an_idle_link_lives_for_an_hour(world):
    one, two = world.node(0), world.node(1)
    one.links.set_peers({two.identity: two.address})
    one.links.send(two.identity, 7, bytes(386))
    world.clock.advance(3600)
    assert world.network.connections() == [("node 0", "node 1")]


def test_a_handshake_that_stalls_is_ended(world):
    node = world.node(0)
    raw = Raw()
    world.network.host("raw", "10.9.0.1").connectTCP(*node.address, Single(raw))
    world.clock.advance(0.1)
    raw.transport.write(b"\x16\x03\x01\x02\x00\x01")  # a TLS record that has only begun
    world.clock.advance(LIMITS.handshake + 5)
    assert raw.lost


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=40)
@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5), st.booleans())
def test_hostile_bytes_never_raise(chunks, inside_tls):
    world = World()
    node, peer = world.node(0), world.node(1)
    if inside_tls:
        peer.links.set_peers({node.identity: node.address})
        peer.links.send(node.identity, 7, bytes(386))
        world.clock.advance(1)
        (link,) = peer.links.outgoing.values()
        transport = link.connection.transport
    else:
        raw = Raw()
        world.network.host("raw", "10.9.0.1").connectTCP(*node.address, Single(raw))
        world.clock.advance(0.1)
        transport = raw.transport
    for chunk in chunks:
        transport.write(chunk)
        world.clock.advance(0.01)
    world.clock.advance(60)
    other = world.node(2)
    other.links.set_peers({node.identity: node.address})
    other.links.send(node.identity, 7, bytes(386))
    world.clock.advance(1)
    assert other.identity in {peer for peer, _ in node.received}, "others get through all the same"
    world.stop()


@pytest_twisted.ensureDeferred
async def test_over_loopback_sockets():
    from twisted.internet import reactor

    rng = random.Random(1)
    done = Deferred()
    count = 3000

    def check():
        if len(two.received) == count and not done.called:
            done.callback(None)

    one, two = Node(reactor, KEYS[0], rng), Node(reactor, KEYS[1], rng, on_receive=check)
    port = reactor.listenTCP(0, two.links.factory, interface="127.0.0.1")
    one.links.set_peers({two.identity: ("127.0.0.1", port.getHost().port)})
    for number in range(count):
        one.links.send(two.identity, 7, number.to_bytes(2413, "big"))
    await done.addTimeout(300, reactor)
    assert [int.from_bytes(frame.body, "big") for _, frame in two.received] == list(range(count))
    assert (one.sent, one.links.pending, one.drops) == (count, 0, {})
    for node in (one, two):
        for connection in node.links.housekeeper.connections:
            assert connection.transport.getTcpNoDelay()
    await one.links.stop()
    await two.links.stop()
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_what_is_sent_together_is_in_the_kernel_before_the_reactor_turns():
    from twisted.internet import reactor

    rng = random.Random(1)
    arrived = [Deferred(), Deferred()]
    waiting = iter(arrived)
    one = Node(reactor, KEYS[0], rng)
    two = Node(reactor, KEYS[1], rng, on_receive=lambda: next(waiting).callback(None))
    port = reactor.listenTCP(0, two.links.factory, interface="127.0.0.1")
    one.links.set_peers({two.identity: ("127.0.0.1", port.getHost().port)})
    one.links.send(two.identity, 7, bytes(386))
    await arrived[0].addTimeout(300, reactor)
    (receiver,) = two.links.incoming.values()
    one.links.send_many([(two.identity, 7, bytes(386))])
    readable, _, _ = select.select([receiver.transport.fileno()], [], [], 10)
    assert readable
    await arrived[1].addTimeout(300, reactor)

    (link,) = one.links.outgoing.values()
    lost = Deferred()
    link.connection.lost = lambda original=link.connection.lost: (original(), lost.callback(None))
    receiver.transport.abortConnection()
    turn = Deferred()
    reactor.callLater(0, turn.callback, None)  # behind the abort, and before the link can read of it
    await turn
    select.select([link.connection.transport.fileno()], [], [], 10)  # until the reset is here
    for number in range(5):
        one.links.send_many([(two.identity, 7, bytes(386))] * number)
    await lost.addTimeout(300, reactor)
    await one.links.stop()
    await two.links.stop()
    await port.stopListening()
    assert one.sent + sum(one.drops.values()) == 2 + 10
