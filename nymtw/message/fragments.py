"""Fragments: the parts of a message that single packets carry, all of one length.

A message is cut into pieces. Up to 255 pieces form a set; sets are numbered under one random message id. Only sender
and recipient see that id, so nobody else can forge a fragment of the message.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol, Self, overload

from nymtw.errors import EncodingError, MessageTooLong
from nymtw.message.payload import PAYLOAD_LENGTH, SEALED_LENGTH
from nymtw.message.sealing import SEAL_OVERHEAD

MESSAGE_ID_LENGTH: Final = 16
SET_SIZE: Final = 255
MAX_MESSAGE_LENGTH: Final = 64 * 1024 * 1024
MAX_CUT_LENGTH: Final = MAX_MESSAGE_LENGTH + 1024 * 1024  # a message in its envelope, with the reply blocks

_HEAD: Final = struct.Struct(">B16sIHB")
FRAGMENT_LENGTH: Final = SEALED_LENGTH - SEAL_OVERHEAD
FRAGMENT_CAPACITY: Final = FRAGMENT_LENGTH - _HEAD.size
REPLY_FRAGMENT_LENGTH: Final = PAYLOAD_LENGTH
REPLY_FRAGMENT_CAPACITY: Final = REPLY_FRAGMENT_LENGTH - _HEAD.size


class FragmentKind(IntEnum):
    """MESSAGE: part of a message to an address. LOOP: a loop or drop cover, without content. REPLY: part of a message
    over reply blocks; it fills a whole payload.
    """

    MESSAGE = 1
    LOOP = 2
    REPLY = 3


_CAPACITIES: Final = {
    FragmentKind.MESSAGE: FRAGMENT_CAPACITY,
    FragmentKind.LOOP: FRAGMENT_CAPACITY,
    FragmentKind.REPLY: REPLY_FRAGMENT_CAPACITY,
}


@dataclass(frozen=True, slots=True)
class Fragment:
    """One piece of a message: piece `number` (from 0) of message `message_id` (16 bytes), which is `total` bytes long.

    A LOOP has total 0 and number 0. `content`: the bytes of this piece; only the last piece may be shorter.
    """

    kind: FragmentKind
    message_id: bytes
    total: int
    number: int
    content: bytes

    @property
    def count(self) -> int:
        """The number of pieces of the message."""
        return fragment_count(self.total, self.kind)

    def encode(self) -> bytes:
        """Kind (1), message id (16), total (4), set (2), index in the set (1), content, zeros; big-endian.

        1,532 bytes, or 2,048 for a REPLY.
        """
        head = _HEAD.pack(self.kind, self.message_id, self.total, *divmod(self.number, SET_SIZE))
        return (head + self.content).ljust(_CAPACITIES[self.kind] + _HEAD.size, b"\0")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the result of `encode`. Raises `EncodingError` for anything that `encode` cannot return."""
        if len(data) != FRAGMENT_LENGTH and len(data) != REPLY_FRAGMENT_LENGTH:
            raise EncodingError(f"a fragment is {FRAGMENT_LENGTH} or {REPLY_FRAGMENT_LENGTH} bytes, not {len(data)}")
        kind, message_id, total, set_number, index = _HEAD.unpack_from(data)
        try:
            kind = FragmentKind(kind)
        except ValueError:
            raise EncodingError(f"a fragment of unknown kind {kind}") from None
        capacity = _CAPACITIES[kind]
        if len(data) != capacity + _HEAD.size:
            raise EncodingError(f"a fragment of kind {kind.name} is {capacity + _HEAD.size} bytes, not {len(data)}")
        if total > MAX_CUT_LENGTH or (kind is FragmentKind.LOOP and total):
            raise EncodingError(f"a fragment of a message of {total} bytes")
        number = set_number * SET_SIZE + index
        if index >= SET_SIZE or number >= fragment_count(total, kind):
            raise EncodingError(f"fragment {index} of set {set_number} in a message of {total} bytes")
        end = _HEAD.size + min(capacity, total - number * capacity)
        if end < len(data) and any(data[end:]):
            raise EncodingError("a fragment has bytes after its end")
        return cls(kind, message_id, total, number, data[_HEAD.size : end])


class ByteSource(Protocol):
    """A message that can be read in parts: bytes, or an object that fetches them."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


class Fragments(Sequence[Fragment]):
    """The fragments of `message`. Each is cut on demand: the message is kept once, and never copied."""

    def __init__(self, message: ByteSource, message_id: bytes, kind: FragmentKind = FragmentKind.MESSAGE) -> None:
        if len(message) > MAX_CUT_LENGTH:
            raise MessageTooLong
        if len(message_id) != MESSAGE_ID_LENGTH:
            raise ValueError(f"a message id is {MESSAGE_ID_LENGTH} bytes, not {len(message_id)}")
        self.message = message
        self.message_id = message_id
        self.kind = kind
        self._count = fragment_count(len(message), kind)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Fragment: ...
    @overload
    def __getitem__(self, number: slice) -> list[Fragment]: ...
    def __getitem__(self, number: int | slice) -> Fragment | list[Fragment]:
        if isinstance(number, slice):
            return [self[at] for at in range(*number.indices(self._count))]
        if number < 0:
            number += self._count
        if not 0 <= number < self._count:
            raise IndexError(number)
        capacity = _CAPACITIES[self.kind]
        content = self.message[number * capacity : (number + 1) * capacity]
        return Fragment(self.kind, self.message_id, len(self.message), number, content)


def fragment(message: ByteSource, message_id: bytes, kind: FragmentKind = FragmentKind.MESSAGE) -> Fragments:
    """Cut `message` into fragments under `message_id` (16 random bytes, new for each message).

    Raises `MessageTooLong`.
    """
    return Fragments(message, message_id, kind)


def loop_fragment(loop_id: bytes) -> Fragment:
    """The fragment of a loop: its id (16 random bytes), by which the sender recognises it, and zeros."""
    return Fragment(FragmentKind.LOOP, loop_id, 0, 0, b"")


def fragment_count(length: int, kind: FragmentKind = FragmentKind.MESSAGE) -> int:
    """The number of fragments of a message of `length` bytes. An empty message takes one."""
    return max(1, -(-length // _CAPACITIES[kind]))


def full_bitmap(count: int) -> bytes:
    """A bitmap with all of `count` fragments set: bit i of byte i // 8, lowest first."""
    return ((1 << count) - 1).to_bytes((count + 7) // 8, "little")
