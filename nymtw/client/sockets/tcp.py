"""The client's TCP socket for applications on this machine: JSON lines, and CBOR after a length."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.client.sockets.application import Application, ClientLike
from nymtw.client.sockets.requests import id_text
from nymtw.client.sockets.session import Gate, Session
from nymtw.client.sockets.wire import LIMIT, RequestParser, encode, framed
from nymtw.errors import EncodingError, MessageTooLong, NymtwError
from nymtw.message.fragments import MAX_MESSAGE_LENGTH
from nymtw.topology.address import Address

MOST_APPLICATIONS = 64


@implementer(IHalfCloseableProtocol)
class RequestSocket(Protocol):
    """One application's connection. The first malformed request is answered with an exception, and closes it.
    Otherwise a web page could post a request to the port.
    """

    transport: Any = None

    def __init__(self, factory: "RequestSocketFactory") -> None:
        self._factory = factory
        self.parser = RequestParser(factory.limit)
        self._closing = False
        self._session = Session(
            factory.client,
            write=lambda body, binary: self.transport.write(framed(body, binary)),
            read=self._read,
            close=self.close,
            strict=True,
        )

    def connectionMade(self) -> None:
        if self._factory.admits(self):
            self.transport.registerProducer(Gate(self._session.blocked), True)

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._session.requests(self.parser.feed(data))
        except EncodingError as error:
            self._session.malformed(error)

    def readConnectionLost(self) -> None:
        self._session.ended()

    def writeConnectionLost(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.open.discard(self)
        self._session.closed()

    def close(self) -> None:
        """Close the connection after everything written has been sent."""
        self._closing = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _read(self, on: bool) -> None:
        if on:
            self.transport.resumeProducing()
        else:
            self.transport.pauseProducing()


@implementer(IHalfCloseableProtocol)
class RawSocket(Protocol):
    """A connection to a socket with a fixed recipient: all bytes up to the end of the stream are one message to it."""

    transport: Any = None

    def __init__(self, factory: "RequestSocketFactory", recipient: Address) -> None:
        self._factory, self._recipient = factory, recipient
        self._pieces: list[bytes] = []
        self._size = 0

    def connectionMade(self) -> None:
        self._factory.admits(self)

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_MESSAGE_LENGTH:
            self._pieces.append(data)
        elif self._pieces:
            self._pieces.clear()
            self._answer(Application.exception(MessageTooLong()))

    def readConnectionLost(self) -> None:
        if self._size <= MAX_MESSAGE_LENGTH:
            message = b"".join(self._pieces)
            self._pieces.clear()
            sent = Deferred.fromCoroutine(self._send(message))
            sent.addErrback(self._failed)

    def writeConnectionLost(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.open.discard(self)

    def close(self) -> None:
        """Close the connection after everything written has been sent."""
        self.transport.loseConnection()

    async def _send(self, data: bytes) -> None:
        accepted = await self._factory.client.send(data, self._recipient, (self, 0))
        self._answer({"send": {"id": id_text(accepted.message_id), "fragments": accepted.fragments}})

    def _failed(self, failure: Failure) -> None:
        failure.trap(NymtwError)
        self._answer(Application.exception(NymtwError(str(failure.value))))

    def _answer(self, answer: dict[str, Any]) -> None:
        self.transport.write(framed(encode(answer, False), False))
        self.transport.loseConnection()


class RequestSocketFactory(Factory):
    """The factory to listen with, on 127.0.0.1 only. With a `recipient`, all data is sent there."""

    noisy = False

    client: ClientLike  # set before the first connection

    def __init__(self, recipient: Address | None = None, limit: int = LIMIT) -> None:
        self.recipient, self.limit = recipient, limit
        self.open: set[RequestSocket | RawSocket] = set()

    def buildProtocol(self, addr: Any) -> Protocol:
        return RequestSocket(self) if self.recipient is None else RawSocket(self, self.recipient)

    def admits(self, socket: RequestSocket | RawSocket) -> bool:
        """Whether one more connection is allowed; if not, it is closed."""
        if len(self.open) >= MOST_APPLICATIONS:
            socket.transport.abortConnection()
            return False
        self.open.add(socket)
        return True

    def close(self) -> None:
        """Close all connections."""
        for socket in list(self.open):
            socket.close()
