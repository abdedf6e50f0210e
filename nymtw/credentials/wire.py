"""The byte forms: fields one behind the other, a byte of type in front, nothing behind; one reader for all."""

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import TypeVar

from nymtw.credentials.curve import (
    G1,
    G1_LENGTH,
    G2,
    G2_LENGTH,
    SCALAR_LENGTH,
    Scalar,
    decode_g1,
    decode_g2,
    decode_scalar,
    encode,
)
from nymtw.errors import EncodingError

T = TypeVar("T")


class Kind(IntEnum):
    """The first byte of every object."""

    SECRET_KEY = 0x01
    VERIFICATION_KEY = 0x02
    ISSUER_KEY = 0x03
    PENDING = 0x04
    BLIND_SHARE = 0x05
    SHARE = 0x06
    COCONUT_REQUEST = 0x10
    CREDENTIAL = 0x11
    SHOW = 0x12
    SHOW_CONTEXT = 0x13
    WITHDRAWAL = 0x20
    INDEX_SIGNATURES = 0x21
    DATE_SIGNATURES = 0x22
    TICKET_BOOK = 0x23
    PAYMENT_INFO = 0x24
    PAYMENT = 0x25
    TRANSPORT_KEY = 0x30
    TRANSPORT_SECRET = 0x31
    DEALING = 0x32
    COMPLAINT = 0x33


def byte(number: int) -> bytes:
    """One byte. Raises `EncodingError` where the number needs more."""
    return integer(number, 1)


def integer(number: int, length: int) -> bytes:
    """`length` bytes, big-endian. Raises `EncodingError` where the number needs more."""
    try:
        return number.to_bytes(length, "big")
    except OverflowError:
        raise EncodingError(f"{number} does not fit {length} bytes") from None


def pack(kind: Kind, *fields: bytes | G1 | G2 | Scalar | Iterable[G1 | G2 | Scalar]) -> bytes:
    """The type's byte, then the fields: bytes as they are, elements encoded, those of a list one behind the other."""
    packed = [byte(kind)]
    for field in fields:
        if isinstance(field, bytes):
            packed.append(field)
        elif isinstance(field, G1 | G2 | Scalar):
            packed.append(encode(field))
        else:
            packed.extend(encode(element) for element in field)
    return b"".join(packed)


class Reader:
    """Takes fields from bytes, from the front; all of them must be there, and nothing else."""

    def __init__(self, data: bytes, kind: Kind) -> None:
        """Raises `EncodingError` where `data` is of another type."""
        self._data = data
        self._at = 0
        if (found := self.integer(1)) != kind:
            raise EncodingError(f"an object of type {found}, where {int(kind)} is wanted")

    def bytes(self, length: int) -> bytes:
        """The next `length` bytes."""
        if len(self._data) - self._at < length:
            raise EncodingError("too short")
        self._at += length
        return self._data[self._at - length : self._at]

    def integer(self, length: int) -> int:
        """An unsigned number of `length` bytes, big-endian."""
        return int.from_bytes(self.bytes(length), "big")

    def count(self, least: int, most: int) -> int:
        """A byte with a number of things, from `least` to `most`."""
        number = self.integer(1)
        if not least <= number <= most:
            raise EncodingError(f"{number} where {least} to {most} are allowed")
        return number

    def g1(self) -> G1:
        """A point of G1, not the identity."""
        return decode_g1(self.bytes(G1_LENGTH))

    def g2(self) -> G2:
        """A point of G2, not the identity."""
        return decode_g2(self.bytes(G2_LENGTH))

    def scalar(self) -> Scalar:
        """A scalar."""
        return decode_scalar(self.bytes(SCALAR_LENGTH))

    def times(self, number: int, take: Callable[[], T]) -> tuple[T, ...]:
        """`number` fields of one sort."""
        return tuple(take() for _ in range(number))

    def end(self) -> None:
        """Raises `EncodingError` where bytes are left."""
        if self._at != len(self._data):
            raise EncodingError("bytes behind the end")
