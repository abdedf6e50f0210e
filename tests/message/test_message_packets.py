"""Whole packets, walked through a network of keys: data, loops, drops, replies."""

import random
from dataclasses import replace

import msgspec
import pytest

from nymtw.errors import EncodingError, PacketRejected, TopologyIncomplete
from nymtw.message.block_pool import LEAST, BlockPool, is_alive
from nymtw.message.envelope import MAX_BLOCKS, ReplyBlock
from nymtw.message.fragments import FRAGMENT_LENGTH, Fragment, FragmentKind, fragment
from nymtw.message.packets import build_data_packet, build_drop_packet, build_loop_packet
from nymtw.message.payload import DROP_DESTINATION, split_payload
from nymtw.message.replies import (
    Grants,
    ReceiptSchedule,
    build_reply_packet,
    expected_reply_round_trip,
    make_reply_block,
    open_reply,
    reply_alpha,
)
from nymtw.message.sealing import unseal
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.routes import UniformRoutes
from nymtw.sphinx import FinalHop, ForwardHop, generate_keypair, process_packet, recover_message
from nymtw.topology.address import Address
from nymtw.topology.document import NodeRecord, Topology

pytestmark = pytest.mark.pythons

EPOCH = 7
ROUTES, DELAYS = UniformRoutes(), ExponentialDelays(0.05)


class World:
    """Two mixnodes a layer, two providers, alice and bob; all keys at hand."""

    def __init__(self):
        source = random.Random(20)
        self.private = {}
        nodes = []
        for role, layer in [("mixnode", 1 + at % 3) for at in range(6)] + [("provider", 0)] * 2:
            private, public = generate_keypair(source)
            identity = source.randbytes(32)
            self.private[identity] = private
            nodes.append(
                NodeRecord(
                    role=role, identity=identity, host="127.0.0.1", port=1, layer=layer, sphinx_keys={EPOCH: public}
                )
            )
        self.topology = Topology(
            serial=1, network=bytes(16), published=0, valid_until=1, refresh=1.0, epoch=EPOCH, epoch_seconds=60,
            nodes=tuple(nodes),
        )  # fmt: skip
        self.alice_key, public = generate_keypair(source)
        self.alice = Address(source.randbytes(32), public, nodes[6].identity)
        self.bob_key, public = generate_keypair(source)
        self.bob = Address(source.randbytes(32), public, nodes[7].identity)

    def walk(self, first_hop, packet):
        """The nodes that unwrap a packet, in order, with what each holds it for; then what the last one reads."""
        path, delays = [first_hop], []
        while True:
            hop = process_packet(packet, self.private[path[-1]])
            if isinstance(hop, FinalHop):
                return path, delays, hop
            assert isinstance(hop, ForwardHop)
            delays.append(hop.delay)
            if hop.next_address not in self.private:
                return path, delays, hop
            path.append(hop.next_address)
            packet = hop.packet


@pytest.fixture(scope="module")
def world():
    return World()


def check_ack(world, out, payload):
    ack, sealed = split_payload(payload)
    assert (ack.epoch, ack.delay) == (EPOCH, out.ack_delays[0])
    for stored, carried in ((True, out.ack_id), (False, out.refusal_id)):
        path, delays, last = world.walk(ack.first_hop, ack.packet(stored))
        assert (tuple(path), tuple(delays)) == (out.ack_route, out.ack_delays[1:])
        assert (path[-1], last.destination) == (world.alice.provider, world.alice.mailbox)
        assert recover_message(last.payload) == carried
    assert out.ack_id != out.refusal_id
    return sealed


def test_a_data_packet_arrives_and_so_does_its_ack(world):
    piece = fragment(b"Hello, Bob.", bytes(16))[0].encode()
    out = build_data_packet(world.topology, world.alice, world.bob, piece, ROUTES, DELAYS, random.Random(1))
    path, delays, last = world.walk(out.first_hop, out.packet)
    assert (tuple(path), tuple(delays)) == (out.route, out.delays)
    assert [world.topology.find(identity).layer for identity in path] == [1, 2, 3, 0]
    assert (path[-1], last.destination, last.identifier) == (world.bob.provider, world.bob.mailbox, bytes(16))
    sealed = check_ack(world, out, recover_message(last.payload))
    assert unseal(sealed, world.bob_key) == piece
    assert out.expected_round_trip == pytest.approx((sum(out.delays) + sum(out.ack_delays)) / 1e9)
    assert out.expected_delay == pytest.approx(sum(out.delays) / 1e9)
    assert (len(out.delays), len(out.ack_delays)) == (3, 4)


