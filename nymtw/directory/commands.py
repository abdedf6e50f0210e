"""`nym-directory run`, in the foreground."""

from nymtw.directory import tap
from nymtw.node import commands


def main() -> int:
    """The console script."""
    run = commands.Command(
        "run", "Run the directory", tap.Options, lambda options: commands.run_service(tap.makeService, options)
    )
    return commands.main(tap.PROGRAM, "directory", [run])
