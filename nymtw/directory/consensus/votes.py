"""The messages between directories that sign one topology together, and their wire form: canonical CBOR.

`docs/protocol.md` lists the fields. Its author signs each piece, so that a directory that passes it on need not be
trusted.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from nymtw.encoding import from_cbor, key_text, to_cbor
from nymtw.errors import ConfigError, EncodingError
from nymtw.node.directories.trust import majority
from nymtw.topology.document import NETWORK_LENGTH, Key, Nanoseconds, NodeRecord, PublicClient, Trust

FORMAT: Final = 1
MOST_DIRECTORIES: Final = 12
NOTICE_LIMIT: Final = 64 * 2**10  # bytes; what twelve directories have to say of two dozen votes is shorter
VOTE_LIMIT: Final = 4 * 2**20  # bytes, about 40,000 nodes
STATEMENT_LIMIT: Final = 128 * 2**10  # bytes; what goes into it of a node is shorter
MOST_ASKED: Final = 500  # statements in one request
STATEMENTS_LIMIT: Final = 2**20  # bytes of an answer to it; who lacks more asks again
DIGEST_LENGTH: Final = 32
_SIGNATURE_LENGTH: Final = 64
_SLOT: Final = b"nymtw slot v1\0"
_VOTE: Final = b"nymtw vote v1\0"
_ENDORSEMENT: Final = b"nymtw endorsement v1\0"

Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_LENGTH, max_length=DIGEST_LENGTH)]
Signature = Annotated[bytes, msgspec.Meta(min_length=_SIGNATURE_LENGTH, max_length=_SIGNATURE_LENGTH)]
Signatures = Annotated[dict[Key, Signature], msgspec.Meta(max_length=MOST_DIRECTORIES)]
_Network = Annotated[bytes, msgspec.Meta(min_length=NETWORK_LENGTH, max_length=NETWORK_LENGTH)]
_Text = Annotated[str, msgspec.Meta(max_length=100)]


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A node's announcement, as far as it goes into the topology, with its host filled in.

    A mixnode that asks for a layer is in layer 0 here.
    """

    record: NodeRecord
    clients: tuple[PublicClient, ...] = ()


