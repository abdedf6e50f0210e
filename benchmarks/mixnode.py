"""How much a mixnode carries, what a packet costs it, how long it keeps one, and how much memory it takes.

The node is `nym-mixnode run` in its own process, with TLS on loopback links to 20 peers before it and 10 behind it,
which `mixnode_load.py` plays in another. A bare unwrap, on the node's core, is timed between the runs: bars are given
in it, so that they hold on any machine. Prints a table, writes JSON, and exits 1 where a bar is missed. Linux alone.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from machine import processor
from mixnode_load import Outcome, quantile, serve
from mixnode_network import (
    LAYER,
    PAYLOAD_LENGTH,
    RECORD_LENGTH,
    Directory,
    HeaderOrder,
    Node,
    Player,
    build_headers,
    busy_seconds,
    cpu_seconds_of,
    current_epoch,
)

from nymtw.sphinx import Hop, PacketRejected, Unwrapper, generate_keypair
from nymtw.sphinx.geometry import HEADER_LENGTH
from nymtw.topology.document import NodeRecord

HERE = Path(__file__).resolve().parent
SEED = 2009
PEERS_BEFORE, PEERS_BEHIND = 20, 10
NODE_RATE = 4000  # what the node is told to be ready for: it sizes its replay filter by it (1 GB)
WARM_PACKETS = 20  # for each packet/s of that: after so many, every page of the filter has been touched
WARM_RATE = 4000
MEAN_DELAY = 0.05
CPU_RATE = 4000
LATENCY_RATE = 2000
MEMORY_RATE = 3000
QUEUED = 200_000
PASSED = 1_000_000
BACKLOG = 0.1  # seconds behind schedule that a node which carries its load may be at the end of a run
QUIET = 0.1  # of a core: a run during which other programs took more is repeated
UNWRAPS = 4000


@dataclass(frozen=True, slots=True)
class Row:
    """One bar and what was measured."""

    measure: str
    value: float
    unit: str
    bar: str
    met: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One run: the node's CPU seconds, a bare unwrap's, and the cores that other programs had meanwhile."""

    outcome: Outcome
    rate: float
    cpu: float
    unwrap: float
    others: float

    @property
    def lost(self) -> int:
        return self.outcome.sent - self.outcome.received

    @property
    def cost(self) -> float:
        """CPU seconds of a packet."""
        return self.cpu / max(self.outcome.received, 1)

    @property
    def carried(self) -> bool:
        """Whether nothing was lost and the node had not fallen behind at the end."""
        return not self.lost and quantile(self.outcome.added_late, 0.5) < BACKLOG

    def summary(self) -> dict[str, Any]:
        outcome = self.outcome
        return {
            "rate": round(self.rate),
            "sent": outcome.sent,
            "lost": self.lost,
            "carried": self.carried,
            "seconds": round(outcome.seconds, 3),
            "cpu_us": round(self.cost * 1e6, 2),
            "cpu_share": round(self.cpu / outcome.seconds, 3),
            "unwrap_us": round(self.unwrap * 1e6, 2),
            "cpu_in_unwraps": round(self.cost / self.unwrap, 3),
            "added_median_ms": round(quantile(outcome.added, 0.5) * 1e3, 3),
            "added_99_ms": round(quantile(outcome.added, 0.99) * 1e3, 3),
            "generator_late_99_ms": round(outcome.lateness * 1e3, 3),
            "other_programs_cores": round(self.others, 2),
        }


class TooBusy(Exception):
    """Nothing can be measured: other programs are at work."""


