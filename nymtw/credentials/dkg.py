"""Issuing keys without a dealer: each issuer deals a polynomial for x and each y_j, and the sums are the key.

Joint-Feldman (Pedersen, EUROCRYPT 1991), made for a ledger: what is sent is public and can be checked by anybody,
shares are sealed to their recipients, and a complaint (`nymtw.credentials.complaints`) can be judged by a third party.
Coefficients are committed to in G2, those of each y_j in G1 too; not those of x, since x g1 would let anybody sign.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha512
from random import Random
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from nymtw.credentials.curve import (
    G1,
    G1_BASE,
    G2,
    G2_BASE,
    SCALAR_LENGTH,
    SYSTEM_RANDOM,
    Base,
    P,
    Scalar,
    add,
    decode_scalar,
    encode,
    framed,
    hash_to_scalar,
    is_identity,
    pairings_cancel,
    random_scalar,
    sum_of_products,
)
from nymtw.credentials.keys import MAX_ATTRIBUTES, MAX_ISSUERS, IssuerKey, SecretKey, VerificationKey, check_threshold
from nymtw.credentials.proofs import Proof, Relation, Statement, Term, holds, prove
from nymtw.credentials.shamir import evaluate, powers, random_polynomial
from nymtw.credentials.wire import Kind, Reader, byte, pack
from nymtw.errors import CredentialFault, CredentialRejected, EncodingError

_DOMAIN: Final = b"NYMTW-CREDENTIALS-V1 dkg"
_TAG_LENGTH: Final = 16
_NONCE: Final = bytes(12)  # a key seals one message


@dataclass(frozen=True)
class TransportKey:
    """What shares are sealed to: e g1. 49 bytes."""

    point: G1

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return pack(Kind.TRANSPORT_KEY, self.point)

    @classmethod
    def from_bytes(cls, data: bytes) -> "TransportKey":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.TRANSPORT_KEY)
        key = cls(reader.g1())
        reader.end()
        return key


@dataclass(frozen=True)
class TransportSecret:
    """An issuer's secret e, with which it opens the shares that are sealed to it. 33 bytes."""

    scalar: Scalar

    @classmethod
    def generate(cls, random: Random = SYSTEM_RANDOM) -> "TransportSecret":
        """A new secret."""
        return cls(random_scalar(random))

    def public(self) -> TransportKey:
        """The key to it."""
        return TransportKey(G1_BASE * self.scalar)

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return pack(Kind.TRANSPORT_SECRET, self.scalar)

    @classmethod
    def from_bytes(cls, data: bytes) -> "TransportSecret":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.TRANSPORT_SECRET)
        secret = cls(reader.scalar())
        reader.end()
        return secret

    def __repr__(self) -> str:
        return "<TransportSecret>"


@dataclass(frozen=True)
class Dealt:
    """The public part of a dealing: t commitments to each polynomial, K = k g1, and the sealed shares.

    `g2` has those of x first, then those of y_1 to y_q; `g1` those of y_1 to y_q.
    """

    dealer: int
    threshold: int
    g2: tuple[tuple[G2, ...], ...]
    g1: tuple[tuple[G1, ...], ...]
    ephemeral: G1
    sealed: tuple[bytes, ...]

    @property
    def attributes(self) -> int:
        """q."""
        return len(self.g1)

    @property
    def body(self) -> bytes:
        """The bytes of all of it."""
        counts = (self.dealer, self.threshold, self.attributes, len(self.sealed))
        points: list[G1 | G2] = [point for row in self.g2 for point in row]
        points += [point for row in self.g1 for point in row]
        return pack(Kind.DEALING, b"".join(map(byte, counts)), points, self.ephemeral, *self.sealed)


@dataclass(frozen=True)
class Dealing:
    """One dealer's message to all. 5 + 96 (q+1) t + 48 q t + 48 + (48 + 32 q) n + 32 (q+3) bytes."""

    dealt: Dealt
    proof: Proof

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return self.dealt.body + b"".join(encode(scalar) for scalar in self.proof.scalars)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Dealing":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.DEALING)
        dealer, threshold = reader.count(1, MAX_ISSUERS), reader.count(1, MAX_ISSUERS)
        attributes, recipients = reader.count(1, MAX_ATTRIBUTES), reader.count(threshold, MAX_ISSUERS)
        g2 = reader.times(1 + attributes, lambda: reader.times(threshold, reader.g2))
        g1 = reader.times(attributes, lambda: reader.times(threshold, reader.g1))
        length = SCALAR_LENGTH * (1 + attributes) + _TAG_LENGTH
        ephemeral = reader.g1()
        sealed = reader.times(recipients, lambda: reader.bytes(length))
        proof = Proof.read(reader, attributes + 2)
        reader.end()
        return cls(Dealt(dealer, threshold, g2, g1, ephemeral, sealed), proof)


