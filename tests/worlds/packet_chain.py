"""Three mixnode cores and a provider core on a fake clock, joined by links that only hand packets on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nymtw.drop_reasons import DropReason
from nymtw.interfaces import IProvider
from nymtw.link.frames import Frame, FrameType
from nymtw.message.payload import DROP_DESTINATION, AckSection, join_payload
from nymtw.message.sealing import seal
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.mixnode.core import MixnodeCore
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.node.engine.packet_engine import PacketEngine
from nymtw.provider.core import ProviderCore
from nymtw.provider.delivery import Deliveries, Delivery, MailKind
from nymtw.sphinx import Hop, SizeClass, Unwrapper, build_alternatives, build_packet, generate_keypair
from nymtw.testing.clock import FakeClock
from nymtw.topology.document import NodeRecord, Topology

EPOCH = 7
LATENCY = 0.001
MILLISECOND = 1_000_000


class FakeLinks:
    """Every packet is with the other node a millisecond later; while `closed`, it is queued."""

    def __init__(self, chain: "Chain", own: bytes, counters: PacketCounters) -> None:
        self.chain = chain
        self.own = own
        self.counters = counters
        self.closed = False
        self.queue: list[tuple[bytes, int, bytes]] = []
        self.sent: list[tuple[float, bytes, int, bytes]] = []
        self.peers: Mapping[bytes, tuple[str, int]] = {}

    @property
    def pending(self) -> int:
        return len(self.queue)

    def set_peers(self, peers: Mapping[bytes, tuple[str, int]]) -> None:
        self.peers = peers

    def send(self, peer: bytes, epoch: int, packet: bytes) -> None:
        if self.closed:
            self.queue.append((peer, epoch, packet))
            return
        self.counters.forwarded(1)
        self.sent.append((self.chain.clock.seconds(), peer, epoch, packet))
        self.chain.clock.callLater(LATENCY, self.chain.carry, self.own, peer, epoch, packet)

    def send_many(self, packets: Iterable[tuple[bytes, int, bytes]]) -> None:
        for packet in packets:
            self.send(*packet)

    def drop_all(self) -> None:
        self.counters.dropped(DropReason.LINK_DOWN, len(self.queue))
        self.queue.clear()


@implementer(IProvider)
class RecordingProvider:
    """Keeps what it is given, and answers with what `answer` returns."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.deliveries: list[tuple[float, Delivery]] = []
        self.answer: Callable[[Delivery], Any] = lambda delivery: None

    def start(self) -> None:
        pass

    def deliver(self, delivery: Delivery) -> Any:
        self.deliveries.append((self.clock.seconds(), delivery))
        return self.answer(delivery)

    def stop(self) -> None:
        pass


@dataclass
class Node:
    record: NodeRecord
    private_key: bytes
    core: PacketEngine
    links: FakeLinks

    @property
    def hop(self) -> Hop:
        return Hop(self.record.identity, self.record.sphinx_keys[EPOCH])

    @property
    def counters(self) -> PacketCounters:
        return self.core.counters

    def drops(self) -> dict[DropReason, int]:
        return self.counters.snapshot().dropped

    def is_exact(self) -> bool:
        """The account's sum agrees with what is really there."""
        return self.counters.queued == self.core.queued + self.links.pending


