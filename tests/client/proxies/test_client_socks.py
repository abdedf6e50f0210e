"""Programs at the SOCKS proxy of a client, in a whole network in memory whose exit is the real one."""

import random
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from zope.interface import implementer

from nymtw.client.config import DebugSection
from nymtw.client.proxies.exit_streams import ExitStreams
from nymtw.client.proxies.socks_command import DESCRIPTORS
from nymtw.client.proxies.socks_server import HANDSHAKE_SECONDS, MAX_CONNECTIONS, MAX_HANDSHAKES, SocksFactory
from nymtw.message.stream import INITIAL_CREDIT
from nymtw.node.process.descriptors import raise_limit
from nymtw.testing.simulation import SimulatedNetwork

pytestmark = pytest.mark.long

DATA = bytes(range(256)) * 250
FAST = DebugSection(
    message_sending_rate=60.0, fetch_message_rate=20.0, loop_cover_traffic_rate=0.1, drop_cover_traffic_rate=-1.0
)
GREET = b"\x05\x01\x00"
OLD = b"\x04\x01\x1f\x40\x7f\x00\x00\x01\x00"  # 127.0.0.1 port 8000, in SOCKS4
TO_HOST = b"\x05\x01\x00\x01\x7f\x00\x00\x01"
FIRST_PROVIDER_PORT = 1792  # behind those of the three mixnodes
GRANTED_4 = bytes((0, 90)) + bytes(6)
GRANTED_5 = b"\x05\x00" + b"\x05\x00\x00\x01" + bytes(6)


def to_port(port: int) -> bytes:
    return GREET + TO_HOST + port.to_bytes(2)


@implementer(IHalfCloseableProtocol)
class End(Protocol):
    """One end of a connection, which keeps everything. `greeting` is sent at once."""

    transport: Any

    def __init__(self, greeting: bytes = b"", *, echo: bool = False) -> None:
        self.greeting, self.echo = greeting, echo
        self.got = bytearray()
        self.ended = self.over = False
        self.reason: Any = None

    @property
    def finished(self) -> bool:
        """Whether nothing more comes."""
        return self.ended or self.over

    def connectionMade(self) -> None:
        if self.greeting:
            self.transport.write(self.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self.echo:
            self.transport.write(data)

    def readConnectionLost(self) -> None:
        self.ended = True
        if self.echo:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Any = None) -> None:
        self.over, self.reason = True, reason


class World:
    """`exits` of providers, or where there is a `gateway` that one, at which alice is."""

    def __init__(self, seed: int, exits: int = 1, *, gateway: bool = False) -> None:
        words = ["--impl=store", "--impl=exit", "--exit-private"]
        # alice's own provider is the first, which is no exit.
        self.network = SimulatedNetwork(
            seed,
            mixnodes_per_layer=1,
            crypto="none",
            providers=exits + 1,
            gateways=int(gateway),
            clients=["alice"],
            refresh=5.0,
            at={"alice": "gateway-1"} if gateway else {},
            implementations={"gateway-1": ["--mode=exit", "--exit-private"]}
            if gateway
            else {f"provider-{number}": words for number in range(2, exits + 2)},
            debug=FAST,
        )
        self.network.start()
        self.servers: list[End] = []
        self.greeting, self.echo = b"", True
        factory: Any = ServerFactory()
        factory.noisy = False
        factory.protocol = self._serve
        self.site = self.network.network.host("host").listenTCP(8000, factory)
        self.host = self.network.network.host("alice")
        alice = self.network.clients["alice"]
        self.streams = ExitStreams(alice.core, self.host, random.Random(seed), lambda: alice.service.watch.current)
        self.factory = SocksFactory(self.streams, self.host)
        self.port = self.host.listenTCP(1080, self.factory)
        self.programs: list[End] = []

    def _serve(self) -> End:
        self.servers.append(End(self.greeting, echo=self.echo))
        return self.servers[-1]

    def program(self, says: bytes = b"") -> End:
        end = End(says)
        factory: Any = ClientFactory()
        factory.noisy = False
        factory.protocol = lambda: end
        self.programs.append(end)
        self.network.network.host(f"program-{len(self.programs)}").connectTCP("127.0.0.1", 1080, factory)
        return end

    def until(self, condition: Any, limit: float = 100.0) -> float:
        return self.network.run_until(lambda: bool(condition()), limit)

    def stop(self) -> None:
        self.port.stopListening()
        self.factory.close()
        self.streams.close()
        for program in self.programs:
            if not program.over:
                program.transport.abortConnection()
        self.site.stopListening()
        self.network.run(5)
        self.network.stop()


