"""What CometBFT's validators sign, checked from the signatures up.

CometBFT 0.38: types/block.go, types/vote.go, types/validator_set.go. Pure: JSON as CometBFT's RPC gives it goes in, a
header that enough validators have signed comes out.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from nymtw.errors import ProofError
from nymtw.ledger.abci import protobuf as pb
from nymtw.ledger.abci.messages import PublicKey, Timestamp

_COMMIT: Final = 2  # the flag of a signature for the block
_PRECOMMIT: Final = 2  # the type of a vote
_TIME: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z")
_MOST: Final = 1000  # validators


class CometValidator(NamedTuple):
    """One of a set, in the set's order."""

    key: bytes  # Ed25519, 32 bytes
    power: int

    @property
    def address(self) -> bytes:
        """How CometBFT names it: 20 bytes."""
        return sha256(self.key).digest()[:20]


@dataclass(frozen=True, slots=True)
class _PartSetHeader:
    total: int = pb.integer(1)
    hash: bytes = pb.data(2)


@dataclass(frozen=True, slots=True)
class _BlockID:
    hash: bytes = pb.data(1)
    part_set_header: _PartSetHeader = pb.message(2, _PartSetHeader, always=True)


@dataclass(frozen=True, slots=True)
class _Version:
    block: int = pb.integer(1)
    app: int = pb.integer(2)


@dataclass(frozen=True, slots=True)
class _BytesValue:
    value: bytes = pb.data(1)


@dataclass(frozen=True, slots=True)
class _TextValue:
    value: str = pb.text(1)


@dataclass(frozen=True, slots=True)
class _IntegerValue:
    value: int = pb.integer(1)


@dataclass(frozen=True, slots=True)
class _SimpleValidator:
    pub_key: PublicKey | None = pb.message(1, PublicKey)
    voting_power: int = pb.integer(2)


@dataclass(frozen=True, slots=True)
class _Vote:
    """tendermint.types.CanonicalVote."""

    type: int = pb.integer(1)
    height: int = pb.fixed(2)
    round: int = pb.fixed(3)
    block_id: _BlockID | None = pb.message(4, _BlockID)
    timestamp: Timestamp = pb.message(5, Timestamp, always=True)
    chain_id: str = pb.text(6)


class Signature(NamedTuple):
    """Of one validator, in the set's order; `flag` 2 is one for the block."""

    flag: int
    address: bytes
    timestamp: Timestamp
    signature: bytes


class LightBlock(NamedTuple):
    """A header with its commit and validators, parsed but not checked."""

    chain: str
    height: int
    time: int  # nanoseconds since 1970
    app_hash: bytes  # the state's root after the block before
    validators_hash: bytes
    next_validators_hash: bytes
    hash: bytes  # of the header's fields
    block_id: _BlockID
    commit_height: int
    round: int
    signatures: tuple[Signature, ...]
    validators: tuple[CometValidator, ...]


