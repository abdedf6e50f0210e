"""A recipient's complaint about a dealer of the DKG, and the judgement that anybody can make of it.

The complaint gives away what opens the recipient's sealed shares of this one dealer, with a proof that it does (Chaum
and Pedersen, CRYPTO 1992). Either the shares are wrong, and the dealer is out; or they are right, and so is who
complained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha512
from random import Random

from nymtw.credentials.curve import G1, G1_BASE, SYSTEM_RANDOM, Base, encode
from nymtw.credentials.dkg import Dealing, Dealt, TransportKey, TransportSecret, sealing_key, shares_under
from nymtw.credentials.keys import MAX_ISSUERS
from nymtw.credentials.proofs import Proof, Relation, Statement, Term, holds, prove
from nymtw.credentials.wire import Kind, Reader, byte, pack
from nymtw.errors import CredentialFault, CredentialRejected


@dataclass(frozen=True)
class Complaint:
    """Recipient `index` complains about `dealer` and shows e K. 115 bytes."""

    dealer: int
    index: int
    shared: G1
    proof: Proof

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return pack(Kind.COMPLAINT, byte(self.dealer) + byte(self.index), self.shared, self.proof.scalars)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Complaint":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.COMPLAINT)
        dealer, index = reader.count(1, MAX_ISSUERS), reader.count(1, MAX_ISSUERS)
        complaint = cls(dealer, index, reader.g1(), Proof.read(reader, 1))
        reader.end()
        return complaint


class Judgement(StrEnum):
    """Who is at fault, and out of the round."""

    DEALER = "dealer"
    COMPLAINER = "complainer"


def complaint_statement(dealt: Dealt, index: int, recipient: TransportKey, shared: G1, context: bytes) -> Statement:
    """One e for both: the recipient's key is e g1, and what it shows is e K."""
    elements = (
        ("dealt", sha512(dealt.body).digest()),
        ("index", byte(index)),
        ("recipient", encode(recipient.point)),
        ("shared", encode(shared)),
    )
    relations = (
        Relation(Base(recipient.point), (Term("e", G1_BASE),)),
        Relation(Base(shared), (Term("e", Base(dealt.ephemeral)),)),
    )
    return Statement(b"dkg complaint", elements, relations, (context,))


def complain(
    dealing: Dealing, index: int, secret: TransportSecret, context: bytes, random: Random = SYSTEM_RANDOM
) -> Complaint:
    """Complain about a dealing whose shares `open_shares` refused."""
    dealt = dealing.dealt
    shared = dealt.ephemeral * secret.scalar
    statement = complaint_statement(dealt, index, secret.public(), shared, context)
    return Complaint(dealt.dealer, index, shared, prove(statement, {"e": secret.scalar}, random))


def resolve(complaint: Complaint, dealing: Dealing, recipients: Sequence[TransportKey], context: bytes) -> Judgement:
    """Judge a complaint about a dealing that `check_dealing` accepted: all come to the same judgement.

    Raises `CredentialRejected` (bad-complaint) where it is not about this dealing, or not by that recipient: nobody is
    at fault then, since anybody could have sent it.
    """
    dealt = dealing.dealt
    if complaint.dealer != dealt.dealer or not 1 <= complaint.index <= len(recipients):
        raise CredentialRejected(CredentialFault.BAD_COMPLAINT)
    recipient = recipients[complaint.index - 1]
    statement = complaint_statement(dealt, complaint.index, recipient, complaint.shared, context)
    if not holds(statement, complaint.proof):
        raise CredentialRejected(CredentialFault.BAD_COMPLAINT)
    key = sealing_key(dealt.dealer, complaint.index, dealt.ephemeral, recipient, complaint.shared)
    try:
        shares_under(dealt, complaint.index, key, context)
    except CredentialRejected:
        return Judgement.DEALER
    return Judgement.COMPLAINER
