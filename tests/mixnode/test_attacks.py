"""Attacks on a mixnode: a packet passes once, whatever is done to its first element, its epoch, or its node."""

from pathlib import Path

import pytest
from nacl.bindings import crypto_scalarmult
from packet_chain import EPOCH, Chain, Node, frame

from nymtw.drop_reasons import DropReason
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.mixnode.core import MixnodeCore
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.sphinx import Unwrapper, build_packet, generate_keypair

P = 2**255 - 19
A = 486662
ALPHA_LENGTH = 32
# The points of order 2, 4, 8 and 8 on the curve (RFC 7748, and the table at https://cr.yp.to/ecdh.html#validate).
LOW_ORDER = [
    0,
    1,
    int.from_bytes(bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "little"),
    int.from_bytes(bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "little"),
]


def on_curve(u: int) -> tuple[int, int]:
    """A point of Curve25519 with this u: v^2 = u^3 + A u^2 + u."""
    square = (u**3 + A * u**2 + u) % P
    root = pow(square, (P + 3) // 8, P)
    if root * root % P != square:
        root = root * pow(2, (P - 1) // 4, P) % P
    assert root * root % P == square
    return u, root


def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, P) % P
    u = (slope * slope - A - one[0] - other[0]) % P
    return u, (slope * (one[0] - u) - one[1]) % P


def with_alpha(packet: bytes, alpha: bytes) -> bytes:
    return alpha + packet[ALPHA_LENGTH:]


def shifted(packet: bytes, low_order: int) -> bytes:
    """The packet with a point of low order added to its alpha: every private key gets the same secret out of it."""
    u, _ = add(on_curve(int.from_bytes(packet[:ALPHA_LENGTH], "little")), on_curve(low_order))
    return with_alpha(packet, u.to_bytes(32, "little"))


def assert_passes_once(chain: Chain, packet: bytes, twin: bytes, reason: DropReason) -> None:
    """`packet` crosses the network; `twin` does not, before it or after."""
    first = chain.mixnodes[0]
    chain.enter(packet)
    chain.enter(twin)
    chain.run(1.0)
    assert first.drops() == {reason: 1}
    assert len(chain.delivered()) == 1
    chain.enter(twin)
    chain.run(1.0)
    assert len(chain.delivered()) == 1


def test_the_same_packet_with_the_top_bit_of_its_alpha_set() -> None:
    chain = Chain(100)
    packet = chain.data_packet()
    twin = with_alpha(packet, packet[:31] + bytes([packet[31] | 0x80]))
    assert crypto_scalarmult(bytes(range(32)), twin[:32]) == crypto_scalarmult(bytes(range(32)), packet[:32])
    assert_passes_once(chain, packet, twin, DropReason.NON_CANONICAL_POINT)


@pytest.mark.parametrize("u", [2, 9, 18])
def test_an_alpha_in_non_canonical_form(u: int) -> None:
    chain = Chain(101)
    packet = chain.data_packet()
    assert_passes_once(
        chain, packet, with_alpha(packet, (u + P).to_bytes(32, "little")), DropReason.NON_CANONICAL_POINT
    )


@pytest.mark.parametrize("low_order", LOW_ORDER)
def test_the_same_packet_shifted_by_a_low_order_point(low_order: int) -> None:
    chain = Chain(102)
    packet = chain.data_packet()
    twin = shifted(packet, low_order)
    assert twin != packet
    # The premise of the attack: the shared secret is the same, so a tag that depends on it alone is the same too.
    assert crypto_scalarmult(bytes(range(32)), twin[:32]) == crypto_scalarmult(bytes(range(32)), packet[:32])
    first = chain.mixnodes[0]
    chain.enter(packet)
    chain.enter(twin)
    chain.run(1.0)
    assert len(chain.delivered()) == 1
    assert first.counters.dropped_total == 1
    assert set(first.drops()) <= {DropReason.REPLAYED, DropReason.BAD_MAC}


@pytest.mark.parametrize("low_order", LOW_ORDER)
def test_a_low_order_point_itself(low_order: int) -> None:
    chain = Chain(103)
    packet = chain.data_packet()
    assert_passes_once(chain, packet, with_alpha(packet, low_order.to_bytes(32, "little")), DropReason.LOW_ORDER_POINT)


def test_across_epochs() -> None:
    """In the next epoch the previous key and its tags are still there; in the one after both are gone."""
    chain = Chain(104)
    first = chain.mixnodes[0]
    keys = {EPOCH: first.private_key, **{EPOCH + n: generate_keypair(chain.random)[0] for n in (1, 2, 3)}}
    core = first.core
    core.use_keys({EPOCH: keys[EPOCH], EPOCH + 1: keys[EPOCH + 1]})
    packet = chain.data_packet()
    chain.enter(packet)
    chain.run(1.0)
    chain.enter(packet, epoch=EPOCH + 1)
    assert first.drops() == {DropReason.BAD_MAC: 1}
    core.use_keys({EPOCH + n: keys[EPOCH + n] for n in (0, 1, 2)})
    chain.enter(packet)
    assert first.drops() == {DropReason.BAD_MAC: 1, DropReason.REPLAYED: 1}
    core.use_keys({EPOCH + n: keys[EPOCH + n] for n in (1, 2, 3)})
    for epoch in (EPOCH, EPOCH + 1, EPOCH + 2, EPOCH + 3):
        chain.enter(packet, epoch=epoch)
    chain.run(1.0)
    assert first.drops() == {DropReason.BAD_MAC: 4, DropReason.REPLAYED: 1, DropReason.UNKNOWN_EPOCH: 1}
    assert len(chain.delivered()) == 1


@pytest.mark.parametrize("epoch", [EPOCH + 2**31, 2**32 - 1, 0])
def test_an_epoch_that_nobody_has(epoch: int) -> None:
    chain = Chain(105)
    chain.mixnodes[0].core.use_keys({EPOCH: chain.mixnodes[0].private_key})
    chain.enter(chain.data_packet(), epoch=epoch)
    assert chain.mixnodes[0].drops() == {DropReason.UNKNOWN_EPOCH: 1}


def one_way(chain: Chain, delay: int = 0) -> bytes:
    """A packet that comes to no mailbox, so that no ack follows it."""
    return build_packet(b"x", chain.route(), [delay, 0, 0], b"b" * 32, random=chain.random)


def restarted(chain: Chain, node: Node) -> MixnodeCore:
    """What runs after kill -9 at this moment: nothing was closed, and the files are what they are."""
    core = MixnodeCore(
        clock=chain.clock,
        random=chain.random,
        unwrapper=Unwrapper({EPOCH: node.private_key}),
        guard=chain.guard_of(node.record),
        counters=PacketCounters(),
        own=node.record,
    )
    core.use_links(node.links)
    core.use_topology(chain.topology)
    return core


def test_killed_at_every_write_and_restarted_nothing_is_forwarded_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node whose disk stops, as by a kill, in its n-th flush; then the same packets come to its successor."""

    class Killed(BaseException):
        """The process dies here."""

    for death in range(8):
        chain = Chain(106, folder=tmp_path / str(death))
        first = chain.mixnodes[0]
        packets = [one_way(chain, number * 10_000_000) for number in range(6)]
        flushes = iter(range(100))
        flush = first.core.replays.guard.flush

        def dying(death: int = death, flushes: object = flushes, flush: object = flush) -> None:
            if next(flushes) == death:  # type: ignore[call-overload]
                raise Killed
            flush()  # type: ignore[operator]

        first.core.replays.guard.flush = dying  # type: ignore[method-assign]
        for packet in packets:
            chain.enter(packet)
        try:
            chain.run(1.0)
        except Killed:
            pass
        forwarded = len(first.links.sent)
        for call in chain.clock.getDelayedCalls():  # what was in memory is lost
            call.cancel()
        core = restarted(chain, first)
        core.receive(b"edge", [frame(packet) for packet in packets])
        chain.clock.advance(1.0)
        sent = [packet for _, _, _, packet in first.links.sent]
        assert len(sent) == len(set(sent))
        assert core.counters.snapshot().dropped.get(DropReason.REPLAYED, 0) >= forwarded
        assert forwarded == min(death, len(packets))
    assert forwarded == len(packets)  # the last one was not killed: every flush has been


def test_the_guard_of_another_node_knows_nothing() -> None:
    """The control: what stops a replay is this node's memory."""
    chain = Chain(107)
    packet = one_way(chain)
    chain.enter(packet)
    chain.run(1.0)
    chain.mixnodes[0].core.replays.guard = ReplayGuard(None, capacity=1000)
    chain.enter(packet)
    chain.run(1.0)
    assert len(chain.mixnodes[0].links.sent) == 2
