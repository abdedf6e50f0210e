"""`nymtw simulate`: options, trials, report."""

import sys
from collections.abc import Sequence

from twisted.python import usage

from nymtw.errors import NymtwError


def main(arguments: Sequence[str]) -> int:
    """Run with the words behind `nymtw simulate`; returns the exit status."""
    try:
        from nymtw.simulate.command import simulate
        from nymtw.simulate.options import Options

        options = Options()
        options.parseOptions(list(arguments))
        simulate(options)
        return 0
    except usage.UsageError as error:
        print(f"nymtw simulate: {error}: see 'nymtw simulate --help'", file=sys.stderr)
    except ImportError as error:
        print(f"nymtw simulate: {error}: install nymtw[lab], and nymtw[plots] for plots", file=sys.stderr)
    except (NymtwError, OSError) as error:
        print(f"nymtw simulate: {error}", file=sys.stderr)
    return 1
