"""The one proof of both schemes: knowledge of scalars that satisfy linear relations between points.

A statement is data: which images are made of which secrets over which bases. Prover and verifier evaluate the same
data, so that no equation is written twice. Schnorr's protocol made non-interactive by a hash over everything: domain,
elements, commitments, context (Bernhard, Pereira, Warinschi, "How not to prove yourself", ASIACRYPT 2012).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any, Final

from nymtw.credentials.curve import (
    G1,
    G2,
    SYSTEM_RANDOM,
    Base,
    Scalar,
    encode,
    hash_to_scalar,
    identity_of,
    random_scalar,
    sum_of_products,
)
from nymtw.credentials.wire import Reader

_DOMAIN: Final = b"NYMTW-CREDENTIALS-V1 proof"


@dataclass(frozen=True)
class Term:
    """`factor` times the secret called `secret`, times `base`."""

    secret: str
    base: Base[Any]
    factor: Scalar | None = None


@dataclass(frozen=True)
class Relation:
    """`image` is the sum of the terms; all of one group."""

    image: Base[Any]
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Statement:
    """What is proved.

    `elements` are all public values that the statement is made of, by name, as bytes: whatever is not among them, a
    prover could choose after the challenge. `context` is what the proof is for.
    """

    name: bytes
    elements: tuple[tuple[str, bytes], ...]
    relations: tuple[Relation, ...]
    context: tuple[bytes, ...]

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """The names of the secrets in the order of their first use: that of the responses."""
        return tuple(dict.fromkeys(term.secret for relation in self.relations for term in relation.terms))


@dataclass(frozen=True)
class Proof:
    """A challenge and a response for each secret: 32 bytes each."""

    challenge: Scalar
    responses: tuple[Scalar, ...]

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        """Challenge and responses, in the order of the byte form."""
        return (self.challenge, *self.responses)

    @classmethod
    def read(cls, reader: Reader, secrets: int) -> "Proof":
        """Take a proof about so many secrets. Raises `EncodingError`."""
        return cls(reader.scalar(), reader.times(secrets, reader.scalar))


def prove(statement: Statement, secrets: Mapping[str, Scalar], random: Random = SYSTEM_RANDOM) -> Proof:
    """Prove that the secrets satisfy the statement; one random scalar is drawn for each, in order."""
    blinding = {name: random_scalar(random) for name in statement.secrets}
    challenge = challenge_of(statement, commitments(statement, blinding))
    return Proof(challenge, tuple(blinding[name] - challenge * secrets[name] for name in statement.secrets))


def holds(statement: Statement, proof: Proof) -> bool:
    """Whether the proof is one of this very statement. The number of responses is checked before all else."""
    if not complete(statement, proof):
        return False
    responses = dict(zip(statement.secrets, proof.responses, strict=False))
    made = commitments(statement, responses, proof.challenge)
    return proof.challenge == challenge_of(statement, made)


def complete(statement: Statement, proof: Proof) -> bool:
    """Whether there is one response for each secret."""
    return len(proof.responses) == len(statement.secrets)


def commitments(statement: Statement, scalars: Mapping[str, Scalar], challenge: Scalar | None = None) -> list[bytes]:
    """Each relation's sum with these scalars for the secrets, and the challenge times its image where one is given."""
    return [encode(_evaluate(relation, scalars, challenge)) for relation in statement.relations]


def challenge_of(statement: Statement, made: Sequence[bytes]) -> Scalar:
    """The hash over domain, name, elements, commitments and context, each with its length in front."""
    elements = [data for _, data in statement.elements]
    counts = b"".join(len(part).to_bytes(4, "big") for part in (elements, made, statement.context))
    return hash_to_scalar(_DOMAIN, statement.name, counts, *elements, *made, *statement.context)


def _evaluate(relation: Relation, scalars: Mapping[str, Scalar], challenge: Scalar | None) -> G1 | G2:
    factors: dict[Base[Any], Scalar] = {}
    for term in relation.terms:
        product = scalars[term.secret] if term.factor is None else term.factor * scalars[term.secret]
        factors[term.base] = factors[term.base] + product if term.base in factors else product
    if challenge is not None:
        image = relation.image
        factors[image] = factors[image] + challenge if image in factors else challenge
    plain = [base for base in factors if not base.tabled]
    total = identity_of(relation.image.point)
    if plain:
        total = sum_of_products([base.point for base in plain], [factors[base] for base in plain])
    for base, factor in factors.items():
        if base.tabled:
            total = base.onto(total, factor)
    return total
