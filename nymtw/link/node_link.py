"""All links of one node to other nodes. Packets travel from the end that connects to the end that accepts.

In a layered network no two nodes send to each other both ways, so that is one connection per pair.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory

from nymtw.drop_reasons import DropReason
from nymtw.link.connection import Ceiling, Door, FramedProtocol, Housekeeper
from nymtw.link.frames import KEEPALIVE_FRAME, Frame, FrameParser, FrameType, encode_packet
from nymtw.link.gather import Gatherer
from nymtw.link.limits import LinkLimits, strangers
from nymtw.link.outgoing import OutgoingLink
from nymtw.link.padding import PaddingCounts, Rates, SlotClock
from nymtw.link.schedules import ConstantSlots
from nymtw.link.security import ILinkSecurity


class _Receiver(FramedProtocol):
    """The accepting end. It says with a keep-alive that it has admitted the other."""

    peer = b""

    def __init__(self, links: "NodeLinks", ceiling: Ceiling, address: Any) -> None:
        parser = FrameParser({FrameType.KEEPALIVE, FrameType.PACKET, FrameType.DUMMY})
        super().__init__(links.housekeeper, links.limits, parser)
        self._links = links
        self._leave = ceiling.enter(address, self)

    def handshakeCompleted(self) -> None:
        peer = None if self.ended else self._links.security.peer_identity(self.transport)
        if peer is None or not self._links.accept(peer, self):
            self.abort()
            return
        self._leave()
        self.peer = peer
        self.up = True
        self.send(KEEPALIVE_FRAME)

    def frames_received(self, frames: list[Frame]) -> None:
        packets = [frame for frame in frames if frame.type is FrameType.PACKET]
        self._links.padding.received += sum(frame.type is FrameType.DUMMY for frame in frames)
        if packets and self.up:
            self._links.receive(self.peer, packets)

    def lost(self) -> None:
        self._leave()
        self._links.is_gone(self)


class _ReceiverFactory(Factory):
    noisy = False

    def __init__(self, links: "NodeLinks", ceiling: Ceiling) -> None:
        self._links = links
        self._ceiling = ceiling

    def buildProtocol(self, addr: Any) -> _Receiver:
        return _Receiver(self._links, self._ceiling, addr)


class NodeLinks:
    """Every packet given to `send` is queued, and ends in one call of `sent(count)` or `dropped(reason, count)`.

    `receive(peer, frames)` gets PACKET frames from peers that `admit(peer)` lets in. Queues are bounded for each peer
    and together; the oldest packet of the fullest queue goes first, so that no peer starves the others. Where a peer
    does not read, its packets wait here and not in the transport. `sent` means: handed to the connection.

    Lines that `set_lines` gives rates to are padded: `schedule` (`ILinkSchedule`) says when they send, `padding`
    counts. `incoming` and `outgoing` have the connections from and to peers by identity, `pending` and `pending_bytes`
    the packets that wait.
    """

    def __init__(
        self,
        reactor: Any,
        security: ILinkSecurity,
        *,
        receive: Callable[[bytes, list[Frame]], None],
        admit: Callable[[bytes], bool],
        sent: Callable[[int], None],
        dropped: Callable[[DropReason, int], None],
        random: random.Random,
        limits: LinkLimits | None = None,
        schedule: Any = None,
    ) -> None:
        self.reactor = reactor
        self.clock: IReactorTime = reactor
        self.security: Any = security
        self._gatherer = Gatherer(reactor, receive)
        self.receive = self._gatherer.receive
        self.sent = sent
        self.dropped = dropped
        self.random = random
        self.limits = limits or LinkLimits()
        self.housekeeper = Housekeeper(reactor, min(self.limits.handshake, self.limits.half_frame) / 4)
        self.pending = 0
        self._admit = admit
        self.pending_bytes = 0
        self.outgoing: dict[bytes, OutgoingLink] = {}
        self._lines: Mapping[bytes, Rates] = {}
        self.schedule: Any = schedule or ConstantSlots()
        self.slots = SlotClock(reactor)
        self.padding = PaddingCounts()
        self.incoming: dict[bytes, _Receiver] = {}
        self._dirty: list[OutgoingLink] = []
        self._flushing: IDelayedCall | None = None
        self._joining = False  # `send_many` is at work
        self._stopped = False
        ceiling = Ceiling(strangers(self.limits.unauthenticated), self.limits.unauthenticated_per_address)
        self.factory = Door(ceiling, security.server(_ReceiverFactory(self, ceiling), True))

    # sending

    def set_peers(self, peers: Mapping[bytes, tuple[str, int]]) -> None:
        """The nodes that `send` may name: identity (32 bytes) to host and port.

        Links to those that are gone or have moved are closed, and so are links from those no longer admitted.
        """
        if self._stopped:
            return
        for peer, link in list(self.outgoing.items()):
            if peers.get(peer) != link.address:
                del self.outgoing[peer]
                link.abort(DropReason.LINK_DOWN)
        for peer, (host, port) in peers.items():
            if peer not in self.outgoing:
                self.outgoing[peer] = link = OutgoingLink(self, peer, host, port)
                link.pad(self._lines.get(peer, {}))
        for receiver in list(self.incoming.values()):
            if not self._admit(receiver.peer):
                receiver.abort()

    def set_lines(self, lines: Mapping[bytes, Rates]) -> None:
        """Which lines are padded, by peer, and how many frames of each size class they send a second."""
        self._lines = lines
        for peer, link in self.outgoing.items():
            link.pad(lines.get(peer, {}))

    def send(self, peer: bytes, epoch: int, packet: bytes) -> None:
        """Queue a packet (of a length that a size class has) for `peer`. Never waits, never raises for a bad peer."""
        link = self.outgoing.get(peer)
        if link is None:
            self.dropped(DropReason.SHUTDOWN if self._stopped else DropReason.UNKNOWN_NEXT_HOP, 1)
            return
        link.add(self.clock.seconds(), encode_packet(epoch, packet))
        while link.queued_bytes > self.limits.queue_bytes_per_peer:
            link.drop_oldest(DropReason.LINK_QUEUE_FULL)
        while self.pending_bytes > self.limits.queue_bytes:
            max(self.outgoing.values(), key=_queued_bytes).drop_oldest(DropReason.LINK_QUEUE_FULL)
        if not link.dirty and not link.padded:
            link.dirty = True
            self._dirty.append(link)
            if self._flushing is None and not self._joining:
                self._flushing = self.clock.callLater(0, self._flush)

    def send_many(self, packets: Iterable[tuple[bytes, int, bytes]]) -> None:
        """`send` each of (peer, epoch, packet), and write at once: another turn of the reactor costs more than that."""
        self._joining = True
        try:
            for peer, epoch, packet in packets:
                self.send(peer, epoch, packet)
        finally:
            self._joining = False
            if self._flushing is None:
                self._flush()

    def up(self) -> tuple[int, int]:
        """How many connections of admitted peers there are, and how many to peers that have admitted this node."""
        outgoing = sum(link.connection is not None and link.connection.up for link in self.outgoing.values())
        return len(self.incoming), outgoing

    def came(self, length: int) -> None:
        """For `OutgoingLink`: a packet of so many bytes was queued."""
        self.pending += 1
        self.pending_bytes += length

    def taken(self, count: int, length: int) -> None:
        """For `OutgoingLink`: so many packets and bytes have left a queue."""
        self.pending -= count
        self.pending_bytes -= length

    def _flush(self) -> None:
        """Packets for one peer that came together leave together, each in a TLS record of its own."""
        self._flushing = None
        dirty, self._dirty = self._dirty, []
        for link in dirty:
            link.dirty = False
            link.flush()

    # receiving

    def accept(self, peer: bytes, receiver: _Receiver) -> bool:
        """For receivers: whether to admit this peer. Its newest connection counts: the older one may be half dead."""
        if self._stopped or not self._admit(peer):
            return False
        older = self.incoming.get(peer)
        self.incoming[peer] = receiver
        if older is not None:
            older.abort()
        return True

    def is_gone(self, receiver: _Receiver) -> None:
        """For receivers: this one's connection is lost."""
        if self.incoming.get(receiver.peer) is receiver:
            del self.incoming[receiver.peer]

    # the end

    def stop(self) -> Deferred[None]:
        """Write what the connections take at once, drop the rest as `shutdown`, and close all connections.

        Fires when none is left, at most `limits.closing` seconds later. Listening ports are the caller's.
        """
        self._stopped = True
        self.factory.open = False
        self._gatherer.flush()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        self.slots.stop()
        links, self.outgoing = self.outgoing, {}
        for link in links.values():
            link.close(DropReason.SHUTDOWN)
        return self.housekeeper.close_all(self.limits.closing)


def _queued_bytes(link: OutgoingLink) -> int:
    return link.queued_bytes
