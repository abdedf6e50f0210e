"""`nym-provider run`: a provider in the foreground."""

from nymtw.node.commands import Command, run_service
from nymtw.node.commands import main as run_main
from nymtw.provider.options import Options


def _run(options: Options) -> int:
    from nymtw.provider.tap import makeService

    return run_service(makeService, options)


COMMANDS = [Command("run", "Run a provider in the foreground", Options, _run)]


def main() -> int:
    """The entry point of `nym-provider`."""
    return run_main("nym-provider", "provider", COMMANDS)