def deal_to(
    recipients: Sequence[TransportKey],
    dealer: int,
    threshold: int,
    attributes: int,
    context: bytes,
    random: Random = SYSTEM_RANDOM,
) -> Dealing:
    """Deal shares to all recipients, whose indices are their places from 1; the dealer is one of them.

    `context` names the round, such as chain and epoch. Draws the coefficients of x, of each y, k, then what the proof
    draws. Raises `EncodingError` for numbers that cannot be.
    """
    check_threshold(threshold, len(recipients))
    if not 1 <= dealer <= len(recipients) or not 1 <= attributes <= MAX_ATTRIBUTES:
        raise EncodingError(f"dealer {dealer} of {len(recipients)}, {attributes} attributes")
    polynomials = [random_polynomial(threshold, random) for _ in range(1 + attributes)]
    k = random_scalar(random)
    ephemeral = G1_BASE * k
    sealed = []
    for index, recipient in enumerate(recipients, 1):
        key = sealing_key(dealer, index, ephemeral, recipient, recipient.point * k)
        shares = b"".join(encode(evaluate(polynomial, index)) for polynomial in polynomials)
        sealed.append(ChaCha20Poly1305(key).encrypt(_NONCE, shares, context))
    dealt = Dealt(
        dealer,
        threshold,
        tuple(tuple(G2_BASE * coefficient for coefficient in polynomial) for polynomial in polynomials),
        tuple(tuple(G1_BASE * coefficient for coefficient in polynomial) for polynomial in polynomials[1:]),
        ephemeral,
        tuple(sealed),
    )
    secrets = {"k": k} | {f"constant {j}": polynomial[0] for j, polynomial in enumerate(polynomials)}
    return Dealing(dealt, prove(dealing_statement(dealt, recipients, context), secrets, random))


def dealing_statement(dealt: Dealt, recipients: Sequence[TransportKey], context: bytes) -> Statement:
    """The dealer knows the constant terms and k: its dealing is no copy or answer to another's."""
    elements = (
        ("dealt", sha512(dealt.body).digest()),
        ("recipients", sha512(framed([key.to_bytes() for key in recipients])).digest()),
    )
    relations = [Relation(Base(dealt.ephemeral), (Term("k", G1_BASE),))]
    relations += [Relation(Base(row[0]), (Term(f"constant {j}", G2_BASE),)) for j, row in enumerate(dealt.g2)]
    relations += [Relation(Base(row[0]), (Term(f"constant {j}", G1_BASE),)) for j, row in enumerate(dealt.g1, 1)]
    return Statement(b"dkg dealing", elements, tuple(relations), (context,))


def check_dealing(
    dealing: Dealing, recipients: Sequence[TransportKey], threshold: int, attributes: int, context: bytes
) -> None:
    """Check all of a dealing that is public: anybody can, and all come to the same verdict.

    Raises `CredentialRejected` (wrong-count, bad-proof, bad-dealing) with the dealer's index.
    """
    dealt = dealing.dealt
    form = (dealt.threshold, len(dealt.g2), len(dealt.g1), len(dealt.sealed))
    rows = [*dealt.g2, *dealt.g1]
    if form != (threshold, attributes + 1, attributes, len(recipients)) or any(len(row) != threshold for row in rows):
        raise CredentialRejected(CredentialFault.WRONG_COUNT, dealt.dealer)
    if not 1 <= dealt.dealer <= len(recipients):
        raise CredentialRejected(CredentialFault.WRONG_COUNT, dealt.dealer)
    if not holds(dealing_statement(dealt, recipients, context), dealing.proof):
        raise CredentialRejected(CredentialFault.BAD_PROOF, dealt.dealer)
    # The weights are of the dealing's own hash, so that a ledger comes to its verdict without chance.
    digest = sha512(dealing.to_bytes()).digest()
    ours = [point for row in dealt.g1 for point in row]
    theirs = [point for row in dealt.g2[1:] for point in row]
    weights = [hash_to_scalar(_DOMAIN, b"weight", digest, number.to_bytes(4, "big")) for number in range(len(ours))]
    left, right = sum_of_products(ours, weights), sum_of_products(theirs, weights)
    if not pairings_cancel([(left, G2_BASE.point), (-G1_BASE.point, right)]):
        raise CredentialRejected(CredentialFault.BAD_DEALING, dealt.dealer)


