"""`nym-validator init`, `run`, `show`, `genesis`, `vote` and `check`."""

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

from twisted.python import usage

from nymtw.node import commands
from nymtw.node.option_types import CommandOptions
from nymtw.node.tap import several
from nymtw.validator import tap

DEFAULT_CHAIN = "nymtw-development"
_GENESIS: list[Any] = [
    ["chain", None, DEFAULT_CHAIN, "The chain's name"],
    ["watcher-threshold", None, None, "How many watchers make a deposit so [default: more than half]", int],
    ["redeemer-threshold", None, None, "How many redeemers release a withdrawal [default: more than half]", int],
    ["ethereum-chain", None, None, "Id of the Ethereum chain that the pipe is on", int],
    ["pipe", None, None, "Address of the pipe contract there"],
]


class _GenesisOptions:
    """What a genesis says besides its validators."""

    opt_watcher = several("watcher", "Address of a watcher; again for each of them")
    opt_redeemer = several("redeemer", "Address of a redeemer; again for each of them")

    def genesis_parameters(self: Any) -> dict[str, Any]:
        found = {"pipe": self["pipe"], "ethereum_chain": self["ethereum-chain"]}
        for name in ("watcher", "redeemer"):
            members = self.get(name) or []
            threshold = self[f"{name}-threshold"]
            found[f"{name}s"] = members
            found[f"{name}_threshold"] = len(members) // 2 + 1 if threshold is None else threshold
        return found


class InitOptions(_GenesisOptions, tap.Options):
    optParameters: ClassVar[list[Any]] = [
        ["genesis", None, None, "File with the genesis of a chain of several validators [default: one of this alone]"],
        *_GENESIS,
    ]


class GenesisOptions(_GenesisOptions, CommandOptions):
    optParameters: ClassVar[list[Any]] = [["output", "o", "genesis.json", "Where to write it"], *_GENESIS]
    opt_validator = several("validator", "ADDRESS=KEY or ADDRESS=KEY=POWER, as `show` prints it; again for each")


class HomeOptions(CommandOptions):
    optParameters: ClassVar[list[Any]] = [["id", None, tap.DEFAULT_ID, "Name of the validator"]]


class VoteOptions(CommandOptions):
    optParameters: ClassVar[list[Any]] = [["id", None, tap.DEFAULT_ID, "Name of the validator"]]
    opt_ledger = several("ledger", f"URL of a node of the ledger; again for each of several ({tap.LEDGER})")

    def parseArgs(self, *changes: str) -> None:
        """NAME=VALUE, the value as JSON, as the genesis file has it."""
        self["changes"] = {}
        for each in changes:
            name, sign, value = each.partition("=")
            if not sign:
                raise usage.UsageError(f"{each!r} is not NAME=VALUE")
            try:
                self["changes"][name.replace("-", "_")] = json.loads(value)
            except ValueError:
                self["changes"][name.replace("-", "_")] = value
        if not changes:
            raise usage.UsageError("say what is to change: NAME=VALUE")


def main() -> int:
    """The console script."""
    command = commands.Command
    return commands.main(
        tap.PROGRAM,
        "validator",
        [
            command("init", "Make keys, configuration and a genesis", InitOptions, _action("initialise")),
            command("run", "Run the validator", tap.Options, _run),
            command(
                "show",
                "Print what a genesis and other nodes need to know of this validator",
                HomeOptions,
                _action("show"),
            ),
            command("genesis", "Write the genesis of several validators", GenesisOptions, _action("genesis")),
            command("vote", "Vote for other parameters: vote NAME=VALUE", VoteOptions, _action("vote")),
            command("check", "Read all of the stored state and count all money", HomeOptions, _action("check")),
        ],
    )


def _run(options: Any) -> int:
    return commands.run_service(tap.makeService, options)


def _action(name: str) -> Callable[[Any], int | None]:
    """What a command does; it is loaded when it is called, for it needs `nymtw[ledger]`."""

    def run(options: Any) -> int | None:
        tap.require_ledger()
        found: int | None = getattr(import_module("nymtw.validator.actions"), name)(options)
        return found

    return run