@dataclass(slots=True)
class Bench:
    """The node, the load generator and the bare unwrap."""

    node: Node
    record: NodeRecord
    receivers: tuple[Hop, ...]
    load: "Load"
    builders: ProcessPoolExecutor
    core: int
    patience: float
    first: bool
    seeds: Iterator[int] = field(default_factory=lambda: count(SEED))
    runs: list[dict[str, Any]] = field(default_factory=list)

    def headers(self, packets: int, mean_delay: float, *, fixed: bool = False) -> bytes:
        """Built while nothing is measured, on all cores."""
        hop = Hop(self.record.identity, self.record.sphinx_key(current_epoch()))
        orders = [
            HeaderOrder(min(2000, packets - done), next(self.seeds), hop, self.receivers, mean_delay, fixed)
            for done in range(0, packets, 2000)
        ]
        return b"".join(self.builders.map(build_headers, orders))

    def run(self, what: str, packets: int, rate: float, mean_delay: float) -> Run:
        """Send `packets` at `rate`, with a bare unwrap timed before and after; quiet or not."""
        records = self.headers(packets, mean_delay)
        first = self.unwrap()
        used, ours, busy = self.node.cpu_seconds(), self._ours(), busy_seconds()
        outcome: Outcome = self.load("run", records, rate, next(self.seeds))
        used, ours, busy = self.node.cpu_seconds() - used, self._ours() - ours, busy_seconds() - busy
        self.node.check()
        unwrap = (first + self.unwrap()) / 2
        run = Run(outcome, rate, used, unwrap, max(busy - ours - used, 0.0) / outcome.seconds)
        self.runs.append({"measure": what, **run.summary()})
        print(json.dumps(self.runs[-1]), file=sys.stderr, flush=True)
        return run

    def quiet_run(self, what: str, packets: int, rate: float, mean_delay: float) -> Run:
        """The first `run` that no other program disturbed. Raises `TooBusy` where there is none for too long.

        A node that has to wait for its core finds more packets at once and takes less CPU time for each: disturbed
        runs would flatter it.
        """
        end = time.monotonic() + self.patience
        while True:
            self._wait_for_quiet(end)
            run = self.run(what, packets, rate, mean_delay)
            if run.others < QUIET or self.first:
                return run
            if time.monotonic() > end:
                raise TooBusy(f"{what}: other programs took {run.others:.1f} cores")

    def rounds(self, wanted: int, what: str, packets: int, rate: float, mean_delay: float) -> list[Run]:
        """`quiet_run`, so many times."""
        return [self.quiet_run(what, packets, rate, mean_delay) for _ in range(wanted)]

    def unwrap(self) -> float:
        """The CPU seconds of one bare unwrap: regular packets that differ, on the node's core, which is idle."""
        source = random.Random(SEED)
        private, public = generate_keypair(source)
        hops = Hop(source.randbytes(32), public), (Hop(source.randbytes(32), generate_keypair(source)[1]),)
        records = build_headers(HeaderOrder(UNWRAPS // 10, SEED, *hops, MEAN_DELAY))
        payload = source.randbytes(PAYLOAD_LENGTH)
        packets = [
            (0, records[start : start + HEADER_LENGTH] + payload) for start in range(0, len(records), RECORD_LENGTH)
        ]
        unwrapper = Unwrapper({0: private})
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.core})
        started = time.process_time()
        for _ in range(10):
            for hop in unwrapper.unwrap_many(packets):
                if isinstance(hop, PacketRejected):
                    raise hop
        seconds = (time.process_time() - started) / UNWRAPS
        os.sched_setaffinity(0, everywhere)
        return seconds

    def _wait_for_quiet(self, end: float) -> None:
        busy = 0.0 if self.first else float("inf")
        while busy > QUIET and time.monotonic() < end:
            before, ours = busy_seconds(), self._ours()
            time.sleep(1.0)
            busy = busy_seconds() - before - (self._ours() - ours)

    def _ours(self) -> float:
        return time.process_time() + cpu_seconds_of(self.load.pid)


def measure_cpu(bench: Bench, rounds: int, seconds: float) -> list[Row]:
    """The node's CPU time for a packet, against a bare unwrap before and after the run."""
    runs = bench.rounds(rounds, "cpu", int(CPU_RATE * seconds), CPU_RATE, MEAN_DELAY)
    ratio, lost = median(run.cost / run.unwrap for run in runs), sum(run.lost for run in runs)
    return [
        Row(f"CPU per packet at {CPU_RATE:,}/s", ratio, "unwraps", "at most 1.9", ratio <= 1.9),
        Row(f"lost at {CPU_RATE:,}/s", lost, "packets", "0", not lost),
    ]


