"""Blind issuing, as both schemes do it: a threshold signature on attributes of which the first are hidden.

Rial and Piotrowska, "Security analysis of Coconut" (ePrint 2022/011), in the form with Pedersen commitments: c_j =
o_j g1 + m_j h, and an issuer's answer s~ = x h + sum of public y_j m_j h + sum of hidden y_j c_j.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from nymtw.credentials.curve import (
    G1,
    G1_BASE,
    G2_BASE,
    Base,
    Scalar,
    add,
    encode,
    pairings_cancel,
    random_scalar,
    sum_of_products,
)
from nymtw.credentials.keys import MAX_ATTRIBUTES, MAX_ISSUERS, IssuerKey, SecretKey, VerificationKey
from nymtw.credentials.proofs import Relation, Term
from nymtw.credentials.shamir import interpolate
from nymtw.credentials.wire import Kind, Reader, byte, pack
from nymtw.errors import CredentialFault, CredentialRejected


@dataclass(frozen=True)
class Signature:
    """(h, s): e(h, alpha + sum m_j beta_j) = e(s, g2)."""

    base: G1
    value: G1

    def randomised(self, factor: Scalar) -> "Signature":
        """Another signature on the same attributes, that nobody can tell to be of this one."""
        return Signature(self.base * factor, self.value * factor)

    @property
    def points(self) -> tuple[G1, G1]:
        """Both, in the order of the byte form."""
        return self.base, self.value

    @classmethod
    def read(cls, reader: Reader) -> "Signature":
        """The next two points, 48 bytes each. Raises `EncodingError`."""
        return cls(reader.g1(), reader.g1())


@dataclass(frozen=True)
class BlindShare:
    """An issuer's answer to a request; only who made the request can use it. 98 bytes."""

    issuer: int
    base: G1
    value: G1

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return pack(Kind.BLIND_SHARE, byte(self.issuer), self.base, self.value)

    @classmethod
    def from_bytes(cls, data: bytes) -> "BlindShare":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.BLIND_SHARE)
        share = cls(reader.count(1, MAX_ISSUERS), reader.g1(), reader.g1())
        reader.end()
        return share


@dataclass(frozen=True)
class Share:
    """An issuer's signature, unblinded and checked. 98 bytes."""

    issuer: int
    signature: Signature

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return pack(Kind.SHARE, byte(self.issuer), self.signature.points)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Share":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.SHARE)
        share = cls(reader.count(1, MAX_ISSUERS), Signature.read(reader))
        reader.end()
        return share


@dataclass(frozen=True)
class Pending:
    """What a requester keeps until the shares are there, in secret: h, the openings o_j, all attributes.

    51 + 32 (hidden + all) bytes; the hidden attributes stand first.
    """

    base: G1
    openings: tuple[Scalar, ...]
    attributes: tuple[Scalar, ...]

    @cached_property
    def products(self) -> tuple[G1, ...]:
        """m_j h of each hidden attribute."""
        return tuple(self.base * value for value in self.attributes[: len(self.openings)])

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        counts = byte(len(self.openings)) + byte(len(self.attributes))
        return pack(Kind.PENDING, counts, self.base, self.openings, self.attributes)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Pending":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.PENDING)
        hidden = reader.count(1, MAX_ATTRIBUTES)
        count = reader.count(hidden, MAX_ATTRIBUTES)
        pending = cls(reader.g1(), reader.times(hidden, reader.scalar), reader.times(count, reader.scalar))
        reader.end()
        return pending

    def __repr__(self) -> str:
        return "<Pending>"


def hide(base: G1, hidden: Sequence[Scalar], random: Random) -> tuple[tuple[Scalar, ...], tuple[G1, ...]]:
    """The openings o_j and the commitments c_j = o_j g1 + m_j h."""
    openings = tuple(random_scalar(random) for _ in hidden)
    return openings, tuple(G1_BASE * o + base * m for o, m in zip(openings, hidden, strict=True))


def hidden_secrets(opening: Scalar, openings: Sequence[Scalar], hidden: Sequence[Scalar]) -> dict[str, Scalar]:
    """The secrets of `relations` by name."""
    named = {"opening": opening}
    for j, (o, m) in enumerate(zip(openings, hidden, strict=True)):
        named[f"opening {j}"] = o
        named[f"attribute {j}"] = m
    return named


def relations(image: G1, generators: Sequence[Base[G1]], base: G1, parts: Sequence[G1]) -> tuple[Relation, ...]:
    """`image` = o g1 + sum of m_j h_j over the hidden attributes, and each c_j = o_j g1 + m_j h."""
    whole = [Term("opening", G1_BASE)]
    whole += [Term(f"attribute {j}", generators[j]) for j in range(len(parts))]
    own = Base(base)
    each = [
        Relation(Base(part), (Term(f"opening {j}", G1_BASE), Term(f"attribute {j}", own)))
        for j, part in enumerate(parts)
    ]
    return (Relation(Base(image), tuple(whole)), *each)


