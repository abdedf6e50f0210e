"""Links without TLS: identities, exporters and the life of a connection; and what impairments do to their frames."""

import random
from typing import Any

import pytest

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nymtw.link.frames import KEEPALIVE_FRAME, FrameParser, FrameType, encode_packet
from nymtw.link.security import ILinkSecurity
from nymtw.testing.clock import FakeClock
from nymtw.testing.impairment import Impairment
from nymtw.testing.network import MemoryNetwork
from nymtw.testing.security import MemorySecurity

SERVER, CLIENT, OTHER = b"s" * 32, b"c" * 32, b"o" * 32


@implementer(IHandshakeListener)
class Listener(Protocol):
    transport: Any

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = b""

    def connectionMade(self) -> None:
        self.events.append("made")
        self.transport.write(b"early ")

    def handshakeCompleted(self) -> None:
        self.events.append("handshake")

    def dataReceived(self, data: bytes) -> None:
        assert "handshake" in self.events
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.events.append("lost")


class Ends:
    def __init__(
        self, client: bytes | None, *, expected: bytes = SERVER, ask: bool = True, impairment: Impairment | None = None
    ) -> None:
        self.clock = FakeClock()
        network = MemoryNetwork(self.clock)
        self.server_security = MemorySecurity(SERVER, random.Random(1), impairment)
        self.client_security = MemorySecurity(client, random.Random(2))
        self.server, self.client = Listener(), Listener()
        make_server, make_client = Factory(), ClientFactory()
        make_server.buildProtocol = lambda addr: self.server  # type: ignore[method-assign]
        make_client.buildProtocol = lambda addr: self.client  # type: ignore[method-assign]
        make_server.noisy = make_client.noisy = False
        network.host("server").listenTCP(1, self.server_security.server(make_server, ask))
        network.host("client").connectTCP("127.0.0.1", 1, self.client_security.client(make_client, expected))
        self.clock.advance(1)


def test_interface() -> None:
    assert verifyObject(ILinkSecurity, MemorySecurity(None, random.Random(1)))


def test_both_ends_know_each_other_and_share_an_exporter() -> None:
    ends = Ends(CLIENT)
    assert ends.server.events == ends.client.events == ["made", "handshake"]
    assert ends.server.data == ends.client.data == b"early "
    assert ends.server_security.peer_identity(ends.server.transport) == CLIENT
    assert ends.client_security.peer_identity(ends.client.transport) == SERVER
    mine = ends.client_security.exporter(ends.client.transport, b"label")
    assert mine == ends.server_security.exporter(ends.server.transport, b"label")
    assert len(mine) == 32
    assert mine != ends.client_security.exporter(ends.client.transport, b"another")
    other = Ends(CLIENT)
    other.client_security.exporter(other.client.transport, b"label")


def test_a_client_may_be_anonymous_where_it_is_not_asked() -> None:
    ends = Ends(None, ask=False)
    assert ends.server.events == ["made", "handshake"]
    assert ends.server_security.peer_identity(ends.server.transport) is None
    assert ends.client_security.peer_identity(ends.client.transport) == SERVER


@pytest.mark.parametrize(("client", "expected"), [(None, SERVER), (CLIENT, OTHER)])
def test_the_wrong_peer_never_completes_the_handshake(client: bytes | None, expected: bytes) -> None:
    ends = Ends(client, expected=expected)
    assert "lost" in ends.server.events
    assert "lost" in ends.client.events
    refused = ends.client if expected == OTHER else ends.server
    assert "handshake" not in refused.events


def test_impairments_touch_packets_alone() -> None:
    clock, packets = FakeClock(), [bytes([number]) * 386 for number in range(100)]
    stream = b"".join(KEEPALIVE_FRAME + encode_packet(7, packet) for packet in packets)

    def through(**chances: float) -> tuple[Impairment, list[bytes]]:
        impairment, out = Impairment(clock, random.Random(5), **chances), []
        feed = impairment.stream(out.append)
        for start in range(0, len(stream), 1000):
            feed(stream[start : start + 1000])
        clock.advance(1)
        frames = FrameParser(frozenset(FrameType), 100).feed(b"".join(out))
        assert sum(frame.type is FrameType.KEEPALIVE for frame in frames) == 100
        return impairment, [frame.body for frame in frames if frame.type is FrameType.PACKET]

    assert through()[1] == packets
    lossy, rest = through(loss=0.2)
    assert 5 < lossy.lost < 40
    assert len(rest) == 100 - lossy.lost
    double, more = through(duplicate=0.2)
    assert len(more) == 100 + double.doubled > 105
    _, shuffled = through(reorder=0.3)
    assert shuffled != packets
    assert sorted(shuffled) == sorted(packets)
