"""Links between nodes: every packet is accounted for, nobody is waited for without end, nobody starves the others."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_connections import Raw, Single

from twisted.logger import formatEvent, globalLogPublisher

from nymtw.drop_reasons import DropReason
from nymtw.link import outgoing
from nymtw.link.frames import KEEPALIVE_FRAME, FrameType, encode_packet
from nymtw.link.limits import LinkLimits
from nymtw.link.node_link import NodeLinks
from nymtw.testing.clock import FakeClock
from nymtw.testing.network import MemoryNetwork
from nymtw.testing.security import HELLO_LENGTH, MemorySecurity

ACK = 386  # the shortest packet
FRAME = 6 + ACK
LIMITS = LinkLimits()


def packet(number):
    return number.to_bytes(ACK, "big")


class Node:
    """One node's links, and everything they report."""

    def __init__(self, world, name, **limits):
        self.name = name
        self.identity = name.encode().ljust(32, b".")
        self.address = f"10.0.0.{len(world.nodes) + 1}"
        self.world = world
        self.received = []
        self.sent = 0
        self.drops = Counter()
        self.admits = None  # everybody
        world.nodes.append(self)
        self.host = world.network.host(name, self.address)
        self.links = NodeLinks(
            self.host,
            world.security(self),
            receive=lambda peer, frames: self.received.extend((peer, frame) for frame in frames),
            admit=lambda peer: self.admits is None or peer in self.admits,
            sent=self.count_sent,
            dropped=lambda reason, count: self.drops.update({reason: count}),
            random=world.rng,
            limits=LinkLimits(**limits),
        )
        self.port = self.host.listenTCP(1789, self.links.factory)

    def count_sent(self, count):
        self.sent += count

    def may_send_to(self, *others):
        self.links.set_peers({other.identity: (other.address, 1789) for other in others})

    def send(self, other, *numbers):
        for number in numbers:
            self.links.send(other.identity, 7, packet(number))

    @property
    def numbers(self):
        return [int.from_bytes(frame.body, "big") for _, frame in self.received]

    def stop(self):
        self.port.stopListening()
        self.world.clock.wait_for(self.links.stop(), 10)


class World:
    def __init__(self):
        self.clock = FakeClock()
        self.network = MemoryNetwork(self.clock, latency=0.001)
        self.rng = random.Random(1)
        self.nodes = []

    def security(self, node):
        return MemorySecurity(node.identity, self.rng)

    def raw(self, node, hello=None, address="10.1.0.1"):
        """A connection by hand to this node; with the hello of an identity, or without any."""
        raw = Raw()
        host = self.network.host(f"raw {address}", address)
        host.connectTCP(node.address, 1789, Single(raw))
        self.clock.advance(0.01)
        if hello is not None and raw.transport is not None:
            raw.transport.write(hello + bytes(32))
            self.clock.advance(0.01)
        return raw


@pytest.fixture
def world():
    world = World()
    yield world
    for node in world.nodes:
        node.stop()
    world.clock.advance(1)
    assert world.clock.getDelayedCalls() == []


def test_packets_arrive_in_order_with_their_sender_and_epoch(world):
    one, two = Node(world, "one"), Node(world, "two")
    one.may_send_to(two)
    one.send(two, *range(200))
    assert one.links.pending == 200
    world.clock.advance(1)
    assert two.numbers == list(range(200))
    peer, frame = two.received[0]
    assert (peer, frame.type, frame.epoch) == (one.identity, FrameType.PACKET, 7)
    assert (one.sent, one.links.pending, one.drops) == (200, 0, {})


def test_packets_of_one_turn_leave_in_one_write(world):
    sizes = []
    world.network.observer = lambda when, near, far, data: sizes.append((near, len(data)))
    one, two = Node(world, "one"), Node(world, "two")
    one.may_send_to(two)
    one.send(two, 0)
    world.clock.advance(1)
    sizes.clear()
    one.send(two, *range(20))
    world.clock.advance(1)
    assert [size for near, size in sizes if near == "one"] == [20 * FRAME]


