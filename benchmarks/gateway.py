"""What a gateway's clients cost it: processor, memory and delay, with 1,000 clients at 1 packet/s in each stream.

The gateway is `nym-gateway run` in its own process, real TLS on loopback; `gateway_load.py` plays the clients, the
mixnode behind the gateway, a sink, and the one before it, in another. The packets are built beforehand. Prints a table,
writes JSON, and exits 1 where a bar is missed. Linux alone.
"""

import argparse
import json
import os
import platform
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import gateway_load
from gateway_load import Outcome
from machine import processor
from mixnode import Load, Row
from mixnode_load import quantile
from mixnode_network import Directory, Node, Player, busy_seconds, cpu_seconds_of

from nymtw.gateway.rates import downlink_rate
from nymtw.topology.document import NodeRecord, Recommended

HERE = Path(__file__).resolve().parent
SEED = 2010
CLIENTS, FIRST = 1000, 100  # memory is what the clients from the hundredth on take
STREAM = 1.0  # packets a second in each of a client's three streams, and in each of the mail
RECOMMENDED = Recommended(message_sending_rate=STREAM, loop_cover_traffic_rate=STREAM, drop_cover_traffic_rate=STREAM)
NODE_RATE = 20  # sizes the replay filter alone: a small one is soon touched everywhere, and is no memory of a client
MEMORY_BAR = 150 * 1024


