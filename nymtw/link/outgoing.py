"""The link to one node: a bounded queue, one connection, and reconnects with jitter.

On a padded line frames leave in its slots, from slot queues (`nymtw.link.padding`), and the connection is made at
once. On any other line it is made when there is something to send, and frames leave as they come.
"""

from collections import deque
from collections.abc import Callable
from itertools import chain
from random import Random
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.drop_reasons import DropReason
from nymtw.link.connection import FramedProtocol, Housekeeper
from nymtw.link.frames import Frame, FrameParser, FrameType
from nymtw.link.limits import LinkLimits
from nymtw.link.padding import LONGEST_WAIT, PaddingCounts, Rates, SlotClock, SlotQueue, slot_queues

# TLS records on one connection before it is renewed: AES-GCM wants new keys long before 2**24.5 (RFC 8446, 5.5).
MOST_RECORDS: Final = 1 << 23
_RECORD_LENGTH: Final = 1 << 14
_NO_RATES: Final[Rates] = {}


class LinkOwner(Protocol):
    """What a link shares with the other links of its node (`nymtw.link.node_link.NodeLinks`), and tells them."""

    reactor: Any
    clock: IReactorTime
    security: Any
    random: Random
    limits: LinkLimits
    housekeeper: Housekeeper
    schedule: Any
    slots: SlotClock
    padding: PaddingCounts

    sent: Callable[[int], None]
    dropped: Callable[[DropReason, int], None]

    def came(self, length: int) -> None:
        """A packet of so many bytes was queued."""

    def taken(self, count: int, length: int) -> None:
        """So many packets and bytes have left a queue."""


class Sender(FramedProtocol):
    """The connecting end. It is up when the other end's first keep-alive says that it was admitted."""

    def __init__(self, link: "OutgoingLink") -> None:
        links = link.links
        super().__init__(links.housekeeper, links.limits, FrameParser({FrameType.KEEPALIVE}))
        self._link = link

    def frames_received(self, frames: list[Frame]) -> None:
        if not self.up:
            self.up = True
            self._link.is_up()

    def write_unblocked(self) -> None:
        super().write_unblocked()
        self._link.flush()

    def lost(self) -> None:
        self._link.is_down(self)


