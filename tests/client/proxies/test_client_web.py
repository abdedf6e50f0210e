"""Web pages through a whole network in memory: the client's side of the web proxy, and the HTTP proxy for browsers."""

import contextlib
import gzip
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web import http

from nymtw.client.config import DebugSection
from nymtw.client.proxies.fetch import FetchOptions, Unpacker
from nymtw.client.proxies.http_proxy import MAX_BODY, MAX_CONNECTIONS, ProxyFactory
from nymtw.client.proxies.web_client import (
    BLOCKS,
    LIFETIME,
    MAX_CIRCUITS,
    PATIENCE,
    WebClient,
    WebError,
    origin_of,
)
from nymtw.client.receiving.circuits import AT_ONCE
from nymtw.message.fragments import REPLY_FRAGMENT_CAPACITY
from nymtw.message.web import WebHead, WebPart, WebRequest
from nymtw.testing.clock import FakeClock
from nymtw.testing.simulation import SimulatedNetwork
from nymtw.topology.address import Address

BODY = bytes(range(256)) * 700
LONG = bytes(range(256)) * 4096


class Page(http.Request):
    def process(self) -> None:
        if self.path == b"/breaks":
            self.setHeader(b"content-length", b"100000")
            self.write(bytes(99_000))
            channel: Any = self.channel
            channel.loseConnection()
            return
        self.write({b"/body": BODY, b"/long": LONG}.get(self.path, b"a page"))
        self.finish()


class Quiet(http.HTTPFactory):
    def buildProtocol(self, addr: Any) -> Any:
        channel: Any = super().buildProtocol(addr)
        channel.requestFactory = Page
        return channel

    def log(self, request: Any) -> None:
        pass


class Browser(Protocol):
    """Sends one request, keeps what comes."""

    def __init__(self, request: bytes) -> None:
        self.request, self.got, self.over = request, b"", False

    def connectionMade(self) -> None:
        self.transport.write(self.request)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Any = None) -> None:
        self.over = True


class World:
    def __init__(
        self, seed: int, *options: str, clients: tuple[str, ...] = ("alice", "bob"), debug: DebugSection | None = None
    ) -> None:
        both = {"provider-1": ["--impl=store", "--impl=webproxy", "--web-private", "--web-ports=all", *options]}
        self.network = SimulatedNetwork(
            seed,
            mixnodes_per_layer=1,
            crypto="none",
            providers=2,
            clients=clients,
            refresh=5.0,
            implementations=both,
            debug=debug,
        )
        self.network.start()
        web = self.network.network.host("web")
        self.site = web.listenTCP(8000, Quiet(reactor=web))
        self.alice = self.network.clients["alice"]
        self.host = self.network.network.host("alice")
        self.client = WebClient(self.alice.core, self.host, Random(seed), lambda: self.alice.service.watch.current)
        self.circuits: list[Any] = []
        self.posted: list[bytes] = []
        core: Any = self.alice.core
        self._open, core.circuits.open = core.circuits.open, self._opened
        self.port = self.host.listenTCP(8118, ProxyFactory(lambda: self.client, self.host))

    def _opened(self, recipient: bytes, received: Any) -> Any:
        circuit = self._open(recipient, received)
        post = circuit.post

        def posting(data: bytes, *words: Any, **named: Any) -> Any:
            self.posted.append(data)
            return post(data, *words, **named)

        circuit.post = posting
        self.circuits.append(circuit)
        return circuit

    def fetch(self, url: str, limit: float = 300) -> tuple[WebHead, bytes]:
        heads: list[WebHead] = []
        body: list[bytes] = []
        done = Deferred.fromCoroutine(self.client.request("GET", url, head=heads.append, take=body.append))
        self.network.clock.wait_for(done, limit)
        return heads[0], b"".join(body)

    def browse(self, request: bytes, limit: float = 300) -> bytes:
        browser = Browser(request)
        factory: Any = ClientFactory()
        factory.protocol = lambda: browser
        self.network.network.host("browser").connectTCP("127.0.0.1", 8118, factory)
        self.network.run_until(lambda: browser.over, limit)
        return browser.got

    def stop(self) -> None:
        self.port.stopListening()
        self.site.stopListening()
        self.client.close()
        self.network.stop()


@pytest.fixture
def world(seed: int) -> Any:
    world = World(seed)
    yield world
    world.stop()


def test_pages_come_through_the_mixnet_and_other_messages_stay(world: World) -> None:
    head, body = world.fetch("http://127.0.0.1:8000/body")
    assert (head.status, body) == (200, BODY)
    with pytest.raises(WebError, match="cannot be reached"):
        world.fetch("http://127.0.0.1:8001/")
    world.network.deliver("bob", "alice", b"a message")


