"""A client's core on a fake clock, with a provider and a network that are a few lines of Python.

Packets are taken apart with the nodes' real keys, delivered to whom they are for, and acknowledged.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from twisted.internet.defer import Deferred

from nymtw.client.config import DebugSection
from nymtw.client.core import Accepted, ClientCore
from nymtw.client.parts import Identity, Limits, LinkControl
from nymtw.client.receiving.inbox import Received
from nymtw.client.sending.messages import State
from nymtw.client.store import ClientStore, open_database
from nymtw.errors import TopologyError
from nymtw.link.control import MailItem, MailKind
from nymtw.message.payload import drop_acks, split_payload
from nymtw.sphinx import FinalHop, ForwardHop, generate_keypair, process_packet, recover_message
from nymtw.testing.clock import FakeClock
from nymtw.topology.document import NodeRecord, Topology

NETWORK = bytes(16)
SLOTS = 16


class Net:
    """The topology and the private keys behind it; packets cross it with the delays drawn for them."""

    def __init__(self, seed: int = 0) -> None:
        self.clock = FakeClock()
        self.random = random.Random(seed)
        self.keys: dict[bytes, bytes] = {}
        nodes = [self._node("mixnode", layer) for layer in (1, 2, 3) for _ in range(2)]
        nodes += [self._node("provider", 0) for _ in range(2)]
        self.topology: Topology | TopologyError = Topology(
            serial=1,
            network=NETWORK,
            published=0,
            valid_until=2**62,
            refresh=60.0,
            epoch=7,
            epoch_seconds=86400,
            nodes=tuple(nodes),
        )
        self.good = self.topology
        self.mail: dict[bytes, list[MailItem]] = {}
        self.numbers: dict[bytes, int] = {}
        self.pushing: dict[bytes, PushConnection] = {}
        self.loss = 0.0
        self.full: set[bytes] = set()  # mailboxes whose packets are refused

    def _node(self, role: str, layer: int) -> NodeRecord:
        identity = bytes(SigningKey(self.random.randbytes(32)).verify_key)
        private, public = generate_keypair(self.random)
        self.keys[identity] = private
        port = 9000 if role == "provider" else 0
        return NodeRecord(
            role=role,
            identity=identity,
            host="127.0.0.1",
            port=1789,
            layer=layer,
            client_port=port,
            sphinx_keys={7: public},
        )

    def newest(self) -> Topology:
        if isinstance(self.topology, TopologyError):
            raise self.topology
        return self.topology

    def carry(self, hop: bytes, packet: bytes) -> None:
        """Pass a packet on from `hop` until it ends."""
        if self.random.random() < self.loss:
            return
        if hop not in self.keys:
            self.deliver(hop, MailKind.REPLY, packet)
            return
        done = process_packet(packet, self.keys[hop])
        if isinstance(done, ForwardHop):
            self.clock.callLater(done.delay / 1e9, self.carry, done.next_address, done.packet)
            return
        assert isinstance(done, FinalHop)
        plaintext = recover_message(done.payload)
        if len(plaintext) == 21:
            self.deliver(done.destination, MailKind.ACK, plaintext)
            return
        ack, sealed = split_payload(plaintext)
        stored = done.destination not in self.full
        more = drop_acks(done.destination, sealed)
        if more is None and stored:
            self.deliver(done.destination, MailKind.MESSAGE, sealed)
        for one in (ack, *(more or ())):
            self.clock.callLater(one.delay / 1e9, self.carry, one.first_hop, one.packet(stored))

    def deliver(self, mailbox: bytes, kind: int, content: bytes) -> None:
        number = self.numbers[mailbox] = self.numbers.get(mailbox, 0) + 1
        self.mail.setdefault(mailbox, []).append(MailItem(number, kind, content))
        if mailbox in self.pushing:
            self.pushing[mailbox].mail_came()


class Connection:
    """What `ProviderConnection` is to a core: one session, which gives no item twice."""

    push = False
    kept = 0
    slots = SLOTS
    blocked = False

    def __init__(self, net: Net, mailbox: bytes) -> None:
        self._net, self._mailbox = net, mailbox
        self._cursor = 0
        self._answer: Deferred[Any] | None = None
        self.sent: list[tuple[float, bytes]] = []
        self.pulls: list[float] = []

    @property
    def pulling(self) -> bool:
        return self._answer is not None

    def submit(self, first_hop: bytes, epoch: int, packet: bytes) -> bool:
        assert (epoch, len(packet)) == (7, 2413)
        if self.blocked:
            return False
        self.sent.append((self._net.clock.seconds(), first_hop))
        self._net.carry(first_hop, packet)
        return True

    def pull(self, confirm: Any = ()) -> "Deferred[list[MailItem]]":
        assert len(confirm) <= SLOTS
        assert self._answer is None
        self.pulls.append(self._net.clock.seconds())
        mail = self._net.mail.setdefault(self._mailbox, [])
        mail[:] = [item for item in mail if item.number not in confirm]
        items = [item for item in mail if item.number > self._cursor][:SLOTS]
        if items:
            self._cursor = items[-1].number
        self._answer = answer = Deferred()
        self._net.clock.callLater(0.001, self._answered, items)
        return answer

    def _answered(self, items: list[MailItem]) -> None:
        answer, self._answer = self._answer, None
        assert answer is not None
        answer.callback(items)


class PushConnection(Connection):
    """A session at a gateway, which gives mail as it comes."""

    push = True

    def __init__(self, net: Net, mailbox: bytes) -> None:
        super().__init__(net, mailbox)
        self._take: Any = None
        net.pushing[mailbox] = self

    @property
    def pushed(self) -> Any:
        return self._take

    @pushed.setter
    def pushed(self, take: Any) -> None:
        self._take = take
        self.mail_came()

    def mail_came(self) -> None:
        items = [item for item in self._net.mail.get(self._mailbox, ()) if item.number > self._cursor]
        if items and self._take is not None:
            self._cursor = items[-1].number
            self._net.clock.callLater(0.001, self._take, items)

    def confirm(self, numbers: Any) -> None:
        mail = self._net.mail[self._mailbox]
        mail[:] = [item for item in mail if item.number not in numbers]

    def pull(self, confirm: Any = ()) -> "Deferred[list[MailItem]]":
        raise RuntimeError("mail is pushed here")


class Person:
    """A client of a `Net`, at a gateway where mail is pushed."""

    def __init__(
        self,
        net: Net,
        name: str,
        path: Path | str = ":memory:",
        debug: DebugSection | None = None,
        limits: Limits | None = None,
        push: bool = False,
        link: LinkControl | None = None,
        wall_clock: Callable[[], float] | None = None,
        names_edge: bool = True,
    ) -> None:
        keys = random.Random(name)
        self.net, self.name, self.path = net, name, path
        self.debug, self.limits, self.link = debug, limits, link
        self.wall_clock = wall_clock or net.clock.wall_clock
        self.names_edge = names_edge
        self.private, self.public = generate_keypair(keys)
        self.mailbox = keys.randbytes(32)
        self.starts = 0
        self.push = push
        self.received: list[Received] = []
        self.start()

    def start(self) -> None:
        self.starts += 1
        good = self.net.good
        assert isinstance(good, Topology)
        self.database = open_database(self.path)
        self.store = ClientStore(self.path, self.net.clock, connect=lambda path: self.database)
        self.core = ClientCore(
            clock=self.net.clock,
            random=random.Random(f"{self.name} {self.starts}"),
            wall_clock=self.wall_clock,
            store=self.store,
            topology=self.net.newest,
            identity=Identity(network=NETWORK, mailbox=self.mailbox, private_key=self.private, public_key=self.public),
            provider=good.providers()[0].identity if self.names_edge else None,
            debug=self.debug,
            limits=self.limits,
            link=self.link,
        )
        self.core.start()
        self.connect()

    def connect(self) -> None:
        self.connection = (PushConnection if self.push else Connection)(self.net, self.mailbox)
        self.core.connected(self.connection)

    def listen(self) -> None:
        self.core.inbox.pump(self.core.inbox.subscribe(self.received.append))

    def send(self, data: bytes, to: "Person", **options: Any) -> Accepted:
        return self.wait(self.core.send(data, to.core.address, **options))

    def wait(self, coroutine: Any) -> Any:
        return self.net.clock.wait_for(Deferred.fromCoroutine(coroutine), 60)

    def state(self, accepted: Accepted) -> State | None:
        progress = self.core.progress(accepted.message_id)
        return None if progress is None else progress.state

    def kill(self) -> None:
        """What kill -9 does: nothing more is written, and no timer runs."""
        self.store.abandon()
        self.core.disconnected()
        self.core.receiver.stop()
        self.core.replies.stop()
        self.core.outbox.abandon()

    def stop(self) -> None:
        self.core.stop()
        self.store.close()


def run_until(net: Net, condition: Callable[[], bool], limit: float = 600.0) -> float:
    return net.clock.advance_until(condition, limit)