class OutgoingLink(ClientFactory):
    """Packets for one peer, oldest first, and the connection that carries them."""

    noisy = False
    _log = Logger()

    def __init__(self, links: LinkOwner, peer: bytes, host: str, port: int) -> None:
        self.links = links
        self.peer = peer
        self.address = (host, port)
        self._secured = links.security.client(self, peer)
        self.queue: deque[tuple[float, bytes]] = deque()  # when it came, encoded frame
        self.queued_bytes = 0
        self.rates: Rates = _NO_RATES
        self._slot_queues: dict[int, SlotQueue] = {}  # by the length of their frames
        self.dirty = False  # waits for the next flush of all links
        self.connection: Sender | None = None
        self._connecting = False
        self._connector: Any = None
        self._retry: IDelayedCall | None = None
        self._failures = 0
        self._records = 0
        self._up_since: float | None = None
        self._closed = False
        self._trouble_told = False

    # the queues

    @property
    def padded(self) -> bool:
        """Whether frames leave in slots."""
        return bool(self._slot_queues)

    def pad(self, rates: Rates) -> None:
        """Send so many frames of each size class a second from now on; none: frames leave as they come."""
        if rates == self.rates:
            return
        links, self.rates = self.links, rates
        for slot_queue in self._slot_queues.values():
            slot_queue.closed = True
        waiting = sorted(chain.from_iterable(self._queues()))
        self.queue.clear()
        self._slot_queues = slot_queues(self, rates, links.schedule.slots, links.random, links.padding)
        for came, frame in waiting:
            (self._slot_queues[len(frame)].waiting if len(frame) in self._slot_queues else self.queue).append(
                (came, frame)
            )
        if self._slot_queues:
            while self.queue:
                self.drop_oldest(DropReason.LINE_FULL)  # of a size that has no slots
            for slot_queue in self._slot_queues.values():
                links.slots.add(slot_queue)
        self.flush()

    def add(self, now: float, frame: bytes) -> None:
        """Queue a frame."""
        length = len(frame)
        self.queued_bytes += length
        self.links.came(length)
        slot_queue = self._slot_queues.get(length)
        if slot_queue is not None:
            slot_queue.waiting.append((now, frame))
            return
        self.queue.append((now, frame))
        if self._slot_queues:
            self.drop_oldest(DropReason.LINE_FULL)  # of a size that has no slots on this line

    def drop_oldest(self, reason: DropReason) -> None:
        oldest = min(filter(None, self._queues()), key=_first)
        self._take(len(oldest.popleft()[1]))
        self.links.dropped(reason, 1)

    def drop_all(self, reason: DropReason) -> None:
        count = sum(map(len, self._queues()))
        if count:
            for queue in self._queues():
                queue.clear()
            self._take(self.queued_bytes, count)
            self.links.dropped(reason, count)

    def _queues(self) -> list[deque[tuple[float, bytes]]]:
        return [self.queue, *(slot_queue.waiting for slot_queue in self._slot_queues.values())]

    # what a slot queue calls

    def ready(self) -> Sender | None:
        """The connection, if frames can leave; else it is being made."""
        if self.connection is None or not self.connection.up:
            self._look()
            return None
        return self.connection

    def take(self, slot_queue: SlotQueue) -> bytes:
        """The oldest frame of a slot queue, which leaves now."""
        frame = slot_queue.waiting.popleft()[1]
        self._take(len(frame))
        return frame

    def drop(self, slot_queue: SlotQueue, reason: DropReason) -> None:
        """The oldest frame of a slot queue has waited for too long."""
        self.take(slot_queue)
        self.links.dropped(reason, 1)

    def was_sent(self, packets: int, records: int) -> None:
        """A slot was used: so many packets, so many records."""
        if packets:
            self.links.sent(packets)
        self._wrote(records)

    def _wrote(self, records: int) -> None:
        connection = self.connection
        self._records += records
        if connection is not None and self._records >= MOST_RECORDS:
            connection.close()
        elif connection is not None:
            connection.write_now()

    def _look(self) -> None:
        if (self.queue or self._slot_queues) and not self._closed:
            self._connect()

    def _take(self, length: int, count: int = 1) -> None:
        self.queued_bytes -= length
        self.links.taken(count, length)

    def flush(self) -> None:
        """Write what is queued and has no slots to wait for, as much as the transport takes: a TLS record a frame."""
        connection = self.ready()
        if connection is None:
            return
        self._drop_stale(DropReason.TOO_LATE)
        queue, count, length, records = self.queue, 0, 0, 0
        while queue and connection.up and not connection.blocked:
            frame = queue.popleft()[1]
            connection.send(frame)
            count += 1
            length += len(frame)
            records += 1 + len(frame) // _RECORD_LENGTH
        if count:
            self._take(length, count)
            self.links.sent(count)
            self._wrote(records)

    # the connection

    def _connect(self) -> None:
        if self._connecting or self.connection is not None or self._retry is not None:
            return
        links = self.links
        self._connecting = True
        host, port = self.address
        self._connector = links.reactor.connectTCP(host, port, self._secured, links.limits.connect)

    def buildProtocol(self, addr: Any) -> Sender:
        self._connecting = False
        self.connection = Sender(self)
        return self.connection

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        if self._connecting:
            self._connecting = False
            self._back_off(reason)

    def is_up(self) -> None:
        if self._trouble_told:
            self._trouble_told = False
            self._log.info("Linked to {host}:{port} again", host=self.address[0], port=self.address[1])
        self._up_since = self.links.clock.seconds()
        self._drop_stale(DropReason.LINK_DOWN)
        self.flush()

    def is_down(self, connection: Sender) -> None:
        if connection is not self.connection:
            return
        self.connection = None
        records, self._records = self._records, 0
        if records >= MOST_RECORDS:
            self.flush()
            return
        now = self.links.clock.seconds()
        # A peer that takes a connection and soon closes it is waited for as long as one that takes none.
        if self._up_since is not None and now - self._up_since > self.links.limits.reconnect_most:
            self._failures = 0
        self._up_since = None
        self._back_off(connection.reason)

    def _back_off(self, reason: Failure) -> None:
        if self._closed:
            return
        if not self._trouble_told and self._failures:
            # The second time in a row: a link that is at once made again is not worth a line.
            self._trouble_told = True
            host, port = self.address
            self._log.warn(
                "No link to {host}:{port}, trying again: {cause}", host=host, port=port, cause=reason.getErrorMessage()
            )
        limits = self.links.limits
        longest = min(limits.reconnect_most, limits.reconnect_first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        self._retry = self.links.clock.callLater(longest * self.links.random.uniform(0.5, 1.0), self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._drop_stale(DropReason.LINK_DOWN)
        self.flush()

    def _drop_stale(self, reason: DropReason) -> None:
        """Packets do not wait long for a peer that is dead or slow: their acks would be late anyway."""
        now = self.links.clock.seconds()
        patience = LONGEST_WAIT if self._slot_queues and self._up_since is not None else self.links.limits.patience
        for queue in self._queues():
            while queue and queue[0][0] < now - patience:
                self._take(len(queue.popleft()[1]))
                self.links.dropped(reason, 1)

    def close(self, reason: DropReason) -> None:
        """Write what the connection takes and drop the rest; the connection stays for its owner to close."""
        self._closed = True
        self.flush()
        for slot_queue in self._slot_queues.values():
            slot_queue.closed = True
        self.drop_all(reason)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._connecting:
            self._connecting = False
            self._connector.stopConnecting()

    def abort(self, reason: DropReason) -> None:
        """Drop everything and end the connection at once."""
        self.drop_all(reason)
        self.close(reason)
        if self.connection is not None:
            self.connection.abort()


def _first(queue: "deque[tuple[float, bytes]]") -> float:
    return queue[0][0]