@pytest.mark.long
def test_a_download_takes_what_the_stream_of_replies_carries(seed: int) -> None:
    rates = DebugSection(message_sending_rate=100.0, fetch_message_rate=30.0)
    world = World(seed, "--stream-rate=100", clients=("alice",), debug=rates)
    world.network.run(5.0)  # every link is there
    start = world.network.clock.seconds()
    _, body = world.fetch("http://127.0.0.1:8000/long")
    seconds = world.network.clock.seconds() - start
    world.stop()
    assert body == LONG
    carried = 100 * REPLY_FRAGMENT_CAPACITY * seconds
    assert len(body) >= 0.7 * carried, f"{len(body) / carried:.0%} of what could have come"


@pytest.mark.long
def test_blocks_that_the_proxy_still_has_are_not_sent_again(world: World) -> None:
    for _ in range(3):
        assert world.fetch("http://127.0.0.1:8000/")[1] == b"a page"
        world.network.run(2)
    [circuit] = world.circuits
    assert BLOCKS - AT_ONCE <= len(circuit.records) <= BLOCKS + 6 * AT_ONCE
    # Those that nothing has come back with for a minute may be lost.
    world.network.run(65)
    world.fetch("http://127.0.0.1:8000/")
    assert 2 * BLOCKS - 3 * AT_ONCE <= len(circuit.records) <= 2 * BLOCKS + 8 * AT_ONCE


def test_each_origin_has_a_tag_of_its_own_and_nothing_is_kept(world: World) -> None:
    """All requests of a client had one tag for ever, in a table that listed its correspondents."""

    def tags() -> list[bytes]:
        return [circuit.tag for circuit in world.circuits]

    world.fetch("http://127.0.0.1:8000/")
    world.fetch("http://127.0.0.1:8000/other#part")
    assert len(set(tags())) == 1
    for url in ("http://localhost:8000/", "http://127.0.0.1:8001/"):
        with contextlib.suppress(WebError):
            world.fetch(url)
    assert len(set(tags())) == 3
    replies: Any = world.alice.core.replies
    assert replies.correspondents == 0


class Circuits:
    """Circuits whose proxies answer at once, or not at all."""

    def __init__(self) -> None:
        self.opened = self.open_ones = 0
        self.answers = True
        self.network, self.sending_rate, self.circuits = bytes(16), 20.0, self

    def open(self, recipient: bytes, received: Any) -> Any:
        self.opened += 1
        self.open_ones += 1
        return SimpleNamespace(
            post=partial(self.post, received), close=self.close, stock=lambda count: None, cancel=lambda message: None
        )

    def post(self, received: Any, data: bytes, lane: Any, **more: Any) -> object:
        name = WebRequest.parse(data).id
        if self.answers:
            received(WebPart(id=name, number=0, head=WebHead(status=200), data=b"a", last=True).encode())
        return object()

    def close(self) -> None:
        self.open_ones -= 1


def web_client(circuits: Any) -> tuple[FakeClock, WebClient]:
    clock = FakeClock()
    address = Address(bytes(32), bytes([9]) + bytes(31), bytes(32)).encode(bytes(16))
    return clock, WebClient(circuits, clock, Random(1), lambda: None, address)


def test_after_a_proxy_that_did_not_answer_another_circuit_is_used() -> None:
    circuits = Circuits()
    clock, client = web_client(circuits)
    circuits.answers = False
    for _ in range(2):
        done = client.request("GET", "http://host/", head=lambda head: None, take=lambda data: None)
        with pytest.raises(WebError, match="no data has arrived"):
            clock.wait_for(Deferred.fromCoroutine(done), PATIENCE + 1)
    assert (circuits.opened, circuits.open_ones) == (2, 1)
    client.close()
    assert (circuits.open_ones, clock.getDelayedCalls()) == (0, [])


def test_a_circuit_ends_after_some_minutes_though_nothing_is_asked_for() -> None:
    circuits = Circuits()
    clock, client = web_client(circuits)
    for opened in (1, 1, 2):
        done = client.request("GET", "http://host/", head=lambda head: None, take=lambda data: None)
        clock.wait_for(Deferred.fromCoroutine(done), 1)
        assert circuits.opened == opened
        clock.advance(LIFETIME / 2 + 31)
    assert circuits.open_ones == 1
    clock.advance(LIFETIME)
    assert circuits.open_ones == 0
    client.close()


@pytest.mark.parametrize("origins", [MAX_CIRCUITS + 10, 2 * MAX_CIRCUITS])
def test_circuits_are_bounded_and_idle_ones_make_room(origins: int) -> None:
    circuits = Circuits()
    clock, client = web_client(circuits)
    for number in range(origins):
        got: list[bytes] = []
        done = client.request("GET", f"http://host-{number}/", head=lambda head: None, take=got.append)
        clock.wait_for(Deferred.fromCoroutine(done), 1)
        assert got == [b"a"]
        assert circuits.open_ones <= MAX_CIRCUITS
    client.close()
    assert circuits.open_ones == 0
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://a.example/x", "http://A.example:80/y?z", True),
        ("https://a.example/", "https://a.example:443/", True),
        ("http://a.example/", "https://a.example/", False),
        ("http://a.example/", "http://b.example/", False),
        ("http://a.example:81/", "http://a.example/", False),
        ("http://[::1]:81/", "http://[::1]:82/", False),
        ("http://[broken", "http://[broken", True),
        ("http://a.example:port/", "http://a.example:port/x", False),
    ],
)
def test_what_an_origin_is(one: str, other: str, same: bool) -> None:
    assert (origin_of(one) == origin_of(other)) is same


