"""Withdrawing a ticket book: the issuers sign who owns it and its seed without seeing either.

The owner's public key is in the request, so that a double spender, whom two payments name by it, can be found. The seed
is v = v_0 + u: the owner draws v_0, and u is a hash of the request. Else two owners could agree on one seed, and pay
with the same serials, which would name neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from nymtw.credentials.blind import BlindShare, Pending, hidden_secrets, hide, public_part, relations, sign
from nymtw.credentials.curve import (
    G1,
    G1_BASE,
    SYSTEM_RANDOM,
    Base,
    Scalar,
    add,
    encode,
    hash_to_g1,
    hash_to_scalar,
    is_identity,
    random_scalar,
)
from nymtw.credentials.ecash.bases import ATTRIBUTES, DOMAIN, Parameters
from nymtw.credentials.keys import SecretKey
from nymtw.credentials.proofs import Proof, Relation, Statement, Term, holds, prove
from nymtw.credentials.wire import Kind, Reader, integer, pack
from nymtw.errors import CredentialFault, CredentialRejected

HIDDEN: Final = 2
_SECRETS: Final = 1 + 2 * HIDDEN


@dataclass(frozen=True)
class Withdrawal:
    """com, c_sk and c_v, pk, expiry (a day), type, and the proof. 390 bytes."""

    commitment: G1
    parts: tuple[G1, ...]
    owner: G1
    expiry: int
    type: int
    proof: Proof

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        public = integer(self.expiry, 4) + integer(self.type, 1)
        return pack(Kind.WITHDRAWAL, self.commitment, self.parts, self.owner, public, self.proof.scalars)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Withdrawal":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.WITHDRAWAL)
        withdrawal = cls(
            reader.g1(),
            reader.times(HIDDEN, reader.g1),
            reader.g1(),
            reader.integer(4),
            reader.integer(1),
            Proof.read(reader, _SECRETS),
        )
        reader.end()
        return withdrawal


def withdrawal_base(parameters: Parameters, commitment: G1, expiry: int, kind: int) -> G1:
    """h = H1(com + expiry gamma_2 + type gamma_3)."""
    whole = commitment + public_part(parameters.gammas[HIDDEN:], (Scalar(expiry), Scalar(kind)))
    return hash_to_g1(DOMAIN, b"withdrawal", encode(whole))


def seed_offset(asked: Sequence[G1]) -> Scalar:
    """u = Hs(com, c_sk, c_v, pk): what the request adds to its owner's part of the seed."""
    return hash_to_scalar(DOMAIN, b"seed", *(encode(point) for point in asked))


def withdrawal_statement(
    parameters: Parameters,
    commitment: G1,
    base: G1,
    parts: Sequence[G1],
    owner: G1,
    expiry: int,
    kind: int,
    context: bytes,
) -> Statement:
    """com, c_sk and c_v hold one sk and v_0, and pk = sk g1; `base` is `withdrawal_base`."""
    elements = [
        ("parameters", parameters.digest),
        ("commitment", encode(commitment)),
        ("base", encode(base)),
        *((f"part {j}", encode(part)) for j, part in enumerate(parts)),
        ("owner", encode(owner)),
        ("expiry", integer(expiry, 4)),
        ("type", integer(kind, 1)),
    ]
    owned = Relation(Base(owner), (Term("attribute 0", G1_BASE),))
    made_of = (*relations(commitment, parameters.gammas, base, parts), owned)
    return Statement(b"ecash withdrawal", tuple(elements), made_of, (context,))


def withdraw(
    parameters: Parameters,
    owner: Scalar,
    expiry: int,
    kind: int,
    context: bytes = b"",
    random: Random = SYSTEM_RANDOM,
) -> tuple[Withdrawal, Pending]:
    """A request for a book, and what its maker keeps.

    `owner` is the client's secret key sk_user, `expiry` the last day on which the book can be spent, `kind` its type (0
    to 255), `context` what pays for it, such as the deposit's name. Draws v_0, the opening of com, those of the parts,
    then what the proof draws. Raises `EncodingError`.
    """
    integer(expiry, 4), integer(kind, 1)
    seed = random_scalar(random)
    opening = random_scalar(random)
    hidden = (owner, seed)
    commitment = add([G1_BASE * opening, public_part(parameters.gammas[:HIDDEN], hidden)])
    base = withdrawal_base(parameters, commitment, expiry, kind)
    openings, parts = hide(base, hidden, random)
    public_key = G1_BASE * owner
    statement = withdrawal_statement(parameters, commitment, base, parts, public_key, expiry, kind, context)
    proof = prove(statement, hidden_secrets(opening, openings, hidden), random)
    whole = seed + seed_offset([commitment, *parts, public_key])
    pending = Pending(base, openings, (owner, whole, Scalar(expiry), Scalar(kind)))
    return Withdrawal(commitment, parts, public_key, expiry, kind, proof), pending


def check_withdrawal(parameters: Parameters, asked: Withdrawal, context: bytes = b"") -> G1:
    """Check a request; returns the h to sign it with. Raises `CredentialRejected` (wrong-count, bad-proof)."""
    if len(asked.parts) != HIDDEN:
        raise CredentialRejected(CredentialFault.WRONG_COUNT)
    base = withdrawal_base(parameters, asked.commitment, asked.expiry, asked.type)
    statement = withdrawal_statement(
        parameters, asked.commitment, base, asked.parts, asked.owner, asked.expiry, asked.type, context
    )
    if is_identity(asked.owner) or not holds(statement, asked.proof):
        raise CredentialRejected(CredentialFault.BAD_PROOF)
    return base


def signed_parts(asked: Withdrawal, base: G1) -> tuple[G1, G1]:
    """The commitments that issuers sign, and `blind.check_answer` is about: c_sk, and c_v + u h."""
    owner, seed = asked.parts
    return owner, seed + base * seed_offset([asked.commitment, *asked.parts, asked.owner])


def issue(parameters: Parameters, secret: SecretKey, asked: Withdrawal, context: bytes = b"") -> BlindShare:
    """An issuer's blind signature, the same for the same request; the issuer gives one for each paid deposit.

    Raises `CredentialRejected` (wrong-count, bad-proof).
    """
    if len(secret.ys) != ATTRIBUTES:
        raise CredentialRejected(CredentialFault.WRONG_COUNT)
    base = check_withdrawal(parameters, asked, context)
    return sign(secret, base, signed_parts(asked, base), (Scalar(asked.expiry), Scalar(asked.type)))
