"""Asking for a credential: the private attributes stay hidden from every issuer, and from readers of the ledger.

Sonnino, Al-Bassam, Bano, Meiklejohn, Danezis, "Coconut" (NDSS 2019), PrepareBlindSign and BlindSign, in the
Pedersen form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from nymtw.credentials.blind import BlindShare, Pending, hidden_secrets, hide, public_part, relations, sign
from nymtw.credentials.coconut.bases import Parameters
from nymtw.credentials.curve import G1, G1_BASE, SYSTEM_RANDOM, Scalar, add, encode, hash_to_g1, random_scalar
from nymtw.credentials.keys import MAX_ATTRIBUTES, SecretKey
from nymtw.credentials.proofs import Proof, Statement, holds, prove
from nymtw.credentials.wire import Kind, Reader, byte, pack
from nymtw.errors import CredentialFault, CredentialRejected

_BASE_DOMAIN: Final = b"NYMTW-CREDENTIALS-V1 coconut request base"


@dataclass(frozen=True)
class Request:
    """c_m, the c_j, the public attributes, and the proof: 115 + 112 k + 32 p bytes for k private and p public ones."""

    commitment: G1
    parts: tuple[G1, ...]
    public: tuple[Scalar, ...]
    proof: Proof

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        counts = byte(len(self.parts)) + byte(len(self.public))
        return pack(Kind.COCONUT_REQUEST, counts, self.commitment, self.parts, self.public, self.proof.scalars)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Request":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.COCONUT_REQUEST)
        hidden = reader.count(1, MAX_ATTRIBUTES)
        public = reader.count(0, MAX_ATTRIBUTES - hidden)
        request = cls(
            reader.g1(),
            reader.times(hidden, reader.g1),
            reader.times(public, reader.scalar),
            Proof.read(reader, 1 + 2 * hidden),
        )
        reader.end()
        return request


def request_base(commitment: G1, public: Sequence[Scalar]) -> G1:
    """h = H1(c_m, public attributes): the first half of the signature."""
    return hash_to_g1(_BASE_DOMAIN, encode(commitment), *(encode(value) for value in public))


def request_statement(
    parameters: Parameters, commitment: G1, base: G1, parts: Sequence[G1], public: Sequence[Scalar], context: bytes
) -> Statement:
    """c_m without the public attributes, and each c_j, hold the same private ones; `base` is `request_base`."""
    image = commitment - public_part(parameters.generators[len(parts) :], public) if public else commitment
    elements = [
        ("parameters", parameters.digest),
        ("commitment", encode(commitment)),
        ("base", encode(base)),
        *((f"part {j}", encode(part)) for j, part in enumerate(parts)),
        *((f"public {j}", encode(value)) for j, value in enumerate(public)),
    ]
    made_of = relations(image, parameters.generators, base, parts)
    return Statement(b"coconut request", tuple(elements), made_of, (context,))


def request(
    parameters: Parameters,
    private: Sequence[Scalar],
    public: Sequence[Scalar] = (),
    context: bytes = b"",
    random: Random = SYSTEM_RANDOM,
) -> tuple[Request, Pending]:
    """A request for a credential, and what its maker keeps.

    `private` holds the serial number first; `context` is what the request belongs to, such as the
    account that pays. Draws the opening of c_m, those of the c_j, then what the proof draws. Raises
    `CredentialRejected` (wrong-count) where the attributes are not as many as the parameters say.
    """
    if (len(private), len(public)) != (parameters.private, parameters.public):
        raise CredentialRejected(CredentialFault.WRONG_COUNT)
    opening = random_scalar(random)
    attributes = (*private, *public)
    commitment = add([G1_BASE * opening, public_part(parameters.generators, attributes)])
    base = request_base(commitment, public)
    openings, parts = hide(base, private, random)
    statement = request_statement(parameters, commitment, base, parts, public, context)
    proof = prove(statement, hidden_secrets(opening, openings, private), random)
    return Request(commitment, parts, tuple(public), proof), Pending(base, openings, attributes)


def check_request(parameters: Parameters, asked: Request, context: bytes = b"") -> G1:
    """Check a request; returns the h to sign it with. Raises `CredentialRejected` (wrong-count, bad-proof)."""
    if (len(asked.parts), len(asked.public)) != (parameters.private, parameters.public):
        raise CredentialRejected(CredentialFault.WRONG_COUNT)
    base = request_base(asked.commitment, asked.public)
    statement = request_statement(parameters, asked.commitment, base, asked.parts, asked.public, context)
    if not holds(statement, asked.proof):
        raise CredentialRejected(CredentialFault.BAD_PROOF)
    return base


def blind_sign(parameters: Parameters, secret: SecretKey, asked: Request, context: bytes = b"") -> BlindShare:
    """An issuer's blind signature: the same for the same request, and of use to its maker alone.

    The issuer decides beforehand whether the public attributes are to be signed. Raises `CredentialRejected`
    (wrong-count, bad-proof).
    """
    if len(secret.ys) != parameters.attributes:
        raise CredentialRejected(CredentialFault.WRONG_COUNT)
    base = check_request(parameters, asked, context)
    return sign(secret, base, asked.parts, asked.public)
