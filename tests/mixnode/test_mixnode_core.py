"""A mixnode's core: packets move on when they are due, each is accounted for, nothing hostile gets through."""

from pathlib import Path
from random import Random

import pytest
from packet_chain import EPOCH, LATENCY, MILLISECOND, Chain, frame

from nymtw.drop_reasons import DropReason
from nymtw.errors import DiskError
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.sphinx import Hop, Unwrapper, build_packet, generate_keypair


def test_a_packet_waits_at_each_hop_as_long_as_its_sender_asked() -> None:
    chain = Chain(1)
    chain.enter(chain.data_packet(delays=[20 * MILLISECOND, 300 * MILLISECOND, 5 * MILLISECOND]))
    chain.run(1.0)
    left = [node.links.sent[0][0] for node in chain.mixnodes]
    assert left == pytest.approx([0.020, 0.320 + LATENCY, 0.325 + 2 * LATENCY])
    assert [node.links.sent[0][1] for node in chain.mixnodes] == [node.record.identity for node in chain.nodes[1:]]
    assert len(chain.delivered()) == 1


def test_the_epoch_of_the_frame_travels_on_unchanged() -> None:
    chain = Chain(2)
    first = chain.mixnodes[0]
    first.core.use_keys({EPOCH: bytes(range(32)), EPOCH + 1: first.private_key})
    chain.enter(chain.data_packet(), epoch=EPOCH + 1)
    chain.run(0.0005)
    assert [epoch for _, _, epoch, _ in first.links.sent] == [EPOCH + 1]


def test_a_replay_is_dropped_in_the_same_read_and_later() -> None:
    chain = Chain(3)
    packet = chain.data_packet()
    first = chain.mixnodes[0]
    first.core.receive(b"edge", [frame(packet), frame(packet)])
    chain.run(1.0)
    chain.enter(packet)
    chain.run(1.0)
    assert first.drops() == {DropReason.REPLAYED: 2}
    assert len(chain.delivered()) == 1


def test_a_replay_is_dropped_after_a_restart(tmp_path: Path) -> None:
    chain = Chain(4, folder=tmp_path)
    packet = chain.data_packet()
    chain.enter(packet)
    chain.run(1.0)
    # What kill -9 leaves: the first guard is never closed.
    guard = chain.guard_of(chain.mixnodes[0].record)
    core = type(chain.mixnodes[0].core)(
        clock=chain.clock,
        random=chain.random,
        unwrapper=Unwrapper({EPOCH: chain.mixnodes[0].private_key}),
        guard=guard,
        counters=chain.mixnodes[0].counters.__class__(),
        own=chain.mixnodes[0].record,
    )
    core.use_links(chain.mixnodes[0].links)
    core.use_topology(chain.topology)
    core.receive(b"edge", [frame(packet)])
    assert core.counters.snapshot().dropped == {DropReason.REPLAYED: 1}


def test_a_tag_is_on_disk_before_its_packet_leaves(tmp_path: Path) -> None:
    chain = Chain(5, folder=tmp_path)
    first = chain.mixnodes[0]
    sizes: list[int] = []
    send = first.links.send

    def spy(peer: bytes, epoch: int, packet: bytes) -> None:
        (path,) = (tmp_path / first.record.identity.hex()[:8]).glob("*.tags")
        sizes.append(path.stat().st_size)
        send(peer, epoch, packet)

    first.links.send = spy  # type: ignore[method-assign]
    chain.enter(chain.data_packet(delays=[MILLISECOND, 0, 0]))
    chain.enter(chain.data_packet(delays=[2 * MILLISECOND, 0, 0]))
    chain.run(1.0)
    assert sizes[:2] == [48, 48]  # the head of the file and both tags, which came before the first packet was due


