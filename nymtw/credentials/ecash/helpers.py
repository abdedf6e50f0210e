"""Signatures of the issuers that are the same for all: on each ticket's index, and on each day of a book's validity.

A spend proves in zero knowledge that it uses one of them, so that a verifier sees neither index nor expiry.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import ClassVar

from nymtw.credentials.blind import Signature
from nymtw.credentials.curve import (
    G1,
    G2,
    G2_BASE,
    SYSTEM_RANDOM,
    ZERO,
    Scalar,
    hash_to_g1,
    pairings_cancel,
    random_weight,
    sum_of_products,
)
from nymtw.credentials.ecash.bases import ATTRIBUTES, DATE, DOMAIN, INDEX, MAX_TICKETS
from nymtw.credentials.keys import MAX_ISSUERS, IssuerKey, SecretKey, VerificationKey
from nymtw.credentials.shamir import interpolate
from nymtw.credentials.wire import Kind, Reader, byte, integer, pack
from nymtw.errors import CredentialFault, CredentialRejected, EncodingError

DAY_LENGTH = 4


@dataclass(frozen=True)
class Indices:
    """The indices 0 to `tickets` - 1."""

    tickets: int

    kind: ClassVar[Kind] = Kind.INDEX_SIGNATURES

    def message(self, number: int) -> tuple[G1, tuple[Scalar, ...]]:
        """The base h = H1(index), and the four attributes that are signed: index, 0, 0, INDEX."""
        return _base(b"index", integer(number, 1)), (Scalar(number), ZERO, ZERO, INDEX)

    @property
    def header(self) -> bytes:
        """1 byte."""
        return byte(self.tickets)

    @classmethod
    def read(cls, reader: Reader) -> "Indices":
        """Raises `EncodingError`."""
        return cls(reader.count(1, MAX_TICKETS))

    def __len__(self) -> int:
        return self.tickets


@dataclass(frozen=True)
class Dates:
    """The days `first` to `expiry`, both included, on which such books can be spent; unsigned 32-bit numbers."""

    expiry: int
    first: int

    kind: ClassVar[Kind] = Kind.DATE_SIGNATURES

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.expiry < 2**32 or self.expiry - self.first >= MAX_TICKETS:
            raise EncodingError(
                f"days {self.first} to {self.expiry}: at most {MAX_TICKETS}, and the last is the expiry"
            )

    def message(self, number: int) -> tuple[G1, tuple[Scalar, ...]]:
        """The base h = H1(expiry, day), and the four attributes that are signed: expiry, day, 0, DATE.

        `number` counts from the first day.
        """
        day = self.first + number
        base = _base(b"date", integer(self.expiry, DAY_LENGTH), integer(day, DAY_LENGTH))
        return base, (Scalar(self.expiry), Scalar(day), ZERO, DATE)

    @property
    def header(self) -> bytes:
        """8 bytes."""
        return integer(self.expiry, DAY_LENGTH) + integer(self.first, DAY_LENGTH)

    @classmethod
    def read(cls, reader: Reader) -> "Dates":
        """Raises `EncodingError`."""
        return cls(reader.integer(DAY_LENGTH), reader.integer(DAY_LENGTH))

    def __len__(self) -> int:
        return self.expiry - self.first + 1


@dataclass(frozen=True)
class HelperSignatures:
    """The second halves of the signatures on a subject, by one issuer, or of the threshold (issuer 0).

    2 bytes, the subject's header, 48 bytes for each.
    """

    issuer: int
    subject: Indices | Dates
    values: tuple[G1, ...]

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return pack(self.subject.kind, byte(self.issuer) + self.subject.header, self.values)

    @classmethod
    def from_bytes(cls, data: bytes, subject: type[Indices] | type[Dates]) -> "HelperSignatures":
        """Raises `EncodingError`."""
        reader = Reader(data, subject.kind)
        issuer = reader.count(0, MAX_ISSUERS)
        about = subject.read(reader)
        signatures = cls(issuer, about, reader.times(len(about), reader.g1))
        reader.end()
        return signatures


def sign_helpers(secret: SecretKey, subject: Indices | Dates) -> HelperSignatures:
    """An issuer's share of each signature: s = h (x + sum of y_j m_j). Raises `CredentialRejected` (wrong-count)."""
    if len(secret.ys) != ATTRIBUTES:
        raise CredentialRejected(CredentialFault.WRONG_COUNT)
    values = []
    for base, attributes in _messages(subject):
        exponent = secret.x
        for y, value in zip(secret.ys, attributes, strict=True):
            exponent = exponent + y * value
        values.append(base * exponent)
    return HelperSignatures(secret.index, subject, tuple(values))


