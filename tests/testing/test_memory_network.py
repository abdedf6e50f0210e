"""The in-memory network: what a protocol sees of it is what it would see of TCP."""

from typing import Any

import pytest

from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    UserError,
)
from twisted.internet.error import (
    ConnectionRefusedError as Refused,
)
from twisted.internet.error import (
    TimeoutError as ConnectTimeout,
)
from twisted.internet.interfaces import (
    IConnector,
    IHalfCloseableProtocol,
    IListeningPort,
    IReactorTCP,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nymtw.testing.clock import FakeClock
from nymtw.testing.network import MemoryNetwork

pytestmark = pytest.mark.pythons


class Recorder(Protocol):
    """Remembers what happens to it."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.arrivals: list[tuple[float, bytes]] = []
        self.lost: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self.arrivals.append((self.transport.owner.seconds(), data))

    def connectionLost(self, reason: Any = None) -> None:
        assert self.lost is None, "lost twice"
        self.lost = reason.type


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.read_lost = self.write_lost = False

    def readConnectionLost(self) -> None:
        self.read_lost = True

    def writeConnectionLost(self) -> None:
        self.write_lost = True


class Client(ClientFactory):
    noisy = False

    def __init__(self, protocol: type[Protocol] | None) -> None:
        self.made = protocol
        self.events: list[Any] = []
        self.built: Any = None

    def startedConnecting(self, connector: Any) -> None:
        self.events.append("started")

    def buildProtocol(self, addr: Any) -> Any:
        self.built = None if self.made is None else self.made()
        return self.built

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self.events.append(reason.type)

    def clientConnectionLost(self, connector: Any, reason: Any) -> None:
        self.events.append(reason.type)


class Server(Factory):
    noisy = False

    def __init__(self, protocol: type[Protocol] | None) -> None:
        self.made = protocol
        self.built: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        if self.made is None:
            return None
        self.built.append(self.made())
        return self.built[-1]


class Pair:
    """One client connected to one server."""

    def __init__(self, client: type[Protocol] | None = Recorder, server: type[Protocol] | None = Recorder) -> None:
        self.clock = FakeClock()
        self.network = MemoryNetwork(self.clock, latency=0.5)
        self.server_factory, self.client_factory = Server(server), Client(client)
        self.port = self.network.host("server").listenTCP(1789, self.server_factory)
        self.connector = self.network.host("client").connectTCP("127.0.0.1", 1789, self.client_factory)
        self.clock.advance(0.5)

    @property
    def client(self) -> Any:
        return self.client_factory.built

    @property
    def server(self) -> Any:
        return self.server_factory.built[0]


def test_interfaces() -> None:
    pair = Pair()
    host = pair.network.host("client")
    assert verifyObject(IReactorTime, host)
    assert verifyObject(IReactorTCP, host)
    assert verifyObject(IListeningPort, pair.port)
    assert verifyObject(IConnector, pair.connector)
    assert verifyObject(ITCPTransport, pair.client.transport)


def test_bytes_arrive_in_order_after_the_latency() -> None:
    pair = Pair()
    pair.client.transport.write(b"one ")
    pair.client.transport.writeSequence([b"two ", b"three "])
    pair.clock.advance(0.25)
    pair.client.transport.write(b"four")
    assert pair.server.data == b""
    pair.clock.advance(0.5)
    assert pair.server.arrivals == [(1.0, b"one two three "), (1.25, b"four")]


def test_addresses() -> None:
    pair = Pair()
    assert (pair.client.transport.getPeer().host, pair.client.transport.getPeer().port) == ("127.0.0.1", 1789)
    assert pair.server.transport.getPeer() == pair.client.transport.getHost()
    assert pair.network.connections() == [("client", "server")]


def test_nobody_listens() -> None:
    pair = Pair()
    factory = Client(Recorder)
    pair.network.host("client").connectTCP("127.0.0.1", 1, factory)
    pair.clock.advance(0.5)
    assert factory.events == ["started", Refused]


def test_a_taken_port() -> None:
    pair = Pair()
    with pytest.raises(CannotListenError, match="already in use"):
        pair.network.host("other").listenTCP(1789, Server(Recorder))
    pair.port.stopListening()
    again = pair.network.host("other").listenTCP(1789, Server(Recorder))
    assert again.getHost().port == 1789
    assert pair.network.host("other").listenTCP(0, Server(Recorder)).getHost().port not in (0, 1789)


def test_lose_connection_delivers_what_was_written() -> None:
    pair = Pair()
    pair.client.transport.write(b"last words")
    pair.client.transport.loseConnection()
    pair.client.transport.write(b"too late")
    pair.clock.advance(1)
    assert pair.server.data == b"last words"
    assert (pair.client.lost, pair.server.lost) == (ConnectionDone, ConnectionDone)
    assert pair.client_factory.events == ["started", ConnectionDone]
    assert pair.network.connections() == []


def test_abort_loses_what_is_on_the_way() -> None:
    pair = Pair()
    pair.client.transport.write(b"lost")
    pair.client.transport.abortConnection()
    pair.clock.advance(1)
    assert (pair.client.lost, pair.server.lost) == (ConnectionAborted, ConnectionLost)
    assert pair.server.data == b""


def test_half_close() -> None:
    pair = Pair(client=HalfCloseable, server=HalfCloseable)
    pair.client.transport.write(b"request")
    pair.client.transport.loseWriteConnection()
    pair.clock.advance(1)
    assert pair.client.write_lost
    assert pair.server.read_lost
    assert pair.server.lost is None
    pair.server.transport.write(b"answer")
    pair.server.transport.loseConnection()
    pair.clock.advance(1)
    assert pair.client.data == b"answer"
    assert (pair.client.lost, pair.server.lost) == (ConnectionDone, ConnectionDone)


def test_half_close_ends_a_protocol_that_knows_nothing_of_it() -> None:
    pair = Pair(client=HalfCloseable)
    pair.client.transport.loseWriteConnection()
    pair.clock.advance(2)
    assert (pair.client.lost, pair.server.lost) == (ConnectionDone, ConnectionDone)


def test_a_reader_that_pauses_holds_up_the_writer() -> None:
    class Producer:
        paused = stopped = False

        def pauseProducing(self) -> None:
            self.paused = True

        def resumeProducing(self) -> None:
            self.paused = False

        def stopProducing(self) -> None:
            self.stopped = True

    pair, producer = Pair(), Producer()
    pair.server.transport.pauseProducing()
    pair.client.transport.registerProducer(producer, True)
    pair.client.transport.write(bytes(100_000))
    pair.clock.advance(5)
    assert pair.server.data == b""
    assert producer.paused
    pair.server.transport.resumeProducing()
    pair.clock.advance(0)
    assert len(pair.server.data) == 100_000
    assert not producer.paused
    pair.client.transport.loseConnection()
    pair.clock.advance(5)
    assert pair.client.lost is None, "a producer is still registered"
    pair.client.transport.unregisterProducer()
    pair.clock.advance(5)
    assert pair.client.lost is ConnectionDone


def test_a_pull_producer_is_asked_again_and_again() -> None:
    class Pull:
        left = 300

        def resumeProducing(self) -> None:
            if self.left:
                self.left -= 1
                pair.client.transport.write(bytes(1000))
            else:
                pair.client.transport.unregisterProducer()

        def stopProducing(self) -> None:
            pass

    pair = Pair()
    pair.client.transport.registerProducer(Pull(), False)
    pair.clock.advance(1000)
    assert len(pair.server.data) == 300_000


@pytest.mark.parametrize(("client", "server"), [(None, Recorder), (Recorder, None)])
def test_a_factory_that_wants_no_connection(client: Any, server: Any) -> None:
    pair = Pair(client, server)
    pair.clock.advance(2)
    assert pair.network.connections() == []
    assert pair.client_factory.events[0] == "started"
    assert pair.client_factory.events[1] in (ConnectionDone, ConnectionLost)


def test_a_cut_link_is_lost_at_both_ends_until_it_is_mended() -> None:
    pair = Pair()
    pair.client.transport.write(b"lost")
    pair.network.cut("client", "server")
    pair.clock.advance(1)
    assert (pair.client.lost, pair.server.lost) == (ConnectionLost, ConnectionLost)
    assert pair.server.data == b""
    factory = Client(Recorder)
    pair.network.host("client").connectTCP("127.0.0.1", 1789, factory, timeout=10)
    pair.clock.advance(11)
    assert factory.events == ["started", ConnectTimeout]
    pair.network.mend("client", "server")
    pair.network.host("client").connectTCP("127.0.0.1", 1789, factory, timeout=10)
    pair.clock.advance(1)
    assert factory.built is not None


def test_a_killed_host_is_silent_and_its_peers_see_a_reset() -> None:
    pair = Pair()
    old, fired = pair.network.host("server"), []
    old.callLater(1, fired.append, 1)
    pair.network.kill("server")
    old.callLater(1, fired.append, 2)
    pair.clock.advance(5)
    assert fired == []
    assert pair.server.lost is None
    assert pair.client.lost is ConnectionLost
    factory = Client(Recorder)
    pair.network.host("client").connectTCP("127.0.0.1", 1789, factory)
    pair.clock.advance(1)
    assert factory.events == ["started", Refused]
    assert pair.network.host("server") is not old
    pair.network.host("server").listenTCP(1789, Server(Recorder))


def test_stop_connecting() -> None:
    pair = Pair()
    factory = Client(Recorder)
    pair.network.host("client").connectTCP("127.0.0.1", 1789, factory).stopConnecting()
    pair.clock.advance(1)
    assert factory.events == ["started", UserError]


def test_endpoints() -> None:
    clock = FakeClock()
    network = MemoryNetwork(clock)
    server = Server(Recorder)
    clock.wait_for(TCP4ServerEndpoint(network.host("server"), 9000).listen(server), 1)
    for name in ("localhost", "127.0.0.1"):
        endpoint = HostnameEndpoint(network.host("client"), name, 9000)
        protocol = clock.wait_for(endpoint.connect(Factory.forProtocol(Recorder)), 5)
        protocol.transport.write(b"hello")
    clock.advance(1)
    assert [each.data for each in server.built] == [b"hello", b"hello"]


def test_the_observer_sees_every_byte() -> None:
    pair = Pair()
    seen = []
    pair.network.observer = lambda *event: seen.append(event)
    pair.client.transport.write(b"hello")
    pair.clock.advance(1)
    assert seen == [(1.0, "client", "server", b"hello")]