def parse_light_block(shown: Mapping[str, Any]) -> LightBlock:
    """What CometBFT's RPC calls signed_header, and the validators of the same height. Raises `ProofError`."""
    try:
        header, commit = shown["signed_header"]["header"], shown["signed_header"]["commit"]
        listed, signed = shown["validators"], commit["signatures"]
        if len(listed) > _MOST or len(signed) > _MOST:
            raise ValueError("too many validators")
        return LightBlock(
            str(header["chain_id"]),
            int(header["height"]),
            _time(header["time"]).nanoseconds,
            bytes.fromhex(header["app_hash"]),
            bytes.fromhex(header["validators_hash"]),
            bytes.fromhex(header["next_validators_hash"]),
            _header_hash(header),
            _block_id(commit["block_id"]),
            int(commit["height"]),
            int(commit["round"]),
            tuple(map(_signature, signed)),
            tuple(
                CometValidator(base64.b64decode(each["pub_key"]["value"], validate=True), int(each["voting_power"]))
                for each in listed
            ),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ProofError(f"not a light block: {error!r:.200}") from None


def verify_light_block(block: LightBlock, chain: str, height: int) -> None:
    """Raises `ProofError` unless more than two thirds of the validators that the block itself names have signed it.

    Whether these are the chain's is for `overlap` to say.
    """
    if (block.chain, block.height, block.commit_height) != (chain, height, height):
        raise ProofError(f"this is block {block.height} of {block.chain!r:.60}, not {height} of {chain!r}")
    if block.block_id.hash != block.hash:
        raise ProofError("the commit is for another header")
    if validators_hash(block.validators) != block.validators_hash:
        raise ProofError("these are not the validators that the header names")
    if len(block.signatures) != len(block.validators):
        raise ProofError("there is not one signature for each validator")
    signed = 0
    for validator, signature in zip(block.validators, block.signatures, strict=True):
        if signature.flag == _COMMIT and _has_signed(block, validator, signature):
            signed += validator.power
    if not 3 * signed > 2 * sum(validator.power for validator in block.validators):
        raise ProofError("no more than two thirds of the validators have signed the block")


def overlap(trusted: Sequence[CometValidator], block: LightBlock) -> bool:
    """Whether more than a third of the `trusted` validators' power has signed the block: one honest one at least."""
    known = {validator.address: validator for validator in trusted}
    signed = 0
    for signature in block.signatures:
        validator = known.get(signature.address) if signature.flag == _COMMIT else None
        if validator is not None and _has_signed(block, validator, signature):
            signed += validator.power
            del known[signature.address]
    return 3 * signed > sum(validator.power for validator in trusted)


def validators_hash(validators: Sequence[CometValidator]) -> bytes:
    """The Merkle root of a set, in its order."""
    return _merkle([pb.encode(_SimpleValidator(PublicKey(each.key), each.power)) for each in validators])


def in_order(validators: Sequence[CometValidator]) -> tuple[CometValidator, ...]:
    """As CometBFT orders a set: by power, the most first, then by address."""
    return tuple(sorted(validators, key=lambda each: (-each.power, each.address)))


def vote_bytes(block: LightBlock, timestamp: Timestamp) -> bytes:
    """What a validator signs to commit the block."""
    vote = _Vote(_PRECOMMIT, block.commit_height, block.round, block.block_id, timestamp, block.chain)
    return pb.delimited(pb.encode(vote))


def _has_signed(block: LightBlock, validator: CometValidator, signature: Signature) -> bool:
    try:
        VerifyKey(validator.key).verify(vote_bytes(block, signature.timestamp), signature.signature)
    except (BadSignatureError, ValueError):
        raise ProofError("a validator's signature is wrong") from None
    return True


def _header_hash(header: Mapping[str, Any]) -> bytes:
    version, last = header["version"], header["last_block_id"]
    digests = [
        header[name]
        for name in (
            "last_commit_hash",
            "data_hash",
            "validators_hash",
            "next_validators_hash",
            "consensus_hash",
            "app_hash",
            "last_results_hash",
            "evidence_hash",
            "proposer_address",
        )
    ]
    fields: list[Any] = [
        _Version(int(version["block"]), int(version.get("app", 0))),
        _TextValue(str(header["chain_id"])),
        _IntegerValue(int(header["height"])),
        _time(header["time"]),
        _block_id(last),
        *(_BytesValue(bytes.fromhex(digest)) for digest in digests),
    ]
    return _merkle([pb.encode(field) for field in fields])


def _merkle(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + _merkle(leaves[:middle]) + _merkle(leaves[middle:])).digest()


def _block_id(shown: Mapping[str, Any]) -> _BlockID:
    parts = shown["parts"]
    return _BlockID(bytes.fromhex(shown["hash"]), _PartSetHeader(int(parts["total"]), bytes.fromhex(parts["hash"])))


def _signature(shown: Mapping[str, Any]) -> Signature:
    signature = base64.b64decode(shown["signature"] or "", validate=True)
    address = bytes.fromhex(shown["validator_address"])
    return Signature(int(shown["block_id_flag"]), address, _time(shown["timestamp"]), signature)


def _time(text: str) -> Timestamp:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"not a time: {text!r:.40}")
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    # Whole seconds, exactly: a float would not hold them beside the nanoseconds.
    since = datetime(year, month, day, hour, minute, second, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return Timestamp(since.days * 86400 + since.seconds, int((found[7] or "0").ljust(9, "0")))
