"""The protocol between a node and its workers, over a pipe: frames of records, and a few control messages. No I/O.

A frame is a type (1 byte), the length of its body (4 bytes, big-endian) and the body. Tags and packets are records of
fixed layout; everything else is CBOR in CONTROL frames.
"""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import Any, Final

import msgspec

from nymtw.drop_reasons import DropReason
from nymtw.encoding import from_cbor, to_cbor
from nymtw.errors import EncodingError
from nymtw.topology.document import NodeRecord

FRAME_LIMIT: Final = 16 << 20  # bytes of one frame's body
_HEADER: Final = Struct(">BI")


class Kind(IntEnum):
    """The types of frames. The comment behind each names the sender."""

    CONTROL = 0  # both
    CHECK = 1  # worker: tags of packets that it keeps meanwhile
    VERDICTS = 2  # node: a byte for each tag of the oldest CHECK without verdicts
    PASS = 3  # worker: packets for a link of another worker, with their tags
    END = 4  # worker: packets that end at this node, with their tags
    HOLD = 5  # node: hold packets until they are due, then send them; worker: send packets for a link it has lost


# CHECK: number of the key (`KeyRing`), replay tag, peer.
CHECK: Final = Struct(">Q16s32s")
# In the others the last field is the length of the content that follows.
# Number of the key, replay tag, peer, time at which it is due (nanoseconds of the monotonic clock), next node.
PASS: Final = Struct(">Q16s32sQ32sI")
# Number of the key, replay tag, peer, destination, identifier, version.
END: Final = Struct(">Q16s32s32s16sII")
# Key epoch, time at which it is due, next node.
HOLD: Final = Struct(">IQ32sI")

_VERDICTS: Final[tuple[DropReason | None, ...]] = (None, *DropReason)
_NUMBERS: Final = {verdict: number for number, verdict in enumerate(_VERDICTS)}


def frame(kind: Kind, body: bytes | bytearray) -> bytes:
    """One frame."""
    return _HEADER.pack(kind, len(body)) + body


def hold_record(epoch: int, due: int, next_hop: bytes, packet: bytes) -> bytes:
    """One record of a HOLD frame."""
    return HOLD.pack(epoch, due, next_hop, len(packet)) + packet


def records(layout: Struct, body: bytes) -> Iterator[tuple[Any, ...]]:
    """The fields of each record, with its content instead of the length. Raises `EncodingError`."""
    start, end = 0, len(body)
    while start < end:
        behind = start + layout.size
        if behind > end:
            raise EncodingError("half a record")
        *fields, length = layout.unpack_from(body, start)
        start = behind + length
        if start > end:
            raise EncodingError("half a record")
        yield (*fields, body[behind:start])


def check_records(body: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number of the key, tag and peer of each record of a CHECK frame. Raises `EncodingError`."""
    if len(body) % CHECK.size:
        raise EncodingError("half a record")
    return CHECK.iter_unpack(body)


def verdict_byte(reason: DropReason | None) -> int:
    """The byte of VERDICTS for the reason of a drop, or for a fresh packet (None)."""
    return _NUMBERS[reason]


def verdict(number: int) -> DropReason | None:
    """The reason behind a byte of VERDICTS, None for a fresh packet. Raises `EncodingError`."""
    if number >= len(_VERDICTS):
        raise EncodingError(f"there is no verdict {number}")
    return _VERDICTS[number]


class ChannelParser:
    """Cuts the stream into frames. After an `EncodingError` the stream is lost."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = _HEADER.size  # bytes needed for the next step of parsing

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """Type and body of each frame that `data` completes. Raises `EncodingError`."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            data = bytes(self._rest)
        frames, start, end = [], 0, len(data)
        self._wanted = _HEADER.size
        while end - start >= _HEADER.size:
            kind, length = _HEADER.unpack_from(data, start)
            if kind >= len(Kind) or length > FRAME_LIMIT:
                raise EncodingError(f"no frame has type {kind} and {length} bytes")
            body = start + _HEADER.size
            if body + length > end:
                self._wanted += length
                break
            start = body + length
            frames.append((Kind(kind), data[body:start]))
        self._rest = bytearray(data[start:])
        return frames


# Control messages.


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="settings"):
    """The first message to a worker: the node's identity seed (32 bytes), and its share of the node's limits."""

    identity: bytes
    own: NodeRecord
    capacity: int
    max_delay: float
    unauthenticated: int
    unauthenticated_per_address: int
    queue_bytes: int
    queue_bytes_per_peer: int


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="keys"):
    """To a worker: the Sphinx private keys (32 bytes) by number. The worker forgets all other keys."""

    private: dict[int, bytes]


class Neighbours(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="neighbours"):
    """To a worker: `own`, the next nodes that it has links to, with host and port; `elsewhere`, those of other workers;
    `admitted`, the peers that may connect; `lines`, frames of each size class a second on its padded lines; `epochs`,
    for each key epoch the next hops of its packets, and the peers that it takes none of them from.
    """

    own: dict[bytes, tuple[str, int]]
    elsewhere: list[bytes]
    admitted: list[bytes]
    lines: dict[bytes, dict[int, float]] = {}
    epochs: dict[int, tuple[list[bytes], list[bytes]]] = {}


class MaxDelay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="max-delay"):
    """To a worker: drop packets that ask for a delay of more than `seconds`."""

    seconds: float


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="command"):
    """To a worker: a decision of the cover policy."""

    action: str


class Linked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="linked"):
    """From a worker: `peer` has connected. `number` distinguishes its connections."""

    peer: bytes
    number: int


class CloseLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="close-link"):
    """To a worker: end this connection, because `peer` has a newer one with another worker."""

    peer: bytes
    number: int


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="event"):
    """From a worker: a line for the log."""

    level: str
    text: str


class Drain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="drain"):
    """To a worker: take no more packets from peers."""


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="end"):
    """To a worker: send the packets that the links take at once, drop the rest, and end."""


Control = Settings | Keys | Neighbours | MaxDelay | Command | Linked | CloseLink | Event | Drain | End


def control_frame(message: Control) -> bytes:
    """A CONTROL frame."""
    return frame(Kind.CONTROL, to_cbor(message))


def read_control(body: bytes) -> Control:
    """The message of a CONTROL frame. Raises `EncodingError`."""
    message: Control = from_cbor(body, Control, FRAME_LIMIT)  # type: ignore[arg-type]  # a union is not a type
    return message
