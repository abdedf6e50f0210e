"""`nym-node run`: a node of any role in the foreground."""

from nymtw.node.commands import Command, run_service
from nymtw.node.commands import main as run_main
from nymtw.nym_node.options import Options


def _run(options: Options) -> int:
    from nymtw.nym_node.tap import makeService

    return run_service(makeService, options)


COMMANDS = [Command("run", "Run a node in the foreground; --mode sets its role", Options, _run)]


def main() -> int:
    """The entry point of `nym-node`."""
    return run_main("nym-node", "node", COMMANDS)
