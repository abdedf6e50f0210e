"""`twistd nym-validator`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.application.service import IService

from nymtw.errors import ConfigError
from nymtw.node.tap import RoleOptions, port_number, run_or_exit, several

PROGRAM = "nym-validator"
DEFAULT_ID = "validator"
LEDGER = "http://127.0.0.1:26657"


def require_ledger() -> None:
    """Raises `ConfigError` where what `nymtw[ledger]` brings is not installed."""
    try:
        import nymtw.ledger.machine.signatures  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is missing: pip install 'nymtw[ledger]'") from None


class Options(RoleOptions):
    """The command line; what is not given comes from `config.toml`."""

    longdesc = (
        "A node of the ledger. It answers clients on 127.0.0.1:26657 unless it is told otherwise. Run `nym-validator "
        "init` before, which makes its keys and a genesis, or takes one."
    )
    optParameters: ClassVar[list[Any]] = [
        ["consensus", None, None, "Who orders the transactions: embedded (this process alone) or cometbft"],
        ["keep-blocks", None, None, "How many blocks are kept; 0: all of them (0)", int],
        ["keep-states", None, None, "Of how many of the last blocks the state is kept (100)", int],
        ["snapshot-blocks", None, None, "Blocks from one snapshot to the next; 0: none (1000)", int],
        ["idle-seconds", None, None, "Seconds to a block without transactions; 0: never (0)", float],
        ["metrics-port", None, None, "TCP port of http://127.0.0.1:PORT/metrics; -1: none (-1)", int],
        ["p2p-host", None, None, "IP address on which CometBFT listens for the other nodes (127.0.0.1)"],
        ["p2p-port", None, None, "TCP port for them (26656)", port_number],
        ["cometbft-port", None, None, "TCP port of CometBFT's own RPC, on this machine alone (26658)", port_number],
        ["block-seconds", None, None, "Seconds from a block of CometBFT to the next (0.5)", float],
        ["trust-height", None, None, "With --state-sync: a height whose block is known", int],
        ["trust-hash", None, None, "Its hash"],
    ]
    optFlags: ClassVar[list[Any]] = [
        ["any-addresses", None, "Speak to nodes on one machine, and only to those that are named"],
        ["no-check", None, "Do not read all of the state at start"],
    ]
    opt_directory = several("directory", "URL of a directory that shows this validator; again for each of several")
    opt_peer = several("peer", "ID@HOST:PORT of another node; again for each of them")
    opt_state_sync = several("state-sync", "URL of another node's CometBFT RPC to begin from; two at least")

    def sections(self) -> Mapping[str, Mapping[str, Any]]:
        """What was given, as the sections of `config.toml`."""
        section = {
            "id": self["id"] or DEFAULT_ID,
            **self.given(
                "host",
                "port",
                "consensus",
                "keep-blocks",
                "keep-states",
                "snapshot-blocks",
                "idle-seconds",
                "metrics-port",
            ),
        }
        if self.get("directory"):
            section["directories"] = self["directory"]
        if self["no-check"]:
            section["check_at_start"] = False
        comet = self.given("block-seconds", "trust-height", "trust-hash")
        for option, name in (("p2p-host", "host"), ("p2p-port", "port"), ("cometbft-port", "rpc_port")):
            if self[option] is not None:
                comet[name] = self[option]
        for option, name in (("peer", "peers"), ("state-sync", "state_sync")):
            if self.get(option):
                comet[name] = self[option]
        if self["any-addresses"]:
            comet["strict_addresses"] = False
        return {"validator": section, "cometbft": comet}


def makeService(options: Options) -> IService:
    """The service, or the end of the process with one line."""

    def build(reactor: Any) -> Any:
        require_ledger()
        from nymtw.validator.service import ValidatorService
        from nymtw.validator.setup import open_home

        home = open_home(options["id"] or DEFAULT_ID)
        return ValidatorService.from_config(reactor, home, options.sections())

    return run_or_exit(PROGRAM, options, build)
