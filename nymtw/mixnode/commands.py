"""`nym-mixnode run`: a mixnode in the foreground."""

from nymtw.mixnode.options import Options
from nymtw.node.commands import Command, run_service
from nymtw.node.commands import main as run_main


def _run(options: Options) -> int:
    from nymtw.mixnode.tap import makeService

    return run_service(makeService, options)


COMMANDS = [Command("run", "Run a mixnode in the foreground", Options, _run)]


def main() -> int:
    """The entry point of `nym-mixnode`."""
    return run_main("nym-mixnode", "mixnode", COMMANDS)