@dataclass
class Chain:
    """`mixnodes[0]` is in layer 1, `mixnodes[2]` in layer 3; `other` is a second mixnode of layer 2, with no core."""

    seed: int
    folder: Path | None = None
    capacity: int = 1000
    max_delay: float = 60.0
    timeout: float = 30.0
    limit: int = 100
    clock: FakeClock = field(default_factory=FakeClock)
    mixnodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        print("seed", self.seed)
        self.random = Random(self.seed)
        self.implementation = RecordingProvider(self.clock)
        self.mixnodes = [self._make("mixnode", layer) for layer in (1, 2, 3)]
        self.provider = self._make("provider", 0)
        other, _ = self._record("mixnode", 2)
        self.other = other
        self.topology = self.topology_of([node.record for node in self.nodes] + [other])
        for node in self.nodes:
            node.core.use_topology(self.topology)
        self.by_identity = {node.record.identity: node for node in self.nodes}

    @property
    def nodes(self) -> list[Node]:
        return [*self.mixnodes, self.provider]

    def topology_of(self, nodes: Sequence[NodeRecord]) -> Topology:
        return Topology(
            serial=1,
            network=bytes(16),
            published=0,
            valid_until=2**62,
            refresh=60.0,
            epoch=EPOCH,
            epoch_seconds=86400,
            nodes=tuple(nodes),
        )

    def _record(self, role: str, layer: int) -> tuple[NodeRecord, bytes]:
        private, public = generate_keypair(self.random)
        record = NodeRecord(
            role=role,
            identity=self.random.randbytes(32),
            host="127.0.0.1",
            port=1789,
            layer=layer,
            sphinx_keys={EPOCH: public},
        )
        return record, private

    def _make(self, role: str, layer: int) -> Node:
        record, private = self._record(role, layer)
        engine: dict[str, Any] = {
            "clock": self.clock,
            "random": self.random,
            "unwrapper": Unwrapper({EPOCH: private}),
            "guard": self.guard_of(record),
            "counters": PacketCounters(),
            "own": record,
            "capacity": self.capacity,
            "max_delay": self.max_delay,
        }
        core: PacketEngine
        if role == "mixnode":
            core = MixnodeCore(**engine)
        else:
            self.waiting = Deliveries(self.clock, self.implementation, timeout=self.timeout, limit=self.limit)
            core = ProviderCore(deliveries=self.waiting, **engine)
        links = FakeLinks(self, record.identity, core.counters)
        core.use_links(links)
        return Node(record, private, core, links)

    def guard_of(self, record: NodeRecord) -> ReplayGuard:
        folder = None if self.folder is None else self.folder / record.identity.hex()[:8]
        return ReplayGuard(folder, capacity=10_000)

    def carry(self, sender: bytes, receiver: bytes, epoch: int, packet: bytes) -> None:
        node = self.by_identity.get(receiver)
        if node is not None:
            node.core.receive(sender, [frame(packet, epoch)])

    def enter(self, packet: bytes, node: Node | None = None, epoch: int = EPOCH) -> None:
        """A packet reaches `node` (default: the first mixnode)."""
        (node or self.mixnodes[0]).core.receive(b"edge", [frame(packet, epoch)])

    def run(self, seconds: float) -> None:
        """Let time pass; after each event every node's account must be exact."""

        def exact() -> bool:
            for node in self.nodes:
                assert node.is_exact(), node.counters.snapshot()
            return False

        exact()
        try:
            self.clock.advance_until(exact, seconds)
        except TimeoutError:
            pass

    def route(self) -> list[Hop]:
        return [node.hop for node in self.nodes]

    def ack(self, delay: int = 0, first: Node | None = None, mailbox: bytes = b"a" * 32) -> tuple[AckSection, bytes]:
        """An ack section for a packet that comes back to this provider's `mailbox`, and what the ack will say."""
        text = self.random.randbytes(21)
        self.refusal = self.random.randbytes(21)
        header, payloads = build_alternatives(
            (text, self.refusal), self.route(), [0, 0, 0], mailbox, size_class=SizeClass.ACK, random=self.random
        )
        return AckSection(EPOCH, (first or self.mixnodes[0]).record.identity, delay, header, *payloads), text

    def data_packet(
        self,
        destination: bytes = b"b" * 32,
        delays: Sequence[int] = (0, 0, 0),
        ack: AckSection | None = None,
        route: Sequence[Hop] | None = None,
    ) -> bytes:
        """A packet like a client's, with something sealed to a key that nobody has."""
        section = ack or self.ack()[0]
        _, recipient = generate_keypair(self.random)
        sealed = seal(self.random.randbytes(1532), recipient, self.random)
        return build_packet(
            join_payload(section, sealed), route or self.route(), delays, destination, random=self.random
        )

    def drop_cover(self, ack: AckSection) -> bytes:
        return self.data_packet(DROP_DESTINATION, ack=ack)

    def delivered(self, kind: MailKind = MailKind.MESSAGE) -> list[Delivery]:
        return [delivery for _, delivery in self.implementation.deliveries if delivery.kind is kind]


def frame(packet: bytes, epoch: int = EPOCH) -> Frame:
    return Frame(FrameType.PACKET, 0, epoch, packet)


def never(_: object) -> "Deferred[Any]":
    """What an implementation that never answers returns."""
    return Deferred()
