"""What the commands of `nym-validator` do."""

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from nymtw.errors import ConfigError, EncodingError, NymtwError
from nymtw.ledger.clients import parameters, send
from nymtw.ledger.machine.kinds.parameters import ChangeParameters
from nymtw.ledger.machine.parameters import parameters_fields
from nymtw.ledger.rpc.client import HTTPLedger
from nymtw.ledger.storage.replica import Replica
from nymtw.ledger.storage.store import LedgerStore
from nymtw.node.home import NodeHome
from nymtw.node.tap import exit_with
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


def initialise(options: Any) -> None:
    """Make keys, configuration and a genesis."""
    home = open_home(options["id"] or tap.DEFAULT_ID)
    genesis = Path(options["genesis"]) if options["genesis"] else None
    try:
        keys, config, made = init(home, options.sections(), genesis, options["chain"], options.genesis_parameters())
    finally:
        home.unlock()
    chain = "has no genesis yet (`nym-validator genesis` makes it)" if made is None else f"is of the chain {made.chain}"
    print(f"The validator {home.id!r} {chain} and is in {home.path}")
    print("\n".join(shown(keys, config)))


def show(options: Any) -> None:
    """Print what others need to know."""
    home = NodeHome("validator", options["id"])
    if not home.config_file.exists():
        raise ConfigError(f"{home.path}: run `nym-validator init` first")
    config = load_validator_config(home, {})
    print("\n".join(shown(load_keys(home), config)))


def genesis(options: Any) -> None:
    """Write the genesis of several validators."""
    validators = options.get("validator") or []
    path = Path(options["output"])
    write_genesis(path, make_genesis(options["chain"], validators, options.genesis_parameters()))
    print(f"The genesis of {options['chain']} with {len(validators)} validators is in {path}")


def check(options: Any) -> None:
    """Read all of the stored state and count all money."""
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


def vote(options: Any) -> int:
    """Vote for other parameters."""
    keys = load_keys(NodeHome("validator", options["id"]))
    status: list[int] = []

    async def work(reactor: Any) -> None:
        ledger = HTTPLedger(reactor, options.get("ledger") or [tap.LEDGER])
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
        react(lambda reactor: Deferred.fromCoroutine(work(reactor)))
    except SystemExit as end:
        status.append(int(end.code or 0))
    return max(status)
