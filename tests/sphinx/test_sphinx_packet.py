"""Packets: built, walked hop by hop, refused. Properties over random routes, messages and changes."""

import os
import random

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nymtw.drop_reasons import DropReason
from nymtw.errors import NymtwError, PacketRejected, SphinxInputError
from nymtw.sphinx import (
    GEOMETRIES,
    FinalHop,
    ForwardHop,
    Geometry,
    Hop,
    SizeClass,
    build_packet,
    generate_keypair,
    process_packet,
    public_key,
    recover_message,
)
from nymtw.sphinx.header import header_mac, open_beta
from nymtw.sphinx.keys import derive_keys, sender_keys
from nymtw.sphinx.payload import pad_message, wrap_payload

pytestmark = pytest.mark.pythons

VERSIONS = st.sampled_from((258, 259))
HOPS = st.integers(1, 5)
SEEDS = st.integers(0, 2**32)
DESTINATION = bytes(range(32))
IDENTIFIER = bytes(range(16))


def route_of(source, hops):
    keys = [generate_keypair(source) for _ in range(hops)]
    return [private for private, _ in keys], [Hop(source.randbytes(32), public) for _, public in keys]


def rejection(packet, private_key):
    with pytest.raises(PacketRejected) as caught:
        process_packet(packet, private_key)
    return caught.value.reason


def resealed(packet, private_key, change):
    """`packet` with the step of its first hop changed by `change(step) -> step` and its MAC made right again."""
    shared = X25519PrivateKey.from_private_bytes(private_key).exchange(X25519PublicKey.from_public_bytes(packet[:32]))
    keys = derive_keys(shared)
    opened = bytearray(open_beta(keys.stream_key, packet[48:348])[:300])
    change(opened)
    beta = open_beta(keys.stream_key, bytes(opened))[:300]
    return packet[:32] + header_mac(keys.mac_key, beta) + beta + packet[348:]


@given(SEEDS, HOPS, VERSIONS, st.sampled_from(SizeClass), st.data())
@settings(max_examples=60, deadline=None)
def test_round_trip_at_constant_size(seed, hops, version, size_class, data):
    source = random.Random(seed)
    privates, route = route_of(source, hops)
    delays = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=hops - 1, max_size=hops - 1))
    geometry = GEOMETRIES[size_class]
    message = source.randbytes(data.draw(st.integers(0, geometry.plaintext_length)))
    packet = build_packet(
        message, route, delays, DESTINATION, IDENTIFIER, size_class=size_class, version=version, random=source
    )
    tags = set()
    for number in range(hops - 1):
        assert len(packet) == geometry.packet_length
        hop = process_packet(packet, privates[number])
        assert isinstance(hop, ForwardHop)
        assert (hop.next_address, hop.delay) == (route[number + 1].address, delays[number])
        tags.add(hop.replay_tag)
        packet = hop.packet
    assert len(packet) == geometry.packet_length
    final = process_packet(packet, X25519PrivateKey.from_private_bytes(privates[-1]))
    assert isinstance(final, FinalHop)
    assert (final.destination, final.identifier, final.version) == (DESTINATION, IDENTIFIER, version)
    assert len(final.payload) == geometry.payload_length
    assert recover_message(final.payload) == message
    tags.add(final.replay_tag)
    assert {len(tag) for tag in tags} == {32}
    assert len(tags) == hops


