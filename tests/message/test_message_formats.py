"""Payloads, sealing, fragments and envelopes: what is encoded is read back, and hostile bytes are told."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nacl.public import PrivateKey, SealedBox

from nymtw.errors import EncodingError, MessageTooLong
from nymtw.message.envelope import (
    BLOCK_LENGTH,
    MAX_BLOCKS,
    Envelope,
    EnvelopeKind,
    ReplyBlock,
    ReplyReceipt,
    encode_request,
    parse_request,
)
from nymtw.message.fragments import (
    FRAGMENT_CAPACITY,
    FRAGMENT_LENGTH,
    MAX_CUT_LENGTH,
    MAX_MESSAGE_LENGTH,
    REPLY_FRAGMENT_LENGTH,
    Fragment,
    FragmentKind,
    fragment,
    full_bitmap,
    loop_fragment,
)
from nymtw.message.payload import AckSection, join_payload, split_payload
from nymtw.message.sealing import SEAL_OVERHEAD, seal, unseal

pytestmark = pytest.mark.pythons

ID = bytes(range(16))


def sized(length):
    return st.binary(min_size=length, max_size=length)


# -- payload


@given(st.integers(0, 2**32 - 1), sized(32), st.integers(0, 2**64 - 1), sized(348), sized(38), sized(38), sized(1580))
def test_a_payload_is_read_back(epoch, first_hop, delay, header, stored, refused, sealed):
    ack = AckSection(epoch, first_hop, delay, header, stored, refused)
    assert (ack.packet(True), ack.packet(False)) == (header + stored, header + refused)
    assert split_payload(join_payload(ack, sealed)) == (ack, sealed)


@pytest.mark.parametrize("length", [0, 467, 2047, 2049])
def test_a_payload_has_one_length(length):
    with pytest.raises(EncodingError):
        split_payload(bytes(length))
    with pytest.raises(EncodingError):
        AckSection.parse(bytes(length))


# -- sealing


@given(st.binary(max_size=200))
def test_sealing_speaks_with_sealed_box(plaintext):
    key = PrivateKey(bytes(range(32)))
    sealed = seal(plaintext, bytes(key.public_key), random.Random(1))
    assert len(sealed) == len(plaintext) + SEAL_OVERHEAD
    assert SealedBox(key).decrypt(sealed) == plaintext
    other = SealedBox(key.public_key).encrypt(plaintext)
    assert unseal(other, bytes(key)) == unseal(other, bytes(key), bytes(key.public_key)) == plaintext


def test_a_seed_replays_the_sealing_and_another_does_not():
    key = bytes(PrivateKey(bytes(range(32))).public_key)
    assert seal(b"x", key, random.Random(1)) == seal(b"x", key, random.Random(1))
    assert seal(b"x", key, random.Random(1)) != seal(b"x", key, random.Random(2))


def test_every_changed_byte_of_sealed_bytes_is_noticed():
    key = PrivateKey(bytes(range(32)))
    sealed = seal(b"a message", bytes(key.public_key), random.Random(1))
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(EncodingError):
            unseal(bytes(changed), bytes(key))


@given(st.binary(max_size=2000))
@example(bytes(48))
@example(b"\xff" * 1580)
def test_hostile_sealed_bytes_are_an_encoding_error(data):
    with pytest.raises(EncodingError):
        unseal(data, bytes(range(32)))


@pytest.mark.parametrize("key", [bytes(32), (1).to_bytes(32, "little"), b"short", b""])
def test_a_key_of_low_order_or_wrong_length_is_refused(key):
    with pytest.raises(EncodingError):
        seal(b"x", key, random.Random(1))


# -- fragments


@given(st.binary(max_size=5000), sized(16), st.sampled_from([FragmentKind.MESSAGE, FragmentKind.REPLY]))
def test_fragments_are_read_back_and_make_up_the_message(message, message_id, kind):
    pieces = [Fragment.parse(one.encode()) for one in fragment(message, message_id, kind)]
    assert pieces == list(fragment(message, message_id, kind))
    assert b"".join(piece.content for piece in pieces) == message
    assert {(piece.message_id, piece.total, piece.count, piece.kind) for piece in pieces} == {
        (message_id, len(message), len(pieces), kind)
    }


@pytest.mark.parametrize(
    ("length", "count"),
    [(0, 1), (1, 1), (FRAGMENT_CAPACITY, 1), (FRAGMENT_CAPACITY + 1, 2), (255 * FRAGMENT_CAPACITY + 1, 256)],
)
def test_how_many_fragments_a_message_takes(length, count):
    assert len(fragment(bytes(length), ID)) == count


def test_a_set_has_255_fragments():
    encoded = fragment(bytes(300 * FRAGMENT_CAPACITY), ID)[254].encode(), fragment(bytes(500_000), ID)[255].encode()
    assert [one[21:24] for one in encoded] == [b"\0\0\xfe", b"\0\1\0"]


def test_the_largest_message_is_cut_and_a_longer_one_is_refused():
    pieces = fragment(bytes(MAX_CUT_LENGTH), ID)
    assert Fragment.parse(pieces[-1].encode()).number == len(pieces) - 1
    with pytest.raises(MessageTooLong):
        fragment(bytes(MAX_CUT_LENGTH + 1), ID)


def test_fragments_are_a_sequence_that_copies_nothing_before_it_is_asked():
    class Watched(bytes):
        asked = 0

        def __getitem__(self, key):
            self.asked += 1
            return super().__getitem__(key)

    message = Watched(10 * FRAGMENT_CAPACITY)
    pieces = fragment(message, ID)
    assert len(pieces) == 10
    assert message.asked == 0
    assert pieces[-1] == pieces[9]
    assert pieces[2:4] == [pieces[2], pieces[3]]
    for number in (10, -11):
        with pytest.raises(IndexError):
            pieces[number]


def test_a_loop_is_as_long_as_a_fragment():
    loop = loop_fragment(ID)
    assert len(loop.encode()) == FRAGMENT_LENGTH
    assert Fragment.parse(loop.encode()) == loop


@given(st.integers(0, 255), sized(16), st.integers(0, 2**32 - 1), st.integers(0, 65535), st.integers(0, 255))
@example(1, ID, 2**32 - 1, 65535, 255)
@example(1, ID, 10**6, 0, 255)
@example(2, ID, 1, 0, 0)
def test_a_fragment_is_read_only_if_encode_makes_it(kind, message_id, total, set_number, index):
    head = bytes([kind]) + message_id + total.to_bytes(4, "big") + set_number.to_bytes(2, "big") + bytes([index])
    for length in (FRAGMENT_LENGTH, REPLY_FRAGMENT_LENGTH):
        data = head + bytes(length - len(head))
        try:
            parsed = Fragment.parse(data)
        except EncodingError:
            continue
        assert parsed.encode() == data
        assert parsed.number < parsed.count


@given(st.binary(max_size=2100))
def test_hostile_fragments_are_an_encoding_error(data):
    with pytest.raises(EncodingError):
        Fragment.parse(data)


def test_nothing_hides_behind_the_end_of_a_fragment():
    data = bytearray(fragment(b"short", ID)[0].encode())
    data[-1] = 1
    with pytest.raises(EncodingError):
        Fragment.parse(bytes(data))


def test_a_bitmap_of_all_fragments():
    assert [full_bitmap(count).hex() for count in (1, 8, 9)] == ["01", "ff", "ff01"]


# -- envelopes

blocks = st.builds(ReplyBlock, st.integers(0, 2**32 - 1), sized(BLOCK_LENGTH - 4))
tags = sized(16).filter(any)


@given(st.binary(max_size=300), tags, st.lists(blocks, max_size=3))
def test_an_envelope_is_read_back(data, tag, some):
    for envelope in (Envelope(data=data), Envelope(data=data, tag=tag, blocks=tuple(some))):
        assert Envelope.parse(envelope.encode()) == envelope


@given(st.binary(max_size=1000))
def test_hostile_envelopes_are_an_encoding_error_or_read_back(data):
    try:
        envelope = Envelope.parse(b"\x01" + data)
    except EncodingError:
        return
    assert envelope.encode() == b"\x01" + data


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope(tag=bytes(16)),
        Envelope(tag=b"short"),
        Envelope(blocks=(ReplyBlock(1, bytes(396)),)),
        Envelope(EnvelopeKind.BLOCKS, tag=ID),
        Envelope(EnvelopeKind.BLOCKS, data=b"x", tag=ID, blocks=(ReplyBlock(1, bytes(396)),)),
        Envelope(tag=ID, blocks=(ReplyBlock(1, bytes(396)),) * (MAX_BLOCKS + 1)),
    ],
)
def test_an_envelope_that_nobody_may_send_is_neither_made_nor_read(envelope):
    with pytest.raises(EncodingError):
        envelope.encode()


def test_64_mib_fit_and_one_byte_more_does_not():
    data = bytes(MAX_MESSAGE_LENGTH)
    fragment(Envelope(data=data, tag=ID, blocks=(ReplyBlock(1, bytes(396)),) * MAX_BLOCKS).encode(), ID)
    with pytest.raises(MessageTooLong):
        Envelope(data=data + b"x").encode()


@given(sized(16), st.lists(st.booleans(), min_size=1, max_size=100))
def test_a_receipt_is_read_back(message_id, flags):
    bits = sum(1 << number for number, there in enumerate(flags) if there)
    receipt = ReplyReceipt(message_id, len(flags), bits.to_bytes((len(flags) + 7) // 8, "little"))
    assert ReplyReceipt.parse(receipt.encode()) == receipt
    assert receipt.received() == [number for number, there in enumerate(flags) if there]


@pytest.mark.parametrize("tail", ["00000000", "00000000ff", "00000001", "0000000102", "000000080101", "ffffffff"])
def test_a_receipt_with_more_or_fewer_bits_than_fragments_is_refused(tail):
    with pytest.raises(EncodingError):
        ReplyReceipt.parse(ID + bytes.fromhex(tail))


@given(st.binary(max_size=60))
def test_hostile_receipts_blocks_and_requests_are_an_encoding_error(data):
    for parse in (ReplyReceipt.parse, ReplyBlock.parse):
        try:
            assert parse(data).encode() == data
        except EncodingError:
            pass
    try:
        assert encode_request(parse_request(data)) == data
    except EncodingError:
        assert len(data) != 2


def test_a_request_says_at_most_what_fits():
    assert parse_request(encode_request(10**6)) == 65535
