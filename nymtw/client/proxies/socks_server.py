"""The SOCKS proxy at 127.0.0.1: each connection of a program becomes a stream through an exit."""

from collections import OrderedDict
from typing import Any, Final

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.client.proxies.exit_stream import ExitStream
from nymtw.client.proxies.exit_streams import ExitStreams, StreamRefused
from nymtw.client.proxies.socks import Handshake, SocksError, SocksReply
from nymtw.message.stream import StreamFailure

HANDSHAKE_SECONDS: Final = 30.0
MAX_HANDSHAKES: Final = 256
MAX_CONNECTIONS: Final = 1024


@implementer(IHalfCloseableProtocol, IPushProducer)
class SocksConnection(Protocol):
    """One connection of a program: a `StreamUser`."""

    transport: Any
    factory: "SocksFactory"

    def __init__(self, factory: "SocksFactory") -> None:
        self.factory = factory
        self._handshake: Handshake | None = Handshake()
        self._stream: ExitStream | None = None
        self._opened = False
        self._deadline: Any = None

    # -- the program's side

    def connectionMade(self) -> None:
        """A program has connected."""
        self.transport.setTcpNoDelay(True)
        self._deadline = self.factory.clock.callLater(HANDSHAKE_SECONDS, self.transport.abortConnection)
        self.factory.begun(self)

    def dataReceived(self, data: bytes) -> None:
        """Take a part of the handshake, or data for the host."""
        if self._stream is not None:
            self._stream.write(data)
        elif self._handshake is not None:
            self._shake(self._handshake, data)

    def readConnectionLost(self) -> None:
        """The program has ended its direction."""
        if self._stream is not None:
            self._stream.end()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The last data from the host has been sent to the program."""

    def connectionLost(self, reason: Failure = Protocol.connectionLost.__defaults__[0]) -> None:  # type: ignore[index]
        """The program has disconnected."""
        self._shaken()
        self.factory.ended(self)
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.reset()

    def _shake(self, handshake: Handshake, data: bytes) -> None:
        try:
            self.transport.write(handshake.receive(data))
        except SocksError as error:
            self._refuse(error.answer)
            return
        request = handshake.request
        if request is None:
            return
        self._shaken()
        try:
            self._stream = self.factory.streams.open(
                request.host, request.port, self, isolation=request.isolation, first=handshake.take_rest()
            )
        except StreamRefused as error:
            self._refuse(request.answer(SocksReply(error.failure.socks5)))
            return
        self._answer = request.answer

    def _shaken(self) -> None:
        """The handshake is over, with or without success."""
        self._handshake = None
        if self._deadline is not None:
            self.factory.shaken(self)
            if self._deadline.active():
                self._deadline.cancel()
            self._deadline = None

    def _refuse(self, answer: bytes) -> None:
        self._shaken()
        self.transport.write(answer)
        self.transport.loseConnection()

    # -- the stream's side

    def stream_opened(self) -> None:
        """The host is connected."""
        self._opened = True
        self.transport.write(self._answer(SocksReply.SUCCEEDED))
        self.transport.registerProducer(self, True)

    def stream_data(self, data: bytes) -> None:
        """Data from the host has arrived."""
        self.transport.write(data)

    def stream_ended(self) -> None:
        """The host has ended its direction."""
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def stream_full(self, full: bool) -> None:
        """Pause the program, or let it continue."""
        if full:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def stream_over(self, failure: StreamFailure | None) -> None:
        """The stream is over in both directions."""
        self._stream = None
        if failure is None:
            self.transport.loseConnection()
        elif self._opened:
            self.transport.abortConnection()  # truncated data must not look complete
        else:
            self.transport.write(self._answer(SocksReply(failure.socks5)))
            self.transport.loseConnection()

    # -- the transport's side: the program does not read

    def pauseProducing(self) -> None:
        """The program does not read: pause the stream."""
        if self._stream is not None:
            self._stream.pause()

    def resumeProducing(self) -> None:
        """The program reads again: resume the stream."""
        if self._stream is not None:
            self._stream.resume()

    def stopProducing(self) -> None:
        """The transport has ended; `connectionLost` follows."""


class SocksFactory(Factory):
    """The factory for programs. If too many handshakes are unfinished, the oldest connection is closed."""

    noisy = False

    def __init__(self, streams: ExitStreams, clock: Any) -> None:
        self.streams, self.clock = streams, clock
        self._handshakes: OrderedDict[SocksConnection, None] = OrderedDict()
        self._connections: set[SocksConnection] = set()

    @property
    def handshakes(self) -> int:
        """The number of connections whose handshake is unfinished."""
        return len(self._handshakes)

    @property
    def connections(self) -> int:
        """The number of connections."""
        return len(self._connections)

    def buildProtocol(self, addr: Any) -> Any:
        """A connection, or None if the limit is reached: the new connection is closed at once."""
        # Those in their handshake make room for each other.
        if len(self._connections) - len(self._handshakes) >= MAX_CONNECTIONS:
            return None
        return SocksConnection(self)

    def begun(self, connection: SocksConnection) -> None:
        """A program has connected."""
        self._connections.add(connection)
        self._handshakes[connection] = None
        if len(self._handshakes) > MAX_HANDSHAKES:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.transport.abortConnection()

    def shaken(self, connection: SocksConnection) -> None:
        """A program has finished its handshake, or has disconnected."""
        self._handshakes.pop(connection, None)

    def ended(self, connection: SocksConnection) -> None:
        """A program has disconnected."""
        self._connections.discard(connection)

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._connections):
            connection.transport.abortConnection()
