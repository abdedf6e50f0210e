"""What the mailboxes of a provider carry, with SQLite and with PostgreSQL.

Throughput: the provider is `nym-provider run` on a core of its own. `provider_store_load.py` plays, in another process,
the mixnodes before it, which send packets built beforehand over TLS, the mixnode behind it, which gets the acks, and
clients that pull at a fixed rate over TLS. Many mailboxes: the store alone, filled, opened anew, and asked.
"""

import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import provider_store_load
from machine import processor
from mixnode import Load, Row
from mixnode_load import quantile
from mixnode_network import Directory, Node, Player, busy_seconds, cpu_seconds_of

from nymtw.topology.document import Recommended

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "integration"))
from postgresql_server import PostgreSQLServer, postgresql_server  # noqa: E402

SEED = 2011
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
BAR = 4000
SENDERS, CLIENTS = 4, 60
PULL_RATE = 10.0  # a second, of each client
WINDOW = 4000  # messages that wait for their ack
NODE_RATE = 200  # sizes the replay filter alone
WARM_UP = 6000
MAILBOXES, MESSAGES = 100_000, 1_000_000
LENGTH = 1618
PULLS = 5000


@contextmanager
def database(kind: str) -> Iterator[PostgreSQLServer | None]:
    """A PostgreSQL server with the settings that Debian gives it, fsync among them, if one is wanted."""
    if kind == POSTGRESQL:
        with postgresql_server("") as server:
            yield server
    else:
        yield None


def throughput(kind: str, count: int, rounds: int, first: bool, profile: Path | None) -> list[dict[str, Any]]:
    """Messages stored and pulled a second, in so many runs."""
    source = random.Random(SEED)
    before, behind = [Player.draw(source) for _ in range(SENDERS)], [Player.draw(source)]
    cores = sorted(os.sched_getaffinity(0))
    folder = Path(tempfile.mkdtemp(prefix="nymtw-provider-"))
    runs = []
    with database(kind) as server:
        load = Load(cores[0], before, behind, serve=provider_store_load.serve)
        directory = Directory(source, before, behind, load("ports"), layers=(3, 1), recommended=Recommended())
        words = ["--client-port", "0", *(["--store", server.url] if server is not None else [])]
        node = Node(folder, directory, rate=NODE_RATE, core=cores[-1], profile=profile, role="provider", words=words)
        try:
            try:
                record = directory.announced(within=60)
            finally:
                node.check()
            load("connect", record)
            load("log_in", CLIENTS, record)
            if first:
                let_wait(load.pid, *node.pids(), *(server.pids() if server is not None else ()))
            for number in range(rounds + 1):
                seed = SEED + number
                load("build", count if number else WARM_UP, record, seed)
                theirs = [load.pid, *(server.pids() if server is not None else ())]
                used, before_all, busy = node.cpu_seconds(), [cpu_seconds_of(pid) for pid in theirs], busy_seconds()
                outcome: provider_store_load.Outcome = load("run_store", PULL_RATE, WINDOW, seed)
                used = node.cpu_seconds() - used
                others = [cpu_seconds_of(pid) - was for pid, was in zip(theirs, before_all, strict=True)]
                node.check()
                if number:
                    busy = busy_seconds() - busy - used - sum(others)
                    runs.append(
                        {
                            "store": kind,
                            "count": outcome.count,
                            "stored_a_second": round(outcome.count / outcome.stored),
                            "stored_and_pulled_a_second": round(outcome.count / outcome.pulled),
                            "cpu_us": round(1e6 * used / outcome.count, 1),
                            "cpu_share": round(used / outcome.pulled, 3),
                            "database_cpu_us": round(1e6 * sum(others[1:]) / outcome.count, 1),
                            "pulls_a_second": round(outcome.pulls / outcome.pulled),
                            "messages_a_pull": round(outcome.count / max(outcome.full, 1), 1),
                            "generator_cpu_share": round(others[0] / outcome.pulled, 2),
                            "other_programs_cores": round(max(busy, 0.0) / outcome.pulled, 2),
                        }
                    )
                    print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
        finally:
            load.close()
            node.stop()
            directory.close()
            shutil.rmtree(folder)
    return runs


