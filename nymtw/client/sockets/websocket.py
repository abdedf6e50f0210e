"""The client's websocket at `/mix` (RFC 6455): text frames are JSON, binary frames CBOR, one request each.

A browser may connect only from pages of this machine, by their `Origin`; they need the token as programs do, in the URL
(`/mix?token=TOKEN`) or in the first message. wsproto handles the bytes; this module has the
limits and the errors.
"""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    TextMessage,
)
from wsproto.events import Request as Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from nymtw.client.sockets.application import Application
from nymtw.client.sockets.door import FIRST_LIMIT, Door
from nymtw.client.sockets.requests import id_text
from nymtw.client.sockets.session import Gate, Session
from nymtw.client.sockets.wire import RawRequest, encode
from nymtw.errors import AddressError, EncodingError, NymtwError
from nymtw.topology.address import Address

PATH = "/mix"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
HANDSHAKE_LIMIT = 16 * 1024
FRAME = 256 * 1024  # bytes, or characters, of a message in one frame
TOO_LONG = 1009  # RFC 6455, section 7.4.1
POLICY = 1008


def is_local(origin: str) -> bool:
    """Whether this machine serves the pages of this origin."""
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.hostname in LOCAL_HOSTS
    except ValueError:
        return False


class MixSocket(Protocol):
    """One application's websocket. A malformed request is answered with an exception; the connection stays open."""

    transport: Any = None

    def __init__(self, factory: "MixSocketFactory") -> None:
        self._factory = factory
        self._wire = WSConnection(ConnectionType.SERVER)
        self._pieces: list[bytes] = []
        self._size = 0
        self._shaking = 0
        self._open = self._closing = self._admitted = False
        self._recipient = factory.recipient
        self._session = Session(factory.client, write=self._write, read=self._read, close=self.close, strict=False)

    # Twisted's side

    def connectionMade(self) -> None:
        self._factory.begun(self)
        self.transport.registerProducer(Gate(self._session.blocked), True)

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._open:
            if not self._shaking and data[:1] in (b"{", b"\0"):
                self._broken(RemoteProtocolError("a request of the TCP socket"))
                return
            self._shaking += len(data)
            if self._shaking > HANDSHAKE_LIMIT:
                self.transport.abortConnection()
                return
        try:
            self._wire.receive_data(data)
            for event in self._wire.events():
                self._happened(event)
        except RemoteProtocolError as error:
            self._broken(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.ended(self)
        self._closing = True
        self._pieces.clear()
        self._session.closed()

    def close(self, code: int = 1000) -> None:
        """Send a close frame, and close the connection."""
        if not self._closing:
            self._closing = True
            self._send(CloseConnection(code))
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    # the websocket's side

    def _happened(self, event: Event) -> None:
        if self._closing:
            return
        if isinstance(event, Handshake):
            self._shake_hands(event)
        elif isinstance(event, TextMessage | BytesMessage):
            self._message(event)
        elif isinstance(event, Ping):
            self._send(event.response())
        elif isinstance(event, CloseConnection):
            self._send(event.response())
            self._closing = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _shake_hands(self, request: Handshake) -> None:
        target = urlsplit(request.target)
        origins = [value for name, value in request.extra_headers if name.lower() == b"origin"]
        if not all(is_local(origin.decode("latin-1")) for origin in origins):
            self._reject(403, "this page does not come from this machine")
            return
        if target.path != PATH:
            self._reject(404, f"the websocket is at {PATH}")
            return
        query = parse_qs(target.query)
        token = query.get("token", [None])[-1]
        if token is not None and not self._factory.accepts(token):
            self._reject(403, "this is not the token of this socket")
            return
        asked = query.get("recipient")
        if asked:
            try:
                self._recipient = Address.parse(asked[-1], self._factory.client.network)
            except AddressError as error:
                self._reject(400, str(error))
                return
        if (token is not None or self._factory.token is None) and not self._let_in():
            return
        self._open = True
        # A browser that offers subprotocols refuses an answer without one: all of them carry the same requests.
        self._send(AcceptConnection(subprotocol=request.subprotocols[0] if request.subprotocols else None))

    def _message(self, event: Any) -> None:
        binary = isinstance(event, BytesMessage)
        piece = bytes(event.data) if binary else event.data.encode("utf-8", "surrogatepass")
        self._size += len(piece)
        if self._size > (self._factory.limit if self._admitted else FIRST_LIMIT):
            self._pieces.clear()
            self.close(TOO_LONG)
            return
        self._pieces.append(piece)
        if event.message_finished:
            body = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            if not self._admitted:
                self._knock(RawRequest(body, binary))
            elif self._recipient is None:
                self._session.requests([RawRequest(body, binary)])
            else:
                self._send_raw(body, self._recipient)

    def _let_in(self) -> bool:
        self._admitted = self._factory.admits(self)
        return self._admitted

    def _knock(self, request: RawRequest) -> None:
        """The first message, where the URL has no token: it presents that, or is the last one."""
        try:
            answer = self._factory.check(request)
        except EncodingError:
            answer = Application.exception(NymtwError(self._factory.demand))
            self._write(encode(answer, request.binary), request.binary)
            self.close(POLICY)
            return
        if self._let_in():
            self._write(encode(answer, request.binary), request.binary)

    def _send_raw(self, body: bytes, recipient: Address) -> None:
        async def send() -> None:
            accepted = await self._factory.client.send(body, recipient, (self, 0))
            self._write(encode({"send": {"id": id_text(accepted.message_id)}}, False), False)

        def failed(failure: Failure) -> None:
            failure.trap(NymtwError)
            self._write(encode(Application.exception(NymtwError(str(failure.value))), False), False)

        Deferred.fromCoroutine(send()).addErrback(failed)

    def _write(self, body: bytes, binary: bool) -> None:
        # A long message is split into frames: wsproto takes a second for a single frame of 64 MiB.
        message: Any = body if binary else body.decode()
        for start in range(0, max(1, len(message)), FRAME):
            if self._closing:
                return
            piece, last = message[start : start + FRAME], start + FRAME >= len(message)
            kind = BytesMessage if binary else TextMessage
            self._send(kind(data=piece, message_finished=last))

    def _read(self, on: bool) -> None:
        if on:
            self.transport.resumeProducing()
        else:
            self.transport.pauseProducing()

    def _send(self, event: Event) -> None:
        try:
            self.transport.write(self._wire.send(event))
        except LocalProtocolError:
            self.transport.abortConnection()  # the other end has already sent a close frame

    def _reject(self, status: int, reason: str) -> None:
        body = reason.encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        self._send(RejectConnection(status_code=status, headers=headers, has_body=True))
        self._send(RejectData(data=body))
        self._closing = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _broken(self, error: RemoteProtocolError) -> None:
        self._closing = True
        if self._open and error.event_hint is not None:
            self._send(error.event_hint)
        elif not self._open:
            text = b"this is a websocket\n"
            head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            self.transport.write(head + b"Content-Length: %d\r\n\r\n" % len(text) + text)
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class MixSocketFactory(Door):
    """The factory of the websocket. With a `recipient`, every websocket message is sent there."""

    def buildProtocol(self, addr: Any) -> Protocol:
        return MixSocket(self)