@pytest.fixture
def world(seed: int) -> Iterator[World]:
    world = World(seed)
    yield world
    world.stop()


def test_there_and_back_through_each_version(world: World) -> None:
    login = b"\x05\x01\x02\x01\x05alice\x06secret"
    greetings = {
        OLD + b"hello": GRANTED_4,
        to_port(8000) + b"hello": GRANTED_5,
        login + TO_HOST + b"\x1f\x40hello": b"\x05\x02\x01\x00" + GRANTED_5[2:],
    }
    programs = {world.program(says): yes for says, yes in greetings.items()}
    world.until(lambda: all(len(one.got) == len(yes) + 5 for one, yes in programs.items()))
    for one, yes in programs.items():
        assert bytes(one.got) == yes + b"hello"
        one.transport.loseConnection()
    assert len(world.network.clients["alice"].core.circuits) == 2, "credentials have a circuit of their own"
    world.until(lambda: all(server.over for server in world.servers) and not len(world.streams))


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_a_long_answer_and_a_long_question(world: World, loss: float) -> None:
    """With 10 % of the packets lost on their way to the first layer, as many doubled, and as many out of order."""
    world.network.impair(loss=loss, duplicate=loss, reorder=loss)
    program = world.program(to_port(8000) + DATA)
    world.until(lambda: len(program.got) == len(GRANTED_5) + len(DATA), 900)
    assert bytes(program.got) == GRANTED_5 + DATA
    program.transport.loseWriteConnection()
    world.until(lambda: program.finished)
    assert bytes(world.servers[0].got) == DATA


def test_what_cannot_be_reached(world: World) -> None:
    """Nobody listens at port 9; SOCKS4 has one word for all that."""
    new, old = world.program(to_port(9)), world.program(OLD.replace(b"\x1f\x40", b"\x00\x09"))
    world.until(lambda: new.finished and old.finished)
    assert bytes(new.got) == b"\x05\x00" + b"\x05\x05\x00\x01" + bytes(6)
    assert bytes(old.got) == bytes((0, 91)) + bytes(6)
    assert world.servers == []


def test_what_is_refused_without_asking_an_exit(world: World) -> None:
    udp = world.program(GREET + b"\x05\x03\x00\x01" + bytes(6))
    browser = world.program(b"GET http://example.org/ HTTP/1.1\r\n\r\n")
    world.until(lambda: udp.finished and browser.finished, 5)
    assert bytes(udp.got) == b"\x05\x00" + b"\x05\x07\x00\x01" + bytes(6)
    assert browser.got.startswith(b"HTTP/1.0 501 ")


def test_a_server_that_hangs_up(world: World) -> None:
    world.greeting, world.echo = DATA[:5000], False
    polite, rude = world.program(to_port(8000)), world.program(to_port(8000))
    world.until(lambda: len(world.servers) == 2 and len(polite.got) == len(rude.got) == 5012)
    world.servers[0].transport.loseConnection()
    world.servers[1].transport.abortConnection()
    world.until(lambda: (polite.ended or rude.ended) and (polite.over or rude.over))
    ended, reset = (polite, rude) if polite.ended else (rude, polite)
    assert not reset.ended, "what was reset must not look like an orderly end"
    assert not ended.over
    ended.transport.loseConnection()
    world.until(lambda: len(world.streams) == 0)


def test_a_program_that_is_gone(world: World) -> None:
    program = world.program(to_port(8000) + b"x")
    world.until(lambda: len(program.got) == len(GRANTED_5) + 1)
    program.transport.abortConnection()
    assert len(world.streams) == 1
    world.until(lambda: world.servers[0].over)
    assert len(world.streams) == 0


