"""What providers carry: `python benchmarks/provider.py store` and `... webproxy`.

store: mail through a provider's process to its clients, with SQLite and with PostgreSQL, and mailboxes by the hundred
thousand, see `provider_store.py`; it writes JSON, and exits 1 where the bar is missed. webproxy: a download through a
localnet of real processes, see `provider_webproxy.py`.
"""

import argparse
import sys
from pathlib import Path

import provider_store
from provider_webproxy import measure, simulate


def main() -> int:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("store", "webproxy"))
    parser.add_argument("--first", action="store_true", help="as root: let other programs wait")
    store = parser.add_argument_group("store")
    store.add_argument(
        "--only", action="append", dest="stores", choices=(provider_store.SQLITE, provider_store.POSTGRESQL)
    )
    store.add_argument("--count", type=int, default=30_000, help="messages of a run (default: 30000)")
    store.add_argument("--rounds", type=int, default=3, help="runs, of which the median counts (default: 3)")
    store.add_argument("--quick", action="store_true", help="without the many mailboxes, and without JSON")
    store.add_argument("--profile", type=Path, help="run the provider under cProfile and write this file; no JSON then")
    webproxy = parser.add_argument_group("webproxy")
    webproxy.add_argument("--mib", type=float, default=10.0, help="size of the download")
    webproxy.add_argument("--sending", type=float, default=300.0, help="packets a second that its client sends")
    webproxy.add_argument("--simulated", action="store_true", help="the download in the simulated network")
    options = parser.parse_args()
    if options.what == "store":
        return provider_store.measure(options)
    if options.simulated:
        simulate(int(options.mib * 2**20), options.sending)
    else:
        measure(int(options.mib * 2**20), options.sending, options.first)
    return 0


if __name__ == "__main__":
    sys.exit(main())
