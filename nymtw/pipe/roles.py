"""What watcher, redeemer and faucet have in common: files, commands, options."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from twisted.application.service import IService
from twisted.python import usage

from nymtw.errors import ConfigError
from nymtw.node import commands
from nymtw.node.config import load_config
from nymtw.node.home import NodeHome, write_file
from nymtw.node.keys import KeyKind, load_private, save_private
from nymtw.node.option_types import CommandOptions
from nymtw.node.tap import run_or_exit, several
from nymtw.pipe.config import ETHEREUM, LEDGER, FaucetConfig, RedeemerConfig, WatcherConfig

_GENESIS_LIMIT: Final = 2**20  # bytes
_KEY: Final = "account_private_key.pem"


@dataclass(frozen=True, slots=True)
class Role:
    """One role: `config` its file's Struct, of one section that has the role's name; `service` where its service is."""

    name: str
    config: type[msgspec.Struct]
    heading: str
    service: str  # module:class
    option: str  # how a genesis is told of it

    @property
    def program(self) -> str:
        return f"nym-{self.name}"

    def home(self, identifier: str | None) -> NodeHome:
        """The files of the one with this id. Raises `ConfigError`."""
        return NodeHome(self.name, identifier or self.name)


WATCHER: Final = Role(
    "watcher",
    WatcherConfig,
    "A watcher: notarises on the ledger what comes to the pipe on Ethereum. Options on the command line come before "
    "the values here.",
    "nymtw.pipe.watcher.service:WatcherService",
    "--watcher",
)
REDEEMER: Final = Role(
    "redeemer",
    RedeemerConfig,
    "A redeemer: approves withdrawals from the ledger, and has the pipe on Ethereum pay them. Options on the command "
    "line come before the values here.",
    "nymtw.pipe.redeemer.service:RedeemerService",
    "--redeemer",
)
FAUCET: Final = Role(
    "faucet",
    FaucetConfig,
    "A faucet: gives test tokens, on development chains alone. Options on the command line come before the values "
    "here.",
    "nymtw.pipe.faucet.service:FaucetService",
    "",
)


class PipeRoleOptions(CommandOptions):
    """What all three are told."""

    optParameters: ClassVar[list[Any]] = [
        ["id", None, None, "Name of this one; its files are in ~/.nym/<role>s/ID"],
        ["metrics-port", None, None, "TCP port of http://127.0.0.1:PORT/metrics; -1: none (-1)", int],
    ]

    def given(self, *names: str) -> dict[str, Any]:
        """The `names` that are on the command line, with underscores for dashes."""
        return {name.replace("-", "_"): self[name] for name in names if self.get(name) is not None}


class WatcherOptions(PipeRoleOptions):
    longdesc = (
        "Notarises on the ledger what comes to the pipe on Ethereum. Run `nym-watcher init` before, which makes its "
        "key, and `nym-watcher init --genesis FILE` once the ledger's genesis names its address."
    )
    optParameters: ClassVar[list[Any]] = [
        ["confirmations", None, None, "Blocks above one before what is in it is notarised (13)", int],
        ["start-block", None, None, "The first block that is looked at (0)", int],
        ["poll-seconds", None, None, "Seconds from one look to the next (1)", float],
    ]
    optFlags: ClassVar[list[Any]] = [["finalized", None, "Wait until a block is finalised instead"]]
    opt_ledger = several("ledger", f"URL of a node of the ledger; again for each of several ({LEDGER})")
    opt_ethereum = several("ethereum", f"URL of an Ethereum node; of several all must say the same ({ETHEREUM})")

    def sections(self) -> Mapping[str, Mapping[str, Any]]:
        """What was given, as the sections of `config.toml`."""
        section = {
            "id": self["id"] or WATCHER.name,
            **self.given("confirmations", "start-block", "poll-seconds", "metrics-port", "ledger", "ethereum"),
        }
        return {"watcher": {**section, **({"finalized": True} if self["finalized"] else {})}}


class RedeemerOptions(PipeRoleOptions):
    longdesc = (
        "Approves withdrawals from the ledger, and has the pipe on Ethereum pay them. Run `nym-redeemer init` before, "
        "which makes its key, and `nym-redeemer init --genesis FILE` once the ledger's genesis names its address."
    )
    optParameters: ClassVar[list[Any]] = [
        ["ethereum", None, None, f"URL of an Ethereum node ({ETHEREUM})"],
        ["confirmations", None, None, "Blocks above the one with a payment until it is settled (13)", int],
        ["poll-seconds", None, None, "Seconds from one look to the next (1)", float],
    ]
    optFlags: ClassVar[list[Any]] = [["no-payments", None, "Only approve; others send what is approved to Ethereum"]]
    opt_ledger = several("ledger", f"URL of a node of the ledger; again for each of several ({LEDGER})")

    def sections(self) -> Mapping[str, Mapping[str, Any]]:
        """What was given, as the sections of `config.toml`."""
        section = {
            "id": self["id"] or REDEEMER.name,
            **self.given("ethereum", "confirmations", "poll-seconds", "metrics-port", "ledger"),
        }
        return {"redeemer": {**section, **({"pays": False} if self["no-payments"] else {})}}


class FaucetOptions(PipeRoleOptions):
    longdesc = (
        "Gives test tokens, and ether for gas, to whoever asks: POST /give with an address. It refuses on any chain "
        "that is not a development chain. Run `nym-faucet init --genesis FILE` before, and give its address tokens."
    )
    optParameters: ClassVar[list[Any]] = [
        ["host", None, None, "IP address to listen on (127.0.0.1)"],
        ["port", None, None, "TCP port to listen on (4200)", int],
        ["ethereum", None, None, f"URL of an Ethereum node ({ETHEREUM})"],
        ["tokens", None, None, "Tokens that an address is given at a time (100)", float],
        ["ether", None, None, "Ether that it is given with them (0.1)", float],
        ["wait-seconds", None, None, "Seconds after which the same address is given something again (60)", float],
        ["per-minute", None, None, "How many are given something in a minute (60)", int],
    ]

    def sections(self) -> Mapping[str, Mapping[str, Any]]:
        """What was given, as the sections of `config.toml`."""
        names = ("host", "port", "ethereum", "tokens", "ether", "wait-seconds", "per-minute", "metrics-port")
        return {"faucet": {"id": self["id"] or FAUCET.name, **self.given(*names)}}


def load_role_key(home: NodeHome) -> Any:
    """The `AccountKey` of a role's home, made if there is none. Raises `KeyFileError`."""
    from nymtw.ledger.machine.signatures import AccountKey

    path = home.config / _KEY
    if not path.exists():
        save_private(path, KeyKind.ACCOUNT, AccountKey.generate().secret)
    return AccountKey(load_private(path, KeyKind.ACCOUNT))