def test_while_the_disk_refuses_nothing_passes_and_afterwards_all_is_well() -> None:
    chain = Chain(6)
    first = chain.mixnodes[0]

    def refuse() -> None:
        raise DiskError("no space left")

    guard = first.core.replays.guard
    guard.flush = refuse  # type: ignore[method-assign]
    chain.enter(chain.data_packet())
    chain.run(1.0)
    assert first.drops() == {DropReason.DISK_ERROR: 1}
    assert first.links.sent == []
    del guard.flush
    chain.enter(chain.data_packet())
    chain.run(1.0)
    assert len(chain.delivered()) == 1


def test_a_tag_that_cannot_be_taken_drops_its_packet_and_no_other() -> None:
    chain = Chain(7)
    first = chain.mixnodes[0]
    guard: ReplayGuard = first.core.replays.guard
    fresh, calls = guard.fresh, iter([True])

    def refuse_once(epoch: int, tag: bytes) -> bool:
        if next(calls, False):
            raise DiskError("cannot open")
        return fresh(epoch, tag)

    guard.fresh = refuse_once  # type: ignore[method-assign]
    first.core.receive(b"edge", [frame(chain.data_packet()), frame(chain.data_packet())])
    chain.run(1.0)
    assert first.drops() == {DropReason.DISK_ERROR: 1}
    assert len(chain.delivered()) == 1


def test_the_longest_delay_passes_and_a_nanosecond_more_is_dropped_not_cut() -> None:
    chain = Chain(8, max_delay=2.0)
    longest = 2_000_000_000
    chain.enter(chain.data_packet(delays=[longest, 0, 0]))
    chain.enter(chain.data_packet(delays=[longest + 1, 0, 0]))
    chain.enter(chain.data_packet(delays=[2**64 - 1, 0, 0]))
    assert chain.mixnodes[0].drops() == {DropReason.DELAY_TOO_LONG: 2}
    chain.run(1.999)
    assert chain.mixnodes[0].links.sent == []
    chain.run(0.002)
    assert len(chain.mixnodes[0].links.sent) == 1


def test_a_full_delay_queue_takes_no_more() -> None:
    chain = Chain(9, capacity=2)
    for _ in range(3):
        chain.enter(chain.data_packet(delays=[MILLISECOND, 0, 0]))
    assert chain.mixnodes[0].drops() == {DropReason.DELAY_QUEUE_FULL: 1}
    assert chain.mixnodes[0].core.queued == 2


@pytest.mark.parametrize("address", ["nobody", "layer 3", "provider", "itself"])
def test_only_the_next_layer_is_a_next_hop(address: str) -> None:
    chain = Chain(10)
    nodes = {"layer 3": chain.mixnodes[2], "provider": chain.provider, "itself": chain.mixnodes[0]}
    target = nodes[address].hop if address in nodes else Hop(b"?" * 32, chain.provider.hop.public_key)
    chain.enter(chain.data_packet(route=[chain.mixnodes[0].hop, target], delays=[0]))
    assert chain.mixnodes[0].drops() == {DropReason.UNKNOWN_NEXT_HOP: 1}


def test_a_mixnode_is_no_last_hop() -> None:
    chain = Chain(11)
    chain.enter(chain.data_packet(route=[chain.mixnodes[0].hop], delays=[]))
    assert chain.mixnodes[0].drops() == {DropReason.NOT_A_LAST_HOP: 1}


def test_a_key_epoch_without_a_key_and_garbage_are_counted() -> None:
    chain = Chain(12)
    packet = chain.data_packet()
    chain.enter(packet, epoch=EPOCH - 2)
    chain.enter(chain.random.randbytes(2413))
    chain.enter(b"short")
    chain.enter(bytes(2413))
    drops = chain.mixnodes[0].drops()
    assert drops.pop(DropReason.UNKNOWN_EPOCH) == 1
    assert drops.pop(DropReason.WRONG_LENGTH) == 1
    assert drops.pop(DropReason.LOW_ORDER_POINT) == 1
    assert sum(drops.values()) == 1  # the random bytes: a wrong MAC or a non-canonical point
    assert chain.mixnodes[0].is_exact()


