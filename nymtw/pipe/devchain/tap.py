"""`twistd nym-devchain`."""

from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.python import usage

from nymtw.errors import ConfigError
from nymtw.node.home import NodeHome
from nymtw.node.option_types import CommandOptions
from nymtw.node.tap import port_number, run_or_exit

PROGRAM = "nym-devchain"
BACKENDS = ("evm", "anvil", "geth")


class Options(CommandOptions):
    """The command line."""

    longdesc = (
        "A chain of Ethereum for trying things, with accounts that have ether, on 127.0.0.1. A block comes each period "
        "while there was a transaction in the last of them. Its files are in ~/.nym/devchains/ID."
    )
    optParameters: ClassVar[list[Any]] = [
        ["id", None, "devchain", "Name of the chain"],
        ["port", None, 8545, "TCP port of its JSON-RPC", port_number],
        ["backend", None, "evm", "What computes: evm (py-evm, in this process), anvil or geth (a process below it)"],
        ["period", None, 1.0, "Seconds from one block to the next", float],
    ]

    def postOptions(self) -> None:
        if self["backend"] not in BACKENDS:
            raise usage.UsageError(f"--backend is one of {', '.join(BACKENDS)}")
        if not 0.1 <= self["period"] <= 3600:
            raise usage.UsageError("--period is from 0.1 to 3600 seconds")


def makeService(options: Options) -> IService:
    """The service, or the end of the process with one line."""

    def build(reactor: Any) -> Any:
        home = NodeHome("devchain", options["id"])
        home.create()
        home.lock()
        if options["backend"] == "evm":
            return _own(reactor, home.data, options)
        from nymtw.pipe.devchain.program import ProgramChain

        return ProgramChain(reactor, home.data, options["backend"], options["port"], options["period"])

    return run_or_exit(PROGRAM, options, build)


def _own(reactor: Any, folder: Path, options: Options) -> Any:
    try:
        from nymtw.pipe.devchain.service import DevelopmentChainService
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is missing: pip install 'nymtw[evm,ethereum]'") from None
    return DevelopmentChainService(reactor, folder / "blocks.rlp", options["port"], options["period"])