def sealing_key(dealer: int, index: int, ephemeral: G1, recipient: TransportKey, shared: G1) -> bytes:
    """The key that seals the shares of one dealer to one recipient: 32 bytes of SHA-512 over both and e k g1."""
    parts = [byte(dealer), byte(index), encode(ephemeral), encode(recipient.point), encode(shared)]
    return sha512(framed([_DOMAIN, b"seal", *parts])).digest()[:32]


def shares_under(dealt: Dealt, index: int, key: bytes, context: bytes) -> tuple[Scalar, ...]:
    """The shares of recipient `index`, opened with this key and compared with the commitments.

    Raises `CredentialRejected` (bad-dealing) with the dealer's index.
    """
    fault = CredentialRejected(CredentialFault.BAD_DEALING, dealt.dealer)
    try:
        opened = ChaCha20Poly1305(key).decrypt(_NONCE, dealt.sealed[index - 1], context)
        shares = tuple(
            decode_scalar(opened[start : start + SCALAR_LENGTH]) for start in range(0, len(opened), SCALAR_LENGTH)
        )
    except (InvalidTag, EncodingError):
        raise fault from None
    if len(shares) != len(dealt.g2):
        raise fault
    for share, row in zip(shares, dealt.g2, strict=True):
        if G2_BASE * share != committed(row, index):
            raise fault
    return shares


def open_shares(dealing: Dealing, index: int, secret: TransportSecret, context: bytes) -> tuple[Scalar, ...]:
    """The shares of x and of each y that a dealer sealed to recipient `index`.

    Raises `CredentialRejected` (bad-dealing) where they are not what was committed to: a reason to complain.
    """
    dealt = dealing.dealt
    key = sealing_key(dealt.dealer, index, dealt.ephemeral, secret.public(), dealt.ephemeral * secret.scalar)
    return shares_under(dealt, index, key, context)


def committed(row: Sequence[P], index: int) -> P:
    """The committed polynomial's value at `index`, in the exponent."""
    return sum_of_products(row, powers(index, len(row)))


def derive_secret(index: int, threshold: int, shares: Iterable[Sequence[Scalar]]) -> SecretKey:
    """The issuer's key: the sum of what every dealer who is not disqualified dealt to it.

    Raises `CredentialRejected` (too-few) where there are less dealers than the threshold.
    """
    dealt = list(shares)
    if len(dealt) < threshold:
        raise CredentialRejected(CredentialFault.TOO_FEW)
    sums = [_total(column) for column in zip(*dealt, strict=True)]
    return SecretKey(index, threshold, sums[0], tuple(sums[1:]))


def derive_public(dealings: Mapping[int, Dealing], recipients: int) -> tuple[list[IssuerKey], VerificationKey]:
    """The public key of each issuer and that of the threshold, from the dealings of all who are not disqualified.

    Anybody can. Raises `CredentialRejected`: too-few where there are less than the threshold, bad-key where the dealt
    keys cancel out.
    """
    dealt = [dealing.dealt for _, dealing in sorted(dealings.items())]
    if not dealt or len(dealt) < dealt[0].threshold:
        raise CredentialRejected(CredentialFault.TOO_FEW)
    g2 = [_rows([each.g2[j] for each in dealt]) for j in range(len(dealt[0].g2))]
    g1 = [_rows([each.g1[j] for each in dealt]) for j in range(len(dealt[0].g1))]
    issuers = [
        IssuerKey(
            index,
            dealt[0].threshold,
            VerificationKey(
                committed(g2[0], index),
                tuple(committed(row, index) for row in g2[1:]),
                tuple(committed(row, index) for row in g1),
            ),
        )
        for index in range(1, recipients + 1)
    ]
    key = VerificationKey(g2[0][0], tuple(row[0] for row in g2[1:]), tuple(row[0] for row in g1))
    for each in (key, *(issuer.key for issuer in issuers)):
        if any(is_identity(point) for point in (each.alpha, *each.betas)):
            raise CredentialRejected(CredentialFault.BAD_KEY)
    return issuers, key


def _rows(rows: Sequence[Sequence[P]]) -> list[P]:
    return [add(column) for column in zip(*rows, strict=True)]


def _total(scalars: Sequence[Scalar]) -> Scalar:
    first, *rest = scalars
    for scalar in rest:
        first = first + scalar
    return first
