"""`MemorySecurity`: who is at the other end of a link, without TLS, for networks in one process.

Each end sends its identity and 32 random bytes in a hello of 64 bytes; all in one process trust each other.
"""

import hashlib
import random
from typing import Any, cast

from twisted.internet.interfaces import IProtocolFactory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from nymtw.link.security import EXPORTER_LENGTH, ILinkSecurity
from nymtw.testing.impairment import Impairment

_ANONYMOUS = bytes(32)
HELLO_LENGTH = 64


@implementer(ILinkSecurity)
class MemorySecurity:
    """A stand-in for `nymtw.link.security.TLSSecurity`, with the same life of a connection.

    `identity` is the node's (32 bytes), None for a client. What arrives passes through `impairment`, if there is one.
    """

    def __init__(self, identity: bytes | None, random: "random.Random", impairment: "Impairment | None" = None) -> None:
        self.identity = identity
        self._random = random
        self._impairment = impairment

    def server(self, factory: Any, ask_peer: bool) -> IProtocolFactory:
        return cast(IProtocolFactory, _SecureFactory(self, factory, ask_peer, None))

    def client(self, factory: Any, expected_identity: bytes) -> IProtocolFactory:
        return cast(IProtocolFactory, _SecureFactory(self, factory, True, expected_identity))

    def peer_identity(self, transport: Any) -> bytes | None:
        return cast(_SecureProtocol, transport).peer_identity

    def exporter(self, transport: Any, label: bytes) -> bytes:
        secret = cast(_SecureProtocol, transport).secret
        return hashlib.blake2b(label, key=secret, digest_size=EXPORTER_LENGTH).digest()

    def hello(self) -> bytes:
        return (self.identity or _ANONYMOUS) + self._random.randbytes(32)

    def impair(self, deliver: Any) -> Any:
        """A consumer of arriving bytes, which calls `deliver` with those after the hello."""
        return deliver if self._impairment is None else self._impairment.stream(deliver)


class _SecureProtocol(ProtocolWrapper):
    """One end of a connection. The protocol inside reads and writes once both hellos are there."""

    transport: Any
    wrappedProtocol: Any

    def __init__(self, factory: Any, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self.settings = factory
        self.peer_identity: bytes | None = None
        self.secret = b""
        self._hello = b""
        self._received = b""
        self._held: list[bytes] = []
        self._done = False
        self._closing = False
        self._deliver: Any = None

    def makeConnection(self, transport: Any) -> None:
        self._hello = self.settings.security.hello()
        transport.write(self._hello)
        super().makeConnection(transport)

    def write(self, data: bytes) -> None:
        if self._done:
            self.transport.write(data)
        else:
            self._held.append(bytes(data))

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self._done or not self._held:
            super().loseConnection()
        else:
            self._closing = True

    def dataReceived(self, data: bytes) -> None:
        if self._done:
            self._deliver(data)
            return
        self._received += data
        if len(self._received) >= HELLO_LENGTH:
            self._complete()

    def _complete(self) -> None:
        settings = self.settings
        peer, rest = self._received[:HELLO_LENGTH], self._received[HELLO_LENGTH:]
        identity = None if peer[:32] == _ANONYMOUS else peer[:32]
        expected = settings.expected_identity
        if settings.ask_peer and (identity is None or (expected is not None and identity != expected)):
            self.transport.abortConnection()
            return
        if settings.ask_peer:
            self.peer_identity = identity
        self.secret = hashlib.blake2b(b"".join(sorted((self._hello, peer))), digest_size=32).digest()
        self._done = True
        self._deliver = settings.security.impair(self._pass_on)
        if self._held:
            self.transport.write(b"".join(self._held))
            self._held.clear()
        self.wrappedProtocol.handshakeCompleted()
        if self._closing:
            super().loseConnection()
        elif rest:
            self._deliver(rest)

    def _pass_on(self, data: bytes) -> None:
        # A frame that was held up may outlive its connection.
        if self.wrappedProtocol is not None:
            self.wrappedProtocol.dataReceived(data)


class _SecureFactory(WrappingFactory):
    protocol = _SecureProtocol
    noisy = False

    def __init__(self, security: MemorySecurity, wrapped: Any, ask_peer: bool, expected: bytes | None) -> None:
        super().__init__(wrapped)
        self.security = security
        self.ask_peer = ask_peer
        self.expected_identity = expected

    def buildProtocol(self, addr: Any) -> Any:
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped)
