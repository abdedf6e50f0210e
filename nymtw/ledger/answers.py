"""What an `ILedger` answers besides records of the state and blocks."""

from typing import Any

import msgspec


class LedgerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A node as it is now. `driver`: embedded or cometbft; `waiting`: transactions that are in no block yet."""

    chain: str
    height: int
    root: bytes
    time: int  # nanoseconds since 1970, of the last block; 0 before the first
    driver: str
    version: str
    waiting: int


class SignedHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a state's root trustworthy, in the driver's own form.

    embedded: `header` and `signature` as in `BlockRecord`. cometbft: `light_block`, the JSON of the signed header and
    the validators of the height after `height`, as CometBFT's RPC gives them.
    """

    height: int
    driver: str
    header: bytes = b""
    signature: bytes = b""
    light_block: dict[str, Any] | None = None
