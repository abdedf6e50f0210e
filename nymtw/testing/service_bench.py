"""A bench for one provider implementation: the node's side of it in memory, and people who ask it things.

The implementation is mounted as a node mounts it. Packets are real, and cross a network of three mixnodes whose work
takes the delays drawn for it, and `slowness` more seconds for each hop; a `loss` of them never arrives.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred

from nymtw.drop_reasons import DropReason
from nymtw.message.envelope import Envelope, EnvelopeKind, ReplyBlock, ReplyReceipt, parse_request
from nymtw.message.fragments import FragmentKind, fragment
from nymtw.message.payload import ACK_ID_LENGTH, split_payload
from nymtw.message.reassembly import Reassembler
from nymtw.message.replies import ReceiptSchedule, make_reply_block, open_reply, reply_alpha
from nymtw.message.sealing import seal
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.routes import UniformRoutes
from nymtw.node.home import NodeHome
from nymtw.provider.delivery import Deliveries, Delivery, MailKind
from nymtw.provider.services.dispatch import DEFAULT_RATE
from nymtw.provider.services.installed_plugins import find_implementations
from nymtw.provider.services.multiplexer import Multiplexer
from nymtw.provider.services.service_host import Node, ServiceHost
from nymtw.sphinx import ForwardHop, SURBRecord, generate_keypair, process_packet, recover_message
from nymtw.testing.clock import FakeClock
from nymtw.testing.network import MemoryHost, MemoryNetwork
from nymtw.topology.address import Address
from nymtw.topology.document import LAYERS, MIXNODE, PROVIDER, NodeRecord, Topology

EPOCH: Final = 7
_LOOK: Final = 0.5


class ServiceBench:
    """One implementation, given by the name of its plugin or as an `IProviderFactory`, and the network around it.

    `submitted` has every packet that it sent as (first hop, epoch, packet); `dropped` why deliveries were refused.
    """

    def __init__(
        self,
        implementation: Any,
        argv: Sequence[str] = (),
        *,
        seed: int = 1,
        rate: float = DEFAULT_RATE,
        loss: float = 0.0,
        slowness: float = 0.0,
    ) -> None:
        """`argv`: the implementation's own options; `rate`: the packets it may send in a second."""
        factory = find_implementations().choose(implementation) if isinstance(implementation, str) else implementation
        options = factory.options()
        options.parseOptions(list(argv))
        self.random = Random(seed)
        self.loss = loss
        self.slowness = slowness
        self.clock = FakeClock()
        self.network = MemoryNetwork(self.clock)
        self.host: MemoryHost = self.network.host("provider", "198.51.100.1")
        self._keys: dict[bytes, bytes] = {}
        nodes = [self._record(MIXNODE, layer) for layer in LAYERS] + [self._record(PROVIDER, 0)]
        self.topology = Topology(
            serial=1,
            network=bytes(16),
            published=0,
            valid_until=2**62,
            refresh=60.0,
            epoch=EPOCH,
            epoch_seconds=86400,
            nodes=tuple(nodes),
        )
        self.identity = nodes[-1].identity
        self.entry = nodes[0].identity
        self.submitted: list[tuple[bytes, int, bytes]] = []
        self.dropped: list[DropReason] = []
        self.people: dict[bytes, Asker] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="nymtw-bench-")
        home = NodeHome("provider", "bench", Path(self._folder.name))
        home.create()
        node = Node(self.host, self.random, self.clock.wall_clock, self.identity)
        node.topology = lambda: self.topology
        node.submit = self._submit
        self.service_host = ServiceHost(node, home, factory, options, rate)
        self.multiplexer = Multiplexer([self.service_host])
        self.deliveries = Deliveries(self.host, self.multiplexer)

    # running

    def start(self) -> None:
        """Start the implementation."""
        self.clock.wait_for(self.multiplexer.start(), 60)

    def stop(self) -> None:
        """Stop it as a node does, and the people who ask; time passes until it has stopped."""
        self.clock.wait_for(self.multiplexer.leave(), 60)
        for person in self.people.values():
            person.stop()
        self.deliveries.stop()
        self.clock.wait_for(self.multiplexer.stop(), 60)
        self._folder.cleanup()

    def __enter__(self) -> "ServiceBench":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def metrics(self) -> Mapping[str, int]:
        """What has been counted."""
        return self.service_host.metrics.snapshot()

    def asker(self) -> "Asker":
        """One more person."""
        return Asker(self)

    def ask(self, message: bytes, answers: int = 1, limit: float = 60.0, blocks: int = 20) -> list[bytes]:
        """Send `message`, and let time pass until so many answers have come. Raises `TimeoutError` after `limit`."""
        person = self.asker()
        person.ask(message, blocks)
        self.clock.advance_until(lambda: len(person.answers) >= answers, limit)
        return person.answers

    def deliver(self, content: bytes, kind: MailKind = MailKind.MESSAGE, destination: bytes | None = None) -> None:
        """Hand the node's side one packet's content, as the core does."""
        where = self.service_host.address.mailbox if destination is None else destination
        self.deliveries.hand(Delivery(where, kind, content), self._ended)

    def deliver_message(self, body: bytes) -> None:
        """All fragments of one message, sealed to the service."""
        for piece in fragment(body, self.random.randbytes(16)):
            self.deliver(seal(piece.encode(), self.service_host.address.encryption_key, self.random))

    # the network

    def _record(self, role: str, layer: int) -> NodeRecord:
        identity = self.random.randbytes(32)
        private, public = generate_keypair(self.random)
        self._keys[identity] = private
        return NodeRecord(
            role=role, identity=identity, host="192.0.2.1", port=1789, layer=layer, sphinx_keys={EPOCH: public}
        )

    def _submit(self, first_hop: bytes, epoch: int, packet: bytes) -> None:
        self.submitted.append((first_hop, epoch, packet))
        self._carry(first_hop, packet)

    def _carry(self, hop: bytes, packet: bytes) -> None:
        if self.random.random() < self.loss:
            return
        if hop not in self._keys:
            if hop in self.people:
                self.people[hop].reply(packet)
            return
        done = process_packet(packet, self._keys[hop])
        if isinstance(done, ForwardHop):
            self.clock.callLater(done.delay / 1e9 + self.slowness, self._carry, done.next_address, done.packet)
            return
        plaintext = recover_message(done.payload)
        if len(plaintext) == ACK_ID_LENGTH:
            self.deliver(plaintext, MailKind.ACK, done.destination)
            return
        ack, sealed = split_payload(plaintext)
        if done.destination in self.people:
            self.people[done.destination].mail.append(sealed)
        self.clock.callLater(ack.delay / 1e9 + self.slowness, self._carry, ack.first_hop, ack.packet(True))

    def _ended(self, reason: DropReason | None) -> None:
        if reason is not None:
            self.dropped.append(reason)


