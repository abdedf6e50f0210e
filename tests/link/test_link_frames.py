"""Frames: the same bytes each time, any cut of the stream gives the same frames, and no bytes do harm."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nymtw.link.frames import (
    KEEPALIVE_FRAME,
    Frame,
    FrameError,
    FrameParser,
    FrameType,
    encode_body,
    encode_packet,
    encode_submit,
    split_submit,
)
from nymtw.sphinx.geometry import GEOMETRIES, SizeClass

pytestmark = pytest.mark.pythons

LIMIT = 5000
LENGTHS = {size: geometry.packet_length for size, geometry in GEOMETRIES.items()}
LONGEST = 6 + 32 + max(LENGTHS.values())


def parser(allowed=tuple(FrameType)):
    return FrameParser(allowed, LIMIT)


def test_the_bytes_on_the_wire():
    assert bytes(6) == KEEPALIVE_FRAME
    packet = bytes(386)
    assert encode_packet(0x01020304, packet) == bytes.fromhex("0101 01020304") + packet
    assert encode_submit(b"\xaa" * 32, 7, packet) == bytes.fromhex("0201 00000007") + b"\xaa" * 32 + packet
    assert encode_body(FrameType.CONTROL, b"abc") == bytes.fromhex("0300 00000003") + b"abc"


@pytest.mark.parametrize("size", list(SizeClass))
def test_packets_of_every_size_come_back(size):
    packet = bytes([size + 1]) * LENGTHS[size]
    assert parser().feed(encode_packet(9, packet)) == [Frame(FrameType.PACKET, size, 9, packet)]
    (frame,) = parser().feed(encode_submit(b"h" * 32, 9, packet))
    assert (frame.type, frame.size_class, frame.epoch) == (FrameType.SUBMIT, size, 9)
    assert split_submit(frame) == (b"h" * 32, packet)


def test_a_packet_of_no_size_class_is_not_encoded():
    with pytest.raises(FrameError, match="2412 bytes"):
        encode_packet(1, bytes(2412))
    with pytest.raises(FrameError):
        encode_submit(bytes(32), 1, bytes(2412))
    with pytest.raises(FrameError):
        encode_submit(bytes(31), 1, bytes(2413))


frames = st.one_of(
    st.just(KEEPALIVE_FRAME),
    st.builds(
        lambda size, epoch: encode_packet(epoch, bytes(LENGTHS[size])),
        st.sampled_from(SizeClass),
        st.integers(0, 2**32 - 1),
    ),
    st.builds(
        lambda kind, body: encode_body(kind, body),
        st.sampled_from([FrameType.CONTROL, FrameType.PULL, FrameType.MAIL]),
        st.binary(max_size=200),
    ),
)


def fed(to, data):
    """All frames, those behind a CONTROL frame too."""
    got = found = to.feed(data)
    while found and found[-1].type is FrameType.CONTROL:
        found = to.feed(b"")
        got = got + found
    return got


def test_what_follows_a_control_frame_is_read_when_that_has_been_heard():
    reading = FrameParser({FrameType.CONTROL}, 100)
    data = encode_body(FrameType.CONTROL, b"now mail may come") + encode_body(FrameType.MAIL, b"mail")
    (first,) = reading.feed(data)
    assert first.type is FrameType.CONTROL
    reading.allowed = frozenset({FrameType.MAIL})
    (second,) = reading.feed(b"")
    assert (second.type, second.body) == (FrameType.MAIL, b"mail")
    assert reading.pending == 0


@settings(deadline=None)
@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 100_000), max_size=12))
def test_any_cut_of_a_stream_gives_the_same_frames(stream, cuts):
    data = b"".join(stream)
    whole = fed(parser(), data)
    assert len(whole) == len(stream)
    cutting, got, start = parser(), [], 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        got += fed(cutting, data[start:cut])
        start = cut
    assert got == whole
    assert cutting.pending == 0


def test_one_byte_at_a_time():
    stream = encode_packet(3, bytes(386)) + KEEPALIVE_FRAME
    byte_by_byte, got = parser(), []
    for index in range(len(stream)):
        got += byte_by_byte.feed(stream[index : index + 1])
    assert [frame.type for frame in got] == [FrameType.PACKET, FrameType.KEEPALIVE]


@settings(deadline=None)
@given(st.sets(st.sampled_from(FrameType)), st.lists(st.binary(max_size=300), max_size=20))
def test_no_bytes_raise_anything_else_or_are_held_without_bound(allowed, chunks):
    hostile = FrameParser(allowed, 100)
    try:
        for chunk in chunks:
            for frame in hostile.feed(chunk):
                assert frame.type in allowed
            assert hostile.pending <= LONGEST
    except FrameError:
        pass


@settings(deadline=None)
@given(st.lists(frames, min_size=1, max_size=3), st.data())
def test_a_flipped_byte_raises_nothing_else(stream, data):
    damaged = bytearray(b"".join(stream))
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        assert all(len(frame.body) <= LONGEST for frame in parser().feed(bytes(damaged)))
    except FrameError:
        pass


@pytest.mark.parametrize(
    "header",
    [
        "0700 00000000",  # no such type
        "ff00 00000000",
        "0105 00000000",  # no such size class
        "0205 00000000",
        "0001 00000000",  # a size class where no packet follows
        "0301 00000001",
        "0000 00000001",  # a keep-alive with a body
        "0300 00001389",  # one byte longer than the limit
        "0500 ffffffff",
    ],
)
def test_a_bad_header_is_refused_before_its_body_is_there(header):
    with pytest.raises(FrameError):
        parser().feed(bytes.fromhex(header))


@pytest.mark.parametrize("kind", list(FrameType))
def test_a_type_that_is_not_allowed_is_refused(kind):
    others = set(FrameType) - {kind}
    with pytest.raises(FrameError, match="not accepted"):
        FrameParser(others, LIMIT).feed(bytes([kind]) + bytes(5))


def test_a_body_of_the_limit_is_taken():
    (frame,) = parser().feed(encode_body(FrameType.MAIL, bytes(LIMIT)))
    assert len(frame.body) == LIMIT
