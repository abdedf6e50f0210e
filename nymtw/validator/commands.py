"""`nym-validator init`, `run`, `show`, `genesis`, `vote` and `check`."""

import json
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.python import usage

from nymtw.errors import ConfigError, EncodingError, NymtwError
from nymtw.ledger.clients import parameters, send
from nymtw.ledger.machine.kinds.parameters import ChangeParameters
from nymtw.ledger.machine.parameters import parameters_fields
from nymtw.ledger.rpc.client import HTTPLedger
from nymtw.ledger.storage.replica import Replica
from nymtw.ledger.storage.store import LedgerStore
from nymtw.node import commands
from nymtw.node.home import NodeHome
from nymtw.node.tap import exit_with, several
from nymtw.validator import tap
from nymtw.validator.setup import (
    init,
    load_genesis,
    load_keys,
    load_validator_config,
    make_genesis,
    open_home,
    shown,
    write_genesis,
)

DEFAULT_CHAIN = "nymtw-development"
_LEDGER = "http://127.0.0.1:26657"
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


class GenesisOptions(_GenesisOptions, usage.Options):
    optParameters: ClassVar[list[Any]] = [["output", "o", "genesis.json", "Where to write it"], *_GENESIS]
    opt_validator = several("validator", "ADDRESS=KEY or ADDRESS=KEY=POWER, as `show` prints it; again for each")


class HomeOptions(usage.Options):
    optParameters: ClassVar[list[Any]] = [["id", None, tap.DEFAULT_ID, "Name of the validator"]]


class VoteOptions(usage.Options):
    optParameters: ClassVar[list[Any]] = [["id", None, tap.DEFAULT_ID, "Name of the validator"]]
    opt_ledger = several("ledger", f"URL of a node of the ledger; again for each of several ({_LEDGER})")

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
            command("init", "Make keys, configuration and a genesis", InitOptions, _init),
            command(
                "run", "Run the validator", tap.Options, lambda options: commands.run_service(tap.makeService, options)
            ),
            command("show", "Print what a genesis and other nodes need to know of this validator", HomeOptions, _show),
            command("genesis", "Write the genesis of several validators", GenesisOptions, _genesis),
            command("vote", "Vote for other parameters: vote NAME=VALUE", VoteOptions, _vote),
            command("check", "Read all of the stored state and count all money", HomeOptions, _check),
        ],
    )


def _init(options: Any) -> None:
    home = open_home(options["id"] or tap.DEFAULT_ID)
    genesis = Path(options["genesis"]) if options["genesis"] else None
    try:
        keys, config, made = init(home, options.sections(), genesis, options["chain"], options.genesis_parameters())
    finally:
        home.unlock()
    chain = "has no genesis yet (`nym-validator genesis` makes it)" if made is None else f"is of the chain {made.chain}"
    print(f"The validator {home.id!r} {chain} and is in {home.path}")
    print("\n".join(shown(keys, config)))


def _show(options: Any) -> None:
    home = NodeHome("validator", options["id"])
    if not home.config_file.exists():
        raise ConfigError(f"{home.path}: run `nym-validator init` first")
    config = load_validator_config(home, {})
    print("\n".join(shown(load_keys(home), config)))


def _genesis(options: Any) -> None:
    validators = options.get("validator") or []
    path = Path(options["output"])
    write_genesis(path, make_genesis(options["chain"], validators, options.genesis_parameters()))
    print(f"The genesis of {options['chain']} with {len(validators)} validators is in {path}")


def _check(options: Any) -> None:
    home = NodeHome("validator", options["id"])
    if not home.config_file.exists():
        raise ConfigError(f"{home.path}: run `nym-validator init` first")
    home.lock()
    store = LedgerStore(home.data / "ledger.sqlite")
    try:
        replica = Replica(store, load_genesis(home))
        if not replica.begun:
            raise ConfigError(f"{home.path}: the ledger has not begun")
        totals = replica.audit()
        print(f"Block {replica.height}, state {replica.root.hex()}")
        print("Nothing was created and nothing lost:")
        for name, amount in totals._asdict().items():
            print(f"  {name:11} {amount}")
    finally:
        store.close()
        home.unlock()


def _vote(options: Any) -> int:
    keys = load_keys(NodeHome("validator", options["id"]))
    status: list[int] = []

    async def vote(reactor: Any) -> None:
        ledger = HTTPLedger(reactor, options.get("ledger") or [_LEDGER])
        try:
            try:
                changes = parameters_fields(options["changes"])
            except (EncodingError, ValueError, TypeError, KeyError) as error:
                raise ConfigError(f"these cannot be parameters: {error}") from None
            before = await parameters(ledger)
            fields = ChangeParameters(before.version + 1, changes)
            place = await send(ledger, keys.account, "parameters", fields)
            after = await parameters(ledger)
            done = "they are so now" if after.version == fields.version else "others have to vote for the same"
            print(f"The vote for version {fields.version} is in block {place.height}: {done}")
        except NymtwError as error:
            try:
                exit_with(tap.PROGRAM, error)
            except SystemExit:
                status.append(1)
        finally:
            await ledger.close()

    try:
        react(lambda reactor: Deferred.fromCoroutine(vote(reactor)))
    except SystemExit as end:
        status.append(int(end.code or 0))
    return max(status)
