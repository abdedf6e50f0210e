"""A mixnode with workers on a fake clock: each worker, and each node behind it, is a host of a network in memory."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from nacl.signing import SigningKey

from twisted.internet.protocol import ClientFactory, Factory

from nymtw.drop_reasons import DropReason
from nymtw.link.frames import Frame, FrameType
from nymtw.link.node_link import NodeLinks
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.mixnode.workers.counts import LENGTH, WorkerCounts
from nymtw.mixnode.workers.handle import WorkerHandle
from nymtw.mixnode.workers.pool import WorkerPool
from nymtw.mixnode.workers.process import Worker
from nymtw.mixnode.workers.replay_coordinator import ReplayCoordinator
from nymtw.mixnode.workers.spawn import SpawnedWorker
from nymtw.mixnode.workers.wire import Settings
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.sphinx import Hop, Unwrapper, build_packet, generate_keypair
from nymtw.testing.clock import FakeClock
from nymtw.testing.network import MemoryNetwork
from nymtw.testing.security import MemorySecurity
from nymtw.topology.document import MIXNODE, NodeRecord, Topology

EPOCH = 7
MILLISECOND = 1_000_000
PIPE_PORT, NODE_PORT = 1, 1789


class MemoryWorker(SpawnedWorker):
    """The node's end of a pipe to a worker on a host of its own."""

    def __init__(self, crew: "WorkerParts", handle: WorkerHandle) -> None:
        counts = WorkerCounts(bytearray(LENGTH))
        super().__init__(crew.hosts["node"], handle, counts, None)  # type: ignore[arg-type]  # no sockets are handed over in memory
        self.crew = crew
        self.name = f"worker {handle.number}.{next(crew.births)}"
        self._early: list[bytes] = []
        host = crew.network.host(self.name, f"10.0.1.{next(crew.addresses)}")
        self.host = host
        self.worker = Worker(
            host,
            counts,
            security=lambda key: MemorySecurity(bytes(key.verify_key), crew.random),
            random=crew.random,
            serve=lambda factory: host.listenTCP(NODE_PORT, factory),
            ended=lambda: crew.ended(self),
        )
        port = crew.hosts["node"].listenTCP(0, Factory.forProtocol(lambda: self))
        factory: Any = ClientFactory.forProtocol(lambda: self.worker)
        host.connectTCP("10.0.0.1", port.getHost().port, factory)

    def connectionMade(self) -> None:
        super().connectionMade()
        for data in self._early:
            self.transport.write(data)

    def write(self, data: bytes) -> None:
        if self.transport is None:
            self._early.append(data)
        else:
            super().write(data)

    def kill(self) -> None:
        if not self._how:
            self.crew.kill(self)

    def connectionLost(self, reason: Any = None) -> None:
        self._lost = True
        self.kill()
        self._tell_ended()