def measure_rate(bench: Bench, rounds: int, seconds: float) -> list[Row]:
    """The highest rate which the node carries to the end of a run without loss and without falling behind."""
    shares, rates = [], []
    for _ in range(rounds):
        unwrap = bench.unwrap()
        low, high = 0.3, 0.95
        while high - low > 0.02:
            share = (low + high) / 2
            rate = share / unwrap
            run = bench.run("rate", int(rate * seconds), rate, MEAN_DELAY)
            if not run.carried:  # once more: it may have been disturbed
                run = bench.quiet_run("rate", int(rate * seconds), rate, MEAN_DELAY)
            low, high = (share, high) if run.carried else (low, share)
        shares.append(low)
        rates.append(low / unwrap)
    share = median(shares)
    return [
        Row("most packets without loss, one core", share, "of 1/unwrap", "at least 0.55", share >= 0.55),
        Row("that is", median(rates), "packets/s", "", True),
    ]


def measure_latency(bench: Bench, rounds: int, seconds: float) -> list[Row]:
    """How long a packet that asks for no delay takes through the node."""
    runs = bench.rounds(rounds, "latency", int(LATENCY_RATE * seconds), LATENCY_RATE, 0.0)
    half, most = (1e3 * median(quantile(run.outcome.added, share) for run in runs) for share in (0.5, 0.99))
    return [
        Row(f"latency added at {LATENCY_RATE:,}/s, median", half, "ms", "under 1.5", half < 1.5),
        Row(f"latency added at {LATENCY_RATE:,}/s, 99 %", most, "ms", "under 10", most < 10),
    ]


def measure_memory(bench: Bench, rounds: int, seconds: float) -> list[Row]:
    """What a queued packet takes, and whether anything is left of packets that have passed."""
    start = bench.node.resident_bytes()
    records = bench.headers(QUEUED, QUEUED / MEMORY_RATE + 10, fixed=True)
    # The load generator answers when the last packet is out: the memory is looked at from here while all are held.
    done = bench.load.start("run", records, MEMORY_RATE, next(bench.seeds))
    time.sleep(QUEUED / MEMORY_RATE + 5)
    full = bench.node.resident_bytes()
    outcome: Outcome = done()
    queued = outcome.received  # what a full queue has dropped was not held
    each = (full - start) / max(queued, 1)
    resident = [bench.node.resident_bytes()]
    lost = 0
    for _ in range(5):
        lost += bench.run("memory", PASSED // 5, MEMORY_RATE, MEAN_DELAY).lost
        resident.append(bench.node.resident_bytes())
    bench.runs.append({"measure": "memory", "resident_start": start, "queued_each": each, "resident": resident})
    growth = (resident[-1] - resident[0]) / PASSED
    return [
        Row("packets queued", queued, "", "200,000", queued == QUEUED),
        Row("memory of a queued packet", each / 1024, "KiB", "at most 3", each <= 3072),
        # Code that keeps anything at all of a packet keeps more than a byte.
        Row(f"memory left by a packet, {PASSED:,} passed", growth, "bytes", "under 1", growth < 1),
        Row("lost meanwhile", lost, "packets", "0", not lost),
    ]


MEASURES = {"cpu": measure_cpu, "rate": measure_rate, "latency": measure_latency, "memory": measure_memory}


class Load:
    """The load generator's process, called like a function."""

    def __init__(
        self, core: int | None, before: list[Player], behind: list[Player], serve: Callable[..., None] = serve
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, before, behind), daemon=True)
        self._process.start()
        theirs.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        if core is not None:
            os.sched_setaffinity(self.pid, {core})

    def __call__(self, method: str, *arguments: Any) -> Any:
        return self.start(method, *arguments)()

    def start(self, method: str, *arguments: Any) -> Callable[[], Any]:
        """Call, and answer at once what waits for the result."""
        self._orders.send((method, arguments))
        return self._result

    def _result(self) -> Any:
        result, error = self._orders.recv()
        if error is not None:
            raise RuntimeError(f"the load generator: {error}")
        return result

    def close(self) -> None:
        self._orders.close()
        self._process.join(10)


