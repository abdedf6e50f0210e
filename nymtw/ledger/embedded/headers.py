"""The headers of a ledger of one node, and how to check them."""

from hashlib import sha256
from typing import Final

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from nymtw.encoding import from_cbor, to_cbor
from nymtw.errors import EncodingError, ProofError

_CONTEXT: Final = b"nymtw ledger block"
_LIMIT: Final = 1024  # bytes


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What the node signs of a block. Its id is the SHA-256 of its CBOR."""

    chain: str
    height: int
    time: int  # nanoseconds since 1970
    previous: bytes  # id of the block before; 32 zero bytes before the first
    transactions: bytes  # SHA-256 over the transactions' ids
    root: bytes  # of the state after the block


def sign_header(header: Header, key: SigningKey) -> tuple[bytes, bytes, bytes]:
    """The header's bytes, its id (32 bytes) and its Ed25519 signature (64 bytes)."""
    data = to_cbor(header)
    return data, sha256(data).digest(), key.sign(_CONTEXT + data).signature


def verify_header(data: bytes, signature: bytes, key: bytes, chain: str, height: int) -> Header:
    """The header in `data`, which may come from anybody. Raises `ProofError` unless `key` (32 bytes) signed it for this
    chain and height.
    """
    try:
        VerifyKey(key).verify(_CONTEXT + data, signature)
        header = from_cbor(data, Header, _LIMIT)
    except (BadSignatureError, ValueError, EncodingError):
        raise ProofError("the block's header is not signed by the validator") from None
    if (header.chain, header.height) != (chain, height):
        raise ProofError(f"the header is of block {header.height} of {header.chain!r:.60}")
    return header