def test_packets_sent_together_leave_at_once_in_one_write_for_each_peer(world):
    sizes = []
    world.network.observer = lambda when, near, far, data: sizes.append((near, far, len(data)))
    one, two, three = Node(world, "one"), Node(world, "two"), Node(world, "three")
    one.may_send_to(two, three)
    for other in (two, three):
        one.send(other, 0)
    world.clock.advance(1)
    sizes.clear()
    sent = one.sent
    one.links.send_many([(other.identity, 7, packet(number)) for number in range(10) for other in (two, three)])
    assert one.sent == sent + 20  # no turn of the reactor later
    assert one.links.pending == 0
    world.clock.advance(1)
    assert [size for near, _, size in sizes if near == "one"] == [10 * FRAME, 10 * FRAME]


def test_one_connection_per_pair_however_much_is_sent(world):
    one, two = Node(world, "one"), Node(world, "two")
    one.may_send_to(two)
    for start in range(0, 500, 100):
        one.send(two, *range(start, start + 100))
        world.clock.advance(0.5)
    assert world.network.connections() == [("one", "two")]
    assert two.numbers == list(range(500))


def test_nothing_is_connected_before_there_is_something_to_send(world):
    one, two = Node(world, "one"), Node(world, "two")
    one.may_send_to(two)
    world.clock.advance(100)
    assert world.network.connections() == []


def test_a_next_hop_that_is_not_in_the_topology_is_a_counted_drop(world):
    one, two = Node(world, "one"), Node(world, "two")
    one.send(two, 1)
    assert one.drops == {DropReason.UNKNOWN_NEXT_HOP: 1}


def test_a_peer_that_is_not_admitted_gets_nothing_through(world):
    one, two = Node(world, "one"), Node(world, "two")
    two.admits = set()
    one.may_send_to(two)
    one.send(two, 1, 2, 3)
    world.clock.advance(60)
    assert two.received == []
    assert one.sent == 0
    assert one.drops == {DropReason.LINK_DOWN: 3}  # not: sent, and lost in a connection that was refused


def test_a_peer_with_the_wrong_identity_gets_no_packet(world):
    one, two, three = Node(world, "one"), Node(world, "two"), Node(world, "three")
    one.links.set_peers({two.identity: (three.address, 1789)})
    one.send(two, 1)
    world.clock.advance(60)
    assert three.received == two.received == []
    assert (one.sent, one.drops) == (0, {DropReason.LINK_DOWN: 1})


def test_the_oldest_packets_go_when_a_queue_is_full(world):
    one, two = Node(world, "one", queue_bytes_per_peer=10 * FRAME), Node(world, "two")
    one.may_send_to(two)
    one.send(two, *range(25))
    assert one.drops == {DropReason.LINK_QUEUE_FULL: 15}
    world.clock.advance(1)
    assert two.numbers == list(range(15, 25))


def test_a_flood_for_one_peer_does_not_starve_another(world):
    one, two, three = Node(world, "one", queue_bytes=100 * FRAME), Node(world, "two"), Node(world, "three")
    one.may_send_to(two, three)
    one.send(three, *range(20))
    one.send(two, *range(1000))
    assert one.links.pending == 100
    world.clock.advance(1)
    assert three.numbers == list(range(20))
    assert two.numbers == list(range(920, 1000))
    assert one.drops == {DropReason.LINK_QUEUE_FULL: 920}


def test_a_dead_peer_is_called_again_at_growing_jittered_intervals_and_found_when_it_is_back(world):
    one, two = Node(world, "one"), Node(world, "two")
    two.port.stopListening()
    attempts = []
    connect = one.host.connectTCP
    one.host.connectTCP = lambda *arguments: attempts.append(world.clock.seconds()) or connect(*arguments)
    one.may_send_to(two)
    for number in range(300):
        one.send(two, number)
        world.clock.advance(1)
    gaps = [later - earlier for earlier, later in pairwise(attempts)]
    # Each wait is half to all of the longest, after the first few.
    assert 300 / LIMITS.reconnect_most < len(attempts) < 2 * 300 / LIMITS.reconnect_most + 10
    assert gaps[0] < 2
    assert all(LIMITS.reconnect_most / 2 <= gap <= LIMITS.reconnect_most + 2 for gap in gaps[-5:])
    assert len({round(gap, 3) for gap in gaps[-5:]}) == 5  # jitter
    two.port = two.host.listenTCP(1789, two.links.factory)
    for number in range(300, 350):
        one.send(two, number)
        world.clock.advance(1)
    assert two.numbers == list(range(two.numbers[0], 350))
    assert two.numbers[0] > 300 - LIMITS.patience  # what is older would be late anyway
    assert one.sent == len(two.numbers)
    assert one.sent + one.drops[DropReason.LINK_DOWN] == 350
    assert set(one.drops) == {DropReason.LINK_DOWN}


