"""The frames of a link: bytes in, frames out, and back. No I/O and no clock.

A frame is a header of 6 bytes and a body: type (1), size class (1), then 4 bytes big-endian: the key epoch for PACKET
and SUBMIT, whose body's length follows from the size class, or the body's length for CONTROL, PULL and MAIL. DUMMY
looks like PACKET on the wire, where TLS hides the type: it fills a slot of a padded line, and is dropped unread.
"""

import struct
from collections.abc import Collection
from enum import IntEnum
from typing import Final

import msgspec

from nymtw.errors import EncodingError
from nymtw.sphinx.geometry import GEOMETRIES, PACKET_LENGTHS

HEADER: Final = struct.Struct(">BBI")
HEADER_LENGTH: Final = HEADER.size
FIRST_HOP_LENGTH: Final = 32


class FrameError(EncodingError):
    """The peer sent bytes that are not a frame it may send here."""


class FrameType(IntEnum):
    """What a frame carries; the number is the first byte on the wire."""

    KEEPALIVE = 0
    PACKET = 1
    SUBMIT = 2
    CONTROL = 3
    PULL = 4
    MAIL = 5
    DUMMY = 6


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame. `epoch` is zero where the type has none; `size_class` is zero where the type carries no packet."""

    type: FrameType
    size_class: int
    epoch: int
    body: bytes


_PACKET_BODIES: Final = {int(size): geometry.packet_length for size, geometry in GEOMETRIES.items()}
_SUBMIT_BODIES: Final = {size: FIRST_HOP_LENGTH + length for size, length in _PACKET_BODIES.items()}
_SIZE_OF_PACKET: Final = {length: int(geometry.size_class) for length, geometry in PACKET_LENGTHS.items()}

# One object for each size: nobody reads what is in a dummy.
_DUMMIES: Final = {size: Frame(FrameType.DUMMY, size, 0, b"") for size in _PACKET_BODIES}

KEEPALIVE_FRAME: Final = HEADER.pack(FrameType.KEEPALIVE, 0, 0)


def encode_packet(epoch: int, packet: bytes) -> bytes:
    """A PACKET frame. Raises `FrameError` where no size class has packets of this length."""
    size_class = _SIZE_OF_PACKET.get(len(packet))
    if size_class is None:
        raise FrameError(f"no size class has packets of {len(packet)} bytes")
    return HEADER.pack(1, size_class, epoch) + packet


def encode_dummy(size_class: int, body: bytes) -> bytes:
    """A DUMMY frame of this size class; `body` is as long as a packet of it. Raises `FrameError` where it is not."""
    if _PACKET_BODIES.get(size_class) != len(body):
        raise FrameError(f"a dummy of size class {size_class} has not {len(body)} bytes")
    return HEADER.pack(FrameType.DUMMY, size_class, 0) + body


def encode_submit(first_hop: bytes, epoch: int, packet: bytes) -> bytes:
    """A SUBMIT frame: a client asks its edge to pass the packet to the node `first_hop` (32 bytes)."""
    size_class = _SIZE_OF_PACKET.get(len(packet))
    if size_class is None or len(first_hop) != FIRST_HOP_LENGTH:
        raise FrameError(f"no size class has packets of {len(packet)} bytes, or the first hop is not 32 bytes")
    return b"".join((HEADER.pack(FrameType.SUBMIT, size_class, epoch), first_hop, packet))


def split_submit(frame: Frame) -> tuple[bytes, bytes]:
    """First hop (32 bytes) and packet of a SUBMIT frame."""
    return frame.body[:FIRST_HOP_LENGTH], frame.body[FIRST_HOP_LENGTH:]


def encode_body(kind: FrameType, body: bytes) -> bytes:
    """A CONTROL, PULL or MAIL frame."""
    return HEADER.pack(kind, 0, len(body)) + body


class FrameParser:
    """Cuts a stream of bytes into frames.

    `allowed` are the types that the peer may send, `limit` the longest body of a CONTROL, PULL or MAIL frame. Never
    holds more than one unfinished frame. After a `FrameError` the stream is lost: close the connection.
    """

    __slots__ = ("_rest", "allowed", "limit")

    def __init__(self, allowed: Collection[FrameType], limit: int = 0) -> None:
        self.allowed = frozenset(allowed)
        self.limit = limit
        self._rest = b""

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, oldest first, as far as the first CONTROL frame. Raises `FrameError`.

        What such a frame says may change what may follow it: call again, with b"", when it has been heard.
        """
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        start, end = 0, len(data)
        unpack, packet_bodies, packets = HEADER.unpack_from, _PACKET_BODIES, FrameType.PACKET in self.allowed
        dummies = FrameType.DUMMY in self.allowed
        while end - start >= HEADER_LENGTH:
            kind, size_class, word = unpack(data, start)
            body = start + HEADER_LENGTH
            if kind == 1 and packets and size_class in packet_bodies:  # the hot path: a packet from a node
                stop = body + packet_bodies[size_class]
                if stop > end:
                    break
                frames.append(Frame(FrameType.PACKET, size_class, word, data[body:stop]))
            elif kind == 6 and dummies and size_class in packet_bodies:  # and the one thing there is more of
                stop = body + packet_bodies[size_class]
                if stop > end:
                    break
                frames.append(_DUMMIES[size_class])
            else:
                frame_type, epoch, length = self._read_header(kind, size_class, word)
                stop = body + length
                if stop > end:
                    break
                frames.append(Frame(frame_type, size_class, epoch, data[body:stop]))
                if kind == FrameType.CONTROL:
                    start = stop
                    break
            start = stop
        self._rest = data[start:] if start else data
        return frames

    def _read_header(self, kind: int, size_class: int, word: int) -> tuple[FrameType, int, int]:
        """Type, key epoch and length of the body; refuses what is not allowed before a byte of the body is held."""
        if kind not in self.allowed:
            raise FrameError(f"frames of type {kind} are not accepted here")
        frame_type = FrameType(kind)
        if frame_type in (FrameType.PACKET, FrameType.SUBMIT, FrameType.DUMMY):
            bodies = _SUBMIT_BODIES if frame_type is FrameType.SUBMIT else _PACKET_BODIES
            if size_class not in bodies:
                raise FrameError(f"there is no size class {size_class}")
            return frame_type, word, bodies[size_class]
        if size_class != 0:
            raise FrameError("a size class where no packet follows")
        if word > (0 if frame_type is FrameType.KEEPALIVE else self.limit):
            raise FrameError(f"a body of {word} bytes is longer than is accepted here")
        return frame_type, 0, word
