"""The client's TCP socket: JSON lines (and CBOR behind a length) for applications on this machine."""

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.client.application import Application, ClientLike
from nymtw.client.requests import id_text
from nymtw.client.wire import LIMIT, RawRequest, RequestParser, decode, encode, framed
from nymtw.errors import AddressError, EncodingError, MessageTooLong, NymtwError
from nymtw.message.fragments import MAX_MESSAGE_LENGTH
from nymtw.topology.address import Address

MOST_APPLICATIONS = 64


class _Gate:
    """The push producer that a socket registers with its transport, to learn when the application does not read."""

    def __init__(self, blocked: Callable[[bool], None]) -> None:
        self._blocked = blocked

    def pauseProducing(self) -> None:
        self._blocked(True)

    def resumeProducing(self) -> None:
        self._blocked(False)

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""


@implementer(IHalfCloseableProtocol)
class RequestSocket(Protocol):
    """One application's connection. The first malformed request is answered with an exception and closes it: a web page
    could post a request to the port otherwise.
    """

    log = Logger()
    transport: Any = None

    def __init__(self, factory: "RequestSocketFactory") -> None:
        self._factory = factory
        self._parser = RequestParser(factory.limit)
        self._application = Application(factory.client, self._write)
        self._requests: deque[RawRequest] = deque()
        self._binary = False
        self._busy = self._blocked = self._closing = self._ended = False

    def connectionMade(self) -> None:
        if len(self._factory.open) >= MOST_APPLICATIONS:
            self._closing = True
            self.transport.loseConnection()
            return
        self._factory.open.add(self)
        self.transport.registerProducer(_Gate(self._set_blocked), True)

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._requests.extend(self._parser.feed(data))
        except EncodingError as error:
            self._refuse(error)
            return
        self._next()

    def readConnectionLost(self) -> None:
        """Half closed: what was asked is answered, then the socket closes."""
        self._ended = True
        self._next()

    def writeConnectionLost(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closing = True
        self._requests.clear()
        self._factory.open.discard(self)
        self._application.closed()

    def _set_blocked(self, blocked: bool) -> None:
        self._blocked = blocked
        if blocked:
            self._application.pause()
        else:
            self._application.resume()
            self._next()

    def _next(self) -> None:
        """Handle requests one by one; the application is not read from while one takes its time."""
        if self._busy or self._blocked or self._closing:
            return
        if not self._requests:
            if self._ended:
                self._close()
            else:
                self.transport.resumeProducing()
            return
        self._busy = True
        self.transport.pauseProducing()
        handled = Deferred.fromCoroutine(self._handle(self._requests.popleft()))
        handled.addErrback(lambda failure: self.log.failure("A request failed", failure))
        handled.addBoth(self._done)

    def _done(self, _: object) -> None:
        self._busy = False
        self._next()

    async def _handle(self, request: RawRequest) -> None:
        self._binary = request.binary
        try:
            await self._application.handle(decode(request))
        except AddressError as error:
            self._write(Application.exception(error))
        except EncodingError as error:
            self._refuse(error)

    def _refuse(self, error: NymtwError) -> None:
        self._write(Application.exception(error))
        self._close()

    def _close(self) -> None:
        if not self._closing:
            self._closing = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _write(self, answer: dict[str, Any]) -> None:
        if not self._closing:
            self.transport.write(framed(encode(answer, self._binary), self._binary))


@implementer(IHalfCloseableProtocol)
class RawSocket(Protocol):
    """A socket that was opened with a recipient: all bytes up to the end of the stream are one message to it."""

    transport: Any = None

    def __init__(self, factory: "RequestSocketFactory", recipient: Address) -> None:
        self._factory, self._recipient = factory, recipient
        self._application = Application(factory.client, lambda answer: None)
        self._pieces: list[bytes] = []
        self._size = 0

    def connectionMade(self) -> None:
        if len(self._factory.open) >= MOST_APPLICATIONS:
            self.transport.abortConnection()
            return
        self._factory.open.add(self)

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_MESSAGE_LENGTH:
            self._pieces.clear()
            self._answer(Application.exception(MessageTooLong()))
            return
        self._pieces.append(data)

    def readConnectionLost(self) -> None:
        if self._size <= MAX_MESSAGE_LENGTH:
            sent = Deferred.fromCoroutine(self._send(b"".join(self._pieces)))
            sent.addErrback(lambda failure: self._answer(Application.exception(NymtwError(failure.getErrorMessage()))))
            self._pieces.clear()

    def writeConnectionLost(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.open.discard(self)

    async def _send(self, data: bytes) -> None:
        accepted = await self._application.send_raw(data, self._recipient)
        self._answer({"send": {"id": id_text(accepted.message_id), "fragments": accepted.fragments}})

    def _answer(self, answer: dict[str, Any]) -> None:
        self.transport.write(framed(encode(answer, False), False))
        self.transport.loseConnection()


class RequestSocketFactory(Factory):
    """Listen with this on 127.0.0.1 only. With a `recipient`, everything that comes is sent there."""

    noisy = False

    def __init__(self, client: ClientLike, recipient: Address | None = None, limit: int = LIMIT) -> None:
        self.client, self.recipient, self.limit = client, recipient, limit
        self.open: set[RequestSocket | RawSocket] = set()

    def buildProtocol(self, addr: Any) -> Protocol:
        return RequestSocket(self) if self.recipient is None else RawSocket(self, self.recipient)

    def close(self) -> None:
        """Hang up on every application."""
        for socket in list(self.open):
            socket.transport.loseConnection()
