"""The groups of BLS12-381, and the only module that touches the library which computes in them.

Decoding is canonical and refuses the identity, lengths are checked before sums of products, and a base that is used
often can have a table. Groups are written additively: RFC 9380 (hashing), the ZCash form of points (48 and 96 bytes).
"""

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha512
from random import Random, SystemRandom
from typing import Final, Generic, TypeVar

from py_arkworks_bls12381 import GT, Scalar
from py_arkworks_bls12381 import G1Point as G1
from py_arkworks_bls12381 import G2Point as G2

from nymtw.errors import EncodingError

__all__ = ["G1", "G2", "Base", "Scalar"]

P = TypeVar("P", G1, G2)

ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
G1_LENGTH: Final = 48
G2_LENGTH: Final = 96
SCALAR_LENGTH: Final = 32
# The hash to G1 of RFC 9380, section 8.8.1, under a domain of our own.
HASH_TO_G1_DOMAIN: Final = b"NYMTW-V01-CS01-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"
SYSTEM_RANDOM: Final = SystemRandom()

ZERO: Final = Scalar(0)
ONE: Final = Scalar(1)
_G1_IDENTITY: Final = G1.identity()
_G2_IDENTITY: Final = G2.identity()
_WINDOWS: Final = 32
_WEIGHT_LENGTH: Final = 16
_SMALL: Final = 1 << 64


def scalar(number: int) -> Scalar:
    """`number` as a scalar. Raises `EncodingError` unless it is at least 0 and below the group order."""
    if not 0 <= number < ORDER:
        raise EncodingError(f"{number} is not between 0 and the group order")
    return Scalar(number)


def random_scalar(random: Random) -> Scalar:
    """64 bytes of `random`, big-endian, reduced; drawn again where that is zero."""
    while (drawn := Scalar.from_be_bytes_mod_order(random.randbytes(64))) == ZERO:
        pass
    return drawn


def random_weight(random: Random) -> Scalar:
    """16 bytes of `random`, big-endian: a weight of a batch; drawn again where it is zero."""
    while (drawn := int.from_bytes(random.randbytes(_WEIGHT_LENGTH), "big")) == 0:
        pass
    return Scalar(drawn)


def framed(parts: Sequence[bytes]) -> bytes:
    """The parts one behind the other, each with its length (4 bytes, big-endian) in front."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def hash_to_scalar(*parts: bytes) -> Scalar:
    """SHA-512 over the framed parts, 64 bytes big-endian, reduced."""
    return Scalar.from_be_bytes_mod_order(sha512(framed(parts)).digest())


def hash_to_g1(*parts: bytes) -> G1:
    """The framed parts hashed to G1: nobody knows its logarithm."""
    return G1.hash_to_curve(framed(parts), HASH_TO_G1_DOMAIN)


def encode(value: G1 | G2 | Scalar) -> bytes:
    """48 bytes of G1, 96 of G2 (compressed), 32 of a scalar (big-endian)."""
    return value.to_be_bytes() if isinstance(value, Scalar) else value.to_compressed_bytes()


def _decode_point(data: bytes, kind: type[P], length: int, identity: P) -> P:
    if len(data) != length:
        raise EncodingError(f"{len(data)} bytes where a point has {length}")
    try:
        point = kind.from_compressed_bytes(data)
    except ValueError:
        raise EncodingError("not a point of the group") from None
    # The library takes several encodings for infinity: only what it would write itself is canonical.
    if point == identity:
        raise EncodingError("the identity")
    if point.to_compressed_bytes() != data:
        raise EncodingError("not the canonical encoding of a point")
    return point


def decode_g1(data: bytes) -> G1:
    """Raises `EncodingError` for all but the one encoding of a point of G1 that is not the identity."""
    return _decode_point(data, G1, G1_LENGTH, _G1_IDENTITY)


def decode_g2(data: bytes) -> G2:
    """Raises `EncodingError` for all but the one encoding of a point of G2 that is not the identity."""
    return _decode_point(data, G2, G2_LENGTH, _G2_IDENTITY)


def decode_scalar(data: bytes) -> Scalar:
    """Raises `EncodingError` for all but 32 bytes of a number below the group order; zero is one."""
    if len(data) != SCALAR_LENGTH:
        raise EncodingError(f"{len(data)} bytes where a scalar has {SCALAR_LENGTH}")
    return scalar(int.from_bytes(data, "big"))


def is_identity(point: G1 | G2) -> bool:
    """Whether the point is the neutral element of its group."""
    return point == (_G1_IDENTITY if isinstance(point, G1) else _G2_IDENTITY)


def identity_of(point: P) -> P:
    """The neutral element of the point's group."""
    return _G1_IDENTITY if isinstance(point, G1) else _G2_IDENTITY


def add(points: Sequence[P]) -> P:
    """The sum of one or more points."""
    total = points[0]
    for point in points[1:]:
        total = total + point
    return total


def sum_of_products(points: Sequence[P], scalars: Sequence[Scalar]) -> P:
    """The sum of each point times its scalar, of one or more. Raises `ValueError` where their numbers differ."""
    if len(points) != len(scalars) or not points:
        raise ValueError(f"{len(points)} points and {len(scalars)} scalars")
    # Small scalars are cheap alone, and no cheaper together with large ones.
    small = {place for place, factor in enumerate(scalars) if int(factor) < _SMALL}
    large = [place for place in range(len(points)) if place not in small]
    sums = [points[place] * scalars[place] for place in small]
    if len(large) == 1:
        sums.append(points[large[0]] * scalars[large[0]])
    elif large:
        sums.append(_multi_scalar_multiply([points[place] for place in large], [scalars[place] for place in large]))
    return add(sums)


def _multi_scalar_multiply(points: list[P], scalars: list[Scalar]) -> P:
    if isinstance(points[0], G1):
        return G1.multiexp_unchecked(points, scalars)
    return G2.multiexp_unchecked(points, scalars)


def pairings_cancel(pairs: Sequence[tuple[G1, G2]]) -> bool:
    """Whether the product of the pairings of all pairs is one."""
    return GT.pairing_check([left for left, _ in pairs], [right for _, right in pairs])


class Base(Generic[P]):
    """A point that scalars multiply; one with a table costs 32 additions instead of a multiplication.

    The table holds 32 x 256 multiples, and is made when the point is first multiplied.
    """

    def __init__(self, point: P, table: bool = False) -> None:
        self.point: P = point
        self._tabled = table

    @cached_property
    def encoded(self) -> bytes:
        """The point's bytes."""
        return encode(self.point)

    @cached_property
    def _rows(self) -> list[list[P]]:
        rows: list[list[P]] = []
        step = self.point
        for _ in range(_WINDOWS):
            row = [identity_of(step)]
            for _ in range(255):
                row.append(row[-1] + step)
            rows.append(row)
            step = row[-1] + step
        return rows

    @property
    def tabled(self) -> bool:
        """Whether products are made with a table."""
        return self._tabled

    def __mul__(self, factor: Scalar) -> P:
        return self.onto(identity_of(self.point), factor) if self._tabled else self.point * factor

    def onto(self, total: P, factor: Scalar) -> P:
        """`total` and `factor` times this point."""
        if not self._tabled:
            return total + self.point * factor
        for row, window in zip(self._rows, factor.to_le_bytes(), strict=True):
            if window:
                total = total + row[window]
        return total


G1_BASE: Final = Base(G1(), table=True)
G2_BASE: Final = Base(G2(), table=True)