def test_only_the_layer_before_may_connect() -> None:
    chain = Chain(13)
    one, two, three = chain.mixnodes
    identities = {node.record.identity: node for node in chain.nodes}
    admitted = {node.record.layer: [peer for peer in identities if node.core.admits(peer)] for node in chain.nodes}
    assert admitted == {
        1: [chain.provider.record.identity],
        2: [one.record.identity],
        3: [two.record.identity],
        0: [three.record.identity],
    }
    assert not one.core.admits(b"?" * 32)


def test_the_links_learn_the_next_layer_and_forget_who_has_gone() -> None:
    chain = Chain(14)
    first, second = chain.mixnodes[:2]
    assert set(first.links.peers) == {second.record.identity, chain.other.identity}
    chain.enter(chain.data_packet(delays=[MILLISECOND, 0, 0]))
    smaller = chain.topology_of([node.record for node in chain.nodes if node is not second] + [chain.other])
    first.core.use_topology(smaller)
    assert set(first.links.peers) == {chain.other.identity}
    chain.enter(chain.data_packet())
    assert first.drops() == {DropReason.UNKNOWN_NEXT_HOP: 1}


def test_what_is_held_at_the_end_is_counted_and_nothing_is_taken_any_more() -> None:
    chain = Chain(15)
    first = chain.mixnodes[0]
    chain.enter(chain.data_packet(delays=[MILLISECOND, 0, 0]))
    first.core.stop()
    chain.enter(chain.data_packet())
    assert first.drops() == {DropReason.SHUTDOWN: 2}
    assert chain.clock.getDelayedCalls() == []


def test_the_account_is_exact_at_every_moment() -> None:
    """300 packets of every kind, each event followed by a comparison with what is really there."""
    seed = 16
    chain = Chain(seed, capacity=40, max_delay=0.5)
    random = Random(seed)
    stranger = Hop(b"?" * 32, generate_keypair(random)[1])
    kept: list[bytes] = []

    def enter() -> None:
        packets = []
        for _ in range(random.randrange(1, 6)):
            kind = random.randrange(8)
            delays = [int(random.expovariate(1 / (50 * MILLISECOND))) for _ in range(3)]
            if kind < 3:
                packets.append(chain.data_packet(delays=delays))
                kept.append(packets[-1])
            elif kind == 3 and kept:
                packets.append(random.choice(kept))
            elif kind == 4:
                packets.append(random.randbytes(random.choice([2413, 386, 99])))
            elif kind == 5:
                packets.append(chain.data_packet(route=[*chain.route()[:2], stranger], delays=delays[:2]))
            elif kind == 6:
                hops = random.randrange(1, 4)
                packets.append(chain.data_packet(route=chain.route()[:hops], delays=delays[: hops - 1]))
            else:
                packets.append(build_packet(b"x", chain.route(), delays, b"b" * 32, random=random))
        chain.mixnodes[0].core.receive(b"edge", [frame(packet, EPOCH - (random.random() < 0.1)) for packet in packets])

    for index in range(100):
        chain.clock.callLater(index * 0.01, enter)
    chain.mixnodes[1].links.closed = True
    chain.run(0.5)
    assert chain.mixnodes[1].links.pending > 0
    chain.mixnodes[1].links.drop_all()
    chain.mixnodes[1].links.closed = False
    chain.run(20.0)
    for node in chain.nodes:
        assert node.counters.queued == 0
        assert node.counters.received_total > 0
    drops = set(chain.mixnodes[0].drops()) | set(chain.mixnodes[1].drops()) | set(chain.provider.drops())
    assert drops >= {
        DropReason.REPLAYED,
        DropReason.UNKNOWN_EPOCH,
        DropReason.UNKNOWN_NEXT_HOP,
        DropReason.NOT_A_LAST_HOP,
        DropReason.MALFORMED_PAYLOAD,
        DropReason.LINK_DOWN,
    }