def test_what_waited_too_long_for_a_slow_peer_is_dropped_as_late_the_oldest_first(world):
    one, two = Node(world, "one"), Node(world, "two")
    one.may_send_to(two)
    one.send(two, 0)
    world.clock.advance(1)
    (receiver,) = two.links.incoming.values()
    receiver.transport.pauseProducing()
    for number in range(1, 2000):
        one.send(two, number)
        world.clock.advance(0.01)
    receiver.transport.resumeProducing()
    world.clock.advance(1)
    assert set(one.drops) == {DropReason.TOO_LATE}
    assert one.sent + one.drops[DropReason.TOO_LATE] == 2000
    late = [number for number in range(2000) if number not in set(two.numbers)]
    assert late == list(range(late[0], late[-1] + 1))
    assert late[-1] == pytest.approx(2000 - LIMITS.patience / 0.01, abs=3)


def test_a_connection_that_breaks_is_made_again_and_the_queue_goes_on(world):
    one, two = Node(world, "one"), Node(world, "two")
    one.may_send_to(two)
    one.send(two, 1)
    world.clock.advance(1)
    world.network.cut("one", "two")
    world.clock.advance(0.1)
    world.network.mend("one", "two")
    one.send(two, 2)
    world.clock.advance(2)
    assert two.numbers == [1, 2]


def test_a_peer_that_admits_and_hangs_up_is_not_called_without_pause(world):
    one, two = Node(world, "one"), Node(world, "two")
    attempts = []
    connect = one.host.connectTCP
    one.host.connectTCP = lambda *arguments: attempts.append(1) or connect(*arguments)
    one.may_send_to(two)
    for number in range(200):
        one.send(two, number)
        world.clock.advance(0.5)
        for receiver in list(two.links.incoming.values()):
            receiver.abort()
    assert 3 < len(attempts) < 2 * 100 / LIMITS.reconnect_most + 10


def test_a_restarted_peer_replaces_its_old_connection(world):
    one, two = Node(world, "one"), Node(world, "two")
    one.may_send_to(two)
    one.send(two, 1)
    world.clock.advance(1)
    again = world.raw(two, hello=one.identity, address="10.0.0.9")
    again.transport.write(encode_packet(7, packet(5)))
    world.clock.advance(0.1)
    assert two.numbers == [1, 5]
    assert len(two.links.incoming) == 1
    again.transport.abortConnection()


def test_peers_that_left_the_topology_are_cut_off_at_both_ends(world):
    one, two = Node(world, "one"), Node(world, "two")
    one.may_send_to(two)
    one.send(two, 1)
    world.clock.advance(1)
    one.send(two, 2)
    one.may_send_to()
    one.send(two, 3)
    assert one.drops == {DropReason.LINK_DOWN: 1, DropReason.UNKNOWN_NEXT_HOP: 1}
    world.clock.advance(1)
    assert world.network.connections() == []

    one.may_send_to(two)
    one.send(two, 4)
    world.clock.advance(1)
    assert world.network.connections() == [("one", "two")]
    two.admits = set()
    two.may_send_to()
    world.clock.advance(1)
    assert world.network.connections() == []
    assert two.numbers == [1, 4]


def test_a_peer_that_moved_is_called_at_its_new_address(world):
    one, two, three = Node(world, "one"), Node(world, "two"), Node(world, "three")
    one.may_send_to(two)
    one.send(two, 1)
    world.clock.advance(1)
    two.stop()
    three.links.security.identity = two.identity  # the same node on another machine
    one.links.set_peers({two.identity: (three.address, 1789)})
    one.send(two, 2)
    world.clock.advance(1)
    assert three.numbers == [2]


def test_an_idle_link_is_kept_alive(world):
    one, two = Node(world, "one"), Node(world, "two")
    one.may_send_to(two)
    one.send(two, 1)
    world.clock.advance(1)
    frames = []
    world.network.observer = lambda when, near, far, data: frames.append((near, data))
    world.clock.advance(3600)
    assert world.network.connections() == [("one", "two")]
    assert {data for _, data in frames} == {KEEPALIVE_FRAME}
    for name in ("one", "two"):
        count = sum(near == name for near, _ in frames)
        assert 3600 / (LIMITS.keepalive + 3) < count < 3600 / LIMITS.keepalive


