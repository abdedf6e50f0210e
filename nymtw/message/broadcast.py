"""The protocol between a client and a broadcaster: a signed transaction, and the chain's answer."""

from typing import Annotated, Final

import msgspec

from nymtw.encoding import from_cbor, to_cbor

SERVICE: Final = "broadcaster"
ID_LENGTH: Final = 16
MAX_TRANSACTION_LENGTH: Final = 2**20
_OVERHEAD: Final = 1024

_Id = Annotated[bytes, msgspec.Meta(min_length=ID_LENGTH, max_length=ID_LENGTH)]


class BroadcastRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request. `id`: 16 random bytes. `chain`: the operator's name of the chain. `transaction`: the signed bytes."""

    id: _Id
    chain: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,31}$")]
    transaction: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_TRANSACTION_LENGTH)]

    def encode(self) -> bytes:
        """The CBOR form."""
        return to_cbor(self)

    @classmethod
    def parse(cls, data: bytes) -> "BroadcastRequest":
        """Parse the result of `encode`. Raises `EncodingError`."""
        return from_cbor(data, cls, MAX_TRANSACTION_LENGTH + _OVERHEAD)


class BroadcastAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The answer to the request `id`: the transaction's `hash` in the chain's format, or an `error`."""

    id: _Id
    hash: Annotated[str, msgspec.Meta(max_length=200)] = ""
    error: Annotated[str, msgspec.Meta(max_length=1000)] = ""

    def encode(self) -> bytes:
        """The CBOR form."""
        return to_cbor(self)

    @classmethod
    def parse(cls, data: bytes) -> "BroadcastAnswer":
        """Parse the result of `encode`. Raises `EncodingError`."""
        return from_cbor(data, cls, 8192)