def check_helpers(key: VerificationKey, signatures: HelperSignatures, random: Random = SYSTEM_RANDOM) -> None:
    """Check all of an issuer's shares, or of the threshold's signatures, in one product of pairings.

    Raises `CredentialRejected` (bad-share) with the issuer's index, or without one for the threshold.
    """
    messages = _messages(signatures.subject)
    if len(messages) != len(signatures.values) or len(key.betas) != ATTRIBUTES:
        raise CredentialRejected(CredentialFault.WRONG_COUNT)
    weights = [random_weight(random) for _ in messages]
    bases = [base for base, _ in messages]
    pairs: list[tuple[G1, G2]] = [(sum_of_products(bases, weights), key.alpha)]
    for j in range(ATTRIBUTES):
        factors = [weight * attributes[j] for weight, (_, attributes) in zip(weights, messages, strict=True)]
        if any(factor != ZERO for factor in factors):
            pairs.append((sum_of_products(bases, factors), key.betas[j]))
    pairs.append((-sum_of_products(signatures.values, weights), G2_BASE.point))
    if not pairings_cancel(pairs):
        raise CredentialRejected(CredentialFault.BAD_SHARE, signatures.issuer or None)


def aggregate_helpers(
    issuers: Iterable[IssuerKey],
    subject: Indices | Dates,
    shares: Iterable[HelperSignatures],
    random: Random = SYSTEM_RANDOM,
) -> tuple[HelperSignatures, tuple[int, ...]]:
    """The threshold's signatures on `subject` from t good shares, and the issuers whose shares were refused on the way.

    Raises `CredentialRejected` (too-few) where they are not enough; shares of issuers that are not known do not count.
    """
    keys = {issuer.index: issuer for issuer in issuers}
    threshold = max((issuer.threshold for issuer in keys.values()), default=1)
    good: dict[int, HelperSignatures] = {}
    liars = []
    for share in shares:
        if share.issuer not in keys or share.issuer in good or len(good) == threshold:
            continue
        try:
            if share.subject != subject:
                raise CredentialRejected(CredentialFault.MIXED, share.issuer)
            check_helpers(keys[share.issuer].key, share, random)
            good[share.issuer] = share
        except CredentialRejected:
            liars.append(share.issuer)
    if len(good) < threshold:
        raise CredentialRejected(CredentialFault.TOO_FEW)
    values = tuple(
        interpolate({index: share.values[number] for index, share in good.items()}) for number in range(len(subject))
    )
    return HelperSignatures(0, subject, values), tuple(dict.fromkeys(liars))


def signature_of(signatures: HelperSignatures, number: int) -> Signature:
    """The signature on the subject's message of this number, counted from 0."""
    base, _ = signatures.subject.message(number)
    return Signature(base, signatures.values[number])


def _messages(subject: Indices | Dates) -> list[tuple[G1, tuple[Scalar, ...]]]:
    return [subject.message(number) for number in range(len(subject))]


@lru_cache(maxsize=1024)
def _base(kind: bytes, *what: bytes) -> G1:
    return hash_to_g1(DOMAIN, kind, *what)