class Asker:
    """Somebody with a client: asks, gives reply blocks, reads `answers`, says what came. `mail` is sealed messages."""

    def __init__(self, bench: ServiceBench) -> None:
        self._bench = bench
        self.private, public = generate_keypair(bench.random)
        self.address = Address(bench.random.randbytes(32), public, bench.identity)
        self.tag = bench.random.randbytes(16)
        self.answers: list[bytes] = []
        self.mail: list[bytes] = []
        self.fragments = 0
        self.given = 0
        self._records: dict[bytes, SURBRecord] = {}
        self._reassembler = Reassembler()
        self._receipts = ReceiptSchedule()
        self._timer: Any = None
        self._waiting: list[Deferred[bytes]] = []
        bench.people[self.address.mailbox] = self

    def ask(self, message: bytes, blocks: int = 20) -> None:
        """Send a message to the service, with so many reply blocks."""
        tag = self.tag if blocks else None
        self._deliver(Envelope(data=message, tag=tag, blocks=self.blocks(blocks)))

    def blocks(self, number: int) -> tuple[ReplyBlock, ...]:
        """New reply blocks."""
        bench = self._bench
        made = []
        for _ in range(number):
            block, record = make_reply_block(
                bench.topology, self.address, UniformRoutes(), ExponentialDelays(0.05), bench.random
            )
            self._records[record.alpha] = record
            made.append(block)
        self.given += number
        return tuple(made)

    def reply(self, packet: bytes) -> None:
        """A reply packet came. Raises `KeyError` for a block that was used before."""
        piece = open_reply(packet, self._records.pop(reply_alpha(packet)))
        assert piece.kind is FragmentKind.REPLY
        self.fragments += 1
        now = self._bench.clock.seconds()
        body = self._reassembler.add(piece, now)
        self._receipts.arrived(self.tag, piece, now, body is not None)
        if self._timer is None:
            self._timer = self._bench.clock.callLater(0, self._look)
        if body is None:
            return
        envelope = Envelope.parse(body)
        if envelope.kind is EnvelopeKind.REQUEST:
            blocks = self.blocks(parse_request(envelope.data))
            self._deliver(Envelope(EnvelopeKind.BLOCKS, b"", self.tag, blocks))
        else:
            self.answers.append(envelope.data)

    def stop(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        for tag, message_id, count in self._receipts.due(self._bench.clock.seconds()):
            received = self._reassembler.ledger.received(message_id, count)
            self._deliver(Envelope(EnvelopeKind.RECEIPT, ReplyReceipt(message_id, count, received).encode(), tag))
        if self._receipts.next_due is not None:
            self._timer = self._bench.clock.callLater(_LOOK, self._look)

    def _deliver(self, envelope: Envelope) -> None:
        self._bench.deliver_message(envelope.encode())
