"""The link to one node: a bounded queue, one connection made on demand, and reconnects with jitter."""

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.drop_reasons import DropReason
from nymtw.link.connection import FramedProtocol
from nymtw.link.frames import Frame, FrameParser, FrameType

if TYPE_CHECKING:
    from nymtw.link.node_link import NodeLinks

CHUNK: Final = 64 * 1024  # bytes joined into one write
# TLS records on one connection before it is renewed: AES-GCM wants new keys long before 2**24.5 (RFC 8446, 5.5).
MOST_RECORDS: Final = 1 << 23
_RECORD_LENGTH: Final = 1 << 14


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

    def __init__(self, links: "NodeLinks", peer: bytes, host: str, port: int) -> None:
        self.links = links
        self.peer = peer
        self.address = (host, port)
        self._secured = links.security.client(self, peer)
        self.queue: deque[tuple[float, bytes]] = deque()  # when it came, encoded frame
        self.queued_bytes = 0
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

    # the queue

    def drop_oldest(self, reason: DropReason) -> None:
        self._take(len(self.queue.popleft()[1]))
        self.links.dropped(reason, 1)

    def drop_all(self, reason: DropReason) -> None:
        count = len(self.queue)
        if count:
            self.queue.clear()
            self._take(self.queued_bytes, count)
            self.links.dropped(reason, count)

    def _take(self, length: int, count: int = 1) -> None:
        self.queued_bytes -= length
        self.links.taken(count, length)

    def flush(self) -> None:
        """Write what is queued, as much as the transport takes."""
        connection = self.connection
        if connection is None or not connection.up:
            if self.queue and not self._closed:
                self._connect()
            return
        self._drop_stale(DropReason.TOO_LATE)
        queue, length = self.queue, 0
        while queue and connection.up and not connection.blocked:
            length, frames = 0, []
            while queue and length < CHUNK:
                frame = queue.popleft()[1]
                length += len(frame)
                frames.append(frame)
            self._take(length, len(frames))
            connection.send(b"".join(frames))
            self.links.sent(len(frames))
            self._records += 1 + length // _RECORD_LENGTH
            if self._records >= MOST_RECORDS:
                connection.close()
        if length:
            connection.write_now()

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
        oldest = self.links.clock.seconds() - self.links.limits.patience
        while self.queue and self.queue[0][0] < oldest:
            self.drop_oldest(reason)

    def close(self, reason: DropReason) -> None:
        """Write what the connection takes and drop the rest; the connection stays for its owner to close."""
        self._closed = True
        self.flush()
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