def load_role_genesis(role: Role, home: NodeHome) -> Any:
    """The `Genesis` of a role's home. Raises `ConfigError`."""
    return read_genesis_file(home.config / "genesis.json", f"run `{role.program} init --genesis FILE` first")


def read_genesis_file(path: Path, hint: str = "") -> Any:
    """The `Genesis` in a file. Raises `ConfigError`; `hint` is added where there is no such file."""
    from nymtw.ledger.machine.parameters import parse_genesis

    try:
        with open(path, "rb") as file:
            content = file.read(_GENESIS_LIMIT + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there{': ' if hint else ''}{hint}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(content) > _GENESIS_LIMIT:
        raise ConfigError(f"{path}: longer than {_GENESIS_LIMIT} bytes")
    return parse_genesis(content, str(path))


def init_role(role: Role, home: NodeHome, given: Mapping[str, Mapping[str, Any]], genesis: Path | None) -> list[str]:
    """Make what is missing, and take the genesis if one is named; returns what to say. Raises `NymtwError`."""
    from nymtw.ledger.machine.parameters import genesis_json
    from nymtw.ledger.machine.signatures import address_text

    load_config(home.config_file, role.config, given, role.heading)
    address = address_text(load_role_key(home).address)
    said = [f"The {role.name} {home.id!r} is in {home.path}", f"Its address is {address}"]
    path = home.config / "genesis.json"
    if genesis is not None:
        found = genesis_json(read_genesis_file(genesis))
        if path.exists() and genesis_json(read_genesis_file(path)) != found:
            raise ConfigError(f"{path}: there is another genesis already")
        write_file(path, found)
    if not path.exists():
        option = f": {role.option} {address}" if role.option else ""
        said.append(f"It has no genesis yet; `nym-validator genesis` makes one{option}")
    return said


def connections(reactor: Any, genesis: Any, ledger: Sequence[str], ethereum: Sequence[str]) -> tuple[Any, Any]:
    """A ledger that is believed as far as validators have signed, and the Ethereum node or nodes.

    Raises `ConfigError` for a bad URL.
    """
    from nymtw.ethereum.agreed import AgreedNode
    from nymtw.ethereum.jsonrpc import EthereumRPC
    from nymtw.ethereum.node import EthereumNode
    from nymtw.ledger.light import LightLedger, Trust
    from nymtw.ledger.rpc.client import HTTPLedger

    nodes = [EthereumNode(EthereumRPC(reactor, url)) for url in ethereum]
    believed = LightLedger(HTTPLedger(reactor, ledger), Trust(genesis, time.time))
    return believed, nodes[0] if len(nodes) == 1 else AgreedNode(nodes)


def require_ethereum() -> None:
    """Raises `ConfigError` where what `nymtw[ethereum]` brings is not installed."""
    for name in ("coincurve", "sha3", "treq", "eth_account"):  # found, not imported: that takes a second
        if find_spec(name) is None:
            raise ConfigError(f"{name} is missing: pip install 'nymtw[ethereum]'")


def make_role_service(role: Role, options: Any) -> IService:
    """The service of a role, or the end of the process with one line."""

    def build(reactor: Any) -> Any:
        require_ethereum()
        module, _, name = role.service.partition(":")
        home = role.home(options["id"])
        genesis = load_role_genesis(role, home)
        home.lock()
        config = load_config(home.config_file, role.config, options.sections(), role.heading)
        key = load_role_key(home)
        return getattr(import_module(module), name)(reactor, home, getattr(config, role.name), genesis, key)

    return run_or_exit(role.program, options, build)


def role_main(role: Role, options: type[usage.Options]) -> int:
    """The console script of a role: init, run and show."""

    def initialise(parsed: Any) -> None:
        require_ethereum()
        home = role.home(parsed["id"])
        home.create()
        home.lock()
        try:
            given = Path(parsed["genesis"]) if parsed["genesis"] else None
            print("\n".join(init_role(role, home, parsed.sections(), given)))
        finally:
            home.unlock()

    def show(parsed: Any) -> None:
        require_ethereum()
        home = role.home(parsed["id"])
        if not home.config_file.exists():
            raise ConfigError(f"{home.path}: run `{role.program} init` first")
        from nymtw.ledger.machine.signatures import address_text

        print(address_text(load_role_key(home).address))

    def run(parsed: Any) -> int:
        return commands.run_service(lambda each: make_role_service(role, each), parsed)

    class InitOptions(options):  # type: ignore[misc,valid-type]  # one of the three above
        optParameters: ClassVar[list[Any]] = [
            ["genesis", None, None, "File with the genesis of the ledger that it has a part in"]
        ]

    class ShowOptions(CommandOptions):
        optParameters: ClassVar[list[Any]] = [["id", None, role.name, f"Name of the {role.name}"]]

    command: Callable[..., commands.Command] = commands.Command
    return commands.main(
        role.program,
        role.name,
        [
            command("init", "Make key and configuration; with --genesis take the ledger's", InitOptions, initialise),
            command("run", f"Run the {role.name}", options, run),
            command("show", "Print its address", ShowOptions, show),
        ],
    )
