"""Transactions as bytes: canonical CBOR of body and signature; the body names chain, kind, nonce and all fields.

transaction = [body, signature]       two byte strings; the signature 65 bytes (`nymtw.ledger.machine.signatures`)
body        = [chain, kind, nonce, fields]       two texts, an unsigned number, the kind's fields in their order
"""

from hashlib import sha256
from typing import Any, Final, NamedTuple

import cbor2
import msgspec

from nymtw.errors import EncodingError, TransactionRefused
from nymtw.ledger.machine.kinds import KINDS
from nymtw.ledger.machine.parameters import MAX_TRANSACTION
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.signatures import AccountKey, signer

ID_LENGTH: Final = 32
_MAX_NONCE: Final = 2**63 - 1


class Transaction(NamedTuple):
    """A transaction whose form and signature are right."""

    id: bytes  # SHA-256 of its bytes, as CometBFT names it
    sender: bytes  # the address that signed it
    chain: str
    kind: str
    nonce: int
    fields: Any  # the kind's schema
    data: bytes


def encode_transaction(key: AccountKey, chain: str, kind: str, nonce: int, fields: msgspec.Struct) -> bytes:
    """The bytes of a transaction that `key` signs. Raises `EncodingError` for fields that are not the kind's."""
    if not isinstance(fields, KINDS[kind].schema):
        raise EncodingError(f"these are not the fields of {kind}")
    body = encode_body(chain, kind, nonce, fields)
    return seal(body, key.sign(body))


def encode_body(chain: str, kind: str, nonce: int, fields: msgspec.Struct) -> bytes:
    """What is signed, for a wallet that signs by itself."""
    return cbor2.dumps([chain, kind, nonce, msgspec.to_builtins(fields, builtin_types=(bytes,))], canonical=True)


def seal(body: bytes, signature: bytes) -> bytes:
    """Body and signature as one transaction."""
    return cbor2.dumps([body, signature], canonical=True)


def transaction_id(data: bytes) -> bytes:
    """How a transaction is named: SHA-256 of its bytes."""
    return sha256(data).digest()


def decode_transaction(data: bytes, chain: str) -> Transaction:
    """The transaction in `data`, which may come from anybody.

    Raises `TransactionRefused`: TOO_LARGE, MALFORMED (also where another encoding of the same would be canonical),
    UNKNOWN_KIND, WRONG_CHAIN, BAD_SIGNATURE.
    """
    if len(data) > MAX_TRANSACTION:
        raise TransactionRefused(Refusal.TOO_LARGE, f"a transaction has at most {MAX_TRANSACTION} bytes")
    match _canonical(data):
        case [bytes(body), bytes(signature)]:
            pass
        case _:
            raise TransactionRefused(Refusal.MALFORMED, "a transaction is a body and a signature")
    match _canonical(body):
        case [str(named), str(kind), int(nonce), list(plain)] if not isinstance(nonce, bool):
            pass
        case _:
            raise TransactionRefused(Refusal.MALFORMED, "a body is chain, kind, nonce and fields")
    if kind not in KINDS:
        raise TransactionRefused(Refusal.UNKNOWN_KIND, f"there is no kind of transaction {kind!r:.40}")
    if named != chain:
        raise TransactionRefused(Refusal.WRONG_CHAIN, f"this is for the chain {named!r:.60}, not {chain!r}")
    if not 0 <= nonce <= _MAX_NONCE:
        raise TransactionRefused(Refusal.MALFORMED, "a nonce is from 0 to 2**63 - 1")
    try:
        fields = msgspec.convert(plain, KINDS[kind].schema, strict=True, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise TransactionRefused(Refusal.MALFORMED, f"these are not the fields of {kind}: {error}") from None
    if len(plain) != len(fields.__struct_fields__):
        raise TransactionRefused(Refusal.MALFORMED, f"{kind} has {len(fields.__struct_fields__)} fields")
    try:
        sender = signer(body, signature)
    except EncodingError as error:
        raise TransactionRefused(Refusal.BAD_SIGNATURE, str(error)) from None
    return Transaction(transaction_id(data), sender, named, kind, nonce, fields, data)


def _canonical(data: bytes) -> Any:
    try:
        plain = cbor2.loads(data, max_depth=8, allow_indefinite=False, allow_duplicate_keys=False)
        if cbor2.dumps(plain, canonical=True) == data:
            return plain
        cause = "another encoding of it is the canonical one"
    except Exception as error:  # cbor2 raises many kinds of error on hostile bytes
        cause = str(error)
    raise TransactionRefused(Refusal.MALFORMED, f"not canonical CBOR: {cause:.200}")
