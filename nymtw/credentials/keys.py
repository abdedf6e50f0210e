"""Issuing keys: x and y_1 to y_q, shared among n issuers so that any t of them can sign; and the dealer who makes them.

Both schemes sign with them (Pointcheval and Sanders, "Short randomizable signatures", CT-RSA 2016). There is no x g1:
who knew it beside the gammas could sign.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha512
from random import Random
from typing import Final

from nymtw.credentials.curve import (
    G1,
    G1_BASE,
    G2,
    G2_BASE,
    SYSTEM_RANDOM,
    Base,
    Scalar,
    encode,
    identity_of,
    pairings_cancel,
    random_weight,
    sum_of_products,
)
from nymtw.credentials.shamir import evaluate, interpolate, random_polynomial
from nymtw.credentials.wire import Kind, Reader, byte, pack
from nymtw.errors import CredentialFault, CredentialRejected, EncodingError

MAX_ATTRIBUTES: Final = 32
MAX_ISSUERS: Final = 255


def check_threshold(threshold: int, issuers: int) -> None:
    """Raises `EncodingError` unless 1 <= threshold <= issuers <= 255."""
    if not 1 <= threshold <= issuers <= MAX_ISSUERS:
        raise EncodingError(
            f"a threshold of {threshold} of {issuers}: it takes 1 to {MAX_ISSUERS}, and no more than all"
        )


@dataclass(frozen=True)
class SecretKey:
    """An issuer's share: its index from 1, the threshold, x and y_1 to y_q. 4 + 32 (1 + q) bytes."""

    index: int
    threshold: int
    x: Scalar
    ys: tuple[Scalar, ...]

    def public(self) -> "IssuerKey":
        """The public key of this share."""
        key = VerificationKey(
            G2_BASE * self.x, tuple(G2_BASE * y for y in self.ys), tuple(G1_BASE * y for y in self.ys)
        )
        return IssuerKey(self.index, self.threshold, key)

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return pack(Kind.SECRET_KEY, byte(self.index), byte(self.threshold), byte(len(self.ys)), self.x, self.ys)

    @classmethod
    def from_bytes(cls, data: bytes) -> "SecretKey":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.SECRET_KEY)
        index, threshold = reader.count(1, MAX_ISSUERS), reader.count(1, MAX_ISSUERS)
        count = reader.count(1, MAX_ATTRIBUTES)
        key = cls(index, threshold, reader.scalar(), reader.times(count, reader.scalar))
        reader.end()
        return key

    def __repr__(self) -> str:
        return f"<SecretKey {self.index}>"


@dataclass(frozen=True)
class VerificationKey:
    """alpha = x g2, beta_j = y_j g2, gamma_j = y_j g1. 2 + 96 + 144 q bytes.

    `with_tables` is for the key of an epoch, against which much is proved and verified.
    """

    alpha: G2
    betas: tuple[G2, ...]
    gammas: tuple[G1, ...]
    tabled: bool = False

    def __post_init__(self) -> None:
        if len(self.betas) != len(self.gammas):
            raise EncodingError("a verification key has as many betas as gammas")

    def with_tables(self) -> "VerificationKey":
        """The same key; a table of each beta is made when it is first used (docs/credentials.md has the cost)."""
        return VerificationKey(self.alpha, self.betas, self.gammas, tabled=True)

    @cached_property
    def beta_bases(self) -> tuple[Base[G2], ...]:
        """The betas, to multiply with."""
        return tuple(Base(beta, table=self.tabled) for beta in self.betas)

    @cached_property
    def digest(self) -> bytes:
        """SHA-512 of the bytes: what proofs name the key by."""
        return sha512(self.to_bytes()).digest()

    def part(self, first: int, attributes: Sequence[Scalar]) -> G2:
        """The sum of m_j beta_j of some attributes, counted from `first`."""
        bases = self.beta_bases[first : first + len(attributes)]
        total = identity_of(self.alpha)
        for base, value in zip(bases, attributes, strict=True):
            total = base.onto(total, value)
        return total

    @cached_property
    def _constants(self) -> dict[tuple[int, bytes], G2]:
        return {}

    def constant(self, place: int, attribute: Scalar) -> G2:
        """m beta_j of an attribute that does not change, counted from 0: made once."""
        name = (place, encode(attribute))
        if name not in self._constants:
            self._constants[name] = self.part(place, [attribute])
        return self._constants[name]

    def check_consistent(self, random: Random = SYSTEM_RANDOM) -> None:
        """Check that each gamma_j hides the same y_j as beta_j.

        Raises `CredentialRejected` (bad-key). For keys that come from others.
        """
        weights = [random_weight(random) for _ in self.betas]
        left = sum_of_products(self.gammas, weights)
        right = sum_of_products(self.betas, weights)
        if not pairings_cancel([(left, G2_BASE.point), (-G1_BASE.point, right)]):
            raise CredentialRejected(CredentialFault.BAD_KEY)

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return pack(Kind.VERIFICATION_KEY, byte(len(self.betas)), self.alpha, self.betas, self.gammas)

    @classmethod
    def from_bytes(cls, data: bytes) -> "VerificationKey":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.VERIFICATION_KEY)
        count = reader.count(1, MAX_ATTRIBUTES)
        key = cls(reader.g2(), reader.times(count, reader.g2), reader.times(count, reader.g1))
        reader.end()
        return key