def test_silence_ends_a_connection(world):
    node = Node(world, "node")
    raw = world.raw(node, hello=b"p" * 32)
    assert raw.received.endswith(KEEPALIVE_FRAME)
    world.clock.advance(LIMITS.silence - 1)
    assert not raw.lost
    world.clock.advance(5)
    assert raw.lost


def test_a_handshake_has_a_deadline(world):
    node = Node(world, "node")
    raw = world.raw(node)
    world.clock.advance(LIMITS.handshake - 1)
    assert not raw.lost
    world.clock.advance(5)
    assert raw.lost


def test_a_half_received_frame_has_a_deadline_however_it_trickles(world):
    node = Node(world, "node")
    raw = world.raw(node, hello=b"p" * 32)
    for byte in encode_packet(7, packet(1))[:60]:
        raw.transport.write(bytes([byte]))
        world.clock.advance(0.25)
    assert raw.lost
    assert node.received == []


def test_a_slow_but_steady_peer_is_left_alone(world):
    node = Node(world, "node")
    raw = world.raw(node, hello=b"p" * 32)
    stream = b"".join(encode_packet(7, packet(number)) for number in range(40))
    for start in range(0, len(stream), 100):
        raw.transport.write(stream[start : start + 100])
        world.clock.advance(1)
    assert not raw.lost
    assert node.numbers == list(range(40))
    raw.transport.abortConnection()


def test_a_peer_that_never_reads_fills_no_memory_and_is_given_up(world):
    one, two = Node(world, "one", queue_bytes_per_peer=1000 * FRAME), Node(world, "two")
    one.may_send_to(two)
    one.send(two, 0)
    world.clock.advance(1)
    (receiver,) = two.links.incoming.values()
    receiver.transport.pauseProducing()
    for start in range(0, 5000, 100):
        one.send(two, *range(start, start + 100))
        world.clock.advance(0.1)
    (link,) = one.links.outgoing.values()
    assert link.connection.blocked
    assert one.links.pending == 1000
    in_flight = 5001 - 1000 - one.drops[DropReason.LINK_QUEUE_FULL]
    assert in_flight * FRAME < 300_000  # what the connection itself holds
    world.clock.advance(LIMITS.stalled + 60)
    assert one.drops[DropReason.LINK_DOWN] == 1000
    assert one.links.pending == 0
    one.send(two, 5000)
    world.clock.advance(1)
    assert two.numbers[-1] == 5000  # over a new connection
    assert one.sent + one.drops.total() == 5002


def test_connections_of_one_address_have_a_ceiling(world):
    node = Node(world, "node", unauthenticated_per_address=5)
    raws = [world.raw(node) for _ in range(8)]
    assert [raw.lost for raw in raws] == [False] * 5 + [True] * 3
    elsewhere = world.raw(node, address="10.1.0.2")
    assert not elsewhere.lost
    world.clock.advance(LIMITS.handshake + 5)
    assert all(raw.lost for raw in raws)
    assert not world.raw(node).lost  # there is room again
    world.clock.advance(LIMITS.handshake + 5)


def test_ten_thousand_connections_that_send_nothing_keep_no_peer_out(world):
    one, two = Node(world, "one"), Node(world, "two")
    for number in range(10_000):
        raw = Raw()
        address = f"10.{number % 200 + 1}.0.1"
        world.network.host(f"raw {address}", address).connectTCP(two.address, 1789, Single(raw))
    world.clock.advance(0.1)
    assert len(world.network.connections()) == LIMITS.unauthenticated
    one.may_send_to(two)
    one.send(two, 1)
    world.clock.advance(0.1)
    assert two.numbers == [1]
    world.clock.advance(LIMITS.handshake + 5)
    assert world.network.connections() == [("one", "two")]


def test_a_connection_is_renewed_before_its_keys_wear_out(world, monkeypatch):
    monkeypatch.setattr(outgoing, "MOST_RECORDS", 50)
    one, two = Node(world, "one"), Node(world, "two")
    one.may_send_to(two)
    connects = []
    connect = one.host.connectTCP
    one.host.connectTCP = lambda *arguments: connects.append(1) or connect(*arguments)
    for number in range(500):
        one.send(two, number)
        world.clock.advance(0.01)
    assert two.numbers == list(range(500))
    assert len(connects) == 10
    assert one.drops == {}