class WorkerParts:
    """A mixnode of layer 2 with `count` workers; `edge` sends to it, and `behind` are the nodes of layer 3."""

    def __init__(self, seed: int, count: int = 2, folder: Path | None = None, *, behind: int = 2) -> None:
        print("seed", seed)
        self.random = random = Random(seed)
        self.clock = FakeClock()
        self.network = MemoryNetwork(self.clock, latency=0.0002)
        self.births, self.addresses = iter(range(1, 1000)), iter(range(1, 1000))
        self.private, public = generate_keypair(random)
        identity = SigningKey(random.randbytes(32))
        self.own = NodeRecord(
            role=MIXNODE,
            identity=bytes(identity.verify_key),
            host="10.0.0.1",
            port=NODE_PORT,
            layer=2,
            sphinx_keys={EPOCH: public},
        )
        self.edge = self.record(1, 2)
        self.behind = [self.record(3, 10 + number) for number in range(behind)]
        self.hosts = {"node": self.network.host("node", "10.0.0.1")}
        self.arrived: list[tuple[float, bytes, Frame]] = []  # when, where, what
        for record in self.behind:
            host = self.network.host(record.host, record.host)
            links = self.links_of(host, record, partial(self._arrive, record.identity))
            host.listenTCP(NODE_PORT, links.factory)
        self.counters = PacketCounters()
        self.guard = ReplayGuard(folder, capacity=10_000)
        self.coordinator = ReplayCoordinator(
            clock=self.clock,
            random=random,
            unwrapper=Unwrapper({}),
            guard=self.guard,
            counters=self.counters,
            own=self.own,
        )
        settings = Settings(
            identity=bytes(identity),
            own=self.own,
            capacity=1000,
            max_delay=60.0,
            unauthenticated=64,
            unauthenticated_per_address=64,
            queue_bytes=1 << 24,
            queue_bytes_per_peer=1 << 22,
        )
        self.launched: list[MemoryWorker] = []
        self.workers = WorkerPool(
            self.hosts["node"], self.coordinator, count=count, settings=settings, launch=self.launch
        )
        self.coordinator.use_links(self.workers)
        self.use_nodes(self.behind)
        self.coordinator.use_keys({EPOCH: self.private})
        self.workers.startService()
        self.run(0.01)

    # what a test does

    def run(self, seconds: float) -> None:
        """Let time pass; the account must never be wrong, whenever it is looked at."""

        def exact() -> bool:
            snapshot = self.counters.snapshot()
            assert snapshot.queued >= 0, snapshot
            return False

        try:
            self.clock.advance_until(exact, seconds)
        except TimeoutError:
            pass

    def worker(self, number: int) -> Worker:
        """The one that has this number now."""
        return self.process(number).worker

    def process(self, number: int) -> MemoryWorker:
        process: MemoryWorker = self.workers.handles[number - 1].process
        return process

    def kill(self, process: MemoryWorker) -> None:
        """What kill -9 does."""
        if self.network.is_alive(process.name):
            self.network.kill(process.name)
            self.clock.callLater(0.0005, process.exited, "killed")

    def packet(self, delay: int = 0, to: NodeRecord | None = None, key: bytes | None = None) -> bytes:
        """For a random node behind, or `to`; `delay` in nanoseconds."""
        receiver = to or self.random.choice(self.behind)
        public = key or self.own.sphinx_keys[EPOCH]
        route = [Hop(self.own.identity, public), Hop(receiver.identity, receiver.sphinx_keys[EPOCH])]
        return build_packet(b"x", route, [delay], bytes(32), random=self.random)

    def enter(self, number: int, *packets: bytes, epoch: int = EPOCH) -> None:
        """All in one read of the worker with this number."""
        frames = [Frame(FrameType.PACKET, 0, epoch, packet) for packet in packets]
        self.worker(number).core.receive(self.edge.identity, frames)

    def owner(self, record: NodeRecord) -> int:
        """The number of the worker that has the link to it."""
        return self.workers.owners[record.identity]

    def use_nodes(self, behind: Sequence[NodeRecord]) -> None:
        self.topology = Topology(
            serial=1,
            network=bytes(16),
            published=0,
            valid_until=2**62,
            refresh=60.0,
            epoch=EPOCH,
            epoch_seconds=86400,
            nodes=(self.own, self.edge, *behind),
        )
        self.coordinator.use_topology(self.topology)

    @property
    def dropped(self) -> dict[DropReason, int]:
        return self.counters.snapshot().dropped

    @property
    def inside(self) -> int:
        """How many packets really are in live workers, their pipes not counted."""
        total = 0
        for handle in self.workers.handles:
            if handle.process is not None:
                core = handle.process.worker.core
                total += core.waiting + core.queued + handle.process.worker.links.pending
        return total

    # what it is made of

    def launch(self, handle: WorkerHandle) -> MemoryWorker:
        self.launched.append(MemoryWorker(self, handle))
        return self.launched[-1]

    def ended(self, process: MemoryWorker) -> None:
        """A worker whose pipe has ended ends itself."""
        self.clock.callLater(0, self.kill, process)

    def record(self, layer: int, address: int) -> NodeRecord:
        return NodeRecord(
            role=MIXNODE,
            identity=self.random.randbytes(32),
            host=f"10.0.0.{address}",
            port=NODE_PORT,
            layer=layer,
            sphinx_keys={EPOCH: generate_keypair(self.random)[1]},
        )

    def links_of(self, host: Any, record: NodeRecord, receive: Any) -> NodeLinks:
        return NodeLinks(
            host,
            MemorySecurity(record.identity, self.random),
            receive=receive,
            admit=lambda peer: True,
            sent=lambda count: None,
            dropped=lambda reason, count: None,
            random=self.random,
        )

    def _arrive(self, where: bytes, peer: bytes, frames: list[Frame]) -> None:
        assert peer == self.own.identity
        self.arrived += [(self.clock.seconds(), where, frame) for frame in frames]