@given(SEEDS, HOPS, VERSIONS, st.integers(0, 2413 * 8 - 1))
@example(0, 3, 259, 31 * 8 + 7)
@example(0, 3, 259, 2413 * 8 - 1)
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_is_rejected_or_destroys_the_whole_payload(seed, hops, version, bit):
    source = random.Random(seed)
    privates, route = route_of(source, hops)
    packet = build_packet(b"m" * 2048, route, [0] * (hops - 1), DESTINATION, version=version, random=source)
    flipped = bytearray(packet)
    flipped[bit // 8] ^= 1 << bit % 8
    flipped = bytes(flipped)
    if bit < 348 * 8:
        expected = {DropReason.BAD_MAC}
        if bit < 32 * 8:
            expected |= {DropReason.NON_CANONICAL_POINT, DropReason.LOW_ORDER_POINT}
        assert rejection(flipped, privates[0]) in expected
        return
    for private in privates[:-1]:
        packet, flipped = process_packet(packet, private).packet, process_packet(flipped, private).packet
    whole, broken = process_packet(packet, privates[-1]).payload, process_packet(flipped, privates[-1]).payload
    assert recover_message(whole) == b"m" * 2048
    with pytest.raises(PacketRejected) as caught:
        recover_message(broken)
    assert caught.value.reason is DropReason.MALFORMED_PAYLOAD
    changed = (int.from_bytes(whole, "big") ^ int.from_bytes(broken, "big")).bit_count()
    assert changed >= 0.4 * 8 * len(whole)


# Of the payload's bits every seventh, so that each place in a byte has its turn; with NYMTW_FULL all of them.
PAYLOAD_BITS = range(0, 2065 * 8, 1 if os.environ.get("NYMTW_FULL") else 7)


@pytest.mark.long
def test_every_single_bit_of_a_packet_counts():
    privates, route = route_of(random.Random(11), 1)
    private = X25519PrivateKey.from_private_bytes(privates[0])
    message = b"m" * 2048
    packet = int.from_bytes(build_packet(message, route, [], DESTINATION), "big")
    whole = int.from_bytes(pad_message(message, GEOMETRIES[SizeClass.REGULAR]), "big")
    passed = []
    for bit in (*PAYLOAD_BITS, *range(2065 * 8, 2413 * 8)):
        try:
            final = process_packet((packet ^ 1 << bit).to_bytes(2413, "big"), private)
        except PacketRejected:
            continue
        passed.append(bit)
        changed = (int.from_bytes(final.payload, "big") ^ whole).bit_count()
        assert changed >= 0.4 * 8 * 2065
        with pytest.raises(PacketRejected):
            recover_message(final.payload)
    assert passed == list(PAYLOAD_BITS)  # the payload's bits alone get as far as the payload


def test_an_injected_secret_and_padding_settle_every_byte():
    source = random.Random(1)
    _, route = route_of(source, 3)
    fixed = {"secret": source.randbytes(32), "padding": source.randbytes(Geometry.header_padding_length(3))}
    first = build_packet(b"same", route, [1, 2], DESTINATION, **fixed)
    assert first == build_packet(b"same", route, [1, 2], DESTINATION, **fixed)
    assert first[:32] == public_key(fixed["secret"])
    assert first != build_packet(b"same", route, [1, 2], DESTINATION, secret=fixed["secret"])


def test_a_seed_replays_a_packet_and_the_default_does_not():
    _, route = route_of(random.Random(1), 2)
    build = [build_packet(b"", route, [5], DESTINATION, random=random.Random(7)) for _ in range(2)]
    assert build[0] == build[1]
    assert build_packet(b"", route, [5], DESTINATION) != build_packet(b"", route, [5], DESTINATION)


LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]
NON_CANONICAL = [
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
    (2**255 - 1).to_bytes(32, "little"),
    (2**255 + 9).to_bytes(32, "little"),
    b"\xff" * 32,
]


@pytest.mark.parametrize("alpha", LOW_ORDER)
def test_a_low_order_point_is_rejected(alpha):
    assert rejection(alpha + bytes(2413 - 32), bytes(range(32))) is DropReason.LOW_ORDER_POINT


@pytest.mark.parametrize("alpha", NON_CANONICAL)
def test_a_non_canonical_point_is_rejected(alpha):
    assert rejection(alpha + bytes(2413 - 32), bytes(range(32))) is DropReason.NON_CANONICAL_POINT


def test_the_masked_twin_of_a_packet_is_rejected():
    privates, route = route_of(random.Random(3), 1)
    packet = bytearray(build_packet(b"", route, [], DESTINATION))
    packet[31] |= 0x80
    assert rejection(bytes(packet), privates[0]) is DropReason.NON_CANONICAL_POINT


@pytest.mark.parametrize("length", [0, 1, 347, 348, 385, 387, 2412, 2414, 8556, 16750, 33134, 70000])
def test_a_wrong_length_is_rejected(length):
    assert rejection(bytes(length), bytes(range(32))) is DropReason.WRONG_LENGTH


def test_anothers_packet_has_a_bad_mac():
    _, route = route_of(random.Random(4), 2)
    assert rejection(build_packet(b"", route, [0], DESTINATION), bytes(range(32))) is DropReason.BAD_MAC


@pytest.mark.parametrize("flag", [0, 3, 0x80, 0xFF])
def test_an_unknown_flag_is_rejected(flag):
    privates, route = route_of(random.Random(5), 2)
    packet = build_packet(b"", route, [0], DESTINATION)

    def change(step):
        step[0] = flag

    assert rejection(resealed(packet, privates[0], change), privates[0]) is DropReason.UNKNOWN_FLAG


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize("version", ["000001", "000101", "010103", "ff0102"])
def test_a_refused_version_is_rejected(hops, version):
    privates, route = route_of(random.Random(6), hops)
    packet = build_packet(b"", route, [0] * (hops - 1), DESTINATION)

    def change(step):
        step[1:4] = bytes.fromhex(version)

    assert rejection(resealed(packet, privates[0], change), privates[0]) is DropReason.REFUSED_VERSION