def sign(secret: SecretKey, base: G1, parts: Sequence[G1], public: Sequence[Scalar]) -> BlindShare:
    """The issuer's answer, which the request alone settles. The proof of the request has been checked before."""
    hidden = len(parts)
    exponent = secret.x
    for y, attribute in zip(secret.ys[hidden:], public, strict=True):
        exponent = exponent + y * attribute
    value = sum_of_products([base, *parts], [exponent, *secret.ys[:hidden]])
    return BlindShare(secret.index, base, value)


def check_answer(
    issuer: IssuerKey, base: G1, parts: Sequence[G1], public: Sequence[Scalar], answer: BlindShare
) -> None:
    """Check an issuer's answer to a request, without any secret of who made it: a ledger can.

    `parts` are the c_j of the request, `base` its h. Says the same as `unblind` where the issuer's key is consistent.
    Raises `CredentialRejected` (bad-share) with the issuer's index.
    """
    key, hidden = issuer.key, len(parts)
    if hidden + len(public) != len(key.betas):
        raise CredentialRejected(CredentialFault.MIXED)
    message = key.alpha + key.part(hidden, public) if public else key.alpha
    pairs = [(base, message), *zip(parts, key.betas, strict=False), (-answer.value, G2_BASE.point)]
    if answer.issuer != issuer.index or answer.base != base or not pairings_cancel(pairs):
        raise CredentialRejected(CredentialFault.BAD_SHARE, issuer.index)


def signs(key: VerificationKey, value: G1, pending: Pending) -> bool:
    """Whether (h, value) is a signature on the attributes: e(h, alpha + sum m_j beta_j) = e(value, g2).

    The hidden ones are multiplied in G1, once for all issuers, and not in G2 for each.
    """
    hidden = len(pending.openings)
    public = pending.attributes[hidden:]
    message = key.alpha + key.part(hidden, public) if public else key.alpha
    pairs = [(pending.base, message), *zip(pending.products, key.betas, strict=False), (-value, G2_BASE.point)]
    return pairings_cancel(pairs)


def unblind(issuer: IssuerKey, pending: Pending, answer: BlindShare) -> Share:
    """s = s~ - sum of o_j gamma_j, checked against the issuer's key.

    Raises `CredentialRejected` (bad-share) with the issuer's index where the answer is not what it has to be: another
    request's, another issuer's, or a lie.
    """
    fault = CredentialRejected(CredentialFault.BAD_SHARE, issuer.index)
    if answer.issuer != issuer.index or answer.base != pending.base:
        raise fault
    if len(issuer.key.betas) != len(pending.attributes):
        raise CredentialRejected(CredentialFault.MIXED)
    blinding = sum_of_products(issuer.key.gammas[: len(pending.openings)], pending.openings)
    value = answer.value - blinding
    if not signs(issuer.key, value, pending):
        raise fault
    return Share(issuer.index, Signature(answer.base, value))


def aggregate(shares: Iterable[Share], threshold: int) -> Signature:
    """The signature of the threshold from t shares of one request.

    Raises `CredentialRejected` (too-few, mixed) where there are fewer than t issuers' shares, or of two requests.
    """
    chosen: dict[int, Share] = {}
    for share in shares:
        chosen.setdefault(share.issuer, share)
    if len({encode(share.signature.base) for share in chosen.values()}) > 1:
        raise CredentialRejected(CredentialFault.MIXED)
    if len(chosen) < threshold:
        raise CredentialRejected(CredentialFault.TOO_FEW)
    taken = list(chosen.values())[:threshold]
    return Signature(taken[0].signature.base, interpolate({share.issuer: share.signature.value for share in taken}))


@dataclass(frozen=True)
class Collected:
    """A signature of the threshold, and the issuers whose answers were refused on the way."""

    signature: Signature
    liars: tuple[int, ...]


def collect(issuers: Mapping[int, IssuerKey], pending: Pending, answers: Iterable[BlindShare]) -> Collected:
    """Unblind answers until t are good.

    Raises `CredentialRejected` (too-few) where they are not enough; answers of issuers that are not known do not count.
    """
    good: dict[int, Share] = {}
    liars: list[int] = []
    threshold = max((issuer.threshold for issuer in issuers.values()), default=1)
    for answer in answers:
        issuer = issuers.get(answer.issuer)
        if issuer is None or answer.issuer in good or len(good) == threshold:
            continue
        try:
            good[answer.issuer] = unblind(issuer, pending, answer)
        except CredentialRejected as rejected:
            if rejected.fault is not CredentialFault.BAD_SHARE:
                raise
            liars.append(answer.issuer)
    return Collected(aggregate(good.values(), threshold), tuple(dict.fromkeys(liars)))


def public_part(generators: Sequence[Base[G1]], public: Sequence[Scalar]) -> G1:
    """The sum of m_i h_i over some attributes, of one or more."""
    return add([generator * value for generator, value in zip(generators, public, strict=True)])
