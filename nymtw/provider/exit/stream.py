"""One stream of an exit: a TCP connection on one side, the numbered messages of a client on the other."""

from typing import Any, Final
from typing import Protocol as Interface

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.message.stream import (
    STREAM_PART,
    ReceiveWindow,
    SendWindow,
    StreamError,
    StreamMessage,
    StreamOpen,
)

PIECE: Final = 16 * 1024  # bytes written to a server at once, after which the connection may pause us
COALESCE: Final = 0.05  # seconds for which small pieces from a server are gathered into one message


class Keeper(Interface):
    """The owner of a stream, as the stream uses it."""

    clock: Any

    def dial(self, stream: "ExitStream", where: StreamOpen) -> None:
        """Connect the stream."""

    def ready(self, stream: "ExitStream") -> None:
        """The stream may have something to send: call `produce` when it is its turn."""

    def finished(self, stream: "ExitStream") -> None:
        """Both directions have ended, and all messages have arrived."""

    def broken(self, stream: "ExitStream") -> None:
        """The server reset the connection, and the client has all data from before."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class ExitStream(Protocol):
    """One stream. At most `window` bytes wait for the server, and 2 x STREAM_PART for the client.

    `seen`: the time of the last progress. The TCP connection pauses this producer when the server does not keep up.
    """

    transport: Any = None

    def __init__(self, keeper: Keeper, stream: bytes, window: int) -> None:
        self.id = stream
        self.window = window
        self.in_turn = False
        self.over = False
        self.has_place = False
        self.where: StreamOpen | None = None  # where it goes once it is paid for
        self.price = ""  # what was asked for it
        self._keeper = keeper
        self.seen = keeper.clock.seconds()
        self._receiving = ReceiveWindow(window)
        self._sending = SendWindow()
        self._for_server = bytearray()
        self._for_client = bytearray()
        self._server_is_full = self._server_is_held = False
        self._client_ended = self._end_written = False
        self._server_ended = self._end_sent = False
        self._is_open = self._opened_is_sent = self._is_broken = False
        self._sent_at = float("-inf")
        self._timer: Any = None

    @property
    def for_server(self) -> int:
        """Bytes in order that wait for the server."""
        return len(self._for_server)

    @property
    def for_client(self) -> int:
        """Bytes that wait for the client."""
        return len(self._for_client)

    @property
    def out_of_order(self) -> int:
        """Bytes of the client that wait for those before them."""
        return self._receiving.size

    @property
    def server_is_held(self) -> bool:
        """Whether the server is not read, because the client does not keep up."""
        return self._server_is_held

    @property
    def is_asked_for(self) -> bool:
        """Whether the `open` message has arrived; other messages may overtake it."""
        return self._receiving.next > 0

    # from the client

    def take(self, message: StreamMessage) -> None:
        """Handle a message of the client, in any order. Raises `StreamError` if it breaks the rules."""
        self._sending.allow(message.credit)
        for one in self._receiving.take(message):
            if one.number == 0:
                if one.open is None:
                    raise StreamError("a stream must begin with its opening")
                self._keeper.dial(self, one.open)
            if self.over:
                return
            if one.data:
                self._for_server += one.data
                self.seen = self._keeper.clock.seconds()
            self._client_ended = self._client_ended or one.end
        self._write()
        self._wake()

    def _write(self) -> None:
        """Write to the server as much as it takes."""
        if not self._is_open or self._is_broken:
            return
        while self._for_server and not self._server_is_full and self.transport is not None:
            data = bytes(self._for_server[:PIECE])
            del self._for_server[:PIECE]
            self.transport.write(data)
            self._receiving.consumed(len(data))
            self.seen = self._keeper.clock.seconds()
        if self._client_ended and not self._for_server and not self._end_written:
            self._end_written = True
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()
            self._close()

    # from the server

    def connectionMade(self) -> None:
        """Nothing is sent before the address has been checked again: see `opened`."""
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)

    def opened(self) -> None:
        """The connection is ready for use."""
        self._is_open = True
        self.seen = self._keeper.clock.seconds()
        if not self._is_broken:
            self.transport.registerProducer(self, True)
        self._write()
        self._wake()

    def dataReceived(self, data: bytes) -> None:
        """Take data from the server, and pause the server if the client does not keep up."""
        self._for_client += data
        self.seen = self._keeper.clock.seconds()
        if len(self._for_client) >= STREAM_PART and not self._server_is_held:
            self._server_is_held = True
            self.transport.pauseProducing()
        self._wake()

    def readConnectionLost(self) -> None:
        """The server has ended its direction."""
        self._server_ended = True
        self._wake()
        self._close()

    def writeConnectionLost(self) -> None:
        """Our direction to the server has ended."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is lost; orderly only if both directions had ended."""
        self.transport = None
        if self.over:
            return
        if self._end_written and reason.check(ConnectionDone):
            self._server_ended = True
        else:
            self._is_broken = True
            self._for_server.clear()
        self._wake()
        self._look()

    def pauseProducing(self) -> None:
        """The server does not keep up."""
        self._server_is_full = True

    def resumeProducing(self) -> None:
        """The server takes more data."""
        self._server_is_full = False
        self._write()
        self._wake()

    def stopProducing(self) -> None:
        """`connectionLost` follows."""

    # to the client

    def produce(self) -> StreamMessage | None:
        """The next message to the client, or None. A returned message counts as sent."""
        if self.over or not self._is_open or not self._sending.may_send():
            return None
        data = bytes(self._for_client[: self._sending.room()])
        del self._for_client[: len(data)]
        end = self._server_ended and not self._for_client and not self._end_sent
        credit = 0 if self._is_broken else self._receiving.credit()
        opened = not self._opened_is_sent
        if self._server_is_held and len(self._for_client) < STREAM_PART and self.transport is not None:
            self._server_is_held = False
            self.transport.resumeProducing()
        if not (data or end or credit or opened):
            return None
        self._opened_is_sent = True
        self._end_sent = self._end_sent or end
        self._sent_at = self._keeper.clock.seconds()
        number = self._sending.take(len(data))
        if self._for_client:
            self._wake()
        return StreamMessage(stream=self.id, number=number, opened=opened, data=data, end=end, credit=credit)

    def arrived(self, number: int) -> None:
        """The client has the message with this number."""
        self._sending.arrived(number)
        if not self.over:
            self.seen = self._keeper.clock.seconds()
            self._wake()
            self._look()

    def abort(self) -> None:
        """Close the connection, and drop all data."""
        self.over = True
        self._for_server.clear()
        self._for_client.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.unregisterProducer()
            transport.abortConnection()

    # timing

    def _wake(self) -> None:
        """Ask for a turn: at once, or after gathering small pieces."""
        if self.over or not self._is_open:
            return
        wait = self._sent_at + COALESCE - self._keeper.clock.seconds()
        if self._server_ended or len(self._for_client) >= STREAM_PART or wait <= 0:
            self._keeper.ready(self)
        elif self._timer is None:
            self._timer = self._keeper.clock.callLater(wait, self._gathered)

    def _gathered(self) -> None:
        self._timer = None
        self._wake()

    def _close(self) -> None:
        """Close the connection if both directions have ended."""
        if self._server_ended and self._end_written and self.transport is not None:
            self.transport.loseConnection()

    def _look(self) -> None:
        """Check whether the stream is finished."""
        if self.over or not self._sending.is_empty or self._for_client:
            return
        if self.transport is not None or (self._server_ended and not self._end_sent):
            return
        if self._is_broken and self._is_open:
            self._keeper.broken(self)
        elif self._server_ended and self._end_written:
            self._keeper.finished(self)
