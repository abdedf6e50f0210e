"""The heart of a client, without sockets: its parts, what it sends and when, and what applications ask of it.

Nothing that an application does changes when this emits something: the streams decide that, and they ask what to send
when they fire (Loopix, section 4). Everything that has to survive a kill is in the store.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.client.config import DebugSection, Rates, rates
from nymtw.client.parts import Callbacks, Identity, Limits, LinkControl, Strategies, make_parts
from nymtw.client.sending.message_trace import MessageTrace
from nymtw.client.sending.messages import Progress
from nymtw.client.sending.packet_sender import pack_address
from nymtw.client.sockets.views import client_object, public_clients, rates_object
from nymtw.client.store import ClientStore
from nymtw.encoding import key_text
from nymtw.errors import MessageTooLong, NymtwError, TopologyError, TopologyIncomplete
from nymtw.message.envelope import BLOCK_LENGTH, Envelope, EnvelopeKind, ReplyBlock
from nymtw.message.fragments import MAX_MESSAGE_LENGTH, MESSAGE_ID_LENGTH, FragmentKind
from nymtw.message.replies import make_reply_block
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.strategies import DelayFactory
from nymtw.sphinx import SURBRecord
from nymtw.topology.address import Address
from nymtw.topology.document import NodeRecord, Topology, check_usable

PROVIDER_SETTING = "provider"
NETWORK_SETTING = "network"
REPLY_LANE = "replies"  # receipts and fresh blocks take their turn like an application


@dataclass(frozen=True, slots=True)
class Accepted:
    """What `send` has accepted: the message is durable; it will be delivered, or reported as failed.

    `waits` says why nothing of it can be sent now; empty where it can.
    """

    message_id: bytes
    fragments: int
    queue_length: int
    waits: str = ""


class ClientCore:
    """One client. `connected` and `disconnected` are the link's words, `use_topology` the directory's."""

    log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        random: Random,
        wall_clock: Callable[[], float],
        store: ClientStore,
        topology: Callable[[], Topology],
        identity: Identity,
        provider: bytes | None = None,
        debug: DebugSection | None = None,
        strategies: Strategies | None = None,
        limits: Limits | None = None,
        link: LinkControl | None = None,
    ) -> None:
        """`topology()` gives the newest one or raises a `TopologyError` that says why there is none.

        `provider` is the identity (32 bytes) of a provider or gateway; with none the one of an earlier start is taken,
        or one is picked from the first topology and kept.
        """
        self.clock, self._random, self._wall_clock = clock, random, wall_clock
        self._store, self._topology = store, topology
        self.network, self._identity = identity.network, identity
        self._fixed = provider is not None
        provider = provider or store.setting(PROVIDER_SETTING)
        self._moved = store.setting(NETWORK_SETTING) not in (None, self.network)
        store.set_setting(NETWORK_SETTING, self.network)
        self._address = None if provider is None else self._address_at(provider)
        self._debug, self._link = debug or DebugSection(), link or LinkControl()
        strategies = strategies or Strategies()
        self._delays: DelayFactory = strategies.delays or ExponentialDelays
        self._rates: Rates | None = None
        self._checked: Topology | None = None
        self._troubles = {"topology": "", "packets": ""}
        self._connection: Any = None
        self._followers: list[Callable[[Progress], None]] = []
        parts = make_parts(
            clock,
            random,
            wall_clock,
            store,
            identity=identity,
            strategies=strategies,
            limits=limits or Limits(),
            link=self._link,
            debug=self._debug,
            core=Callbacks(
                topology=self._current,
                address=lambda: self.address,
                changed=self._changed,
                report=partial(self._report, "packets"),
                make_block=self._make_block,
                send=self._send_envelope,
                leave=self.change_edge,
            ),
        )
        self._routes, self.cover, self.outbox = parts.routes, parts.cover, parts.outbox
        self.mail_handler = parts.mail_handler
        self.receiver, self.inbox = parts.mail_handler.receiver, parts.mail_handler.inbox
        self.replies, self.circuits = parts.mail_handler.replies, parts.circuits
        self.packet_sender, self.streams, self.loop_watch = parts.packet_sender, parts.streams, parts.loop_watch

    # -- life

    def start(self) -> None:
        """Begin; nothing is sent before `connected`."""
        self.receiver.start()

    def stop(self) -> None:
        """Leave no timer."""
        self.disconnected()
        self.receiver.stop()
        self.replies.stop()
        self.circuits.stop()
        self.outbox.stop()

    def connected(self, connection: Any) -> None:
        """Logged in: `connection` has what a `ProviderConnection` has then. Where mail is pushed, none is fetched."""
        self._connection = self.packet_sender.connection = connection
        self._use_rates()
        self.outbox.resume()
        self.streams.start(fetching=not connection.push)
        self.mail_handler.connected(connection)
        self._set_pull_rate()
        self.loop_watch.start()

    def disconnected(self) -> None:
        """The link is gone. What is to be sent is kept; the next session starts from the oldest unconfirmed item."""
        self._connection = self.packet_sender.connection = None
        self.mail_handler.disconnected()
        self.streams.stop()
        self.loop_watch.stop()
        self.outbox.pause()

    def use_topology(self, topology: Topology) -> None:
        """A new topology came: it may recommend other rates, and the first one has a provider to choose."""
        self._use_rates(topology)
        self.replies.use_topology(topology)
        self.circuits.use_epoch(topology.epoch)
        self.outbox.retry_edges(lambda edge: topology.find(edge) is not None)
        if self._address is None:
            self._choose_edge(topology)
        elif self._moved and topology.find(self._address.provider) is None:
            # The edge that was drawn belongs to another network: it will not come back in this one.
            self._leave_edge(topology)
        self._moved = False

    def change_edge(self) -> None:
        """Go to another provider or gateway, if none was asked for by name: from then on the address is another one."""
        topology = self._current()
        if topology is not None:
            self._leave_edge(topology)

    def _leave_edge(self, topology: Topology) -> None:
        if self._fixed or not self._choose_edge(topology):
            return
        self.log.warn("This client has chosen another provider or gateway: its address is another one now")
        self._link.change()

    def _choose_edge(self, topology: Topology) -> bool:
        """Whether there is one to choose, other than the one that it has."""
        own = None if self._address is None else self._address.provider
        doors = [node for node in topology.providers() or topology.gateways() if node.client_port]
        doors = [node for node in doors if node.identity != own]
        if not doors:
            return False
        provider = self._random.choice(doors).identity
        self._store.set_setting(PROVIDER_SETTING, provider)
        self._address = self._address_at(provider)
        return True

    def _address_at(self, provider: bytes) -> Address:
        return Address(self._identity.mailbox, self._identity.public_key, provider)

    def provider_record(self) -> NodeRecord | None:
        """Where the provider or gateway is, or None while the topology does not list it. Raises `TopologyError`."""
        topology = self._topology()
        return None if self._address is None else topology.find(self._address.provider)

    def _use_rates(self, topology: Topology | None = None) -> None:
        topology = topology or self._current()
        if topology is None:
            return
        found = rates(self._debug, topology.recommended)
        if found != self._rates:
            self._rates = found
            self.packet_sender.delays = self._delays(found.mean_delay)
            self.packet_sender.mean_delay = found.mean_delay
            self.streams.set_rates(found)
            self._set_pull_rate()

    def _set_pull_rate(self) -> None:
        pulls = self._connection is not None and not self._connection.push
        self.loop_watch.pulling(self._rates.fetching if pulls and self._rates is not None else 0.0)

    def _current(self) -> Topology | None:
        """The topology, if this client's packets can cross it; else None, and why not is said once."""
        try:
            topology = self._topology()
            if topology is not self._checked:
                check_usable(topology)
                self._checked = topology
            if self._address is not None:
                self._check_edge(topology, self._address.provider)
        except TopologyError as error:
            self._report("topology", str(error))
            return None
        self._report("topology", "")
        return topology

    @staticmethod
    def _check_edge(topology: Topology, provider: bytes) -> None:
        own = topology.find(provider)
        if own is None:
            raise TopologyIncomplete("this client's own provider or gateway is not in the topology")
        own.sphinx_key(topology.epoch)

    @property
    def trouble(self) -> str:
        """Why nothing is sent; empty where something can be."""
        return next((f"nothing is sent: {each}" for each in self._troubles.values() if each), "")

    def _report(self, of: str, trouble: str) -> None:
        """Keep the trouble with the topology, or with packets; it is said where the whole of it has changed."""
        if trouble == self._troubles[of]:
            return
        before = self.trouble
        self._troubles[of] = trouble
        if self.trouble and self.trouble != before:
            self.log.warn("{trouble}", trouble=self.trouble)
        elif before and not self.trouble:
            self.log.info("The topology can be used again: sending goes on")

    # -- what applications ask

    async def send(
        self, data: bytes, recipient: Address, lane: Hashable = None, surbs: int = 0, explain: bool = False
    ) -> Accepted:
        """Take a message (at most 64 MiB); returns when it is durable.

        `lane` is whose share it is sent from. Where the topology has a gap, or does not list the recipient's provider,
        the message waits, and `Accepted.waits` says why. Raises `QueueFull`, `MessageTooLong`, `StoreError`.
        """
        self._check_sending()
        if len(data) > MAX_MESSAGE_LENGTH:
            raise MessageTooLong
        self.outbox.check(len(data) + surbs * BLOCK_LENGTH, lane)
        message_id = self._random.randbytes(MESSAGE_ID_LENGTH)
        tag, blocks = await self.replies.blocks_for(pack_address(recipient), surbs) if surbs else (None, ())
        body = Envelope(EnvelopeKind.DATA, data, tag, blocks).encode()
        explanation = MessageTrace() if explain else None
        message = await self.outbox.send(body, message_id, pack_address(recipient), lane, explanation=explanation)
        queued = self.outbox.queue_length(lane)
        return Accepted(message_id, len(message.fragments), queued, self.why_it_waits(recipient.provider))

    def why_it_waits(self, provider: bytes) -> str:
        """Why no message to this provider or gateway (identity, 32 bytes) can be sent now; empty where it can."""
        topology = self._current()
        if self.trouble or topology is None:
            return self.trouble
        if topology.find(provider) is None:
            return "the recipient's provider or gateway is not in the topology: it may be away for a moment"
        return self._link.trouble() if self._connection is None else ""

    async def reply(self, tag: bytes, data: bytes, lane: Hashable = None) -> Accepted:
        """Send to the sender behind `tag` (16 bytes). Raises as `send`, and `NymtwError` with no way to reply."""
        self._check_sending()
        self.replies.check(tag)
        message_id = self._random.randbytes(MESSAGE_ID_LENGTH)
        body = Envelope(data=data).encode()
        message = await self.outbox.send(body, message_id, tag, lane, FragmentKind.REPLY)
        self._current()
        return Accepted(message_id, len(message.fragments), self.outbox.queue_length(lane), self.trouble)

    def _check_sending(self) -> None:
        if self._debug.message_sending_rate < 0:
            raise NymtwError("message_sending_rate is negative: this client sends no messages")

    def _make_block(self) -> tuple[ReplyBlock, SURBRecord]:
        topology = self._current()
        if topology is None:
            raise TopologyError(self.trouble)
        return make_reply_block(topology, self.address, self._routes, self.packet_sender.delays, self._random)

    async def _send_envelope(self, envelope: Envelope, recipient: bytes) -> None:
        message_id = self._random.randbytes(MESSAGE_ID_LENGTH)
        await self.outbox.send(envelope.encode(), message_id, recipient, REPLY_LANE)

    def _edge_clients(self, topology: Topology | None) -> int | None:
        """How many clients are counted at the own edge: a step at or above that."""
        edge = None if topology is None or self._address is None else topology.find(self._address.provider)
        return (edge.clients or None) if edge is not None else None

    def progress(self, message_id: bytes) -> Progress | None:
        """How far a message is; None for one that nobody knows."""
        return self.outbox.progress(message_id)

    def trace(self, message_id: bytes) -> list[dict[str, Any]]:
        """What happened to the packets of a message that was sent with `explain`."""
        explanation = self.outbox.explanation(message_id)
        if explanation is None:
            raise NymtwError("this message was not sent with explain")
        return explanation.packets()

    def follow(self, callback: Callable[[Progress], None]) -> Callable[[], None]:
        """Call `callback` with every step of every message. Returns what ends that."""
        self._followers.append(callback)
        return lambda: self._followers.remove(callback)

    def _changed(self, progress: Progress) -> None:
        for follower in list(self._followers):
            follower(progress)

    @property
    def sending_rate(self) -> float:
        """Packets a second that this client sends of its applications' messages; 0 before the first topology."""
        return 0.0 if self._rates is None else self._rates.sending

    @property
    def has_address(self) -> bool:
        """Whether the provider or gateway is known."""
        return self._address is not None

    @property
    def address(self) -> Address:
        """This client's own address. Raises `NymtwError` before there is one."""
        if self._address is None:
            raise NymtwError("this client has no address yet: it has not found a provider")
        return self._address

    def own_address(self) -> str:
        """This client's address as text. Raises `NymtwError` before there is one."""
        return self.address.encode(self.network)

    def details(self) -> dict[str, Any]:
        """Who this client is, as the original described a client. Raises `NymtwError` before it has an address."""
        return client_object(self.address, self.own_address(), self._checked)

    def clients(self) -> list[dict[str, Any]]:
        """The clients that asked to be listed."""
        return public_clients(self._checked, self.network)

    def status(self) -> dict[str, Any]:
        """How this client is doing: counts since it started."""
        self.cover.expire()
        topology = self._current()
        return {
            "ready": self._connection is not None and topology is not None and self.has_address,
            "connected": self._connection is not None,
            "trouble": self.trouble or self._link.trouble() or self.loop_watch.trouble,
            "provider": key_text(self.address.provider) if self.has_address else None,
            "pushed": self._connection is not None and bool(self._connection.push),
            "mailboxKeptDays": None if self._connection is None else round(self._connection.kept / 86400, 1) or None,
            "address": self.own_address() if self.has_address else None,
            "topologyAge": None if topology is None else round(self._wall_clock() - topology.published / 1e9, 3),
            "loopsSent": self.cover.sent,
            "loopsReturned": self.cover.returned,
            "loopsLost": self.cover.lost,
            "loopsUsualSeconds": round(self.loop_watch.times.usual, 3),
            "loopAlarms": dict(self.loop_watch.alarms),
            "holding": self.packet_sender.holding,
            "edgeClients": self._edge_clients(topology),
            "dropsSent": self.cover.drops,
            "coverAcks": self.cover.acks,
            "skipped": self.streams.skipped,
            "skippedShare": round(self.streams.skipped_share, 4),
            "acks": self.outbox.acks,
            "retransmissions": self.outbox.retransmissions,
            "refusals": self.outbox.refusals,
            "failures": self.outbox.failures,
            "messages": len(self.outbox),
            "queueLength": self.outbox.queued,
            "inFlight": self.outbox.in_flight,
            "inbox": len(self.inbox),
            "partialMessages": len(self.receiver),
            "malformed": self.receiver.malformed,
            "replyBlocks": len(self.replies),
            "rates": None if self._rates is None else rates_object(self._rates),
        }
