"""The `nymtw` console script: one table of commands."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Final

# Name -> (what it does, in a line; the module whose `main(arguments)` does it, loaded when it is asked for).
COMMANDS: Final = {
    "new-provider": ("Write a provider of your own, to begin with", "nymtw.scaffold.main"),
    "network": ("Give names to networks, and say which one commands mean", "nymtw.inspection.network"),
    "topology": ("Show who is in a network", "nymtw.inspection.topology"),
    "check": ("Check a network: signature, keys, ports, a packet through every mixnode", "nymtw.inspection.check"),
    "keys": ("Deal the issuing keys of anonymous credentials", "nymtw.issuing.main"),
    "contracts": ("Put token and pipe on an Ethereum chain", "nymtw.pipe.deploy"),
    "localnet": ("Run a whole private mixnet on this machine", "nymtw.localnet.main"),
    "simulate": ("Attack the anonymity of a simulated network, and say what it holds", "nymtw.simulate.main"),
}


def usage() -> str:
    """What `nymtw` prints when it is called alone."""
    listed = [*((name, summary) for name, (summary, _) in COMMANDS.items()), ("version", "Print the version")]
    width = max(len(name) for name, _ in listed)
    lines = "\n".join(f"  {name:{width}}  {summary}" for name, summary in listed)
    return (
        "Usage: nymtw COMMAND [OPTIONS]\n\n"
        f"Commands:\n{lines}\n\n"
        'Run "nymtw help COMMAND" for the options of a command.\n'
        "Single roles: twistd nym-directory, nym-mixnode, nym-provider, nym-gateway, nym-node, nym-client, "
        "nym-validator, nym-watcher, nym-redeemer, nym-faucet, nym-devchain."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run `nymtw` with the words behind its name; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words in (["help"], ["--help"], ["-h"]):
        print(usage())
        return 0
    if words[0] in ("--version", "version"):
        print(f"nymtw {version('nymtw')}")
        return 0
    if words[0] == "help":
        words = [*words[1:2], "--help"]
    name, *rest = words
    if name not in COMMANDS:
        print(f"nymtw: {name!r} is not a valid command: see 'nymtw help'", file=sys.stderr)
        return 1
    run: Callable[[Sequence[str]], int] = import_module(COMMANDS[name][1]).main
    try:
        return run(rest)
    except KeyboardInterrupt:
        print(f"\nnymtw {name}: interrupted", file=sys.stderr)
        return 130
