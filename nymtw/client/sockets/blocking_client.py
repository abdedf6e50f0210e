"""A blocking connection to a client's socket, for small programs: requests, answers and events. No reactor."""

import itertools
import socket
from collections import deque
from typing import Any

import msgspec
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, Request, TextMessage
from wsproto.utilities import RemoteProtocolError

from nymtw.errors import NymtwError

EVENTS = ("received", "progress")


class NotRunning(NymtwError):
    """No client answers on this port of this machine: start one with 'nym-client socket'."""


class BlockingClient:
    """A connection to the socket of a running client: `kind` is "websocket" or "tcp"."""

    def __init__(self, kind: str, port: int, timeout: float | None = 60.0) -> None:
        """Raises `NotRunning`."""
        self._where = f"127.0.0.1:{port}"
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        except OSError:
            raise NotRunning(f"no client answers on {self._where}: start one with 'nym-client socket'") from None
        self._wire = WSConnection(ConnectionType.CLIENT) if kind == "websocket" else None
        self._lines: deque[bytes] = deque()
        self._pieces: list[bytes] = []
        self._events: deque[dict[str, Any]] = deque()
        if self._wire is not None:
            self._socket.sendall(self._wire.send(Request(host=self._where, target="/mix")))
            while not self._accepted():
                self._wire.receive_data(self._receive())

    def request(self, name: str, **fields: Any) -> dict[str, Any]:
        """Send a request, and return the answer. Raises `NymtwError` with the text of an exception."""
        body = msgspec.json.encode({name: fields})
        if self._wire is not None:
            self._socket.sendall(self._wire.send(TextMessage(body.decode())))
        else:
            self._socket.sendall(body + b"\n")
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

    def _messages(self) -> Any:
        for _ in itertools.count():
            while self._lines:
                yield msgspec.json.decode(self._lines.popleft())
            data = self._receive()
            if not data:
                return
            self._take(data)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 18)
        except TimeoutError:
            raise NotRunning(f"the client on {self._where} does not answer") from None
        except OSError as error:
            raise NotRunning(f"the client on {self._where} closed the connection: {error.strerror}") from None

    def _accepted(self) -> bool:
        assert self._wire is not None
        try:
            for event in self._wire.events():
                if isinstance(event, AcceptConnection):
                    return True
                if isinstance(event, RejectConnection | CloseConnection):
                    break
            else:
                return False
        except RemoteProtocolError:
            pass
        raise NotRunning(f"the program on {self._where} is not the websocket of a client: is its socket 'tcp'?")

    def _take(self, data: bytes) -> None:
        if self._wire is None:
            *lines, rest = data.split(b"\n")
            for line in lines:
                self._pieces.append(line)
                self._lines.append(b"".join(self._pieces))
                self._pieces = []
            self._pieces.append(rest)
            return
        self._wire.receive_data(data)
        for event in self._wire.events():
            if isinstance(event, TextMessage):
                self._pieces.append(event.data.encode())
                if event.message_finished:
                    self._lines.append(b"".join(self._pieces))
                    self._pieces = []