def test_stop_writes_what_it_can_and_counts_the_rest(world):
    one, two, three = Node(world, "one"), Node(world, "two"), Node(world, "three")
    three.port.stopListening()
    one.may_send_to(two, three)
    one.send(two, 1)
    world.clock.advance(1)
    one.send(two, 2, 3)
    one.send(three, 4)
    one.stop()
    world.clock.advance(1)
    assert two.numbers == [1, 2, 3]
    assert (one.sent, one.links.pending, one.drops) == (3, 0, {DropReason.SHUTDOWN: 1})
    one.send(two, 5)
    assert one.drops == {DropReason.SHUTDOWN: 2}
    one.may_send_to(two)
    one.send(two, 6)
    assert one.drops == {DropReason.SHUTDOWN: 3}


def test_stop_ends_while_the_other_end_keeps_its_side_open(world):
    node = Node(world, "node")
    raw = world.raw(node, hello=b"p" * 32)
    raw.transport.pauseProducing()
    started = world.clock.seconds()
    node.stop()
    assert world.clock.seconds() - started < 5


def test_stop_while_connecting_leaves_nothing(world):
    one, two = Node(world, "one"), Node(world, "two")
    world.network.cut("one", "two")
    one.may_send_to(two)
    one.send(two, 1)
    world.clock.advance(0.5)
    one.stop()
    assert one.drops == {DropReason.SHUTDOWN: 1}
    assert one.host.getDelayedCalls() == []


def test_trouble_with_a_link_is_told_once_and_so_is_its_end(world):
    told = []
    observer = told.append
    globalLogPublisher.addObserver(observer)
    try:
        one, two = Node(world, "one"), Node(world, "two")
        two.port.stopListening()
        one.may_send_to(two)
        for number in range(100):
            one.send(two, number)
            world.clock.advance(1)
        two.port = two.host.listenTCP(1789, two.links.factory)
        for number in range(100):
            one.send(two, number)
            world.clock.advance(1)
    finally:
        globalLogPublisher.removeObserver(observer)
    lines = [formatEvent(event) for event in told]
    assert len(lines) == 2
    assert lines[0].startswith("No link to 10.0.0.2:1789, trying again: Connection was refused")
    assert lines[1] == "Linked to 10.0.0.2:1789 again"


def test_after_stop_the_door_is_shut(world):
    node = Node(world, "node")
    world.clock.wait_for(node.links.stop(), 10)
    raw = world.raw(node)
    assert raw.lost


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=100)
@given(st.lists(st.binary(min_size=1, max_size=600), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_hostile_bytes_never_raise(chunks, says_hello, after_a_good_frame):
    world = World()
    node = Node(world, "node")
    raw = world.raw(node, hello=b"p" * 32 if says_hello else None)
    if after_a_good_frame:
        raw.transport.write(encode_packet(7, packet(1)))
    for chunk in chunks:
        raw.transport.write(chunk)
        world.clock.advance(0.01)
    world.clock.advance(LIMITS.silence + 5)
    assert raw.lost
    assert len(raw.received) <= HELLO_LENGTH + 6 * 10
    node.stop()


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "cut", "mend", "kill", "wait", "leave"]), st.integers(1, 40)), max_size=25
    )
)
def test_every_packet_ends_as_sent_or_dropped(steps):
    world = World()
    one, two, three = (
        Node(world, name, queue_bytes_per_peer=30 * FRAME, queue_bytes=50 * FRAME) for name in ("one", "two", "three")
    )
    one.may_send_to(two, three)
    given_up = 0
    for step, number in steps:
        if step == "send":
            one.send((two, three)[number % 2], *range(number))
            given_up += number
        elif step == "cut":
            world.network.cut("one", "two")
        elif step == "mend":
            world.network.mend("one", "two")
        elif step == "kill":
            for receiver in list(two.links.incoming.values()):
                receiver.abort()
        elif step == "leave":
            one.may_send_to(three)
            one.may_send_to(two, three)
        else:
            world.clock.advance(number / 4)
        assert one.sent + one.drops.total() + one.links.pending == given_up
        assert one.links.pending == sum(len(link.queue) for link in one.links.outgoing.values())
    for node in world.nodes:
        node.stop()
    assert one.sent + one.drops.total() == given_up
    assert one.links.pending == one.links.pending_bytes == 0
