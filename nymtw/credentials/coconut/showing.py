"""Showing a credential to one receiver: it learns the public attributes and the nullifier, and nothing else.

Coconut (NDSS 2019), ProveCred and VerifyCred; the nullifier zeta = m_1 H1("zeta") is the same each time, so that a
ledger can refuse the second spend.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from nymtw.credentials.blind import Pending, Signature, aggregate
from nymtw.credentials.blind import Share as IssuerShare
from nymtw.credentials.coconut.bases import Parameters
from nymtw.credentials.curve import (
    G1,
    G2,
    G2_BASE,
    SYSTEM_RANDOM,
    Base,
    Scalar,
    add,
    encode,
    is_identity,
    pairings_cancel,
    random_scalar,
    random_weight,
)
from nymtw.credentials.keys import MAX_ATTRIBUTES, VerificationKey
from nymtw.credentials.proofs import Proof, Relation, Statement, Term, holds, prove
from nymtw.credentials.wire import Kind, Reader, byte, integer, pack
from nymtw.errors import CredentialFault, CredentialRejected


@dataclass(frozen=True)
class Credential:
    """A signature of the threshold and its attributes, the serial number first. A secret of its holder.

    99 + 32 q bytes.
    """

    signature: Signature
    private: tuple[Scalar, ...]
    public: tuple[Scalar, ...]

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        counts = byte(len(self.private)) + byte(len(self.public))
        return pack(Kind.CREDENTIAL, counts, self.signature.points, self.private, self.public)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Credential":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.CREDENTIAL)
        hidden = reader.count(1, MAX_ATTRIBUTES)
        public = reader.count(0, MAX_ATTRIBUTES - hidden)
        credential = cls(
            Signature.read(reader),
            reader.times(hidden, reader.scalar),
            reader.times(public, reader.scalar),
        )
        reader.end()
        return credential

    def __repr__(self) -> str:
        return "<Credential>"


def credential(pending: Pending, shares: Sequence[IssuerShare], threshold: int) -> Credential:
    """The credential of a threshold's shares. Raises `CredentialRejected` (too-few, mixed)."""
    hidden = len(pending.openings)
    return Credential(aggregate(shares, threshold), pending.attributes[:hidden], pending.attributes[hidden:])


@dataclass(frozen=True)
class Context:
    """What a show is for: the chain, the receiver's account and a nonce of the receiver. Each at most 255 bytes.

    4 bytes and the three; a show for one context is refused in every other.
    """

    chain: bytes
    receiver: bytes
    nonce: bytes

    @property
    def parts(self) -> tuple[bytes, ...]:
        """All three, as the proof takes them in."""
        return self.chain, self.receiver, self.nonce

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return pack(Kind.SHOW_CONTEXT, *(integer(len(part), 1) + part for part in self.parts))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Context":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.SHOW_CONTEXT)
        context = cls(*(reader.bytes(reader.integer(1)) for _ in range(3)))
        reader.end()
        return context


@dataclass(frozen=True)
class Shown:
    """The points of a show and its public attributes: all that its proof is about."""

    kappa: G2
    nu: G1
    signature: Signature
    nullifier: G1
    public: tuple[Scalar, ...]


