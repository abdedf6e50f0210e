"""`nym-gateway run`: a gateway in the foreground."""

from nymtw.gateway.options import Options
from nymtw.node.commands import Command, run_service
from nymtw.node.commands import main as run_main


def _run(options: Options) -> int:
    from nymtw.gateway.tap import makeService

    return run_service(makeService, options)


COMMANDS = [Command("run", "Run a gateway in the foreground", Options, _run)]


def main() -> int:
    """The entry point of `nym-gateway`."""
    return run_main("nym-gateway", "gateway", COMMANDS)
