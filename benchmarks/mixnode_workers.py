"""What a packet costs a mixnode with worker processes, the node's own process included, against one process alone.

Both run as in `mixnode.py`, at the same rate. Prints a table, writes JSON, exits 1 where the bar is missed. Linux
alone.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from machine import processor
from mixnode import CPU_RATE, MEAN_DELAY, Row, Run, TooBusy, quantile, running

HERE = Path(__file__).resolve().parent
WARM_PACKETS = 10_000


def measure(workers: int, arguments: argparse.Namespace) -> tuple[list[Run], list[dict[str, Any]]]:
    """The quietest runs of a node with so many workers."""
    with running(arguments.node_rate, workers, None, arguments.wait) as bench:
        bench.run("warm-up", WARM_PACKETS, CPU_RATE, MEAN_DELAY)
        what, packets = f"cpu, workers {workers}", int(CPU_RATE * arguments.seconds)
        if not arguments.first:
            return bench.rounds(arguments.rounds, what, packets, CPU_RATE, MEAN_DELAY), bench.runs
        for pid in (bench.load.pid, *bench.node.pids()):
            os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
        return [bench.run(what, packets, CPU_RATE, MEAN_DELAY) for _ in range(arguments.rounds)], bench.runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="how many (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, the median counts (default: 3)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each run is (default: 8)")
    # The filter is as large as the rate says, and its first pages cost more than anything else here.
    parser.add_argument("--node-rate", type=int, default=200, help="the node's own --rate (default: 200)")
    parser.add_argument("--wait", type=float, default=300.0, help="seconds to wait for a quiet machine, each time")
    parser.add_argument(
        "--first",
        action="store_true",
        help="as root: let other programs wait for the node, and not for a quiet machine",
    )
    parser.add_argument("--json", type=Path, default=HERE / "mixnode_workers.json", help="where the result goes")
    arguments = parser.parse_args()
    if arguments.first:
        arguments.wait = 0.0
    try:
        (alone, first), (shared, second) = (measure(workers, arguments) for workers in (1, arguments.workers))
    except TooBusy as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    one, many = (median(run.cost for run in runs) for runs in (alone, shared))
    lost = sum(run.lost for run in shared)
    added = 1e3 * median(quantile(run.outcome.added, 0.5) for run in shared)
    rows = [
        Row(f"CPU per packet at {CPU_RATE:,}/s, one process", 1e6 * one, "us", "", True),
        Row(f"CPU per packet at {CPU_RATE:,}/s, {arguments.workers} workers", 1e6 * many, "us", "", True),
        Row("that is", many / one, "of one process's", "at most 1.15", many / one <= 1.15),
        Row("lost", lost, "packets", "0", not lost),
        Row("latency added, median", added, "ms", "", True),
    ]
    print(processor(), "\n\n| measure | is | | bar | |\n|---|--:|---|---|---|")
    for row in rows:
        verdict = "" if not row.bar else "met" if row.met else "MISSED"
        print(f"| {row.measure} | {row.value:,.2f} | {row.unit} | {row.bar} | {verdict} |")
    result = {"processor": processor(), "rows": [asdict(row) for row in rows], "runs": first + second}
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
