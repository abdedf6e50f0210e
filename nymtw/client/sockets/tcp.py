"""The client's TCP socket for applications on this machine: JSON lines, and CBOR after a length."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.client.sockets.application import Application
from nymtw.client.sockets.door import FIRST_LIMIT, MOST_APPLICATIONS, Door
from nymtw.client.sockets.requests import id_text
from nymtw.client.sockets.session import Gate, Session
from nymtw.client.sockets.wire import RawRequest, RequestParser, encode, framed
from nymtw.errors import EncodingError, MessageTooLong, NymtwError
from nymtw.message.fragments import MAX_MESSAGE_LENGTH
from nymtw.topology.address import Address

__all__ = ["MOST_APPLICATIONS", "RawSocket", "RequestSocket", "RequestSocketFactory"]
LONGEST_LINE = 1024  # bytes of the line with the token


@implementer(IHalfCloseableProtocol)
class RequestSocket(Protocol):
    """One application's connection. The first malformed request is answered with an exception, and closes it.
    Otherwise a web page could post a request to the port.
    """

    transport: Any = None

    def __init__(self, factory: "RequestSocketFactory") -> None:
        self._factory = factory
        self.parser = RequestParser(factory.limit if factory.token is None else FIRST_LIMIT)
        self._closing = self._admitted = False
        self._session = Session(
            factory.client,
            write=lambda body, binary: self.transport.write(framed(body, binary)),
            read=self._read,
            close=self.close,
            strict=True,
        )

    def connectionMade(self) -> None:
        self._factory.begun(self)
        self.transport.registerProducer(Gate(self._session.blocked), True)

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            requests = self.parser.feed(data)
            if requests and not self._admitted:
                requests = self._let_in(requests)
            self._session.requests(requests)
        except EncodingError as error:
            self._session.malformed(error)

    def _let_in(self, requests: list[RawRequest]) -> list[RawRequest]:
        """Those that remain to be answered; none where there is no room. Raises `EncodingError` without the token."""
        if self._factory.token is not None:
            first, *requests = requests
            answer = self._factory.check(first)
            self.transport.write(framed(encode(answer, first.binary), first.binary))
        self._admitted = self._factory.admits(self)
        self.parser.limit = self._factory.limit
        return requests if self._admitted else []

    def readConnectionLost(self) -> None:
        self._session.ended()

    def writeConnectionLost(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.ended(self)
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
    """A connection to a socket with a fixed recipient: all bytes up to the end of the stream are one message to it.

    With a token, the first line presents it.
    """

    transport: Any = None

    def __init__(self, factory: "RequestSocketFactory", recipient: Address) -> None:
        self._factory, self._recipient = factory, recipient
        self._pieces: list[bytes] = []
        self._size = 0
        self._admitted = self._closing = False
        self._line = b""

    def connectionMade(self) -> None:
        self._factory.begun(self)

    def dataReceived(self, data: bytes) -> None:
        if not self._admitted:
            data = self._let_in(data)
        if not self._admitted:
            return
        self._size += len(data)
        if self._size <= MAX_MESSAGE_LENGTH:
            self._pieces.append(data)
        elif self._pieces:
            self._pieces.clear()
            self._answer(Application.exception(MessageTooLong()))

    def readConnectionLost(self) -> None:
        if not self._admitted and self._factory.token is None and not self._closing:
            self._admitted = self._factory.admits(self)  # an empty message
        if not self._admitted:
            self.transport.loseConnection()
        elif self._size <= MAX_MESSAGE_LENGTH:
            message = b"".join(self._pieces)
            self._pieces.clear()
            sent = Deferred.fromCoroutine(self._send(message))
            sent.addErrback(self._failed)

    def writeConnectionLost(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.ended(self)

    def close(self) -> None:
        """Close the connection after everything written has been sent."""
        self.transport.loseConnection()

    def _let_in(self, data: bytes) -> bytes:
        """The data behind the line with the token; nothing until that has come, or where it is wrong."""
        if self._closing:
            return b""
        if self._factory.token is not None:
            self._line += data
            line, end, data = self._line.partition(b"\n")
            if not end and len(line) <= LONGEST_LINE:
                return b""
            try:
                self._factory.check(RawRequest(line[:LONGEST_LINE], False))
            except EncodingError:
                self._closing = True
                self._answer(Application.exception(NymtwError(self._factory.demand)))
                return b""
            self._line = b""
        self._admitted = self._factory.admits(self)
        return data

    async def _send(self, data: bytes) -> None:
        accepted = await self._factory.client.send(data, self._recipient, (self, 0))
        self._answer({"send": {"id": id_text(accepted.message_id), "fragments": accepted.fragments}})

    def _failed(self, failure: Failure) -> None:
        failure.trap(NymtwError)
        self._answer(Application.exception(NymtwError(str(failure.value))))

    def _answer(self, answer: dict[str, Any]) -> None:
        self.transport.write(framed(encode(answer, False), False))
        self.transport.loseConnection()


class RequestSocketFactory(Door):
    """The factory of the TCP socket."""

    def buildProtocol(self, addr: Any) -> Protocol:
        return RequestSocket(self) if self.recipient is None else RawSocket(self, self.recipient)
