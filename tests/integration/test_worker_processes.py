"""A mixnode with two worker processes among real links: kill -9 of a worker, of the node, and SIGTERM."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted
from nacl.signing import SigningKey

from nymtw.encoding import key_text
from nymtw.link.frames import Frame
from nymtw.link.node_link import NodeLinks
from nymtw.link.security import TLSSecurity
from nymtw.sphinx import Hop, build_packet, generate_keypair
from nymtw.topology.document import MIXNODE, PROVIDER, NodeRecord, Topology, Trust, sign_topology
from nymtw.topology.presence import read_heartbeat

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
DEADLINE = 300.0  # seconds
EPOCH_SECONDS = 366 * 86400
RUN = "import sys; from nymtw.mixnode.commands import main; sys.exit(main())"
DELAY = 50_000_000  # nanoseconds at the mixnode


class Player:
    """A node before or behind the mixnode, with real links, in this process."""

    def __init__(self, reactor: Any, random: Random, arrived: list[bytes]) -> None:
        self.key = SigningKey(random.randbytes(32))
        self.private, self.public = generate_keypair(random)
        self.identity = bytes(self.key.verify_key)
        self.arrived = arrived
        self.links = NodeLinks(
            reactor,
            TLSSecurity(self.key),
            receive=self._receive,
            admit=lambda peer: True,
            sent=lambda count: None,
            dropped=lambda reason, count: None,
            random=random,
        )
        self.port = reactor.listenTCP(0, self.links.factory, interface=HOST)

    def record(self, role: str, layer: int, epoch: int) -> NodeRecord:
        port = self.port.getHost().port
        keys = {epoch: self.public}
        return NodeRecord(role=role, identity=self.identity, host=HOST, port=port, layer=layer, sphinx_keys=keys)

    def _receive(self, peer: bytes, frames: list[Frame]) -> None:
        self.arrived += [frame.body for frame in frames]


class Surrounded:
    """A mixnode of layer 2 in its own processes, with a directory, four nodes before it and two behind it."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        from twisted.web.resource import Resource
        from twisted.web.server import Site

        self.reactor = reactor
        self.random = random = Random(23)
        self.arrived: list[bytes] = []
        self.before = [Player(reactor, random, []) for _ in range(4)]
        self.behind = [Player(reactor, random, self.arrived) for _ in range(2)]
        self.epoch = int(time.time() // EPOCH_SECONDS)
        self.record: NodeRecord | None = None
        key = SigningKey(random.randbytes(32))
        nodes = [player.record(MIXNODE, 1, self.epoch) for player in self.before]
        nodes += [player.record(MIXNODE, 3, self.epoch) for player in self.behind]
        others = [Player(reactor, random, []) for _ in range(2)]  # a network without these is not whole
        nodes += [others[0].record(MIXNODE, 2, self.epoch), others[1].record(PROVIDER, 0, self.epoch)]
        self.players = [*self.before, *self.behind, *others]
        now = time.time_ns()
        self.document = sign_topology(
            Topology(
                serial=1,
                network=Trust((bytes(key.verify_key),)).network,
                published=now,
                valid_until=now + 3600 * 10**9,
                refresh=600.0,
                epoch=self.epoch,
                epoch_seconds=EPOCH_SECONDS,
                nodes=tuple(nodes),
            ),
            [key],
        )
        surrounded = self

        class API(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> bytes:
                return surrounded.document

            def render_POST(self, request: Any) -> bytes:
                import json

                if b"presence" in request.path:
                    surrounded.record = read_heartbeat(json.loads(request.content.read()), time.time()).record
                request.setResponseCode(201)
                return b"{}"

        self.api = reactor.listenTCP(0, Site(API()), interface=HOST)
        self.metrics_port = _free_port()
        self.log = folder / "node.log"
        command = [sys.executable, "-c", RUN, "run", "--id", "m", "--host", HOST, "--port", "0", "--layer", "2"]
        command += ["--workers", "2", "--rate", "20", "--loop-rate", "0", "--metrics-port", str(self.metrics_port)]
        command += ["--directory", f"http://{HOST}:{self.api.getHost().port}"]
        command += ["--directory-key", key_text(bytes(key.verify_key))]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NYMTW_HOME": str(folder)},
                start_new_session=True,
            )

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        from twisted.internet.task import deferLater

        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"{what}:\n{self.log.read_text()[-4000:]}"
            await deferLater(self.reactor, 0.05)

    async def connect(self) -> None:
        """Wait for the node's heartbeat; those before it know it then."""
        await self.until(lambda: self.record is not None, "no heartbeat")
        assert self.record is not None
        for player in self.before:
            player.links.set_peers({self.record.identity: (self.record.host, self.record.port)})

    def send(self, packet: bytes, number: int) -> None:
        """By one of those before the node."""
        assert self.record is not None
        self.before[number % len(self.before)].links.send(self.record.identity, self.epoch, packet)

    def packet(self, delay: int = DELAY) -> bytes:
        assert self.record is not None
        receiver = self.random.choice(self.behind)
        route = [
            Hop(self.record.identity, self.record.sphinx_keys[self.epoch]),
            Hop(receiver.identity, receiver.public),
        ]
        return build_packet(b"x", route, [delay], bytes(32), random=self.random)

    def workers(self) -> list[int]:
        """The numbers of their processes."""
        return _children(self.process.pid)

    async def figures(self) -> dict[str, float]:
        """The node's account, from what it tells Prometheus."""
        import treq

        response = await treq.get(f"http://{HOST}:{self.metrics_port}/metrics", timeout=50, persistent=False)
        lines = (await response.text()).splitlines()
        return {
            line.rpartition(" ")[0].removeprefix("nymtw_packets_"): float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("nymtw_packets_") and "_created" not in line
        }

    async def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        await self.api.stopListening()
        for player in self.players:
            await player.links.stop()
            await player.port.stopListening()


def _children(parent: int) -> list[int]:
    try:
        return [int(number) for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []


def _runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


Test = Callable[[Surrounded], Awaitable[None]]


async def _with_node(folder: Path, test: Test) -> None:
    from twisted.internet import reactor

    surrounded = Surrounded(reactor, folder)
    try:
        await test(surrounded)
    finally:
        await surrounded.close()


@pytest.fixture(autouse=True)
def _linux() -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("looks into /proc")


@pytest_twisted.ensureDeferred
async def test_a_worker_is_killed_under_load_and_every_packet_is_accounted_for(tmp_path: Path) -> None:
    async def test(node: Surrounded) -> None:
        await node.connect()
        packets: list[bytes] = []

        def enter(count: int) -> None:
            for _ in range(count):
                packets.append(node.packet())
                node.send(packets[-1], len(packets))

        enter(40)
        await node.until(lambda: len(node.arrived) == 40, "the first packets do not arrive")
        first, second = node.workers()
        # Both had a part of the connections.
        for number in (first, second):
            assert "nymtw.mixnode.workers.process" in Path(f"/proc/{number}/cmdline").read_text()
        enter(100)
        await node.until(lambda: len(node.arrived) > 60, "no more packets arrive")
        os.kill(first, signal.SIGKILL)
        enter(100)
        await node.until(lambda: second in node.workers() and len(node.workers()) == 2, "no new worker")
        assert first not in node.workers()

        # All links are made again, and packets of every peer pass.
        await node.until(
            lambda: all(player.links.up()[1] for player in node.before) and not _pending(node), "no links again"
        )
        held = len(node.arrived)
        late = [node.packet() for _ in range(20)]
        for index, packet in enumerate(late):
            node.send(packet, index)
        await node.until(lambda: len(node.arrived) >= held + len(late), "packets do not pass any more")

        figures = await node.figures()
        while figures['queued{place="delay"}'] + figures['queued{place="links"}'] > 0:
            figures = await node.figures()
        dropped = {name: count for name, count in figures.items() if name.startswith("dropped_total") and count}
        assert set(dropped) <= {'dropped_total{reason="worker-lost"}', 'dropped_total{reason="link-down"}'}
        assert figures["received_total"] == figures["forwarded_total"] + sum(dropped.values())
        assert len(node.arrived) <= figures["forwarded_total"]
        assert len(set(node.arrived)) == len(node.arrived)

        # No packet passes twice, whichever worker took it first.
        passed = len(node.arrived)
        received = figures["received_total"]
        for index, packet in enumerate(packets[:40]):
            node.send(packet, index + 1)
        while figures["received_total"] < received + 40 or figures['queued{place="delay"}']:
            figures = await node.figures()
        assert figures['dropped_total{reason="replayed"}'] == 40
        assert len(node.arrived) == passed

        # What is held at the end leaves when it is due.
        for index in range(20):
            node.send(node.packet(20 * DELAY), index)
        while figures['queued{place="delay"}'] != 20:
            figures = await node.figures()
        node.process.send_signal(signal.SIGTERM)
        workers = node.workers()
        await node.until(lambda: node.process.poll() is not None, "does not end")
        assert node.process.returncode == 0
        assert len(node.arrived) == passed + 20
        assert not any(_runs(number) for number in workers)

    await _with_node(tmp_path, test)


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_when_the_node_is_killed(tmp_path: Path) -> None:
    async def test(node: Surrounded) -> None:
        await node.connect()
        for index in range(40):
            node.send(node.packet(), index)
        await node.until(lambda: len(node.arrived) == 40, "packets do not arrive")
        workers = node.workers()
        secrets = [Path(f"/proc/{number}/{name}").read_bytes() for number in workers for name in ("cmdline", "environ")]
        identity = (tmp_path / "mixnodes" / "m" / "config" / "identity_private_key.pem").read_text().splitlines()[1]
        assert not any(identity.encode() in text for text in secrets)
        assert len(workers) == 2
        node.process.kill()
        await node.until(lambda: not any(_runs(number) for number in workers), "workers are left")

    await _with_node(tmp_path, test)


def _pending(node: Surrounded) -> int:
    return sum(player.links.pending for player in node.before)
