"""Web pages through a whole network in memory: the client's side of the web proxy, and the HTTP proxy for browsers."""

import gzip
import itertools
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
from nymtw.client.proxies.web_client import BLOCKS, FEWEST_BLOCKS, WebClient, WebError
from nymtw.client.receiving.inbox import Received
from nymtw.message.fragments import REPLY_FRAGMENT_CAPACITY
from nymtw.message.web import ID_LENGTH, WebHead, WebPart
from nymtw.testing.clock import FakeClock
from nymtw.testing.simulation import SimulatedNetwork

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
        self.client = WebClient(
            self.alice.core, self.host, self.host_random(seed), lambda: self.alice.service.watch.current
        )
        self.port = self.host.listenTCP(8118, ProxyFactory(lambda: self.client, self.host))

    @staticmethod
    def host_random(seed: int) -> Any:
        import random

        return random.Random(seed)

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
def test_blocks_that_the_proxy_still_has_are_not_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    core, given = world.alice.core, []
    send = core.send

    def counted(*words: Any, surbs: int, **named: Any) -> Any:
        given.append(surbs)
        return send(*words, surbs=surbs, **named)

    monkeypatch.setattr(core, "send", counted)
    for _ in range(3):
        assert world.fetch("http://127.0.0.1:8000/")[1] == b"a page"
    assert given[0] == BLOCKS
    assert FEWEST_BLOCKS <= given[1] <= given[2] <= FEWEST_BLOCKS + 5
    # Those that nothing has come back with for a minute may be lost.
    world.network.run(65)
    world.fetch("http://127.0.0.1:8000/body")
    assert given[-1] == BLOCKS


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
    identifier = world.host_random(seed).randbytes(ID_LENGTH)  # the first that is drawn
    names = itertools.count()

    def part(number: int, **fields: Any) -> None:
        name = fields.pop("id", identifier)
        part = WebPart(id=name, number=number, **fields)
        world.alice.core.inbox.add(Received(next(names).to_bytes(16, "big"), part.encode(), None))

    part(2, data=b"c", last=True)
    part(1, data=b"b")
    part(1, data=b"b")
    part(0, head=WebHead(status=200), id=bytes(16))
    part(0, head=WebHead(status=200), data=b"a")
    world.network.clock.wait_for(done, 60)
    assert b"".join(body) == b"abc"


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