def many(kind: str, mailboxes: int, messages: int, first: bool) -> dict[str, Any]:
    """How long a pull takes where there is a lot, and what it all takes on disk and in memory."""
    folder = Path(tempfile.mkdtemp(prefix="nymtw-mailboxes-"))
    try:
        with database(kind) as server:
            place = server.url if server is not None else str(folder / "mailboxes.sqlite")
            result = {"store": kind, "mailboxes": mailboxes, "messages": messages}
            for what in ("empty", "register", "memory", "fill", "pull"):
                if first and what == "pull":
                    let_wait(os.getpid(), *(server.pids() if server is not None else ()))
                command = [sys.executable, str(HERE / "provider_store.py"), what, place, str(mailboxes), str(messages)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                result |= json.loads(done.stdout)
            size = sum(path.stat().st_size for path in folder.iterdir()) if server is None else server_bytes(server)
            result["bytes_on_disk"] = size
            print(json.dumps(result), file=sys.stderr, flush=True)
            return result
    finally:
        shutil.rmtree(folder)


def let_wait(*pids: int) -> None:
    """All others wait for these processes, and for those that they start."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))


def server_bytes(server: PostgreSQLServer) -> int:
    """What the tables and their indexes take."""
    import psycopg

    with psycopg.connect(server.url) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname IN ('items', 'mailboxes')"
        ).fetchone()
    return int(row[0]) if row else 0


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def part(reactor: Any, what: str, place: str, mailboxes: int, messages: int) -> dict[str, Any]:
    """One step of `many`, in a process of its own."""
    from twisted.internet.defer import gatherResults, maybeDeferred

    from nymtw.storage.mailboxes import SQLiteMailboxes
    from nymtw.storage.postgresql import PostgreSQLMailboxes

    source = random.Random(SEED)
    names = [source.randbytes(32) for _ in range(mailboxes)] if what not in {"memory", "empty"} else []
    before, began = resident(), time.perf_counter()
    store: Any
    if place.startswith("postgresql:"):
        store = PostgreSQLMailboxes(place, "nymtw_bench", reactor, reactor, random=source)
        await store.open()
    else:
        store = SQLiteMailboxes(place, reactor)
    opened, taken, result = time.perf_counter() - began, resident() - before, {}
    if what == "register":
        for start in range(0, mailboxes, 5000):
            await gatherResults([store.register(name, bytes(32), bytes(32)) for name in names[start : start + 5000]])
    elif what == "empty":
        result = {"empty_bytes": taken}
    elif what == "memory":
        result = {"mailboxes_bytes": taken}
    elif what == "fill":
        content = source.randbytes(1 << 20)
        began = time.perf_counter()
        for start in range(0, messages, 2000):
            places = [source.randrange(len(content) - LENGTH) for _ in range(min(2000, messages - start))]
            await gatherResults([store.store(source.choice(names), 1, content[at : at + LENGTH]) for at in places])
        result = {"filled_a_second": round(messages / (time.perf_counter() - began))}
    elif what == "pull":
        times = []
        for _ in range(PULLS):
            name = source.choice(names)
            began = time.perf_counter()
            items = await maybeDeferred(store.pull, name, 16, 0)
            times.append(time.perf_counter() - began)
            assert all(len(item.content) == LENGTH for item in items)
        times.sort()
        result = {
            "open_seconds": round(opened, 2),
            "open_bytes": taken,
            "pull_median_us": round(1e6 * quantile(times, 0.5)),
            "pull_99_us": round(1e6 * quantile(times, 0.99)),
        }
    await maybeDeferred(store.close)
    return result


def taken(one: dict[str, Any], name: str) -> float:
    """MiB of memory beyond those of a store without anything in it."""
    return float(one[name] - one["empty_bytes"]) / 2**20


def measure(arguments: Any) -> int:
    """All of it, as a table and as JSON; 1 where the bar is missed."""
    kinds = arguments.stores or [SQLITE, POSTGRESQL]
    runs = [
        run
        for kind in kinds
        for run in throughput(kind, arguments.count, arguments.rounds, arguments.first, arguments.profile)
    ]
    rows = []
    for kind in kinds:
        of = [run for run in runs if run["store"] == kind]

        def middle(name: str, of: Sequence[dict[str, Any]] = of) -> float:
            return float(median(run[name] for run in of))

        rate = middle("stored_and_pulled_a_second")
        bar, met = (f"at least {BAR:,}", rate >= BAR) if kind == SQLITE else ("", True)
        rows += [
            Row(f"{kind}: stored and pulled a second, one core", rate, "messages", bar, met),
            Row(f"{kind}: CPU of the provider for each", middle("cpu_us"), "us", "", True),
            Row(f"{kind}: that is a core for", 1e6 / middle("cpu_us"), "messages/s", "", True),
        ]
        if kind == POSTGRESQL:
            rows.append(Row(f"{kind}: CPU of the server for each", middle("database_cpu_us"), "us", "", True))
    large = [] if arguments.quick else [many(kind, MAILBOXES, MESSAGES, arguments.first) for kind in kinds]
    for one in large:
        kind = one["store"]
        rows += [
            Row(f"{kind}: pull among {MESSAGES:,} messages, median", one["pull_median_us"] / 1e3, "ms", "", True),
            Row(f"{kind}: pull among {MESSAGES:,} messages, 99 %", one["pull_99_us"] / 1e3, "ms", "", True),
            Row(f"{kind}: on disk", one["bytes_on_disk"] / 2**20, "MiB", "", True),
            Row(
                f"{kind}: bytes on disk for each byte of mail", one["bytes_on_disk"] / (MESSAGES * LENGTH), "", "", True
            ),
            Row(f"{kind}: memory of {MAILBOXES:,} mailboxes", taken(one, "mailboxes_bytes"), "MiB", "", True),
            Row(f"{kind}: the same with mail in all of them", taken(one, "open_bytes"), "MiB", "", True),
            Row(f"{kind}: opening it all", one["open_seconds"], "s", "", True),
        ]
    machine = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load average": round(os.getloadavg()[1], 1),
        "others waited": arguments.first,
    }
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    print("\n| measure | is | | bar | |\n|---|--:|---|---|---|")
    for row in rows:
        verdict = "" if not row.bar else "met" if row.met else "MISSED"
        print(f"| {row.measure} | {row.value:,.2f} | {row.unit} | {row.bar} | {verdict} |")
    if arguments.profile is None and not arguments.quick:
        result = {"machine": machine, "rows": [asdict(row) for row in rows], "runs": [*runs, *large]}
        (HERE / "provider_store.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    from twisted.internet.defer import ensureDeferred
    from twisted.internet.task import react

    def step(reactor: Any) -> Any:
        what, place, mailboxes, messages = sys.argv[1:]
        return ensureDeferred(part(reactor, what, place, int(mailboxes), int(messages))).addCallback(
            lambda result: print(json.dumps(result))
        )

    react(step)
