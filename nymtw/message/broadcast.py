"""What a client and a broadcaster say to each other: a signed transaction, and what its chain makes of it."""

from typing import Annotated, Final

import msgspec

from nymtw.encoding import from_cbor, to_cbor

SERVICE: Final = "broadcaster"
ID_LENGTH: Final = 16
MAX_TRANSACTION_LENGTH: Final = 2**20
_OVERHEAD: Final = 1024

_Id = Annotated[bytes, msgspec.Meta(min_length=ID_LENGTH, max_length=ID_LENGTH)]


class BroadcastRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`id`: 16 random bytes; `chain`: the operator's name for it; `transaction`: signed, in the chain's own bytes."""

    id: _Id
    chain: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,31}$")]
    transaction: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_TRANSACTION_LENGTH)]

    def encode(self) -> bytes:
        """The CBOR of it."""
        return to_cbor(self)

    @classmethod
    def parse(cls, data: bytes) -> "BroadcastRequest":
        """The request behind `encode`. Raises `EncodingError`."""
        return from_cbor(data, cls, MAX_TRANSACTION_LENGTH + _OVERHEAD)


class BroadcastAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The answer to the request `id`: the transaction's `hash` as the chain writes it, or an `error`."""

    id: _Id
    hash: Annotated[str, msgspec.Meta(max_length=200)] = ""
    error: Annotated[str, msgspec.Meta(max_length=1000)] = ""

    def encode(self) -> bytes:
        """The CBOR of it."""
        return to_cbor(self)

    @classmethod
    def parse(cls, data: bytes) -> "BroadcastAnswer":
        """The answer behind `encode`. Raises `EncodingError`."""
        return from_cbor(data, cls, 8192)