def test_a_loop_and_drop_cover_look_like_data_and_are_acknowledged(world):
    piece = fragment(b"x", bytes(16))[0].encode()
    source = random.Random(2)
    data = build_data_packet(world.topology, world.alice, world.bob, piece, ROUTES, DELAYS, source)
    loop = build_loop_packet(world.topology, world.alice, b"L" * 16, ROUTES, DELAYS, source)
    drop = build_drop_packet(world.topology, world.alice, ROUTES, DELAYS, source)
    shapes = {
        (len(out.packet), len(out.ack_id), len(out.route), len(out.ack_route), out.epoch) for out in (data, loop, drop)
    }
    assert shapes == {(2413, 21, 4, 4, EPOCH)}
    _, _, last = world.walk(loop.first_hop, loop.packet)
    assert last.destination == world.alice.mailbox
    back = Fragment.parse(unseal(check_ack(world, loop, recover_message(last.payload)), world.alice_key))
    assert (back.kind, back.message_id) == (FragmentKind.LOOP, b"L" * 16)
    _, _, last = world.walk(drop.first_hop, drop.packet)
    assert last.destination == DROP_DESTINATION == bytes(32)
    assert len(check_ack(world, drop, recover_message(last.payload))) == 1580


def test_drop_cover_goes_to_every_provider(world):
    source = random.Random(3)
    ends = {build_drop_packet(world.topology, world.alice, ROUTES, DELAYS, source).route[-1] for _ in range(30)}
    assert ends == {node.identity for node in world.topology.providers()}


