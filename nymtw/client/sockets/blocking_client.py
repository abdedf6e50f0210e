"""A blocking connection to a client's socket, for small programs: requests, answers and events. No reactor."""

import itertools
import socket
import struct
from collections import deque
from typing import Any, Final

import msgspec
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, Request, TextMessage
from wsproto.utilities import RemoteProtocolError

from nymtw.client.sockets.tokens import REQUEST
from nymtw.errors import NymtwError

EVENTS = ("received", "progress")
HANDSHAKE: Final = 10.0  # seconds until whoever listens must have said what it is


class NotRunning(NymtwError):
    """No client answers on this port of this machine: start one with 'nym-client socket'."""


class BlockingClient:
    """A connection to the socket of a running client."""

    def __init__(self, kind: str | None, port: int, timeout: float | None = 60.0, token: str | None = None) -> None:
        """`kind` is "websocket" or "tcp"; None: whichever it is. `token`: the socket's, where it needs one.

        Raises `NotRunning`, and `NymtwError` for a wrong token.
        """
        self._where = f"127.0.0.1:{port}"
        self._port = port
        self._wire: WSConnection | None = None
        self._lines: deque[bytes] = deque()
        self._pieces: list[bytes] = []
        self._events: deque[dict[str, Any]] = deque()
        self._socket = self._connected()
        try:
            if kind != "tcp" and not self._shake_hands() and kind == "websocket":
                raise NotRunning(f"the program on {self._where} is a client's TCP socket: --socket tcp")
            if self._wire is None and kind != "tcp":
                self._socket.close()
                self._socket = self._connected()
            if token is not None:
                self.request(REQUEST, token=token)
        except BaseException:
            self._abort()
            raise
        self._socket.settimeout(timeout)

    def request(self, name: str, **fields: Any) -> dict[str, Any]:
        """Send a request, and return the answer. Raises `NymtwError` with the text of an exception."""
        body = msgspec.json.encode({name: fields})
        if self._wire is not None:
            self._send(self._wire.send(TextMessage(body.decode())))
        else:
            self._send(body + b"\n")
        for message in self._messages():
            if "exception" in message:
                raise NymtwError(str(message["exception"]["error"]))
            if name in message and (name not in EVENTS or "packets" in message[name]):
                return dict(message[name])
            self._events.append(message)
        raise NotRunning("the client has closed its socket")

    def event(self) -> dict[str, Any]:
        """The next event from the client. Raises `NotRunning` when the connection has ended."""
        if self._events:
            return self._events.popleft()
        for message in self._messages():
            return message
        raise NotRunning("the client has closed its socket")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _connected(self) -> socket.socket:
        try:
            return socket.create_connection(("127.0.0.1", self._port), HANDSHAKE)
        except OSError:
            raise NotRunning(f"no client answers on {self._where}: start one with 'nym-client socket'") from None

    def _abort(self) -> None:
        """Close without an end of the stream: where a socket takes raw messages, that would send one."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _shake_hands(self) -> bool:
        """Begin a websocket. False where a client's TCP socket answers instead. Raises `NotRunning`."""
        wire = WSConnection(ConnectionType.CLIENT)
        self._send(wire.send(Request(host=self._where, target="/mix")))
        data = b""
        while True:
            piece = self._receive()
            if not data and piece.startswith(b"{"):
                return False
            data += piece
            try:
                wire.receive_data(piece or None)
                for event in wire.events():
                    if isinstance(event, AcceptConnection):
                        self._wire = wire
                        return True
                    if isinstance(event, RejectConnection | CloseConnection):
                        raise NotRunning(f"the program on {self._where} refuses a websocket: is it a client?")
            except RemoteProtocolError:
                raise self._stranger() from None
            if not piece:
                raise self._stranger()

    def _stranger(self) -> NotRunning:
        return NotRunning(f"the program on {self._where} is not a client with a socket for applications")

    def _messages(self) -> Any:
        for _ in itertools.count():
            while self._lines:
                yield self._parsed(self._lines.popleft())
            data = self._receive()
            if not data:
                return
            self._take(data)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = None
        if not isinstance(found, dict):
            if line.startswith(b"HTTP/"):
                raise NotRunning(f"the program on {self._where} is no TCP socket of a client: --socket websocket?")
            raise self._stranger()
        return found

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise NotRunning(f"the client on {self._where} closed the connection: {error.strerror or error}") from None

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 18)
        except TimeoutError:
            raise NotRunning(f"the client on {self._where} does not answer") from None
        except OSError as error:
            raise NotRunning(f"the client on {self._where} closed the connection: {error.strerror}") from None

    def _take(self, data: bytes) -> None:
        if self._wire is None:
            *lines, rest = data.split(b"\n")
            for line in lines:
                self._pieces.append(line)
                self._lines.append(b"".join(self._pieces))
                self._pieces = []
            self._pieces.append(rest)
            return
        try:
            self._wire.receive_data(data)
            for event in self._wire.events():
                if isinstance(event, TextMessage):
                    self._pieces.append(event.data.encode())
                    if event.message_finished:
                        self._lines.append(b"".join(self._pieces))
                        self._pieces = []
        except RemoteProtocolError:
            raise self._stranger() from None
