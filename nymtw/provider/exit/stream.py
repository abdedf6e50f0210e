"""One connection of an exit: a TCP connection on one side, the numbered messages of a stream on the other."""

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

PIECE: Final = 16 * 1024  # bytes written to a server at once, after which it may say that this was too much
COALESCE: Final = 0.05  # seconds in which what a server dribbles is gathered into one message


class Keeper(Interface):
    """What a stream needs of whoever keeps it."""

    clock: Any

    def dial(self, stream: "ExitStream", where: StreamOpen) -> None:
        """Connect it."""

    def ready(self, stream: "ExitStream") -> None:
        """It may have something to send: ask it with `produce` when its turn has come."""

    def finished(self, stream: "ExitStream") -> None:
        """Both directions have ended, and everything has arrived."""

    def broken(self, stream: "ExitStream") -> None:
        """Its connection was reset, and the client has everything that came before."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class ExitStream(Protocol):
    """At most `window` bytes wait for the server, and 2 x STREAM_PART for the client.

    `seen` is when something moved last. Towards the server this is the producer that its connection pauses.
    """

    transport: Any = None

    def __init__(self, keeper: Keeper, stream: bytes, window: int) -> None:
        self.id = stream
        self.window = window
        self.in_turn = False
        self.over = False
        self._keeper = keeper
        self.seen = keeper.clock.seconds()
        self._receiving = ReceiveWindow(window)
        self._sending = SendWindow()
        self._for_server = bytearray()
        self._for_client = bytearray()
        self._server_is_full = self._server_is_held = False
        self._client_ended = self._end_written = False
        self._server_ended = self._end_sent = False
        self._is_open = self._opened_is_said = self._is_broken = False
        self._sent_at = float("-inf")
        self._timer: Any = None

    @property
    def is_asked_for(self) -> bool:
        """Whether its `open` has come: other messages may overtake it."""
        return self._receiving.next > 0

    # from the client

    def take(self, message: StreamMessage) -> None:
        """A message of the client, in any order. Raises `StreamError` for one that breaks the rules."""
        self._sending.allow(message.credit)
        for one in self._receiving.take(message):
            if one.number == 0:
                if one.open is None:
                    raise StreamError("a stream begins with its opening")
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
        """Pass on to the server what it takes."""
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
        """Nothing is sent before the address has been looked at once more: see `opened`."""
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)

    def opened(self) -> None:
        """The connection is there, and may be used."""
        self._is_open = True
        self.seen = self._keeper.clock.seconds()
        if not self._is_broken:
            self.transport.registerProducer(self, True)
        self._write()
        self._wake()

    def dataReceived(self, data: bytes) -> None:
        """From the server, which waits where the client does not keep up."""
        self._for_client += data
        self.seen = self._keeper.clock.seconds()
        if len(self._for_client) >= STREAM_PART and not self._server_is_held:
            self._server_is_held = True
            self.transport.pauseProducing()
        self._wake()

    def readConnectionLost(self) -> None:
        """The server has sent its last."""
        self._server_ended = True
        self._wake()
        self._close()

    def writeConnectionLost(self) -> None:
        """The end that was written is on its way."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over, in an orderly way only if both directions were ended before."""
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
        """The server takes more."""
        self._server_is_full = False
        self._write()
        self._wake()

    def stopProducing(self) -> None:
        """`connectionLost` says so too."""

    # to the client

    def produce(self) -> StreamMessage | None:
        """What to send to the client now, if anything. What is returned counts as sent."""
        if self.over or not self._is_open or not self._sending.may_send():
            return None
        data = bytes(self._for_client[: self._sending.room()])
        del self._for_client[: len(data)]
        end = self._server_ended and not self._for_client and not self._end_sent
        credit = 0 if self._is_broken else self._receiving.credit()
        opened = not self._opened_is_said
        if self._server_is_held and len(self._for_client) < STREAM_PART and self.transport is not None:
            self._server_is_held = False
            self.transport.resumeProducing()
        if not (data or end or credit or opened):
            return None
        self._opened_is_said = True
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
        """It is over: hang up, and hold nothing."""
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

    # when

    def _wake(self) -> None:
        """Get into turn, at once or when what came little by little may go."""
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
        """Hang up where both directions have ended."""
        if self._server_ended and self._end_written and self.transport is not None:
            self.transport.loseConnection()

    def _look(self) -> None:
        """Whether this was all."""
        if self.over or not self._sending.is_empty or self._for_client:
            return
        if self.transport is not None or (self._server_ended and not self._end_sent):
            return
        if self._is_broken and self._is_open:
            self._keeper.broken(self)
        elif self._server_ended and self._end_written:
            self._keeper.finished(self)
