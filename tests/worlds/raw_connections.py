"""A connection in memory that writes and reads bytes as a test wants them."""

from typing import Any

from twisted.internet.protocol import ClientFactory, Protocol


class Raw(Protocol):
    """Keeps what was received, and whether the connection is lost."""

    lost = False
    received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


class Single(ClientFactory):
    """Makes one connection, with this protocol."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self.made = protocol

    def buildProtocol(self, addr: Any) -> Protocol:
        return self.made
