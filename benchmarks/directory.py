"""What a directory costs: many nodes and dashboards at once, big topologies, and what a client fetches in an hour.

`python benchmarks/directory.py [--seconds N]` prints a table, writes directory.json beside itself, and exits 1 where a
bar is missed. The directory is a process of its own, asked over real sockets; its CPU time is the operating system's.
"""

import argparse
import base64
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from twisted.internet import protocol, task
from twisted.internet import reactor as reactor_module
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from nymtw.directory.config import DirectoryConfig, DirectorySection
from nymtw.directory.service import make_directory
from nymtw.topology.delta import make_delta
from nymtw.topology.document import NodeRecord
from nymtw.topology.presence import Heartbeat, make_heartbeat, make_metric

NODES, DASHBOARDS, BIG = 1000, 50, 10_000
CPU_BAR, ANSWER_BAR = 0.80, 0.100  # of a core; seconds for 99 % of the answers
reactor: Any = reactor_module


class Node(protocol.Protocol):
    """One node's kept connection: a heartbeat every two seconds, a metric every one, one request after the other."""

    transport: Any

    def __init__(self, number: int, answers: list[float], failures: list[bytes]) -> None:
        self.key = SigningKey(number.to_bytes(32, "big"))
        self.sphinx = random.Random(number).randbytes(32)
        self.number, self.answers, self.failures = number, answers, failures
        self.waiting: list[float] = []
        self.queue: list[tuple[str, Any]] = []
        self.received = b""

    def heartbeat(self) -> None:
        record = NodeRecord(
            role="mixnode",
            identity=bytes(self.key.verify_key),
            host="127.0.0.1",
            port=1024 + self.number,
            layer=1 + self.number % 3,
            sphinx_keys={1: self.sphinx, 2: self.sphinx[::-1]},
        )
        heartbeat = Heartbeat(record, (), 0, time.time_ns(), "0.1")
        self.ask("/api/presence/mixnodes", make_heartbeat(heartbeat, self.key))

    def metric(self) -> None:
        counts = {"sent": self.number, "received": self.number}
        made = make_metric(public_key=self.sphinx, timestamp=time.time_ns(), signing_key=self.key, **counts)
        self.ask("/api/metrics/mixes", made)

    def ask(self, path: str, body: Any) -> None:
        encoded = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(encoded)}\r\n\r\n"
        self.waiting.append(time.perf_counter())
        self.transport.write(head.encode() + encoded)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        while b'{"ok":true}' in self.received:
            answer, _, self.received = self.received.partition(b'{"ok":true}')
            self.answers.append(time.perf_counter() - self.waiting.pop(0))
            if not answer.startswith(b"HTTP/1.1 201"):
                self.failures.append(answer)
        if b'{"error"' in self.received:
            self.failures.append(self.received)
            self.received = b""


class Dashboard(protocol.Protocol):
    """A viewer of the live stream: counts frames and bytes."""

    transport: Any

    def __init__(self) -> None:
        self.bytes = self.frames = 0

    def connectionMade(self) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        head = "GET /api/v1/live HTTP/1.1\r\nHost: d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.transport.write(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())

    def dataReceived(self, data: bytes) -> None:
        self.bytes += len(data)
        self.frames += data.count(b'{"revision":')


def start(folder: Path) -> tuple[Any, int]:
    """A directory in a process of its own, and its port."""
    command = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
    log = folder / "log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            [*command, "nym-directory", "--port=0"],
            env={**os.environ, "NYMTW_HOME": str(folder)},
            cwd=folder,
            stdout=out,
            stderr=out,
        )
    while "identity key" not in (said := log.read_text()):
        time.sleep(0.1)
    return process, int(said.split("The directory is at http://127.0.0.1:")[1].split()[0])


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(pid: int, port: int, seconds: float) -> dict[str, Any]:
    """All nodes and dashboards for `seconds`, after a warm-up in which they come one by one."""
    answers: list[float] = []
    failures: list[bytes] = []
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    loops = []
    nodes = []
    for number in range(1, NODES + 1):
        node = await connectProtocol(endpoint, Node(number, answers, failures))
        nodes.append(node)
        for interval, call in ((2.0, node.heartbeat), (1.0, node.metric)):
            loop = task.LoopingCall(call)
            loops.append(loop)
            # A metric is taken once its node is known; the beats of all are spread over their interval.
            reactor.callLater(random.random() * interval + (2.5 if interval == 1.0 else 0), loop.start, interval)
    boards = [await connectProtocol(endpoint, Dashboard()) for _ in range(DASHBOARDS)]
    await task.deferLater(reactor, 6.0, lambda: None)
    answers.clear()
    failures.clear()
    frames = sum(unsigned.frames for unsigned in boards)
    own, begun, used = time.process_time(), time.perf_counter(), cpu_seconds(pid)
    sent = sum(unsigned.bytes for unsigned in boards)
    await task.deferLater(reactor, seconds, lambda: None)
    elapsed = time.perf_counter() - begun
    used = cpu_seconds(pid) - used
    own = time.process_time() - own
    for loop in loops:
        if loop.running:
            loop.stop()
    ordered = sorted(answers)
    result = {
        "posts a second": len(answers) / elapsed,
        "failures": len(failures),
        "cpu of a core": used / elapsed,
        "cpu per post, us": used / max(1, len(answers)) * 1e6,
        "median answer, ms": statistics.median(ordered) * 1e3,
        "99 % answer, ms": ordered[int(len(ordered) * 0.99)] * 1e3,
        "frames a dashboard a second": (sum(unsigned.frames for unsigned in boards) - frames) / DASHBOARDS / elapsed,
        "bytes a dashboard a second": (sum(unsigned.bytes for unsigned in boards) - sent) / DASHBOARDS / elapsed,
        "load generator, cpu of a core": own / elapsed,
        "load average of the machine": os.getloadavg()[0],
        "cores of the machine": os.cpu_count(),
    }
    if failures:
        print(failures[0])
    for each in (*nodes, *boards):
        each.transport.abortConnection()
    return result


