"""The network around the node that `mixnode.py` or `gateway.py` measures: its directory, packets, the node's process.

The node is the real command, such as `nym-mixnode run`. The directory lists peers before and behind it, all of them
played by `mixnode_load.py`.
"""

import contextlib
import json
import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from nacl.signing import SigningKey

from nymtw.encoding import key_text
from nymtw.sphinx import Hop, generate_keypair
from nymtw.sphinx.geometry import GEOMETRIES, HEADER_LENGTH, MAC_LENGTH, VERSION_SEED, Geometry, SizeClass
from nymtw.sphinx.header import build_header
from nymtw.topology.document import MIXNODE, PROVIDER, NodeRecord, Recommended, Topology, Trust, sign_topology
from nymtw.topology.presence import read_heartbeat

HOST = "127.0.0.1"
EPOCH_SECONDS = 366 * 86400  # no key rotates while we measure
LAYER = 2
RECORD_LENGTH = HEADER_LENGTH + MAC_LENGTH + 8  # of what `build_headers` returns
PAYLOAD_LENGTH = GEOMETRIES[SizeClass.REGULAR].payload_length
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Player:
    """A node that the load generator plays: its identity's seed and its Sphinx key, 32 bytes each."""

    seed: bytes
    sphinx_private: bytes
    sphinx_public: bytes

    @classmethod
    def draw(cls, source: random.Random) -> "Player":
        return cls(source.randbytes(32), *generate_keypair(source))

    @property
    def identity(self) -> bytes:
        return bytes(SigningKey(self.seed).verify_key)

    def record(self, role: str, layer: int, port: int, epoch: int) -> NodeRecord:
        keys = {epoch: self.sphinx_public}
        return NodeRecord(role=role, identity=self.identity, host=HOST, port=port, layer=layer, sphinx_keys=keys)