@contextmanager
def running(profile: Path | None, words: list[str], *, first: bool) -> Iterator[tuple[Node, NodeRecord, Load]]:
    """A gateway between a mixnode of layer 3 and one of layer 1; it is gone at the end, with its files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(4 * CLIENTS, 4096), most), most))
    source = random.Random(SEED)
    before, behind = [Player.draw(source)], [Player.draw(source)]
    cores = sorted(os.sched_getaffinity(0))
    pinned = len(cores) > 1
    folder = Path(tempfile.mkdtemp(prefix="nymtw-gateway-"))
    load = Load(cores[0] if pinned else None, before, behind, serve=gateway_load.serve)
    directory = Directory(source, before, behind, load("ports"), layers=(3, 1), recommended=RECOMMENDED)
    node = Node(
        folder,
        directory,
        rate=NODE_RATE,
        core=cores[-1] if pinned else None,
        profile=profile,
        role="gateway",
        words=["--client-port", "0", *words],
    )
    try:
        try:
            record = directory.announced(within=60)
        finally:
            node.check()
        load("connect", record)
        if first:
            for pid in (load.pid, *node.pids()):
                os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
        yield node, record, load
    finally:
        load.close()
        node.stop()
        directory.close()
        shutil.rmtree(folder)


seeds = count(SEED)


def milliseconds(ordered: Sequence[float], share: float) -> float | None:
    """A quantile; None where there is nothing to order."""
    return round(1e3 * quantile(ordered, share), 2) if ordered else None


def run(what: str, node: Node, record: NodeRecord, load: Load, seconds: float, rate: float, mail: float) -> Any:
    """One run, as a row of the JSON, and its outcome."""
    ours = load.pid
    used, theirs, busy = node.cpu_seconds(), time.process_time() + cpu_seconds_of(ours), busy_seconds()
    outcome: Outcome = load("run_clients", seconds, rate, mail, record, next(seeds))
    used = node.cpu_seconds() - used
    theirs = time.process_time() + cpu_seconds_of(ours) - theirs
    others = max(busy_seconds() - busy - used - theirs, 0.0) / outcome.seconds
    node.check()
    summary = {
        "measure": what,
        "clients": outcome.clients,
        "seconds": round(outcome.seconds, 2),
        "sent": outcome.sent,
        "lost": outcome.sent - len(outcome.up),
        "mailed": outcome.mailed,
        "mail_lost": outcome.mailed - len(outcome.down),
        "frames_a_second": round(outcome.frames / outcome.seconds),
        "cpu_share": round(used / outcome.seconds, 3),
        "cpu_ms_per_client_second": round(1e3 * used / outcome.seconds / outcome.clients, 3),
        "up_median_ms": milliseconds(outcome.up, 0.5),
        "up_99_ms": milliseconds(outcome.up, 0.99),
        "down_median_ms": milliseconds(outcome.down, 0.5),
        "down_99_ms": milliseconds(outcome.down, 0.99),
        "generator_late_99_ms": round(1e3 * outcome.lateness, 2) if outcome.sent else None,
        "generator_cpu_share": round(theirs / outcome.seconds, 2),
        "other_programs_cores": round(others, 2),
        "resident_bytes": node.resident_bytes(),
    }
    print(json.dumps(summary), file=sys.stderr, flush=True)
    return summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=CLIENTS, help="how many clients (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each measure, the median counts (default: 3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each run is (default: 10)")
    parser.add_argument("--downlink-rate", help="the gateway's own (default: from the topology)")
    parser.add_argument("--first", action="store_true", help="as root: let other programs wait")
    parser.add_argument("--json", type=Path, default=HERE / "gateway.json", help="where the result goes")
    parser.add_argument("--profile", type=Path, help="run the gateway under cProfile and write this file; no JSON then")
    arguments = parser.parse_args()
    words = [] if arguments.downlink_rate is None else ["--downlink-rate", arguments.downlink_rate]
    runs: list[dict[str, Any]] = []
    with running(arguments.profile, words, first=arguments.first) as (node, record, load):
        measure = partial(run, node=node, record=record, load=load)
        load("log_in", FIRST, record)
        few = [measure("few clients", seconds=5.0, rate=3 * STREAM, mail=STREAM) for _ in range(2)]
        load("log_in", arguments.clients - FIRST, record)
        measure("warm-up", seconds=5.0, rate=3 * STREAM, mail=STREAM)
        for _ in range(arguments.rounds):
            runs.append(measure("idle", seconds=arguments.seconds, rate=0.0, mail=0.0))
            runs.append(measure("sending", seconds=arguments.seconds, rate=3 * STREAM, mail=0.0))
            runs.append(measure("sending and receiving", seconds=arguments.seconds, rate=3 * STREAM, mail=STREAM))
    memory = (runs[-1]["resident_bytes"] - few[-1]["resident_bytes"]) / (arguments.clients - FIRST)

    def of(what: str, name: str) -> float:
        return median(one[name] for one in runs if one["measure"] == what)

    both = "sending and receiving"
    lost = sum(one["lost"] + one["mail_lost"] for one in runs)
    rows = [
        Row("memory of a client", memory / 1024, "KiB", "at most 150", memory <= MEMORY_BAR),
        Row("lost", lost, "packets", "0", not lost),
        *(
            Row(f"CPU of a client, {what}", of(what, "cpu_ms_per_client_second"), "ms a second", "", True)
            for what in ("idle", "sending", both)
        ),
        *(
            Row(f"that is, of a core, {what}", 100 * of(what, "cpu_share"), "%", "", True)
            for what in ("idle", "sending", both)
        ),
        Row("client to layer 1, median", of("sending", "up_median_ms"), "ms", "", True),
        Row("client to layer 1, 99 %", of("sending", "up_99_ms"), "ms", "", True),
        Row("layer 3 to client, median", of(both, "down_median_ms"), "ms", "", True),
        Row("layer 3 to client, 99 %", of(both, "down_99_ms"), "ms", "", True),
    ]
    machine = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load average": round(os.getloadavg()[1], 1),
        **{name: version(name) for name in ("twisted", "pyopenssl", "cryptography")},
    }
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    print(f"downlink: {arguments.downlink_rate or downlink_rate(RECOMMENDED)} slots a second\n")
    print("| measure | is | | bar | |\n|---|--:|---|---|---|")
    for row in rows:
        verdict = "" if not row.bar else "met" if row.met else "MISSED"
        print(f"| {row.measure} | {row.value:,.2f} | {row.unit} | {row.bar} | {verdict} |")
    result = {"machine": machine, "rows": [asdict(row) for row in rows], "runs": [*few, *runs]}
    if arguments.profile is None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
