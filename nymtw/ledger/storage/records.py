"""What is known of a block once it is done."""

from typing import Any

import msgspec


class BlockRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One block and what it did."""

    height: int
    id: bytes  # 32 bytes
    time: int  # nanoseconds since 1970
    root: bytes  # of the state after it
    transactions: tuple[bytes, ...]
    outcomes: tuple[tuple[int, str], ...]  # of each transaction: code and text
    header: bytes = b""  # as it was signed, where this node signs it
    signature: bytes = b""


class TransactionPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Where a transaction is, and what became of it."""

    height: int
    position: int
    code: int
    text: str


def plain(record: Any) -> Any:
    """As CBOR takes it."""
    return msgspec.to_builtins(record, builtin_types=(bytes,))
