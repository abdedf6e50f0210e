"""What the configurations of watcher, redeemer and faucet have in common."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

LEDGER: Final = "http://127.0.0.1:26657"
ETHEREUM: Final = "http://127.0.0.1:8545"

Identifier = Annotated[str, Meta(description="The name of this one; its files are in ~/.nym/<role>s/ID.")]
LedgerURLs = Annotated[
    list[str],
    Meta(
        min_length=1,
        max_length=20,
        description="URLs of nodes of the ledger; the next is asked where one fails. What they say of the state is "
        "believed only as far as validators have signed it.",
    ),
]
EthereumURLs = Annotated[
    list[str],
    Meta(
        min_length=1,
        max_length=10,
        description="URLs of Ethereum nodes. Of several, all must say the same: one that lies, or is behind, is "
        "waited for.",
    ),
]
EthereumURL = Annotated[str, Meta(description="URL of an Ethereum node.")]
PollSeconds = Annotated[
    float, Meta(ge=0.1, le=3600, description="Seconds from one look at Ethereum and the ledger to the next.")
]
MetricsPort = Annotated[
    int, Meta(ge=-1, le=65535, description="TCP port of http://127.0.0.1:PORT/metrics; 0 takes any free one, -1: none.")
]


class WatcherSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section [watcher]."""

    id: Identifier
    ledger: LedgerURLs = msgspec.field(default_factory=lambda: [LEDGER])
    ethereum: EthereumURLs = msgspec.field(default_factory=lambda: [ETHEREUM])
    confirmations: Annotated[
        int,
        Meta(ge=0, le=100_000, description="Blocks there must be above one before what is in it is notarised."),
    ] = 13
    finalized: Annotated[
        bool,
        Meta(
            description="Whether, instead, a block must be finalised by Ethereum's validators, about 13 minutes: the "
            "only depth that no reorganisation undoes."
        ),
    ] = False
    start_block: Annotated[
        int,
        Meta(ge=0, le=2**53, description="The first block that is looked at: the one with the pipe's deployment."),
    ] = 0
    poll_seconds: PollSeconds = 1.0
    metrics_port: MetricsPort = -1


class WatcherConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    watcher: WatcherSection


class RedeemerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section [redeemer]."""

    id: Identifier
    ledger: LedgerURLs = msgspec.field(default_factory=lambda: [LEDGER])
    ethereum: EthereumURL = ETHEREUM
    confirmations: Annotated[
        int,
        Meta(ge=0, le=100_000, description="Blocks there must be above the one with a payment until it is settled."),
    ] = 13
    pays: Annotated[
        bool,
        Meta(
            description="Whether this redeemer sends payments to the pipe contract and pays their gas, from its own "
            "address. Redeemers take turns; anybody else can send them as well."
        ),
    ] = True
    poll_seconds: PollSeconds = 1.0
    metrics_port: MetricsPort = -1


class RedeemerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    redeemer: RedeemerSection


class FaucetSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section [faucet]."""

    id: Identifier
    host: Annotated[str, Meta(description="The IP address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="The TCP port to listen on; 0 takes any free one.")] = 4200
    ethereum: EthereumURL = ETHEREUM
    tokens: Annotated[
        float, Meta(ge=0, le=1e9, description="Test tokens that an address is given at a time, in tokens.")
    ] = 100.0
    ether: Annotated[float, Meta(ge=0, le=1000, description="Ether that it is given with them, for gas.")] = 0.1
    wait_seconds: Annotated[
        float, Meta(ge=0, le=1e7, description="Seconds after which the same address is given something again.")
    ] = 60.0
    per_minute: Annotated[int, Meta(ge=1, le=10_000, description="How many are given something in a minute.")] = 60
    metrics_port: MetricsPort = -1


class FaucetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    faucet: FaucetSection
