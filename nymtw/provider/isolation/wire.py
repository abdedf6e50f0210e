"""The messages between a node and an isolated implementation: msgpack lists, each after its length.

The length has 4 bytes, big-endian. The first element is the kind. Node to child: make, start, handle, cancel, done,
topology, ping, leave, stop. Child to node: made, provider, refused, started, failed, answer, error, reply, send, count,
log, pong, left, stopped.
"""

import socket
from typing import Any, Final

import msgspec

from twisted.internet.protocol import Factory
from twisted.protocols.basic import Int32StringReceiver

from nymtw.errors import EncodingError
from nymtw.message.fragments import MAX_MESSAGE_LENGTH

LONGEST: Final = MAX_MESSAGE_LENGTH + 4096  # bytes
_PREFIX: Final = 4


def pack(*parts: Any) -> bytes:
    """One message."""
    return msgspec.msgpack.encode(parts)


def unpack(data: bytes) -> list[Any]:
    """The parts of one message. Raises `EncodingError`."""
    try:
        found = msgspec.msgpack.decode(data, type=list)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EncodingError(f"not a message: {error}") from None
    if not found or not isinstance(found[0], str):
        raise EncodingError("a message without a kind")
    return found


def write(connection: socket.socket, *parts: Any) -> None:
    """Send one message, and wait until it is sent. Raises `OSError`."""
    data = pack(*parts)
    connection.sendall(len(data).to_bytes(_PREFIX, "big") + data)


def read(connection: socket.socket) -> list[Any]:
    """Wait for one message. Raises `EncodingError`, also at the end of the stream, and `OSError`."""
    length = int.from_bytes(_exactly(connection, _PREFIX), "big")
    if length > LONGEST:
        raise EncodingError("a message is too long")
    return unpack(_exactly(connection, length))


def _exactly(connection: socket.socket, length: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < length:
        piece = connection.recv(length - len(pieces))
        if not piece:
            raise EncodingError("the process has ended")
        pieces += piece
    return bytes(pieces)


class Wire(Int32StringReceiver):
    """One end in the reactor: `took(parts)` gets every message, `lost()` the end. What is malformed ends it."""

    MAX_LENGTH = LONGEST
    transport: Any = None

    def __init__(self, took: Any, lost: Any) -> None:
        self._took, self._lost = took, lost

    def say(self, *parts: Any) -> None:
        """Send one message, if the other end is there."""
        if self.connected:
            self.sendString(pack(*parts))

    def stringReceived(self, string: bytes) -> None:
        try:
            self._took(unpack(string))
        except (EncodingError, ValueError, TypeError, LookupError):
            self.transport.abortConnection()

    def lengthLimitExceeded(self, length: int) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self._lost()


def adopt(reactor: Any, connection: socket.socket, wire: Wire) -> None:
    """Give a connected socket to the reactor, with `wire` at this end."""
    factory: Any = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda address: wire
    connection.setblocking(False)
    reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, factory)
    connection.close()
