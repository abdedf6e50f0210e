"""An application of a client: JSON lines over its TCP socket, one request after the other, and what it pushes."""

import base64
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from nymtw.errors import NymtwError
from nymtw.localnet.ports import LOOPBACK

# What a client says without having been asked, once `subscribe` has been sent.
PUSHES = frozenset({"received", "progress"})
_TIMEOUT = 30.0


class ClientSocketError(NymtwError):
    """A client's socket was closed, or the client refused a request."""


class ClientSocket(Protocol):
    """One connection to a client. `pushed(kind, body)` is called with what it pushes; `lost` fires at the end."""

    transport: Any

    def __init__(self, pushed: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._pushed = pushed
        self._pieces: list[bytes] = []
        self._waiting: deque[tuple[str, Deferred[Any]]] = deque()
        self.lost: Deferred[None] = Deferred()

    def request(self, name: str, body: Mapping[str, Any] | None = None) -> "Deferred[Any]":
        """Ask; fires with the body of the answer. Fails with `ClientSocketError`."""
        answer: Deferred[Any] = Deferred()
        if not self.connected:
            answer.errback(ClientSocketError())
        else:
            self._waiting.append((name, answer))
            self.transport.write(msgspec.json.encode({name: body or {}}) + b"\n")
        return answer

    def dataReceived(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._pieces.append(line)
            whole, self._pieces = b"".join(self._pieces), []
            self._answered(msgspec.json.decode(whole))
        if rest:
            self._pieces.append(rest)

    def connectionLost(self, reason: Failure | None = None) -> None:
        waiting, self._waiting = self._waiting, deque()
        for _, answer in waiting:
            answer.errback(ClientSocketError("the client has closed its socket"))
        self.lost.callback(None)

    def close(self) -> None:
        if self.connected:
            self.transport.loseConnection()

    def _answered(self, message: Mapping[str, Any]) -> None:
        [(name, body)] = message.items()
        asked = self._waiting[0][0] if self._waiting else ""
        # How far a message is comes unasked too; where it has been asked for, either is an answer.
        if name in PUSHES and name != asked:
            self._pushed(name, body)
        elif not asked:
            raise ClientSocketError(f"an answer to nothing: {name!r:.40}")
        elif name == "exception":
            self._waiting.popleft()[1].errback(ClientSocketError(str(body.get("error", "refused"))))
        else:
            self._waiting.popleft()[1].callback(body)


async def connect(reactor: Any, port: int, pushed: Callable[[str, Mapping[str, Any]], None]) -> ClientSocket:
    """Connect to the client whose socket is at `port` of this machine. Raises Twisted's connection errors."""
    endpoint = TCP4ClientEndpoint(reactor, LOOPBACK, port, timeout=_TIMEOUT)
    return cast(ClientSocket, await connectProtocol(endpoint, ClientSocket(pushed)))


def to_base64(message: bytes) -> str:
    return base64.b64encode(message).decode("ascii")


def from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