def big_topology() -> dict[str, Any]:
    """Size and time of a topology of 10,000 nodes; bytes for a client that follows it for an hour."""
    clock = task.Clock()
    rng = random.Random(1)
    directory = make_directory(
        clock,
        SigningKey(bytes(32)),
        DirectoryConfig(directory=DirectorySection(id="x", trust_hosts=True)),
        wall_clock=lambda: 1.8e9 + clock.seconds(),
    )
    records = [
        NodeRecord(
            role="mixnode",
            identity=rng.randbytes(32),
            host=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            port=1789,
            layer=1 + number % 3,
            sphinx_keys={20833: rng.randbytes(32), 20834: rng.randbytes(32)},
        )
        for number in range(BIG)
    ]
    registry, publisher = directory.registry, directory.publisher

    def announce(nodes: list[NodeRecord]) -> None:
        for record in nodes:
            beat = Heartbeat(record, (), 0, int((1.8e9 + clock.seconds()) * 1e9), "0.1")
            registry.accept(beat, {"pubKey": "", "host": ""}, "127.0.0.1")

    announce(records)
    begun = time.perf_counter()
    document = publisher.document()
    built = time.perf_counter() - begun
    begun = time.perf_counter()
    packed = gzip.compress(document, 6)
    packing = time.perf_counter() - begun
    fetched, whole = len(packed), len(packed)
    deltas = []
    for _ in range(60):
        before = publisher.topology()
        # In an hour one node in ten leaves or comes back: in a minute 17 of 10,000.
        gone = set(rng.sample(range(BIG), 17))
        clock.advance(60)
        announce([record for number, record in enumerate(records) if number not in gone])
        document = publisher.document()
        begun = time.perf_counter()
        delta = gzip.compress(make_delta(before, publisher.topology(), document), 6)
        deltas.append(time.perf_counter() - begun)
        fetched += len(delta)
        whole += len(packed)
    return {
        "nodes": BIG,
        "bytes": len(document),
        "bytes compressed": len(packed),
        "build and sign, ms": built * 1e3,
        "compress, ms": packing * 1e3,
        "delta and compress, ms": statistics.median(deltas) * 1e3,
        "bytes an hour with deltas": fetched,
        "bytes an hour without": whole,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    outcome: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="nymtw-bench-") as folder:
        process, port = start(Path(folder))
        try:

            async def run() -> None:
                outcome["load"] = await load(process.pid, port, seconds)

            task.react(lambda _: ensureDeferred(run()))
        except SystemExit as ended:
            if ended.code:
                raise
        finally:
            process.terminate()
            process.wait()
            print((Path(folder) / "log").read_text()[-2000:])
    outcome["topology"] = big_topology()
    for part, metrics_text in outcome.items():
        print(f"\n{part}")
        for name, value in metrics_text.items():
            print(f"  {name:32} {value:,.2f}" if isinstance(value, float) else f"  {name:32} {value:,}")
    loaded = outcome["load"]
    bars = {
        f"CPU at most {CPU_BAR:.0%} of a core": loaded["cpu of a core"] <= CPU_BAR,
        f"99 % of the answers within {ANSWER_BAR * 1e3:.0f} ms": loaded["99 % answer, ms"] <= ANSWER_BAR * 1e3,
        "nothing refused": loaded["failures"] == 0,
        "a frame a second for each dashboard": 0.9 <= loaded["frames a dashboard a second"] <= 1.1,
    }
    outcome["bars"] = {name: "met" if met else "missed" for name, met in bars.items()}
    for name, met in outcome["bars"].items():
        print(f"{met}: {name}")
    Path(__file__).with_suffix(".json").write_text(json.dumps(outcome, indent=2) + "\n")
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