def test_a_seed_replays_a_packet(world):
    piece = bytes(FRAGMENT_LENGTH)
    one, same, other = (
        build_data_packet(world.topology, world.alice, world.bob, piece, ROUTES, DELAYS, random.Random(seed))
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one.packet != other.packet


def test_what_is_missing_is_named(world):
    piece, source = bytes(FRAGMENT_LENGTH), random.Random(1)
    nodes = world.topology.nodes
    no_layer = msgspec.structs.replace(world.topology, nodes=tuple(node for node in nodes if node.layer != 2))
    no_provider = msgspec.structs.replace(world.topology, nodes=nodes[:7])
    no_edge = msgspec.structs.replace(world.topology, nodes=nodes[:6])
    no_keys = msgspec.structs.replace(world.topology, epoch=EPOCH + 1)
    for topology, match in ((no_layer, "layer 2"), (no_provider, "the provider .* is not"), (no_keys, "key epoch 8")):
        with pytest.raises(TopologyIncomplete, match=match):
            build_data_packet(topology, world.alice, world.bob, piece, ROUTES, DELAYS, source)
    with pytest.raises(TopologyIncomplete, match="no provider"):
        build_drop_packet(no_edge, world.alice, ROUTES, DELAYS, source)


def test_a_recipient_without_a_usable_key_is_an_encoding_error(world):
    nobody = replace(world.bob, encryption_key=bytes(32))
    with pytest.raises(EncodingError):
        build_data_packet(world.topology, world.alice, nobody, bytes(FRAGMENT_LENGTH), ROUTES, DELAYS, random.Random(1))
    with pytest.raises(EncodingError):
        build_data_packet(world.topology, world.alice, world.bob, b"short", ROUTES, DELAYS, random.Random(1))


# -- replies


def test_a_reply_comes_back_to_the_mailbox_and_only_the_asker_reads_it(world):
    source = random.Random(4)
    block, record = make_reply_block(world.topology, world.alice, ROUTES, DELAYS, source)
    block = ReplyBlock.parse(block.encode())
    assert len(block.encode()) == 400
    assert len(block.open().payload_secrets) == 1
    piece = fragment(b"an answer" * 300, b"r" * 16, FragmentKind.REPLY)[1]
    reply = build_reply_packet(block, piece)
    assert (reply.epoch, len(reply.packet)) == (EPOCH, 2413)
    path, delays, last = world.walk(reply.first_hop, reply.packet)
    assert [world.topology.find(identity).layer for identity in path] == [1, 2, 3, 0]
    assert path[-1] == world.alice.provider
    assert len(delays) == 4
    assert last.next_address == world.alice.mailbox
    assert reply_alpha(last.packet) == record.alpha
    assert open_reply(last.packet, record) == piece


def test_a_changed_reply_or_another_record_is_refused(world):
    source = random.Random(5)
    block, record = make_reply_block(world.topology, world.alice, ROUTES, DELAYS, source)
    _, other = make_reply_block(world.topology, world.alice, ROUTES, DELAYS, source)
    reply = build_reply_packet(block, fragment(b"a", b"r" * 16, FragmentKind.REPLY)[0])
    _, _, last = world.walk(reply.first_hop, reply.packet)
    changed = last.packet[:-1] + bytes([last.packet[-1] ^ 1])
    for packet, with_record in ((last.packet, other), (changed, record), (last.packet[:-1], record), (b"", record)):
        with pytest.raises(PacketRejected):
            open_reply(packet, with_record)


def test_a_replier_that_talks_nonsense_is_an_encoding_error(world):
    block, record = make_reply_block(world.topology, world.alice, ROUTES, DELAYS, random.Random(6))
    first_hop, packet = block.open().use(b"nonsense")
    _, _, last = world.walk(first_hop, packet)
    with pytest.raises(EncodingError):
        open_reply(last.packet, record)


def test_a_reply_block_carries_nothing_but_replies(world):
    block, _ = make_reply_block(world.topology, world.alice, ROUTES, DELAYS, random.Random(6))
    with pytest.raises(ValueError, match="REPLY"):
        build_reply_packet(block, fragment(b"a", b"r" * 16)[0])


def test_a_reply_is_expected_after_seven_delays_and_a_receipt():
    assert expected_reply_round_trip(0.05) == pytest.approx(1.35)


def block(epoch=EPOCH):
    return ReplyBlock(epoch, bytes(396))


def test_blocks_are_taken_once_oldest_first_and_one_is_kept_to_ask_for_more():
    pool = BlockPool()
    for number in range(3):
        assert pool.add(b"tag", block(), number) == []
    assert [pool.take(b"tag", EPOCH, keep=1)[1] for _ in range(2)] == [0, 1]
    assert pool.take(b"tag", EPOCH, keep=1) is None
    assert pool.take(b"tag", EPOCH)[1] == 2
    assert pool.take(b"tag", EPOCH) is None
    assert pool.take(b"other", EPOCH) is None
    assert len(pool) == pool.count(b"tag") == 0


@pytest.mark.parametrize(("epoch", "alive"), [(5, False), (6, True), (7, True), (8, True), (9, False)])
def test_a_block_lives_as_long_as_the_keys_of_its_epoch(epoch, alive):
    assert is_alive(epoch, EPOCH) is alive
    pool = BlockPool()
    pool.add(b"tag", block(epoch), "row")
    assert (pool.take(b"tag", EPOCH) is not None) is alive


def test_dead_blocks_are_dropped_and_their_handles_told():
    pool = BlockPool()
    for epoch in (5, 6, 7):
        pool.add(b"tag", block(epoch), epoch)
    pool.add(b"old", block(5), "old")
    assert pool.drop_dead(EPOCH) == [5, "old"]
    assert (len(pool), pool.count(b"tag"), pool.count(b"old")) == (2, 2, 0)


def test_one_correspondent_cannot_give_more_than_his_share():
    pool = BlockPool(per_tag=2)
    assert [pool.add(b"tag", block(), number) for number in range(4)] == [[], [], [2], [3]]


def test_where_there_is_no_room_who_holds_most_loses_the_oldest():
    pool = BlockPool(per_tag=3, total=5)
    for number, tag in enumerate([b"a", b"a", b"b", b"b", b"b"]):
        assert pool.add(tag, block(), number) == []
    assert pool.add(b"c", block(), 5) == [2]
    assert pool.add(b"c", block(), 6) == [0]  # a and b hold two: a was silent for longer
    assert pool.add(b"c", block(), 7) == [7]  # nobody holds more
    assert (pool.count(b"a"), pool.count(b"b"), pool.count(b"c"), len(pool)) == (1, 2, 2, 5)


def test_the_limit_of_a_tag_shrinks_as_the_pool_fills():
    pool = BlockPool(per_tag=1000, total=4000)
    kept = []
    for name in range(8):
        for number in range(1000):
            pool.add(bytes([name]), block(), number)
        kept.append(pool.count(bytes([name])))
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == 800
    assert LEAST <= kept[-1] < 200


@pytest.mark.parametrize("tags", [20, 40])
def test_a_strangers_blocks_under_many_tags_evict_nobodys(tags):
    """Twenty tags, or forty, with as many blocks as they may have: it took four minutes of one client."""
    pool = BlockPool()
    for name in range(50):
        for number in range(60):
            pool.add(b"honest %d" % name, block(), number)
    for name in range(tags):
        for number in range(1000):
            pool.add(b"stranger %d" % name, block(), number)
    assert [pool.count(b"honest %d" % name) for name in range(50)] == [60] * 50
    assert len(pool) <= 20_000


@pytest.mark.parametrize("tags", [20_000, 40_000])
def test_a_strangers_blocks_under_tags_without_number_leave_half_to_those_who_are_answered(tags):
    pool = BlockPool()
    for name in range(50):
        for number in range(60):
            pool.add(b"honest %d" % name, block(), number)
        pool.take(b"honest %d" % name, EPOCH)
    for name in range(tags):
        pool.add(b"stranger %d" % name, block(), name)
    assert [pool.count(b"honest %d" % name) for name in range(50)] == [59] * 50
    for number in range(60):
        pool.add(b"honest 0", block(), number)
    assert pool.count(b"honest 0") >= 59


@pytest.mark.parametrize("seed", range(3))
def test_the_accounts_of_the_pool_agree_whatever_comes(seed):
    source, pool, held = random.Random(seed), BlockPool(per_tag=12, total=60), {}
    for number in range(4000):
        tag = bytes([source.randrange(30)])
        if source.random() < 0.7:
            lost = pool.add(tag, block(EPOCH + source.choice((-1, 0, 1))), number)
            held[number] = tag
        elif source.random() < 0.99:
            taken = pool.take(tag, EPOCH, keep=source.randrange(3))
            lost = [] if taken is None else [taken[1]]
        else:
            lost = pool.drop_dead(EPOCH + source.randrange(3))
        for handle in lost:
            del held[handle]
        assert len(pool) == len(held) <= 60
    for tag in set(held.values()):
        assert pool.count(tag) == list(held.values()).count(tag) <= 20


def test_a_pool_of_one_correspondent_stays_within_its_total():
    pool = BlockPool(per_tag=10, total=2)
    assert [pool.add(b"a", block(), number) for number in range(4)] == [[], [], [2], [3]]
    assert len(pool) == 2


def test_grants_are_bounded_until_blocks_come_back_or_count_as_lost():
    grants = Grants(limit=100, seconds=60.0)
    assert grants.allowed(b"t", 30, 0.0) == 30
    grants.given(b"t", 30, 0.0)
    grants.given(b"t", 60, 30.0)
    assert grants.allowed(b"t", 50, 30.0) == 10
    for _ in range(5):
        grants.used(b"t")
    assert grants.allowed(b"t", 50, 30.0) == 15
    assert grants.allowed(b"t", 500, 60.0) == 40
    assert grants.allowed(b"t", 500, 90.0) == 100
    assert grants.allowed(b"other", 500, 0.0) == 100
    assert Grants(limit=10**6).allowed(b"t", 10**6, 0.0) == MAX_BLOCKS
    grants.used(b"nobody")


def test_a_receipt_goes_out_once_an_interval_and_at_once_when_the_reply_is_whole():
    some = fragment(bytes(10_000), b"r" * 16, FragmentKind.REPLY)
    schedule = ReceiptSchedule(interval=1.0)
    assert schedule.next_due is None
    schedule.arrived(b"tag", some[0], 10.0)
    schedule.arrived(b"tag", some[1], 10.5)
    assert schedule.next_due == 11.0
    assert schedule.due(10.9) == []
    assert schedule.due(11.0) == [(b"tag", b"r" * 16, len(some))]
    assert schedule.due(11.0) == []
    schedule.arrived(b"tag", some[2], 11.5)
    assert schedule.next_due == 12.0
    schedule.arrived(b"tag", some[3], 11.6, complete=True)
    assert schedule.due(11.6) == [(b"tag", b"r" * 16, len(some))]


def test_a_receipt_that_was_lost_is_sent_again_when_the_replier_repeats_itself():
    piece = fragment(b"whole", b"r" * 16, FragmentKind.REPLY)[0]
    schedule = ReceiptSchedule(interval=1.0)
    for now in (10.0, 14.0):
        schedule.arrived(b"tag", piece, now, complete=True)
        assert schedule.due(now) == [(b"tag", b"r" * 16, 1)]
