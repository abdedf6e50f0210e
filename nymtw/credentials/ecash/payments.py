"""A payment with tickets: its form, what its proof says, and how a receiver checks it without asking anybody."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import Final

from nymtw.credentials.blind import Signature
from nymtw.credentials.curve import (
    G1,
    G1_BASE,
    G2,
    G2_BASE,
    SYSTEM_RANDOM,
    Base,
    Scalar,
    add,
    encode,
    hash_to_scalar,
    is_identity,
    pairings_cancel,
    random_weight,
)
from nymtw.credentials.ecash.bases import ATTRIBUTES, DATE, DOMAIN, INDEX, MAX_TICKETS, Parameters
from nymtw.credentials.keys import VerificationKey
from nymtw.credentials.proofs import Proof, Relation, Statement, Term, holds
from nymtw.credentials.wire import Kind, Reader, byte, integer, pack
from nymtw.errors import CredentialFault, CredentialRejected, EncodingError

BOOK_SECRETS: Final = 6
TICKET_SECRETS: Final = 5


@dataclass(frozen=True)
class PaymentInfo:
    """Whom and what is paid: the receiver's key (32 bytes), a time (unsigned 64-bit), a nonce (16 bytes). 57 bytes.

    Two payments with one ticket and different infos name their spender; with the same info, the second is a replay.
    """

    receiver: bytes
    time: int
    nonce: bytes

    def to_bytes(self) -> bytes:
        """The canonical bytes. Raises `EncodingError`."""
        if (len(self.receiver), len(self.nonce)) != (32, 16):
            raise EncodingError("a payment info has a key of 32 bytes and a nonce of 16")
        return pack(Kind.PAYMENT_INFO, self.receiver, integer(self.time, 8), self.nonce)

    @classmethod
    def from_bytes(cls, data: bytes) -> "PaymentInfo":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.PAYMENT_INFO)
        info = cls(reader.bytes(32), reader.integer(8), reader.bytes(16))
        reader.end()
        return info


@dataclass(frozen=True)
class Ticket:
    """One ticket of a payment: kappa_k and the signature on its index, S, T, and A, which hides the index."""

    kappa: G2
    signature: Signature
    serial: G1
    tag: G1
    index: G1

    @property
    def points(self) -> list[G1 | G2]:
        """All points, in the order of the byte form."""
        return [self.kappa, *self.signature.points, self.serial, self.tag, self.index]

    @classmethod
    def read(cls, reader: Reader) -> "Ticket":
        """The next six points. Raises `EncodingError`."""
        return cls(reader.g2(), Signature.read(reader), reader.g1(), reader.g1(), reader.g1())


@dataclass(frozen=True)
class Paid:
    """The points of a payment and its type: all that its proof is about."""

    kappa: G2
    signature: Signature
    kappa_date: G2
    signature_date: Signature
    seed: G1
    type: int
    tickets: tuple[Ticket, ...]

    @property
    def points(self) -> list[G1 | G2]:
        """All points, in the order of the byte form."""
        book: list[G1 | G2] = [
            self.kappa,
            *self.signature.points,
            self.kappa_date,
            *self.signature_date.points,
            self.seed,
        ]
        return [*book, *chain.from_iterable(ticket.points for ticket in self.tickets)]


@dataclass(frozen=True)
class Payment:
    """1 to 50 tickets paid at once. 659 + 496 n bytes."""

    paid: Paid
    proof: Proof

    @property
    def serials(self) -> tuple[bytes, ...]:
        """What each ticket is known by, 48 bytes: a receiver keeps them to find a double spend."""
        return tuple(encode(ticket.serial) for ticket in self.paid.tickets)

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        paid = self.paid
        header = byte(paid.type) + byte(len(paid.tickets))
        return pack(Kind.PAYMENT, header, paid.points, self.proof.scalars)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Payment":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.PAYMENT)
        kind, count = reader.integer(1), reader.count(1, MAX_TICKETS)
        kappa, signature = reader.g2(), Signature.read(reader)
        kappa_date, signature_date = reader.g2(), Signature.read(reader)
        seed = reader.g1()
        tickets = reader.times(
            count,
            lambda: Ticket.read(reader),
        )
        proof = Proof.read(reader, BOOK_SECRETS + TICKET_SECRETS * count)
        reader.end()
        return cls(Paid(kappa, signature, kappa_date, signature_date, seed, kind, tickets), proof)


def ticket_challenge(info: PaymentInfo, number: int) -> Scalar:
    """R = Hs(info, number of the ticket in the payment)."""
    return hash_to_scalar(DOMAIN, b"ticket", info.to_bytes(), integer(number, 1))


def payment_statement(parameters: Parameters, key: VerificationKey, paid: Paid, info: PaymentInfo) -> Statement:
    """What a payment proves; docs/credentials.md has the equations one by one."""
    elements = [
        ("parameters", parameters.digest),
        ("key", key.digest),
        ("type", byte(paid.type)),
        ("count", byte(len(paid.tickets))),
        ("kappa", encode(paid.kappa)),
        ("base", encode(paid.signature.base)),
        ("value", encode(paid.signature.value)),
        ("kappa date", encode(paid.kappa_date)),
        ("base date", encode(paid.signature_date.base)),
        ("value date", encode(paid.signature_date.value)),
        ("seed", encode(paid.seed)),
    ]
    beta = key.beta_bases
    relations = [
        Relation(
            Base(paid.kappa - key.alpha),
            (Term("r", G2_BASE), Term("owner", beta[0]), Term("v", beta[1]), Term("expiry", beta[2])),
        ),
        Relation(Base(paid.kappa_date - key.alpha), (Term("r date", G2_BASE), Term("expiry", beta[0]))),
        Relation(Base(paid.seed), (Term("o", G1_BASE), Term("v", parameters.gammas[1]))),
    ]
    for number, ticket in enumerate(paid.tickets):
        elements += [
            (f"kappa {number}", encode(ticket.kappa)),
            (f"base {number}", encode(ticket.signature.base)),
            (f"value {number}", encode(ticket.signature.value)),
            (f"serial {number}", encode(ticket.serial)),
            (f"tag {number}", encode(ticket.tag)),
            (f"index {number}", encode(ticket.index)),
        ]
        relations += ticket_relations(parameters, key, paid.seed, ticket, number, ticket_challenge(info, number))
    return Statement(b"ecash payment", tuple(elements), tuple(relations), (info.to_bytes(),))


def ticket_relations(
    parameters: Parameters, key: VerificationKey, seed: G1, ticket: Ticket, number: int, factor: Scalar
) -> list[Relation]:
    """The index in kappa_k and A; mu (v + index + 1) = 1 through C + A + gamma_1; S and T of the same mu and owner."""
    gamma = parameters.gammas[1]
    index, mu = f"index {number}", f"mu {number}"
    inverse = Base(seed + ticket.index + gamma.point)
    return [
        Relation(Base(ticket.kappa - key.alpha), (Term(f"r {number}", G2_BASE), Term(index, key.beta_bases[0]))),
        Relation(Base(ticket.index), (Term(f"o {number}", G1_BASE), Term(index, gamma))),
        Relation(gamma, (Term(mu, inverse), Term(f"o mu {number}", G1_BASE))),
        Relation(Base(ticket.serial), (Term(mu, parameters.delta),)),
        Relation(Base(ticket.tag), (Term("owner", G1_BASE), Term(mu, G1_BASE, factor))),
    ]


def verify_payment(
    parameters: Parameters,
    key: VerificationKey,
    payment: Payment,
    info: PaymentInfo,
    day: int,
    random: Random = SYSTEM_RANDOM,
) -> None:
    """Check a payment made on `day`; which types are taken, and whether a serial was seen before, the caller knows.

    Raises `CredentialRejected` (wrong-count, doubled, bad-proof, bad-signature).
    """
    paid = payment.paid
    count = len(paid.tickets)
    if not 1 <= count <= parameters.tickets or len(key.betas) != ATTRIBUTES:
        raise CredentialRejected(CredentialFault.WRONG_COUNT)
    if len(set(payment.serials)) != count:
        raise CredentialRejected(CredentialFault.DOUBLED)
    if any(is_identity(point) for point in paid.points):
        raise CredentialRejected(CredentialFault.BAD_SIGNATURE)
    if not holds(payment_statement(parameters, key, paid, info), payment.proof):
        raise CredentialRejected(CredentialFault.BAD_PROOF)
    if not pairings_cancel(weighted_pairs(signatures_of(key, paid, day), random)):
        raise CredentialRejected(CredentialFault.BAD_SIGNATURE)


def signatures_of(key: VerificationKey, paid: Paid, day: int) -> list[tuple[Signature, G2]]:
    """Each signature of a payment, with the message that it has to be on."""
    book = paid.kappa + key.part(3, [Scalar(paid.type)])
    date = paid.kappa_date + key.part(1, [Scalar(day)]) + key.constant(3, DATE)
    constant = key.constant(3, INDEX)
    return [
        (paid.signature, book),
        (paid.signature_date, date),
        *((ticket.signature, ticket.kappa + constant) for ticket in paid.tickets),
    ]


def weighted_pairs(signatures: Sequence[tuple[Signature, G2]], random: Random) -> list[tuple[G1, G2]]:
    """One product of pairings for all: each signature but the first with a random weight of 128 bits."""
    (first, message), *rest = signatures
    pairs, values = [(first.base, message)], [first.value]
    for signature, about in rest:
        weight = random_weight(random)
        pairs.append((signature.base * weight, about))
        values.append(signature.value * weight)
    return [*pairs, (-add(values), G2_BASE.point)]
