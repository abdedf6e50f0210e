"""What leaves a client when a stream fires: a fragment that waits, drop cover, a loop; all are packets alike."""

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.interfaces import IReactorTime

from nymtw.client.receiving.replies import Replies
from nymtw.client.sending.cover import CoverLedger
from nymtw.client.sending.hop_watch import HopWatch
from nymtw.client.sending.messages import Waiting
from nymtw.client.sending.outbox import Outbox
from nymtw.errors import EncodingError, SphinxInputError, TopologyError
from nymtw.interfaces import ICoverStrategy, IDelayStrategy, IRouteStrategy
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.message.fragments import MESSAGE_ID_LENGTH, FragmentKind
from nymtw.message.packets import Outgoing, build_data_packet, build_drop_packet, build_loop_packet
from nymtw.message.payload import MOST_MORE_ACKS
from nymtw.topology.address import Address
from nymtw.topology.document import Topology


class PacketSender:
    """`connection` is where packets go, None while there is none; `delays` are drawn for each, `mean_delay` is their
    mean in seconds. `idle` fills slots of the sending stream for which no packet waits.

    `topology()` gives the topology that packets can cross, or None; `report(trouble)` tells why nothing is sent
    although there is one, or "" where something was.
    """

    def __init__(
        self,
        clock: IReactorTime,
        random: Random,
        *,
        topology: Callable[[], Topology | None],
        address: Callable[[], Address],
        report: Callable[[str], None],
        outbox: Outbox,
        cover: CoverLedger,
        hops: HopWatch,
        replies: Replies,
        routes: IRouteStrategy,
        delays: IDelayStrategy,
        mean_delay: float,
        idle: ICoverStrategy,
        cryptography: Cryptography = SPHINX,
    ) -> None:
        self._clock, self._random = clock, random
        self._topology, self._address, self._report = topology, address, report
        self._outbox, self._cover, self._hops, self._replies = outbox, cover, hops, replies
        self._routes, self.delays, self.mean_delay = routes, delays, mean_delay
        self._idle, self._cryptography = idle, cryptography
        self.connection: Any = None
        self._without_ack = 0  # replies that have left, for which no ack was asked yet
        self.holding = False  # real packets wait: loops do not come back

    def hold(self, held: bool) -> None:
        """Keep real packets back while cover goes on, or let them go on."""
        self.holding = held

    def send_next(self) -> None:
        """The sending stream fired: the oldest packet that waits, or what the idle cover is.

        That is drop cover (Loopix, section 4.1): both go to another edge and bring one ack back, so that the own edge
        counts the same in either case.
        """
        topology = self._topology()
        if topology is None or self.connection is None:
            return
        if self._without_ack >= MOST_MORE_ACKS:
            self.send_drop()  # replies have no ack of their own: it brings back theirs
            return
        waiting = None if self.holding else self._outbox.take()
        if waiting is None or not self._send_fragment(topology, waiting):
            self._idle.fill(self)

    def _send_fragment(self, topology: Topology, waiting: Waiting) -> bool:
        """Whether a packet with this fragment went out. Where none can be built it counts as lost."""
        message = waiting.message
        if message.fragments.kind is FragmentKind.REPLY:
            return self._send_reply(topology, waiting)
        recipient = unpack_address(message.row.recipient)
        plaintext = message.fragments[waiting.number].encode()
        try:
            packet = build_data_packet(
                topology,
                self._address(),
                recipient,
                plaintext,
                self._routes,
                self.delays,
                self._random,
                self._cryptography,
            )
        except (TopologyError, EncodingError, SphinxInputError) as error:
            self._outbox.sent(waiting, None, 1.0, lost=True)
            if message.explanation is not None:
                message.explanation.not_sent(waiting.number, waiting.state.attempts, self._clock.seconds(), str(error))
            return False
        if not self._submit(packet):
            self._outbox.put_back(waiting)
            return True
        self._outbox.sent(waiting, packet.ack_id, packet.expected_round_trip, refusal=packet.refusal_id)
        if message.explanation is not None:
            message.explanation.sent(waiting.number, waiting.state.attempts, self._clock.seconds(), topology, packet)
        return True

    def _send_reply(self, topology: Topology, waiting: Waiting) -> bool:
        """The same for a fragment that goes over a reply block."""
        connection = self.connection
        if connection.blocked:
            self._outbox.put_back(waiting)
            return True
        packet, is_request = self._replies.next_packet(waiting, topology.epoch)
        if packet is not None:
            connection.submit(packet.first_hop, packet.epoch, packet.packet)
            self._without_ack += 1
        if is_request:
            self._outbox.put_back(waiting)
        else:
            round_trip = self._replies.round_trip(self.mean_delay)
            self._outbox.sent(waiting, None, round_trip, lost=packet is None)
        return packet is not None

    def send_loop(self) -> None:
        topology = self._topology()
        if topology is None or self.connection is None:
            return
        loop_id = self._random.randbytes(MESSAGE_ID_LENGTH)
        try:
            packet = build_loop_packet(topology, self._address(), loop_id, *self._choices())
        except (TopologyError, SphinxInputError) as error:
            self._report(str(error))
            return
        if self._submit(packet):
            self._cover.loop_sent(loop_id, packet.ack_id, packet.expected_delay)

    def send_drop(self) -> None:
        topology = self._topology()
        if topology is None or self.connection is None:
            return
        try:
            more = min(self._without_ack, MOST_MORE_ACKS)
            packet = build_drop_packet(topology, self._address(), *self._choices(), more_acks=more)
        except (TopologyError, SphinxInputError) as error:
            self._report(str(error))
            return
        if self._submit(packet):
            self._without_ack -= more
            self._cover.drop_sent(packet.ack_id)

    def _choices(self) -> tuple[IRouteStrategy, IDelayStrategy, Random, Cryptography]:
        return self._routes, self.delays, self._random, self._cryptography

    def _submit(self, packet: Outgoing) -> bool:
        if not self.connection.submit(packet.first_hop, packet.epoch, packet.packet):
            return False
        self._hops.sent(packet)
        self._report("")
        return True


def pack_address(address: Address) -> bytes:
    """An address as the outbox keeps it: 96 bytes."""
    return address.mailbox + address.encryption_key + address.provider


def unpack_address(packed: bytes) -> Address:
    """The address behind `pack_address`."""
    return Address(packed[:32], packed[32:64], packed[64:])