@dataclass(frozen=True)
class Show:
    """A credential shown. 355 + 32 q bytes."""

    shown: Shown
    proof: Proof

    @property
    def nullifier(self) -> bytes:
        """What the ledger knows this credential by, 48 bytes: the same at each show of one credential."""
        return encode(self.shown.nullifier)

    @property
    def public(self) -> tuple[Scalar, ...]:
        """The public attributes."""
        return self.shown.public

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        shown = self.shown
        return pack(
            Kind.SHOW,
            byte(len(self.proof.responses) - 1) + byte(len(shown.public)),
            (shown.kappa, shown.nu, *shown.signature.points, shown.nullifier),
            self.proof.scalars,
            shown.public,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Show":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.SHOW)
        hidden = reader.count(1, MAX_ATTRIBUTES)
        public = reader.count(0, MAX_ATTRIBUTES - hidden)
        kappa, nu, signature, nullifier = reader.g2(), reader.g1(), Signature.read(reader), reader.g1()
        proof = Proof.read(reader, 1 + hidden)
        shown = Shown(kappa, nu, signature, nullifier, reader.times(public, reader.scalar))
        reader.end()
        return cls(shown, proof)


def show_statement(parameters: Parameters, key: VerificationKey, shown: Shown, context: Context) -> Statement:
    """kappa, nu and zeta hold the same r and private attributes."""
    elements = [
        ("parameters", parameters.digest),
        ("key", key.digest),
        ("kappa", encode(shown.kappa)),
        ("nu", encode(shown.nu)),
        ("base", encode(shown.signature.base)),
        ("value", encode(shown.signature.value)),
        ("nullifier", encode(shown.nullifier)),
        *((f"public {j}", encode(value)) for j, value in enumerate(shown.public)),
    ]
    attributes = (Term(f"attribute {j}", key.beta_bases[j]) for j in range(parameters.private))
    relations = (
        Relation(Base(shown.kappa - key.alpha), (Term("r", G2_BASE), *attributes)),
        Relation(Base(shown.nu), (Term("r", Base(shown.signature.base)),)),
        Relation(Base(shown.nullifier), (Term("attribute 0", parameters.nullifier_base),)),
    )
    return Statement(b"coconut show", tuple(elements), relations, context.parts)


def show(
    parameters: Parameters,
    key: VerificationKey,
    credential: Credential,
    context: Context,
    random: Random = SYSTEM_RANDOM,
) -> Show:
    """Show the credential in this context. Draws r', r, then what the proof draws.

    Raises `CredentialRejected` (wrong-count) where its attributes are not as many as the parameters say.
    """
    private = credential.private
    if (len(private), len(credential.public)) != (parameters.private, parameters.public):
        raise CredentialRejected(CredentialFault.WRONG_COUNT)
    signature = credential.signature.randomised(random_scalar(random))
    r = random_scalar(random)
    kappa = add([key.alpha, key.part(0, private), G2_BASE * r])
    shown = Shown(kappa, signature.base * r, signature, parameters.nullifier_base * private[0], credential.public)
    secrets = {"r": r} | {f"attribute {j}": value for j, value in enumerate(private)}
    return Show(shown, prove(show_statement(parameters, key, shown, context), secrets, random))


def verify_show(parameters: Parameters, key: VerificationKey, shown: Show, context: Context) -> None:
    """Check a show; whether its nullifier is spent, and its public attributes acceptable, the caller knows.

    Raises `CredentialRejected` (wrong-count, bad-proof, bad-signature).
    """
    base, message, value = _proved(parameters, key, shown, context)
    if not pairings_cancel([(base, message), (-value, G2_BASE.point)]):
        raise CredentialRejected(CredentialFault.BAD_SIGNATURE)


def verify_shows(
    parameters: Parameters,
    key: VerificationKey,
    shows: Sequence[tuple[Show, Context]],
    random: Random = SYSTEM_RANDOM,
) -> list[CredentialFault | None]:
    """Check many shows at once: for each None, or why it is refused.

    One product of pairings with random weights of 128 bits; where that fails, one by one, so that the verdict on a bad
    show never depends on the weights.
    """
    verdicts: list[CredentialFault | None] = []
    waiting: list[tuple[int, G1, G2, G1]] = []
    for number, (shown, context) in enumerate(shows):
        try:
            waiting.append((number, *_proved(parameters, key, shown, context)))
            verdicts.append(None)
        except CredentialRejected as rejected:
            verdicts.append(rejected.fault)
    if not waiting:
        return verdicts
    weights = [random_weight(random) for _ in waiting]
    pairs = [(base * weight, message) for (_, base, message, _), weight in zip(waiting, weights, strict=True)]
    total = add([value * weight for (*_, value), weight in zip(waiting, weights, strict=True)])
    if not pairings_cancel([*pairs, (-total, G2_BASE.point)]):
        for number, base, message, value in waiting:
            if not pairings_cancel([(base, message), (-value, G2_BASE.point)]):
                verdicts[number] = CredentialFault.BAD_SIGNATURE
    return verdicts


def _proved(parameters: Parameters, key: VerificationKey, show: Show, context: Context) -> tuple[G1, G2, G1]:
    """What the pairings are left to check: e(h', kappa + sum of public m_j beta_j) = e(s' + nu, g2)."""
    shown = show.shown
    if len(shown.public) != parameters.public:
        raise CredentialRejected(CredentialFault.WRONG_COUNT)
    if is_identity(shown.signature.base):
        raise CredentialRejected(CredentialFault.BAD_SIGNATURE)
    if not holds(show_statement(parameters, key, shown, context), show.proof):
        raise CredentialRejected(CredentialFault.BAD_PROOF)
    message = shown.kappa + key.part(parameters.private, shown.public) if shown.public else shown.kappa
    return shown.signature.base, message, shown.signature.value + shown.nu