def test_a_later_version_takes_the_seed():
    privates, route = route_of(random.Random(7), 1)
    packet = build_packet(b"later", route, [], DESTINATION)

    def change(step):
        step[1:4] = (300).to_bytes(3, "big")

    final = process_packet(resealed(packet, privates[0], change), privates[0])
    assert final.version == 300
    assert recover_message(final.payload) == b"later"


@pytest.mark.parametrize(
    "payload",
    [
        bytes(2065),
        b"\0" * 15 + b"\1" + b"message\1",
        bytes(16) + b"no marker",
        bytes(16) + b"\1" + bytes(9) + b"\2",
        bytes(15),
        b"",
    ],
)
def test_a_malformed_payload_is_rejected(payload):
    with pytest.raises(PacketRejected) as caught:
        recover_message(payload)
    assert caught.value.reason is DropReason.MALFORMED_PAYLOAD


@pytest.mark.parametrize("message", [b"", b"\0", b"\1", b"\1\0\0", b"text\1\0", b"\0" * 2048, b"\1" * 2048])
def test_padding_comes_off_whatever_the_message_ends_with(message):
    block = pad_message(message, GEOMETRIES[SizeClass.REGULAR])
    assert len(block) == 2065
    assert recover_message(block) == message


def test_layers_that_are_still_on_are_malformed():
    keys = derive_keys(bytes(range(32)))
    block = wrap_payload(pad_message(b"hidden", GEOMETRIES[SizeClass.ACK]), [keys.payload_key(259)])
    with pytest.raises(PacketRejected):
        recover_message(block)


def good_arguments(**changes):
    _, route = route_of(random.Random(8), 2)
    arguments = {
        "message": b"",
        "route": route,
        "delays": [0],
        "destination": DESTINATION,
        "identifier": IDENTIFIER,
        "size_class": SizeClass.REGULAR,
        "version": 259,
    }
    return arguments | changes


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"route": [], "delays": []}, "1 to 5 hops, not 0"),
        ({"route": [Hop(bytes(32), bytes(32))] * 6, "delays": [0] * 5}, "1 to 5 hops, not 6"),
        ({"message": bytes(2049)}, "at most 2048 bytes, not 2049"),
        ({"message": bytes(22), "size_class": SizeClass.ACK}, "ACK is at most 21 bytes, not 22"),
        ({"size_class": 5}, "from 0 to 4, not 5"),
        ({"route": [Hop(bytes(31), bytes(32))] * 2}, "address is 32 bytes, not 31"),
        ({"route": [Hop(bytes(32), bytes(33))] * 2}, "public key is 32 bytes, not 33"),
        ({"delays": []}, "2 hops have 1 delays"),
        ({"delays": [0, 0]}, "2 hops have 1 delays"),
        ({"delays": [-1]}, "from 0 to 18446744073709551615, not -1"),
        ({"delays": [2**64]}, "from 0 to 18446744073709551615, not 18446744073709551616"),
        ({"delays": [1.5]}, "whole number of nanoseconds"),
        ({"destination": bytes(20)}, "destination is 32 bytes, not 20"),
        ({"identifier": bytes(17)}, "identifier is 16 bytes, not 17"),
        ({"version": 257}, r"one of \(258, 259\), not 257"),
        ({"version": 260}, r"one of \(258, 259\), not 260"),
        ({"secret": bytes(31)}, "secret is 32 bytes, not 31"),
        ({"padding": bytes(5)}, "padding for 2 hops is 188 bytes, not 5"),
    ],
)
def test_what_cannot_be_right_raises_before_any_cryptography(changes, limit, monkeypatch):
    def cryptography(*_):
        raise AssertionError("too late")

    monkeypatch.setattr("nymtw.sphinx.packet.build_header", cryptography)
    monkeypatch.setattr("nymtw.sphinx.packet.wrap_payload", cryptography)
    with pytest.raises(SphinxInputError, match=limit) as caught:
        build_packet(**good_arguments(**changes))
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, NymtwError)


def test_a_low_order_public_key_of_a_hop_is_an_input_error():
    with pytest.raises(SphinxInputError, match="low order"):
        build_packet(b"", [Hop(bytes(32), bytes(32))], [], DESTINATION)


def test_a_private_key_of_the_wrong_length_is_an_input_error():
    with pytest.raises(SphinxInputError, match="32 bytes, not 31"):
        process_packet(bytes(2413), bytes(31))


def test_sender_and_hops_derive_the_same_keys():
    source = random.Random(9)
    privates, route = route_of(source, 5)
    secret = source.randbytes(32)
    _, keys = sender_keys(secret, [hop.public_key for hop in route])
    packet = build_packet(b"", route, [0] * 4, DESTINATION, secret=secret)
    for private, hop_keys in zip(privates, keys, strict=True):
        hop = process_packet(packet, private)
        assert hop.replay_tag == hop_keys.replay_tag
        packet = getattr(hop, "packet", b"")
