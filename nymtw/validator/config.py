"""A validator's `config.toml`."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

HEADING: Final = "A validator: a node of the ledger. Options on the command line come before the values here."
EMBEDDED: Final = "embedded"
COMETBFT: Final = "cometbft"


class ValidatorSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section [validator]."""

    id: Annotated[str, Meta(description="The name of this validator; its files are in ~/.nym/validators/ID.")]
    host: Annotated[
        str,
        Meta(
            description="The IP address on which clients of the ledger are answered. 0.0.0.0 is every one of this "
            "machine: open to the network."
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="The TCP port for them; 0 takes any free one.")] = 26657
    consensus: Annotated[
        Literal["embedded", "cometbft"],
        Meta(
            description="Who orders the transactions: embedded, this process alone; or cometbft, together with the "
            "genesis' other validators. A chain stays with what it has begun with."
        ),
    ] = "embedded"
    keep_blocks: Annotated[int, Meta(ge=0, le=2**40, description="How many blocks are kept; 0: all of them.")] = 0
    keep_states: Annotated[
        int,
        Meta(ge=10, le=100_000, description="Of how many of the last blocks the state can be asked for and proved."),
    ] = 100
    snapshot_blocks: Annotated[
        int,
        Meta(
            ge=0,
            le=2**32,
            description="Blocks from one snapshot of the state, for nodes that join, to the next; 0: none. Only with "
            "cometbft.",
        ),
    ] = 1000
    idle_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="Seconds without a transaction after which there is a block without any; 0: never. Epochs are "
            "counted in blocks: without them bonds come back only while others use the ledger.",
        ),
    ] = 0.0
    check_at_start: Annotated[
        bool,
        Meta(
            description="Whether all of the state is read and all money counted at start: ten seconds for a million "
            "accounts."
        ),
    ] = True
    directories: Annotated[
        list[str],
        Meta(max_length=12, description="URLs of the directories that show this validator; empty: none is told."),
    ] = []
    metrics_port: Annotated[
        int,
        Meta(ge=-1, le=65535, description="TCP port of http://127.0.0.1:PORT/metrics; 0 takes any free one, -1: none."),
    ] = -1


class CometBFTSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section [cometbft]: what counts only there."""

    host: Annotated[str, Meta(description="The IP address on which CometBFT listens for the other nodes.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=1, le=65535, description="The TCP port for them.")] = 26656
    rpc_port: Annotated[
        int, Meta(ge=1, le=65535, description="The TCP port of CometBFT's own RPC, on this machine alone.")
    ] = 26658
    peers: Annotated[
        list[str],
        Meta(
            max_length=100, description="The other nodes, each ID@HOST:PORT, as `nym-validator show` prints it there."
        ),
    ] = []
    block_seconds: Annotated[
        float, Meta(ge=0.05, le=60, description="Seconds from a block to the next at least, while transactions wait.")
    ] = 0.5
    strict_addresses: Annotated[
        bool,
        Meta(
            description="Whether only nodes with public addresses, one for each, are spoken to, and others are looked "
            "for. Off in a network on one machine."
        ),
    ] = True
    state_sync: Annotated[
        list[str],
        Meta(
            max_length=10,
            description="Two or more URLs of other nodes' CometBFT RPC, from whose snapshot a new node begins; empty: "
            "it executes all blocks.",
        ),
    ] = []
    trust_height: Annotated[
        int,
        Meta(ge=0, le=2**62, description="With state_sync: a height whose block's hash is known for sure."),
    ] = 0
    trust_hash: Annotated[
        str, Meta(pattern="^([0-9A-Fa-f]{64})?$", description="That hash, 64 hexadecimal digits.")
    ] = ""


class ValidatorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    validator: ValidatorSection
    cometbft: CometBFTSection = CometBFTSection()
