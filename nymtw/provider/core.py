"""A provider's packet engine: delivers packets that end here to the implementation, then sends acks. No sockets."""

from functools import partial
from typing import Any, Final

from nymtw.drop_reasons import DropReason
from nymtw.errors import EncodingError, PacketRejected
from nymtw.message.payload import ACK_ID_LENGTH, NO_ACK, AckSection, drop_acks, split_payload
from nymtw.node.engine.packet_engine import PacketEngine
from nymtw.provider.delivery import Deliveries, Delivery, MailKind
from nymtw.sphinx import GEOMETRIES, FinalHop, ForwardHop, SizeClass, recover_message
from nymtw.topology.document import Topology

_REPLY_LENGTH: Final = GEOMETRIES[SizeClass.REGULAR].packet_length
_ACK_PAYLOAD_LENGTH: Final = GEOMETRIES[SizeClass.ACK].payload_length


class ProviderCore(PacketEngine):
    """A packet engine that delivers last hops.

    Packets from clients, and acks taken out of payloads, count as received too.
    """

    def __init__(self, *, deliveries: Deliveries, **engine: Any) -> None:
        """`engine`: the arguments of `PacketEngine`."""
        super().__init__(**engine)
        self._deliveries = deliveries
        self._nodes: frozenset[bytes] = frozenset()

    def use_topology(self, topology: Topology) -> None:
        """Use the topology like every node, and to distinguish nodes from mailboxes."""
        super().use_topology(topology)
        self._nodes = frozenset(node.identity for node in topology.nodes)

    @property
    def queued(self) -> int:
        """The number of packets held here, including those that the implementation has not answered."""
        return super().queued + len(self._deliveries)

    def submit(self, first_hop: bytes, size_class: int, epoch: int, packet: bytes) -> None:
        """Forward a packet of a client that may send to the mixnode of layer 1 (32 bytes) that the client named.

        The client's link has checked that the size class matches the length.
        """
        self.counters.received()
        self._pass_on(first_hop, epoch, packet)

    def refuse(self, reason: DropReason) -> None:
        """Count a packet from a client that may not send it."""
        self.counters.received()
        self.counters.dropped(reason)

    def ends_here(self, hop: ForwardHop | FinalHop) -> None:
        """Deliver a last hop at once, a reply for a mailbox when it is due; both after their tags are written."""
        if isinstance(hop, FinalHop):
            self.hold(partial(self._open, hop), 0)
        elif hop.next_address in self._nodes or len(hop.packet) != _REPLY_LENGTH:
            self.counters.dropped(DropReason.UNKNOWN_NEXT_HOP)
        else:
            delivery = Delivery(hop.next_address, MailKind.REPLY, hop.packet)
            self.hold(partial(self._hand, delivery, None), hop.delay)

    def stop(self) -> None:
        """Drop held packets, and those that the implementation has not answered."""
        self._deliveries.stop()
        super().stop()

    def _open(self, hop: FinalHop) -> None:
        """Open the payload of a packet for which this provider is the last hop."""
        try:
            plaintext = recover_message(hop.payload)
            if len(hop.payload) == _ACK_PAYLOAD_LENGTH and len(plaintext) == ACK_ID_LENGTH:
                self._hand(Delivery(hop.destination, MailKind.ACK, plaintext), None)
                return
            ack, sealed = split_payload(plaintext)
            more_acks = drop_acks(hop.destination, sealed)
        except (PacketRejected, EncodingError):
            self.counters.dropped(DropReason.MALFORMED_PAYLOAD)
            return
        if more_acks is None:
            self._hand(Delivery(hop.destination, MailKind.MESSAGE, sealed), ack)
            return
        self._ended(None if ack == NO_ACK else ack, None)
        for one in more_acks:
            self._send_ack(one, True)

    def _hand(self, delivery: Delivery, ack: AckSection | None) -> None:
        self._deliveries.hand(delivery, partial(self._ended, ack))

    def _ended(self, ack: AckSection | None, reason: DropReason | None) -> None:
        """Finish a delivery: count it, and send the ack that says whether it was stored: only its sender can tell."""
        if reason is None:
            self.counters.delivered()
        else:
            self.counters.dropped(reason)
        if ack is not None and reason is not DropReason.SHUTDOWN:
            self._send_ack(ack, reason is None)

    def _send_ack(self, ack: AckSection, stored: bool) -> None:
        self.counters.received()
        self.hold(partial(self._pass_on, ack.first_hop, ack.epoch, ack.packet(stored)), ack.delay)

    def _pass_on(self, first_hop: bytes, epoch: int, packet: bytes) -> None:
        if self._links is not None and first_hop in self.next_hops(epoch):
            self._links.send(first_hop, epoch, packet)
        else:
            self.counters.dropped(DropReason.UNKNOWN_NEXT_HOP)
