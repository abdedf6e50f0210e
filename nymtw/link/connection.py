"""Common parts of all connections of a link: frames in, keep-alives, and deadlines for the other end."""

import contextlib
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime, IWriteDescriptor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.link.allowance import origin
from nymtw.link.frames import KEEPALIVE_FRAME, Frame, FrameError, FrameParser, FrameType

_UNSENT: Final = 128 * 1024  # bytes in the kernel beyond which a connection takes no more


class Deadlines(TypingProtocol):
    """Seconds; each is kept to within one tick of the `Housekeeper`."""

    @property
    def handshake(self) -> float:
        """From the connection to the point where both ends have proved themselves."""

    @property
    def half_frame(self) -> float:
        """From a frame's first byte to its last."""

    @property
    def keepalive(self) -> float:
        """Without a byte written, before a keep-alive is."""

    @property
    def silence(self) -> float:
        """Without a frame received."""

    @property
    def stalled(self) -> float:
        """With a full write buffer that the other end does not read."""

    @property
    def closing(self) -> float:
        """From `close` to the point where the other end has closed as well."""


class Housekeeper:
    """One timer that checks the deadlines of many connections; none runs while there is no connection."""

    def __init__(self, clock: IReactorTime, interval: float) -> None:
        self.clock: Any = clock
        self._interval = interval
        self.connections: dict[FramedProtocol, None] = {}
        self._timer: IDelayedCall | None = None
        self._empty: Deferred[None] | None = None
        self._giving_up: IDelayedCall | None = None

    def watch(self, connection: "FramedProtocol") -> None:
        self.connections[connection] = None
        if self._timer is None:
            self._timer = self.clock.callLater(self._interval, self._tick)

    def unwatch(self, connection: "FramedProtocol") -> None:
        self.connections.pop(connection, None)
        if not self.connections and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell_empty()

    def close_all(self, within: float) -> Deferred[None]:
        """Close every connection; those that are still there `within` seconds later are aborted.

        Fires when none is left.
        """
        if self._empty is None:
            self._empty = Deferred()
            self._giving_up = self.clock.callLater(within, self._abort_all)
            for connection in list(self.connections):
                connection.close()
            self._tell_empty()
        return self._empty

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.abort()

    def _tell_empty(self) -> None:
        if self._empty is not None and not self.connections and not self._empty.called:
            if self._giving_up is not None and self._giving_up.active():
                self._giving_up.cancel()
            self._empty.callback(None)

    def _tick(self) -> None:
        self._timer = None
        now = self.clock.seconds()
        for connection in list(self.connections):
            connection.check(now)
        if self.connections:
            self._timer = self.clock.callLater(self._interval, self._tick)


class _WriteGate:
    """The push producer that a connection registers with its own transport, to learn when its buffer is full."""

    def __init__(self, connection: "FramedProtocol") -> None:
        self._connection = connection

    def pauseProducing(self) -> None:
        self._connection.write_blocked()

    def resumeProducing(self) -> None:
        self._connection.write_unblocked()

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""