def test_a_browser_behind_the_http_proxy(world: World) -> None:
    def get(url: bytes, method: bytes = b"GET") -> bytes:
        return world.browse(method + b" " + url + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    answer = get(b"http://127.0.0.1:8000/")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"a page" in answer
    assert get(b"http://127.0.0.1:8001/").startswith(b"HTTP/1.1 502 ")
    assert get(b"/").startswith(b"HTTP/1.1 400 ")
    assert get(b"127.0.0.1:443", b"CONNECT").startswith(b"HTTP/1.1 501 ")
    broken = get(b"http://127.0.0.1:8000/breaks")
    assert b"ontent-" in broken
    assert len(broken.partition(b"\r\n\r\n")[2]) < 100_000, "what broke off looks whole"


def test_parts_out_of_order_and_twice_and_of_others(world: World, seed: int) -> None:
    heads: list[WebHead] = []
    body: list[bytes] = []
    done = Deferred.fromCoroutine(
        world.client.request("GET", "http://127.0.0.1:8000/x", head=heads.append, take=body.append)
    )
    other = Deferred.fromCoroutine(
        world.client.request("GET", "http://127.0.0.1:8002/x", head=heads.append, take=body.append)
    )
    other.addErrback(lambda failure: None)
    circuit, elsewhere = world.circuits
    identifier = WebRequest.parse(world.posted[0]).id

    def part(number: int, by: Any = circuit, **fields: Any) -> None:
        by.received(WebPart(id=fields.pop("id", identifier), number=number, **fields).encode())

    circuit.received(b"nonsense")
    part(2, data=b"c", last=True)
    part(1, data=b"b")
    part(1, data=b"b")
    part(0, head=WebHead(status=200), id=bytes(16))
    part(0, by=elsewhere, head=WebHead(status=200), data=b"not its proxy")
    part(0, head=WebHead(status=200), data=b"a")
    world.network.clock.wait_for(done, 60)
    assert b"".join(body) == b"abc"
    other.cancel()


def test_a_compressed_page_is_unpacked_in_pieces_of_bounded_length() -> None:
    pieces: list[bytes] = []
    unpacker = Unpacker(pieces.append)
    unpacker.head(WebHead(status=200, headers=((b"Content-Encoding", b"gzip"),)))
    packed = gzip.compress(bytes(5_000_000), mtime=0)
    for at in range(0, len(packed), 1000):
        unpacker.body(packed[at : at + 1000])
    assert b"".join(pieces) == bytes(5_000_000)
    assert max(map(len, pieces)) <= 256 * 1024
    broken = Unpacker(pieces.append)
    broken.head(WebHead(status=200, headers=((b"Content-Encoding", b"gzip"),)))
    with pytest.raises(WebError, match="damaged"):
        broken.body(b"this is not gzip")
    with pytest.raises(WebError, match="not requested"):
        Unpacker(pieces.append).head(WebHead(status=200, headers=((b"Content-Encoding", b"br"),)))


def test_the_url_stands_before_or_behind_the_options() -> None:
    for words in (["http://x/", "-o", "file"], ["-o", "file", "http://x/"]):
        options = FetchOptions()
        options.parseOptions([*words])
        assert (options["url"], options["output"]) == ("http://x/", "file")


def connected(factory: Any) -> tuple[Any, StringTransport]:
    channel, transport = factory.buildProtocol(None), StringTransport()
    channel.makeConnection(transport)
    return channel, transport


def proxy_factory() -> ProxyFactory:
    asked: Any = type("Asked", (), {"request": None})()
    return ProxyFactory(lambda: asked, FakeClock())


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_without_end_is_refused_while_it_comes_and_touches_no_disk(
    announced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    channel, transport = connected(proxy_factory())
    head = b"POST http://example.org/ HTTP/1.1\r\nHost: example.org\r\n"
    if announced:
        channel.dataReceived(head + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1))
    else:
        channel.dataReceived(head + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        for _ in range(MAX_BODY // 0x10000 + 2):
            if not transport.disconnecting:
                channel.dataReceived(piece)
    assert transport.value().startswith(b"HTTP/1.1 413 ")
    assert transport.disconnecting
    channel.connectionLost(Failure(ConnectionDone()))


def test_there_is_a_ceiling_on_connections_that_sinks_again() -> None:
    factory = proxy_factory()
    channels = [connected(factory)[0] for _ in range(MAX_CONNECTIONS)]
    assert factory.buildProtocol(None) is None
    channels[0].connectionLost(Failure(ConnectionDone()))
    channels[0] = connected(factory)[0]
    for channel in channels:
        channel.connectionLost(Failure(ConnectionDone()))
    assert not factory.connections