def current_epoch() -> int:
    """The key epoch of this network now."""
    return int(time.time() // EPOCH_SECONDS)


class Directory:
    """Serves one signed topology, and keeps the heartbeats that are posted."""

    def __init__(
        self,
        source: random.Random,
        before: Sequence[Player],
        behind: Sequence[Player],
        ports: Sequence[int],
        *,
        layers: tuple[int, int] = (LAYER - 1, LAYER + 1),
        recommended: Recommended | None = None,
    ) -> None:
        """`ports`: where each of `behind` listens. `layers`: those of `before` and of `behind`."""
        key = SigningKey(source.randbytes(32))
        self.key_text = key_text(bytes(key.verify_key))
        epoch, now = current_epoch(), time.time_ns()
        nodes = [player.record(MIXNODE, layers[0], 1, epoch) for player in before]
        nodes += [player.record(MIXNODE, layers[1], port, epoch) for player, port in zip(behind, ports, strict=True)]
        # These two are never spoken to: a network without them would be asked for every few seconds.
        nodes += [
            Player.draw(source).record(MIXNODE, LAYER, 1, epoch),
            Player.draw(source).record(PROVIDER, 0, 1, epoch),
        ]
        topology = Topology(
            serial=1,
            network=Trust((bytes(key.verify_key),)).network,
            published=now,
            valid_until=now + 86400 * 10**9,
            refresh=3600.0,
            epoch=epoch,
            epoch_seconds=EPOCH_SECONDS,
            recommended=recommended or Recommended(),
            nodes=tuple(nodes),
        )
        self._server = ThreadingHTTPServer(
            (HOST, 0), _handler(sign_topology(topology, [key]), heartbeats := queue.Queue())
        )
        self._heartbeats: queue.Queue[NodeRecord] = heartbeats
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def announced(self, within: float) -> NodeRecord:
        """The first node that announces itself. Raises `queue.Empty` if none does `within` so many seconds."""
        return self._heartbeats.get(timeout=within)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(topology: bytes, heartbeats: "queue.Queue[NodeRecord]") -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(200, topology)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.startswith("/api/presence/"):
                heartbeats.put(read_heartbeat(json.loads(body), time.time()).record)
            self._answer(201, b"{}")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    return Handler


@dataclass(frozen=True, slots=True)
class HeaderOrder:
    """`count` headers for regular packets: the node, then one of `receivers` drawn at random.

    The delay at the node is drawn from an exponential distribution of mean `mean_delay` seconds, or it is `mean_delay`
    to the nanosecond where `fixed` is true.
    """

    count: int
    seed: int
    node: Hop
    receivers: tuple[Hop, ...]
    mean_delay: float
    fixed: bool = False


def build_headers(order: HeaderOrder) -> bytes:
    """Records one behind the other: a header, the MAC under which the packet leaves the node, its delay there (8)."""
    source = random.Random(order.seed)
    records = []
    for _ in range(order.count):
        delay = int((1.0 if order.fixed else source.expovariate(1.0)) * order.mean_delay * 1e9)
        route = [order.node, source.choice(order.receivers)]
        padding = source.randbytes(Geometry.header_padding_length(len(route)))
        built = build_header(route, [delay], bytes(32), bytes(16), VERSION_SEED, source.randbytes(32), padding)
        records.append(built.header + built.last_mac_and_beta[:MAC_LENGTH] + delay.to_bytes(8, "big"))
    return b"".join(records)


class Node:
    """The node's process, or its processes, as the operating system sees them."""

    def __init__(
        self,
        folder: Path,
        directory: Directory,
        *,
        rate: int,
        core: int | None,
        profile: Path | None,
        role: str = "mixnode",
        words: Sequence[str] = ("--layer", str(LAYER)),
    ) -> None:
        """`rate`: what the node is told to be ready for. `core`: where it runs, None for anywhere. `words`: what else
        stands on its command line."""
        command = [sys.executable]
        if profile is not None:
            command += ["-m", "cProfile", "-o", str(profile)]
        script = folder / f"nym-{role}"  # what the package installs under this name
        script.write_text(f"import sys\n\nfrom nymtw.{role}.commands import main\n\nsys.exit(main())\n")
        command += [str(script), "run", "--id", "measured", "--host", HOST]
        command += ["--port", "0", "--rate", str(rate)]
        command += ["--directory", directory.url, "--directory-key", directory.key_text, *words]
        reading, self._pipe = os.pipe()
        self.log = folder / "node.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[reading],
                env={**os.environ, "NYMTW_HOME": str(folder / "home"), "NYMTW_LIFELINE": str(reading)},
            )
        os.close(reading)
        self.pid = self._process.pid
        if core is not None:
            os.sched_setaffinity(self.pid, {core})

    def cpu_seconds(self) -> float:
        """User and system time of all its processes, those that have ended included."""
        ended = sum(map(int, _stat(self.pid)[13:15])) / _TICKS
        return sum(map(cpu_seconds_of, self.pids())) + ended

    def resident_bytes(self) -> int:
        """The resident memory of all its processes."""
        return sum(int(_stat(pid)[21]) for pid in self.pids()) * os.sysconf("SC_PAGE_SIZE")

    def check(self) -> None:
        """Raise `RuntimeError` with the end of its log where it does not run any more."""
        if self._process.poll() is not None:
            raise RuntimeError(
                f"the node has ended with status {self._process.returncode}:\n{self.log.read_text()[-2000:]}"
            )

    def stop(self) -> None:
        """SIGTERM, and SIGKILL 20 seconds later."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._pipe)

    def pids(self) -> Iterator[int]:
        """The numbers of all its processes, its own first."""
        waiting = [self.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            with contextlib.suppress(FileNotFoundError):
                waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def cpu_seconds_of(pid: int) -> float:
    """User and system time of one process."""
    return sum(map(int, _stat(pid)[11:13])) / _TICKS


def busy_seconds() -> float:
    """The time that all cores together have been busy, or taken away by other virtual machines."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _stat(pid: int) -> list[str]:
    """proc(5), /proc/PID/stat, from the third field on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