@dataclass(frozen=True)
class IssuerKey:
    """The public key of one issuer's share. 3 bytes, then those of the verification key."""

    index: int
    threshold: int
    key: VerificationKey

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return pack(Kind.ISSUER_KEY, byte(self.index), byte(self.threshold), self.key.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> "IssuerKey":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.ISSUER_KEY)
        index, threshold = reader.count(1, MAX_ISSUERS), reader.count(1, MAX_ISSUERS)
        return cls(index, threshold, VerificationKey.from_bytes(data[3:]))


def combine(keys: Iterable[IssuerKey]) -> VerificationKey:
    """The key of the threshold, from the keys of at least t issuers: the same, whichever they are.

    Raises `CredentialRejected` (too-few, mixed) where there are fewer than t different ones, or they do not belong
    together by their form. Keys that agree in form and lie are found by `check_one_sharing`.
    """
    chosen = threshold_of(keys)
    first = next(iter(chosen.values())).key
    return VerificationKey(
        interpolate({index: issuer.key.alpha for index, issuer in chosen.items()}),
        tuple(
            interpolate({index: issuer.key.betas[j] for index, issuer in chosen.items()})
            for j in range(len(first.betas))
        ),
        tuple(
            interpolate({index: issuer.key.gammas[j] for index, issuer in chosen.items()})
            for j in range(len(first.betas))
        ),
    )


def threshold_of(keys: Iterable[IssuerKey]) -> dict[int, IssuerKey]:
    """The first t keys of different index, by index. Raises `CredentialRejected` (too-few, mixed)."""
    found: dict[int, IssuerKey] = {}
    for issuer in keys:
        if found.setdefault(issuer.index, issuer) != issuer:
            raise CredentialRejected(CredentialFault.MIXED)
    forms = {(issuer.threshold, len(issuer.key.betas)) for issuer in found.values()}
    if len(forms) > 1:
        raise CredentialRejected(CredentialFault.MIXED)
    threshold = next(iter(found.values())).threshold if found else 1
    if len(found) < threshold:
        raise CredentialRejected(CredentialFault.TOO_FEW)
    return dict(list(found.items())[:threshold])


def check_one_sharing(keys: Sequence[IssuerKey]) -> None:
    """Check that all keys belong to one sharing: each set of t of them combines to one key.

    Raises `CredentialRejected` (too-few, mixed).
    """
    chosen = threshold_of(keys)
    whole = combine(keys)
    kept = list(chosen.values())[1:]
    for issuer in keys:
        if issuer.index not in chosen and combine([*kept, issuer]) != whole:
            raise CredentialRejected(CredentialFault.MIXED)


@dataclass(frozen=True)
class Dealt:
    """What a dealer hands out: a secret and a public key for each issuer, and the key of the threshold."""

    secrets: tuple[SecretKey, ...]
    issuers: tuple[IssuerKey, ...]
    key: VerificationKey


def deal(attributes: int, issuers: int, threshold: int, random: Random = SYSTEM_RANDOM) -> Dealt:
    """Keys of one trusted dealer, who knows them all: for tests and local networks.

    Draws the coefficients of x, then those of each y, that of degree 0 first. Raises `EncodingError` for numbers that
    cannot be.
    """
    check_threshold(threshold, issuers)
    if not 1 <= attributes <= MAX_ATTRIBUTES:
        raise EncodingError(f"{attributes} attributes: it takes 1 to {MAX_ATTRIBUTES}")
    polynomials = [random_polynomial(threshold, random) for _ in range(1 + attributes)]
    secrets = tuple(SecretKey(index, threshold, *_shares(polynomials, index)) for index in range(1, issuers + 1))
    public = tuple(secret.public() for secret in secrets)
    return Dealt(secrets, public, combine(public))


def _shares(polynomials: Sequence[Sequence[Scalar]], index: int) -> tuple[Scalar, tuple[Scalar, ...]]:
    x, *ys = (evaluate(polynomial, index) for polynomial in polynomials)
    return x, tuple(ys)