class Seen(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A node that is there for a voter: digests of its newest statement and, where that is new, of the one before."""

    identity: Key
    statements: Annotated[tuple[Digest, ...], msgspec.Meta(min_length=1, max_length=2)]


class Vote(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The present nodes at one slot, for one directory. `nodes` are in the order of their identities, each once.

    `settings` are the values that go into the topology, as text by name, and `admission` a digest of who is let in.
    `base` is the newest topology with enough signatures that the voter has; `base_serial` is 0 if it has none.
    """

    format: int = FORMAT
    network: _Network
    serial: Nanoseconds
    voter: Key
    settings: Annotated[dict[_Text, _Text], msgspec.Meta(max_length=32)]
    admission: Digest
    base_serial: Nanoseconds
    base: Digest
    nodes: tuple[Seen, ...]


class Claim(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the signer's clock, the slot with this serial has come."""

    serial: Nanoseconds
    signature: Signature


class HeardVote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """That a vote has been cast: its voter, its digest, and the signatures of those who have it, the voter's first."""

    voter: Key
    digest: Digest
    signatures: Signatures


class Endorsement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A directory's signature of a topology, the digest of that topology, and a signature over both."""

    digest: Digest
    signature: Signature
    proof: Signature


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that a directory knows of the version with this serial, as it posts it to the others."""

    format: int = FORMAT
    network: _Network
    serial: Nanoseconds
    claims: Annotated[dict[Key, Claim], msgspec.Meta(max_length=MOST_DIRECTORIES)]
    votes: Annotated[tuple[HeardVote, ...], msgspec.Meta(max_length=2 * MOST_DIRECTORIES)]
    endorsements: Annotated[dict[Key, Endorsement], msgspec.Meta(max_length=MOST_DIRECTORIES)]


@dataclass(frozen=True, slots=True)
class Roster:
    """The directories of a network (identities, 32 bytes each), this one among them, and how many must sign.

    `faulty` is how many may be dead or lie at once. Raises `ConfigError` for fewer signatures than a majority.
    """

    trust: Trust
    own: bytes

    def __post_init__(self) -> None:
        count = len(self.trust.directories)
        if count > MOST_DIRECTORIES:
            raise ConfigError(f"--peer: at most {MOST_DIRECTORIES} directories sign together, not {count}")
        if not majority(count) <= self.trust.threshold <= count:
            raise ConfigError(f"--threshold: of {count} directories it is {majority(count)} to {count}")

    @property
    def others(self) -> list[bytes]:
        """All but this one."""
        return [key for key in self.trust.directories if key != self.own]

    @property
    def faulty(self) -> int:
        """The most directories that may be dead or lie while the others can still agree and sign."""
        return len(self.trust.directories) - self.trust.threshold

    def signer(self, key: bytes) -> bytes:
        """`key`, one of the directories. Raises `EncodingError` if it is none of them."""
        if key not in self.trust.directories:
            raise EncodingError(f"{key_text(key)} is not one of these directories")
        return key


def digest(content: bytes) -> bytes:
    """32 bytes of BLAKE2b that stand for a vote, a statement or a topology."""
    return hashlib.blake2b(content, digest_size=DIGEST_LENGTH, person=b"nymtw vote").digest()


def slot_bytes(network: bytes, serial: int) -> bytes:
    """The signed bytes of a `Claim`."""
    return _SLOT + network + serial.to_bytes(8, "big")


def vote_bytes(network: bytes, serial: int, voter: bytes, vote: bytes) -> bytes:
    """The signed bytes of a `HeardVote`; `vote` is the vote's digest."""
    return _VOTE + network + serial.to_bytes(8, "big") + voter + vote


def endorsement_bytes(network: bytes, serial: int, document: bytes, signature: bytes) -> bytes:
    """The signed bytes of an `Endorsement`; `document` is the topology's digest."""
    return _ENDORSEMENT + network + serial.to_bytes(8, "big") + document + signature


def signed_by(key: bytes, signature: bytes, content: bytes) -> bool:
    """Whether `signature` is one of `content` by `key`."""
    try:
        VerifyKey(key).verify(content, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def sign(key: SigningKey, content: bytes) -> bytes:
    """64 bytes."""
    return bytes(key.sign(content).signature)


def read_notice(body: bytes, network: bytes) -> Notice:
    """The notice in `body`, its signatures not yet checked. Raises `EncodingError`."""
    notice = from_cbor(body, Notice, NOTICE_LIMIT)
    if notice.format != FORMAT:
        raise EncodingError(f"the notice has format {notice.format}; this version reads {FORMAT}")
    if notice.network != network:
        raise EncodingError("this directory signs with other directories: the --peer options of the two differ")
    return notice


def read_vote(body: bytes, network: bytes, serial: int, voter: bytes) -> Vote | None:
    """The vote of `voter` for that version, or None for bytes that are none, which everybody takes for none."""
    try:
        vote = from_cbor(body, Vote, VOTE_LIMIT)
    except EncodingError:
        return None
    identities = [seen.identity for seen in vote.nodes]
    in_order = all(before < after for before, after in pairwise(identities))
    header = (vote.format, vote.network, vote.serial, vote.voter)
    return vote if in_order and header == (FORMAT, network, serial, voter) else None


def read_statement(body: bytes) -> Statement:
    """The statement in `body`. Raises `EncodingError`."""
    return from_cbor(body, Statement, STATEMENT_LIMIT)


def read_asked(body: bytes) -> list[bytes]:
    """The digests that a request for statements has. Raises `EncodingError`."""
    return from_cbor(body, Annotated[list[Digest], msgspec.Meta(max_length=MOST_ASKED)], NOTICE_LIMIT)  # type: ignore[arg-type]


def statements_answer(found: Iterable[bytes]) -> bytes:
    """The answer to such a request: the statements that are known, or as many of the first as fit."""
    answer, left = [], STATEMENTS_LIMIT - 16
    for each in found:
        left -= len(each) + 5  # its head in CBOR
        if left < 0:
            break
        answer.append(each)
    return to_cbor(answer)


def read_statements(body: bytes) -> Mapping[bytes, bytes]:
    """Digest -> statement (bytes) of such an answer. Raises `EncodingError`."""
    return {digest(each): each for each in from_cbor(body, list[bytes], STATEMENTS_LIMIT)}
