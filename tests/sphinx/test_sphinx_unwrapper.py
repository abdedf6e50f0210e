"""The batch interface: the answers of the simple path, in order, and the replay guard asked at the right moment."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nymtw.drop_reasons import DropReason
from nymtw.errors import PacketRejected, ReplayGuardFull, SphinxInputError
from nymtw.sphinx import Hop, SizeClass, Unwrapper, build_packet, generate_keypair, process_packet, public_key

pytestmark = pytest.mark.pythons

KEYS = {epoch: generate_keypair(random.Random(epoch))[0] for epoch in (3, 4)}
NEXT = Hop(bytes(32), generate_keypair(random.Random(9))[1])


def packet_for(epoch, *, hops=2, version=259, size_class=SizeClass.ACK, source=None):
    route = [Hop(bytes(32), public_key(KEYS[epoch])), NEXT][:hops]
    return build_packet(b"", route, [7] * (hops - 1), bytes(32), version=version, size_class=size_class, random=source)


def simply(epoch, packet):
    if epoch not in KEYS:
        return DropReason.UNKNOWN_EPOCH
    try:
        return process_packet(packet, KEYS[epoch])
    except PacketRejected as rejected:
        return rejected.reason


def reasons(results):
    return [result.reason if isinstance(result, PacketRejected) else result for result in results]


@st.composite
def batches(draw):
    source = random.Random(draw(st.integers(0, 2**32)))
    batch = []
    for _ in range(draw(st.integers(0, 6))):
        packet = packet_for(
            draw(st.sampled_from((3, 4))),
            hops=draw(st.integers(1, 2)),
            version=draw(st.sampled_from((258, 259))),
            size_class=draw(st.sampled_from(SizeClass)),
            source=source,
        )
        match draw(st.sampled_from(("whole", "whole", "flipped", "cut", "noise"))):
            case "flipped":
                at = draw(st.integers(0, len(packet) * 8 - 1))
                packet = (int.from_bytes(packet, "big") ^ 1 << at).to_bytes(len(packet), "big")
            case "cut":
                packet = packet[: draw(st.integers(0, len(packet) - 1))]
            case "noise":
                packet = draw(st.binary(max_size=40)).ljust(len(packet), b"\xff")
        batch.append((draw(st.sampled_from((3, 4, 5))), packet))
    return batch


@given(batches())
@settings(max_examples=100, deadline=None)
def test_answers_are_those_of_the_simple_path_in_order(batch):
    assert reasons(Unwrapper(KEYS).unwrap_many(batch)) == [simply(epoch, packet) for epoch, packet in batch]


def test_an_epoch_without_a_key():
    packet = packet_for(3)
    assert reasons(Unwrapper({}).unwrap_many([(3, packet)])) == [DropReason.UNKNOWN_EPOCH]
    assert reasons(Unwrapper(KEYS).unwrap_many([(4, packet)])) == [DropReason.BAD_MAC]


def test_keys_rotate():
    unwrapper = Unwrapper({3: KEYS[3]})
    batch = [(3, packet_for(3)), (4, packet_for(4))]
    assert reasons(unwrapper.unwrap_many(batch)) == [simply(*batch[0]), DropReason.UNKNOWN_EPOCH]
    unwrapper.set_keys({4: KEYS[4]})
    assert reasons(unwrapper.unwrap_many(batch)) == [DropReason.UNKNOWN_EPOCH, simply(*batch[1])]


def test_a_key_of_the_wrong_length_leaves_the_old_keys():
    unwrapper = Unwrapper({3: KEYS[3]})
    with pytest.raises(SphinxInputError, match="32 bytes, not 31"):
        unwrapper.set_keys({3: bytes(31), 4: KEYS[4]})
    packet = packet_for(3)
    assert unwrapper.unwrap_many([(3, packet)]) == [simply(3, packet)]


def test_replays_are_told_by_the_tag():
    first, second = packet_for(3), packet_for(3)
    seen = set()

    def fresh(tag):
        assert len(tag) == 32
        new = tag not in seen
        seen.add(tag)
        return new

    results = Unwrapper(KEYS).unwrap_many([(3, first), (3, second), (3, first)], fresh)
    assert reasons(results) == [simply(3, first), simply(3, second), DropReason.REPLAYED]
    assert seen == {results[0].replay_tag, results[1].replay_tag}


def test_the_guard_is_asked_after_the_mac_check_and_before_the_decryption(monkeypatch):
    asked = []
    forged = bytearray(packet_for(3))
    forged[40] ^= 1
    batch = [(3, bytes(forged)), (5, packet_for(3)), (3, b""), (3, packet_for(3))]

    def decryption(*_):
        raise AssertionError("decrypted before the guard said that the packet is new")

    monkeypatch.setattr("nymtw.sphinx.packet.open_beta", decryption)
    results = Unwrapper(KEYS).unwrap_many(batch, lambda tag: bool(asked.append(tag)))
    assert len(asked) == 1
    assert reasons(results) == [
        DropReason.BAD_MAC,
        DropReason.UNKNOWN_EPOCH,
        DropReason.WRONG_LENGTH,
        DropReason.REPLAYED,
    ]


def test_a_full_guard():
    def fresh(tag):
        raise ReplayGuardFull

    assert reasons(Unwrapper(KEYS).unwrap_many([(3, packet_for(3))], fresh)) == [DropReason.REPLAY_GUARD_FULL]
