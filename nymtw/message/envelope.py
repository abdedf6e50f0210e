"""The envelope of a message, before it is cut into fragments: a header, a tag and reply blocks for replies, the data.

All messages between clients have this form, also those over reply blocks. `EnvelopeKind` is the purpose.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from nymtw.errors import EncodingError, MessageTooLong
from nymtw.message.fragments import MAX_MESSAGE_LENGTH, full_bitmap
from nymtw.sphinx import SURB, Geometry

ENVELOPE_VERSION: Final = 1
TAG_LENGTH: Final = 16
MAX_BLOCKS: Final = 1000  # reply blocks in one envelope
MAX_WANTED: Final = 0xFFFF

_HEAD: Final = struct.Struct(">BB16sH")
_EPOCH: Final = struct.Struct(">I")
_RECEIPT: Final = struct.Struct(">16sI")
_WANTED: Final = struct.Struct(">H")
_NO_TAG: Final = bytes(TAG_LENGTH)
SURB_LENGTH: Final = Geometry.surb_length(1, single_seed=True)
BLOCK_LENGTH: Final = _EPOCH.size + SURB_LENGTH
ENVELOPE_OVERHEAD: Final = _HEAD.size


class EnvelopeKind(IntEnum):
    """DATA: for the application. BLOCKS: only fresh reply blocks. RECEIPT: the received fragments of a reply
    (`ReplyReceipt`). REQUEST: the replier asks for more blocks.
    """

    DATA = 1
    BLOCKS = 2
    RECEIPT = 3
    REQUEST = 4


@dataclass(frozen=True, slots=True)
class ReplyBlock:
    """A single-seed SURB (396 bytes) in its wire form, with the key epoch for which it is valid."""

    epoch: int
    surb: bytes

    def encode(self) -> bytes:
        """Epoch (4, big-endian), SURB: 400 bytes."""
        return _EPOCH.pack(self.epoch) + self.surb

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the result of `encode`. Raises `EncodingError` for another length."""
        if len(data) != BLOCK_LENGTH:
            raise EncodingError(f"a reply block is {BLOCK_LENGTH} bytes, not {len(data)}")
        return cls(_EPOCH.unpack_from(data)[0], data[_EPOCH.size :])

    def open(self) -> SURB:
        """The SURB, for one use."""
        return SURB.from_bytes(self.surb)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message between clients. `tag` (16 bytes, not zero): for answers to the sender; required with reply blocks."""

    kind: EnvelopeKind = EnvelopeKind.DATA
    data: bytes = b""
    tag: bytes | None = None
    blocks: tuple[ReplyBlock, ...] = ()

    def encode(self) -> bytes:
        """Version (1), kind (1), tag (16, zero for none), number of blocks (2), blocks (400 each), data.

        Raises `MessageTooLong` for more than 64 MiB of data, `EncodingError` for an envelope that `parse` would refuse.
        """
        if len(self.data) > MAX_MESSAGE_LENGTH:
            raise MessageTooLong
        self._check()
        head = _HEAD.pack(ENVELOPE_VERSION, self.kind, self.tag or _NO_TAG, len(self.blocks))
        return b"".join((head, *(block.encode() for block in self.blocks), self.data))

    @classmethod
    def parse(cls, message: bytes) -> Self:
        """Parse the result of `encode`. Raises `EncodingError` for anything else."""
        if len(message) < _HEAD.size:
            raise EncodingError(f"an envelope of {len(message)} bytes")
        version, number, tag, count = _HEAD.unpack_from(message)
        if version != ENVELOPE_VERSION:
            raise EncodingError(f"an envelope of version {version}; this version reads {ENVELOPE_VERSION}")
        try:
            kind = EnvelopeKind(number)
        except ValueError:
            raise EncodingError(f"an envelope of unknown kind {number}") from None
        data_at = _HEAD.size + count * BLOCK_LENGTH
        if data_at > len(message):
            raise EncodingError(f"an envelope that is shorter than its {count} reply blocks")
        if len(message) - data_at > MAX_MESSAGE_LENGTH:
            raise EncodingError(f"an envelope with {len(message) - data_at} bytes of data")
        blocks = tuple(
            ReplyBlock.parse(message[at : at + BLOCK_LENGTH]) for at in range(_HEAD.size, data_at, BLOCK_LENGTH)
        )
        envelope = cls(kind, message[data_at:], None if tag == _NO_TAG else tag, blocks)
        envelope._check()
        return envelope

    def _check(self) -> None:
        if self.tag is not None and (len(self.tag) != TAG_LENGTH or self.tag == _NO_TAG):
            raise EncodingError(f"a sender tag is {TAG_LENGTH} bytes that are not all zero")
        if self.blocks and self.tag is None:
            raise EncodingError("reply blocks without a sender tag")
        if len(self.blocks) > MAX_BLOCKS:
            raise EncodingError(f"{len(self.blocks)} reply blocks; an envelope has at most {MAX_BLOCKS}")
        if self.kind is EnvelopeKind.BLOCKS and (self.data or not self.blocks):
            raise EncodingError("an envelope of kind BLOCKS must have reply blocks, and no data")


@dataclass(frozen=True, slots=True)
class ReplyReceipt:
    """The data of a RECEIPT: the received ones of the `count` fragments of the reply `message_id` (16 bytes), as bit i
    of byte i // 8, lowest first.
    """

    message_id: bytes
    count: int
    bitmap: bytes

    def encode(self) -> bytes:
        """Message id (16), count (4, big-endian), bitmap (count / 8, rounded up)."""
        return _RECEIPT.pack(self.message_id, self.count) + self.bitmap

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the result of `encode`. Raises `EncodingError` for anything else."""
        if len(data) < _RECEIPT.size:
            raise EncodingError(f"a receipt of {len(data)} bytes")
        message_id, count = _RECEIPT.unpack_from(data)
        bitmap = data[_RECEIPT.size :]
        if not count or len(bitmap) != (count + 7) // 8 or (count % 8 and bitmap[-1] >> count % 8):
            raise EncodingError(f"a receipt for {count} fragments with {len(bitmap)} bytes of bitmap")
        return cls(message_id, count, bitmap)

    @classmethod
    def whole(cls, message_id: bytes, count: int) -> Self:
        """A receipt for all fragments."""
        return cls(message_id, count, full_bitmap(count))

    def received(self) -> list[int]:
        """The numbers of the received fragments."""
        return [number for number in range(self.count) if self.bitmap[number >> 3] >> (number & 7) & 1]


def encode_request(wanted: int) -> bytes:
    """The data of a REQUEST for `wanted` more reply blocks: a number (2, big-endian), at most 65,535."""
    return _WANTED.pack(min(wanted, MAX_WANTED))


def parse_request(data: bytes) -> int:
    """The number of reply blocks that a REQUEST asks for. Raises `EncodingError`."""
    if len(data) != _WANTED.size:
        raise EncodingError(f"a request for reply blocks is {_WANTED.size} bytes, not {len(data)}")
    return int(_WANTED.unpack(data)[0])