def test_a_program_that_does_not_read_stalls_only_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nymtw.client.proxies.exit_streams.WINDOW", 2 * INITIAL_CREDIT)
    length = 8 * INITIAL_CREDIT
    world.greeting, world.echo = bytes(length), False
    lazy = world.program(to_port(8000))
    world.until(lambda: len(lazy.got) > 10_000)
    lazy.transport.pauseProducing()
    world.network.run(5)
    got = len(lazy.got)
    world.greeting, world.echo = b"", True
    other = world.program(to_port(8000) + DATA[:20_000])
    world.until(lambda: len(other.got) == len(GRANTED_5) + 20_000)
    assert len(lazy.got) == got < length // 2
    lazy.transport.resumeProducing()
    world.until(lambda: len(lazy.got) == len(GRANTED_5) + length)


def test_a_thousand_half_open_connections_keep_nobody_out(world: World) -> None:
    """Each says a byte and waits; the oldest make room, and time ends the rest."""
    idle = [world.program(b"\x05") for _ in range(1000)]
    world.network.run(1)
    assert sum(not each.over for each in idle) == MAX_HANDSHAKES
    assert world.factory.handshakes == MAX_HANDSHAKES
    program = world.program(to_port(8000) + b"hello")
    world.until(lambda: program.got == GRANTED_5 + b"hello")
    world.network.run(HANDSHAKE_SECONDS)
    assert all(each.over for each in idle)
    assert (world.factory.handshakes, world.factory.connections) == (0, 1)
    assert not program.over


def test_there_is_a_ceiling_on_connections(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_CONNECTIONS >= 1000
    monkeypatch.setattr("nymtw.client.proxies.socks_server.MAX_CONNECTIONS", 3)
    inside = [world.program(to_port(8000) + b"x") for _ in range(3)]
    world.until(lambda: all(len(each.got) == len(GRANTED_5) + 1 for each in inside))
    outside = world.program(to_port(8000))
    world.until(lambda: outside.finished, 5)
    assert not outside.got
    inside[0].transport.abortConnection()
    world.network.run(1)
    after = world.program(to_port(8000) + b"x")
    world.until(lambda: len(after.got) == len(GRANTED_5) + 1)


def test_an_exit_that_is_killed_in_the_middle_of_a_download(seed: int) -> None:
    """The download breaks off like one that broke off; the other exit takes what comes after it."""
    world = World(seed, exits=2)
    world.greeting, world.echo = bytes(2**20), False
    program = world.program(to_port(8000))
    world.until(lambda: len(program.got) > 50_000)
    [way] = world.streams.paths
    topology = world.network.clients["alice"].service.watch.current
    assert topology is not None
    record = topology.find(way.exit.address.provider)
    assert record is not None
    world.network.kill(f"provider-{record.port - FIRST_PROVIDER_PORT + 1}")
    world.until(lambda: program.over, 90)
    assert not program.ended
    assert len(program.got) < 2**20
    world.greeting = b"from elsewhere"
    after = world.program(to_port(8000))
    world.until(lambda: after.got == GRANTED_5 + b"from elsewhere")
    world.stop()


def test_stopping_while_streams_run(seed: int) -> None:
    world = World(seed)
    programs = [world.program(to_port(8000) + DATA) for _ in range(5)]
    idle = world.program(b"\x05")
    world.until(lambda: all(len(each.got) > 100 for each in programs))
    world.stop()
    assert all(each.over for each in [*programs, idle])


def test_a_client_at_a_gateway_that_is_the_exit(seed: int) -> None:
    """Its mail is pushed, and the gateway holds it to the packets that the topology's rates allow."""
    world = World(seed, 0, gateway=True)
    program = world.program(to_port(8000) + DATA[:20_000])
    world.until(lambda: len(program.got) == len(GRANTED_5) + 20_000)
    assert bytes(program.got) == GRANTED_5 + DATA[:20_000]
    world.stop()


@pytest.mark.parametrize(
    ("limits", "set_to"),
    [
        ((1024, 1048576), [(1536, 1048576)]),
        ((1024, resource.RLIM_INFINITY), [(1536, resource.RLIM_INFINITY)]),
        ((1024, 1200), [(1200, 1200)]),
        ((4096, 4096), []),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), []),
    ],
)
def test_there_are_descriptors_for_all_connections(
    limits: tuple[int, int], set_to: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits_set: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda which, both: limits_set.append(both))
    raise_limit(DESCRIPTORS)
    assert limits_set == set_to
