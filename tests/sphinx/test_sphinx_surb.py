"""Reply blocks: made, used, opened; single-seed ones hide the payload from all but their creator."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nymtw.drop_reasons import DropReason
from nymtw.errors import EncodingError, PacketRejected, SphinxInputError
from nymtw.sphinx import (
    GEOMETRIES,
    SURB,
    Geometry,
    Hop,
    SizeClass,
    SURBRecord,
    generate_keypair,
    process_packet,
    recover_message,
)

pytestmark = pytest.mark.pythons

DESTINATION = bytes(range(32))
IDENTIFIER = bytes(range(16))


def make(seed, hops, **options):
    source = random.Random(seed)
    keys = [generate_keypair(source) for _ in range(hops)]
    route = [Hop(source.randbytes(32), public) for _, public in keys]
    delays = [source.getrandbits(64) for _ in range(hops - 1)]
    surb, record = SURB.create(route, delays, DESTINATION, IDENTIFIER, random=source, **options)
    return [private for private, _ in keys], route, surb, record


def to_last_hop(packet, privates):
    for private in privates[:-1]:
        packet = process_packet(packet, private).packet
    return packet


@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from((258, 259)), st.booleans(), st.sampled_from(SizeClass))
@settings(max_examples=60, deadline=None)
def test_round_trip(seed, hops, version, single_seed, size_class):
    privates, route, surb, record = make(seed, hops, version=version, single_seed=single_seed)
    assert len(surb.to_bytes()) == Geometry.surb_length(hops, version, single_seed=single_seed)
    assert SURB.from_bytes(surb.to_bytes()) == surb
    assert SURBRecord.from_bytes(record.to_bytes()) == record
    message = random.Random(seed).randbytes(GEOMETRIES[size_class].plaintext_length // 2)
    address, packet = SURB.from_bytes(surb.to_bytes()).use(message, size_class=size_class)
    assert address == route[0].address
    arrived = to_last_hop(packet, privates)
    assert len(arrived) == GEOMETRIES[size_class].packet_length
    final = process_packet(arrived, privates[-1])
    assert (final.destination, final.identifier, final.version) == (DESTINATION, IDENTIFIER, version)
    assert record.identifier == IDENTIFIER
    assert record.alpha == arrived[:32]
    assert SURBRecord.from_bytes(record.to_bytes()).open(final.payload) == message
    assert record.open_packet(arrived) == message
    if not single_seed:
        assert recover_message(final.payload) == message


@pytest.mark.parametrize("version", [258, 259])
@pytest.mark.parametrize("hops", [2, 3, 4, 5])
def test_nobody_but_the_creator_reads_or_recognises_a_single_seed_reply(version, hops):
    privates, _, surb, record = make(1, hops, version=version, single_seed=True)
    assert len(surb.payload_secrets) == 1
    assert surb.payload_secrets[0] == record.payload_secrets[-1]
    _, packet = surb.use(b"reply")
    final = process_packet(to_last_hop(packet, privates), privates[-1])
    with pytest.raises(PacketRejected):
        recover_message(final.payload)
    assert record.open(final.payload) == b"reply"


@pytest.mark.parametrize("single_seed", [False, True])
def test_a_changed_reply_is_rejected(single_seed):
    privates, _, surb, record = make(2, 3, single_seed=single_seed)
    _, packet = surb.use(b"reply")
    arrived = to_last_hop(packet, privates)
    for at, reason in ((0, "BAD_MAC"), (40, "BAD_MAC"), (347, "BAD_MAC"), (348, "MALFORMED_PAYLOAD")):
        changed = bytearray(arrived)
        changed[at] ^= 1
        with pytest.raises(PacketRejected) as caught:
            record.open_packet(bytes(changed))
        assert caught.value.reason is DropReason[reason]
    changed = bytearray(packet)
    changed[-1] ^= 1
    final = process_packet(to_last_hop(bytes(changed), privates), privates[-1])
    with pytest.raises(PacketRejected) as caught:
        record.open(final.payload)
    assert caught.value.reason is DropReason.MALFORMED_PAYLOAD


def test_another_surbs_reply_is_not_opened():
    privates, _, surb, _ = make(3, 3, single_seed=True)
    record = make(4, 3, single_seed=True)[3]
    arrived = to_last_hop(surb.use(b"reply")[1], privates)
    with pytest.raises(PacketRejected) as caught:
        record.open_packet(arrived)
    assert caught.value.reason is DropReason.BAD_MAC


@pytest.mark.parametrize("payload", [b"", bytes(31), bytes(2064), bytes(40000)])
@pytest.mark.parametrize("single_seed", [False, True])
def test_a_payload_of_another_length_is_rejected(payload, single_seed):
    record = make(5, 3, single_seed=single_seed)[3]
    with pytest.raises(PacketRejected):
        record.open(payload)
    with pytest.raises(PacketRejected) as caught:
        record.open_packet(payload)
    assert caught.value.reason is DropReason.WRONG_LENGTH


def test_an_injected_secret_and_padding_settle_a_surb():
    route = [Hop(bytes([number]) * 32, generate_keypair(random.Random(number))[1]) for number in range(3)]
    fixed = {"secret": bytes(range(32)), "padding": bytes(128)}
    made = [SURB.create(route, [1, 2], DESTINATION, IDENTIFIER, **fixed) for _ in range(2)]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"route": [], "delays": []}, "1 to 5 hops, not 0"),
        ({"route": [Hop(bytes(32), bytes(32))] * 6, "delays": [0] * 5}, "1 to 5 hops, not 6"),
        ({"delays": [0]}, "1 hops have 0 delays"),
        ({"identifier": bytes(16), "single_seed": True}, "not be zero"),
        ({"identifier": bytes(15)}, "identifier is 16 bytes"),
        ({"version": 1}, "258, 259"),
        ({"secret": b""}, "secret is 32 bytes, not 0"),
        ({"padding": b""}, "padding for 1 hops is 248 bytes, not 0"),
    ],
)
def test_what_cannot_be_right_raises_before_any_cryptography(changes, limit, monkeypatch):
    def cryptography(*_):
        raise AssertionError("too late")

    monkeypatch.setattr("nymtw.sphinx.surb.build_header", cryptography)
    arguments = {
        "route": [Hop(bytes(32), bytes(32))],
        "delays": [],
        "destination": DESTINATION,
        "identifier": IDENTIFIER,
    } | changes
    with pytest.raises(SphinxInputError, match=limit):
        SURB.create(**arguments)


def test_a_message_too_long_for_the_size_class():
    _, _, surb, _ = make(6, 2)
    with pytest.raises(SphinxInputError, match="REGULAR is at most 2048 bytes, not 2049"):
        surb.use(bytes(2049))
    surb.use(bytes(2049), size_class=SizeClass.EXTENDED_8)


@given(st.binary(max_size=1500))
@settings(max_examples=200, deadline=None)
def test_parsing_never_raises_anything_but_an_encoding_error(data):
    for kind in (SURB, SURBRecord):
        try:
            parsed = kind.from_bytes(data)
        except EncodingError:
            continue
        assert parsed.to_bytes() == data


@pytest.mark.parametrize("extra", [0, 1, 15, 17, 81, 96, 191, 193, 384 + 16, 6 * 192])
def test_a_length_that_no_surb_has(extra):
    with pytest.raises(EncodingError, match="a SURB is 380 bytes and 1 to 5 keys"):
        SURB.from_bytes(bytes(380 + extra))
    with pytest.raises(EncodingError, match="a SURB record is 365 bytes and 1 to 5 keys"):
        SURBRecord.from_bytes(bytes(365 + extra))


def test_a_record_of_an_unknown_kind():
    record = make(7, 2)[3].to_bytes()
    with pytest.raises(EncodingError, match="starts with 0 or 1, not 2"):
        SURBRecord.from_bytes(b"\2" + record[1:])


def test_no_keys_in_what_gets_logged():
    _, _, surb, record = make(8, 2)
    for secret in record.payload_secrets:
        assert repr(secret)[2:-1] not in repr(surb) + repr(record)