@implementer(IHandshakeListener)
class FramedProtocol(Protocol):
    """A connection of frames. Subclasses handle frames, and set `up` once both ends have proved themselves.

    Hostile bytes end in `abortConnection`, never in an exception.
    """

    transport: Any = None
    up = False
    blocked = False  # the transport's write buffer is full
    reason: Failure = connectionDone  # why the connection was lost
    ended = False  # by this end, or lost: nothing is received any more

    def __init__(self, housekeeper: Housekeeper, deadlines: Deadlines, parser: FrameParser) -> None:
        self.housekeeper = housekeeper
        self.clock = housekeeper.clock
        self.deadlines = deadlines
        self.parser = parser
        self._made = self._heard = self._wrote = self._blocked_since = self._closed = self.clock.seconds()
        self._aborted = False
        self._socket: Any = None

    # what subclasses implement

    def handshakeCompleted(self) -> None:
        """Both ends have proved their keys, as far as they were asked to."""

    def frames_received(self, frames: list[Frame]) -> None:
        """At least one frame, none of which is a type that the parser does not allow. May raise `FrameError`."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection is gone."""

    def write_unblocked(self) -> None:
        self.blocked = False

    def write_blocked(self) -> None:
        self.blocked = True
        self._blocked_since = self.clock.seconds()

    # Twisted's side

    def connectionMade(self) -> None:
        self._made = self._heard = self._wrote = self.clock.seconds()
        self.housekeeper.watch(self)
        # Writes are joined here: nothing is gained by the kernel's waiting for more (RFC 896).
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        beneath = getattr(self.transport, "transport", None)  # TLS
        self._socket = beneath if IWriteDescriptor.providedBy(beneath) else None
        if self._socket is not None:
            _limit_unsent(self._socket)
        self.transport.registerProducer(_WriteGate(self), True)

    def dataReceived(self, data: bytes) -> None:
        if self.ended:
            return
        try:
            half = self.parser.pending
            frames = self.parser.feed(data)
            if frames or not half:
                self._heard = self.clock.seconds()
            while frames:
                self.frames_received(frames)
                again = frames[-1].type is FrameType.CONTROL and not self.ended
                frames = self.parser.feed(b"") if again else []
        except FrameError:
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        self.ended = True
        self.up = False
        self.housekeeper.unwatch(self)
        self.lost()

    # what subclasses and owners use

    def send(self, data: bytes) -> None:
        """Write whole frames."""
        self._wrote = self.clock.seconds()
        self.transport.write(data)

    def write_now(self) -> None:
        """Offer the kernel at once what was written: at its next turn, the reactor has the less to do.

        An error is left to the reactor, which meets it again at the same socket.
        """
        beneath = self._socket
        if beneath is not None and self.up and not self.blocked and not beneath.disconnecting:
            beneath.doWrite()

    def check(self, now: float) -> None:
        """Called by the housekeeper: end what is overdue, keep the rest alive."""
        deadlines = self.deadlines
        if self.ended:
            if now - self._closed > deadlines.closing:
                self.abort()
        elif (
            (not self.up and now - self._made > deadlines.handshake)
            or (self.parser.pending and now - self._heard > deadlines.half_frame)
            or (now - self._heard > deadlines.silence)
            or (self.blocked and now - self._blocked_since > deadlines.stalled)
        ):
            self.abort()
        elif self.up and not self.blocked and now - self._wrote > deadlines.keepalive:
            self.send(KEEPALIVE_FRAME)

    def abort(self) -> None:
        """End the connection at once; what is buffered is lost."""
        self.ended = True
        self.up = False
        if not self._aborted and self.transport is not None:
            self._aborted = True
            self.transport.abortConnection()

    def close(self) -> None:
        """End the connection after what is buffered; it is aborted if the other end does not close it in time."""
        if not self.ended:
            self.ended = True
            self.up = False
            self._closed = self.clock.seconds()
            self.transport.unregisterProducer()
            self.transport.loseConnection()


class Ceiling:
    """Limits of unauthenticated connections, in total and per address: an IPv4 address, or an IPv6 /64.

    One more than `per_address` is refused; one more than `total` closes the oldest unauthenticated one, so that those
    who only hold connections open keep nobody out.
    """

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._inside: dict[FramedProtocol, str] = {}
        self._by_address: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._inside)

    def allows(self, address: Any) -> bool:
        """Whether one more connection from this IAddress may be made."""
        return self._by_address.get(origin(address), 0) < self._per_address

    def enter(self, address: Any, connection: FramedProtocol) -> Callable[[], None]:
        """Count a connection; call the result once it is authenticated; more calls do nothing."""
        while len(self._inside) >= self._total:
            oldest = next(iter(self._inside))
            self._leave(oldest)
            oldest.abort()
        where = origin(address)
        self._inside[connection] = where
        self._by_address[where] = self._by_address.get(where, 0) + 1
        return partial(self._leave, connection)

    def _leave(self, connection: FramedProtocol) -> None:
        where = self._inside.pop(connection, None)
        if where is not None:
            self._by_address[where] -= 1
            if not self._by_address[where]:
                del self._by_address[where]


def _limit_unsent(transport: Any) -> None:
    """What the other end does not take waits in our queues, where its age is known, and not by the megabyte in the
    kernel."""
    get_handle, option = getattr(transport, "getHandle", None), getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if get_handle is not None and option is not None:
        with contextlib.suppress(OSError):
            get_handle().setsockopt(socket.IPPROTO_TCP, option, _UNSENT)


class Door(Factory):
    """The factory to listen with: closes at once what is past the ceiling, before TLS costs anything."""

    noisy = False

    def __init__(self, ceiling: Ceiling, wrapped: Any) -> None:
        self.open = True
        self._ceiling = ceiling
        self._wrapped = wrapped

    def doStart(self) -> None:
        self._wrapped.doStart()

    def doStop(self) -> None:
        self._wrapped.doStop()

    def buildProtocol(self, addr: Any) -> Any:
        return self._wrapped.buildProtocol(addr) if self.open and self._ceiling.allows(addr) else None