@contextmanager
def running(rate: int, workers: int, profile: Path | None, patience: float, *, first: bool = False) -> Iterator[Bench]:
    """A network with a mixnode in its middle; it is gone at the end, with its files.

    `patience`: seconds to wait for a quiet machine. `first`: rather let all other programs wait (root alone may).
    """
    source = random.Random(SEED)
    before = [Player.draw(source) for _ in range(PEERS_BEFORE)]
    behind = [Player.draw(source) for _ in range(PEERS_BEHIND)]
    cores = sorted(os.sched_getaffinity(0))
    pinned = workers == 1 and len(cores) > 1
    folder = Path(tempfile.mkdtemp(prefix="nymtw-mixnode-"))
    load = Load(cores[0] if pinned else None, before, behind)
    directory = Directory(source, before, behind, load("ports"))
    words = ("--layer", str(LAYER), *(("--workers", str(workers)) if workers > 1 else ()))
    core = cores[-1] if pinned else None
    node = Node(folder, directory, rate=rate, core=core, profile=profile, words=words)
    try:
        with ProcessPoolExecutor(len(cores), multiprocessing.get_context("spawn")) as builders:
            try:
                record = directory.announced(within=60)
            finally:
                node.check()
            receivers = tuple(Hop(player.identity, player.sphinx_public) for player in behind)
            load("connect", record)
            load("check", record)
            if first:
                for pid in (load.pid, *node.pids()):
                    os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
            yield Bench(node, record, receivers, load, builders, cores[-1], patience, first)
    finally:
        load.close()
        node.stop()
        directory.close()
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measures", nargs="*", help=f"which of {', '.join(MEASURES)}; all without any")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each measure, the median counts (default: 5)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each run is (default: 8)")
    parser.add_argument("--node-rate", type=int, default=NODE_RATE, help="the node's own --rate (default: 4000)")
    parser.add_argument("--wait", type=float, default=300.0, help="seconds to wait for a quiet machine")
    parser.add_argument("--first", action="store_true", help="as root: do not wait, let other programs wait instead")
    parser.add_argument("--json", type=Path, default=HERE / "mixnode.json", help="where the result goes")
    parser.add_argument("--profile", type=Path, help="run the node under cProfile and write this file; no JSON then")
    arguments = parser.parse_args()
    wanted = arguments.measures or list(MEASURES)
    if not set(wanted) <= set(MEASURES):
        parser.error(f"the measures are {', '.join(MEASURES)}")

    rows: list[Row] = []
    with running(arguments.node_rate, 1, arguments.profile, arguments.wait, first=arguments.first) as bench:
        bench.run("warm-up", WARM_PACKETS * arguments.node_rate, WARM_RATE, MEAN_DELAY)
        for name in wanted:
            try:
                rows += MEASURES[name](bench, arguments.rounds, arguments.seconds)
            except TooBusy as error:
                rows.append(Row(f"not measured: {error}", float("nan"), "", "a quiet machine", False))
    unwrap = median(run["unwrap_us"] for run in bench.runs if "unwrap_us" in run)

    machine = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in ("twisted", "pyopenssl", "cryptography", "pynacl")},
    }
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    print(f"bare unwrap: {unwrap:.1f} us\n\n| measure | is | | bar | |\n|---|--:|---|---|---|")
    for row in rows:
        verdict = "" if not row.bar else "met" if row.met else "MISSED"
        print(f"| {row.measure} | {row.value:,.2f} | {row.unit} | {row.bar} | {verdict} |")
    result = {"machine": machine, "unwrap_us": unwrap, "rows": [asdict(row) for row in rows], "runs": bench.runs}
    if arguments.profile is None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
