"""The directory over HTTP, as a client: every failure is one line that names the URL and the cause."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from nymtw.errors import ConfigError, DirectoryError
from nymtw.interfaces import IDirectory
from nymtw.node.directories.http_directory import ANSWER_LIMIT, HTTPDirectory, check_directory_url

pytestmark = pytest.mark.pythons

URL = "http://127.0.0.1:8080"


class Exchange:
    """A client, and this side of its connection."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.directory = HTTPDirectory(self.reactor, URL, timeout=10)
        self.results: list[Any] = []
        self.transport = StringTransport()

    def start(self, ask: "Callable[[HTTPDirectory], Deferred[Any]]") -> None:
        ask(self.directory).addBoth(self.results.append)

    def connect(self) -> None:
        host, port, factory, _, _ = self.reactor.tcpClients[-1]
        assert (host, port) == ("127.0.0.1", 8080)
        self.protocol = factory.buildProtocol(None)
        self.transport.abortConnection = self.transport.loseConnection
        self.protocol.makeConnection(self.transport)

    def answer(self, code: int, body: bytes, length: int | None = None) -> None:
        head = f"HTTP/1.1 {code} X\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
        self.protocol.dataReceived(head.encode() + body)

    def error(self) -> str:
        [failure] = self.results
        assert isinstance(failure, Failure)
        assert failure.check(DirectoryError), failure
        text = str(failure.value)
        assert text.startswith(f"{URL}/api/")
        assert "\n" not in text
        return text


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    exchange = Exchange()
    yield exchange
    exchange.directory.close()
    exchange.reactor.advance(1000)
    assert exchange.reactor.getDelayedCalls() == []


def test_it_is_a_directory() -> None:
    assert verifyObject(IDirectory, HTTPDirectory(MemoryReactorClock(), URL))


def test_the_topology_is_the_bytes_that_come(exchange: Exchange) -> None:
    exchange.start(lambda directory: directory.topology())
    exchange.connect()
    assert exchange.transport.value().startswith(b"GET /api/v1/topology HTTP/1.1\r\n")
    exchange.answer(200, b"cbor")
    assert exchange.results == [b"cbor"]


@pytest.mark.parametrize(
    ("ask", "path"),
    [
        (lambda directory: directory.announce("mixnodes", {"a": 1}), b"/api/presence/mixnodes"),
        (lambda directory: directory.report({"a": 1}), b"/api/metrics/mixes"),
    ],
)
def test_a_post_is_json(exchange: Exchange, ask: Any, path: bytes) -> None:
    exchange.start(ask)
    exchange.connect()
    head, _, body = exchange.transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"POST " + path + b" HTTP/1.1\r\n")
    assert json.loads(body) == {"a": 1}
    exchange.answer(201, b'{"ok":true}')
    assert exchange.results == [None]


def test_a_refusal_has_the_directorys_reason(exchange: Exchange) -> None:
    exchange.start(lambda directory: directory.announce("mixnodes", {}))
    exchange.connect()
    exchange.answer(400, b'{"error": "the clock\\u001b[31m is wrong\\n"}')
    assert exchange.error() == f"{URL}/api/presence/mixnodes: 400: the clock [31m is wrong "


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[" * 10_000, b'{"other": 1}'])
def test_an_answer_that_gives_no_reason(exchange: Exchange, body: bytes) -> None:
    exchange.start(lambda directory: directory.report({}))
    exchange.connect()
    exchange.answer(502, body)
    assert "502: no reason given" in exchange.error()


def test_nobody_listens(exchange: Exchange) -> None:
    exchange.start(lambda directory: directory.topology())
    factory = exchange.reactor.tcpClients[-1][2]
    factory.clientConnectionFailed(None, Failure(ConnectError(osError=111, string="Connection refused")))
    exchange.reactor.advance(1)
    assert exchange.error().endswith("/api/v1/topology: An error occurred while connecting: 111: Connection refused")


def test_nobody_answers_in_time(exchange: Exchange) -> None:
    exchange.start(lambda directory: directory.topology())
    exchange.connect()
    exchange.reactor.advance(11)
    assert "no answer in 10 seconds" in exchange.error()
    assert exchange.transport.disconnecting


def test_nobody_takes_the_connection_in_time(exchange: Exchange) -> None:
    exchange.start(lambda directory: directory.topology())
    exchange.reactor.advance(11)
    assert "no answer in 10 seconds" in exchange.error()


def test_the_answer_stops_in_the_middle(exchange: Exchange) -> None:
    exchange.start(lambda directory: directory.topology())
    exchange.connect()
    exchange.answer(200, b"half", length=8)
    assert exchange.results == []
    exchange.reactor.advance(11)
    assert "no answer in 10 seconds" in exchange.error()
    assert exchange.transport.producerState == "stopped"


def test_the_connection_is_lost_before_an_answer(exchange: Exchange) -> None:
    exchange.start(lambda directory: directory.announce("mixnodes", {}))
    exchange.connect()
    exchange.protocol.connectionLost(Failure(ConnectionLost()))
    assert "closed before the whole answer came" in exchange.error()


def test_the_connection_is_lost_in_the_answer(exchange: Exchange) -> None:
    exchange.start(lambda directory: directory.topology())
    exchange.connect()
    exchange.answer(200, b"half", length=8)
    exchange.protocol.connectionLost(Failure(ConnectionLost()))
    assert "closed before the whole answer came" in exchange.error()


def test_an_answer_without_end_is_cut_off(exchange: Exchange) -> None:
    exchange.start(lambda directory: directory.report({}))
    exchange.connect()
    exchange.answer(201, b"x" * ANSWER_LIMIT, length=10**9)
    assert exchange.results == []
    exchange.protocol.dataReceived(b"x")
    assert exchange.transport.producerState == "stopped"
    assert "longer than allowed" in exchange.error()
    exchange.protocol.dataReceived(b"x" * 1000)


def test_garbage_is_an_error(exchange: Exchange) -> None:
    exchange.start(lambda directory: directory.topology())
    exchange.connect()
    exchange.protocol.dataReceived(b"\x16\x03\x01 nonsense\r\n\r\n\r\n")
    assert "not HTTP" in exchange.error()


def test_a_redirect_is_not_followed(exchange: Exchange) -> None:
    exchange.start(lambda directory: directory.topology())
    exchange.connect()
    exchange.protocol.dataReceived(b"HTTP/1.1 302 X\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n")
    assert "302" in exchange.error()


@pytest.mark.parametrize("url", [URL, "https://d.example.org", "http://[::1]:8080", "http://d:1/path"])
def test_a_url(url: str) -> None:
    assert check_directory_url(f"{url}/") == check_directory_url(url) == url


NO_URLS = [
    *(
        "",
        "d:8080",
        "127.0.0.1:8080",
        "ftp://d",
        "http://",
        "http://:8080",
        "http://d:99999",
        "http://d:x",
        "http://d:0",
    ),
    *("http://d e", "http://u:p@d", "http://d/?q", "http://d/#f", "http://[::1", "http://d\r\nX: y", "http://é"),
]


@pytest.mark.parametrize("url", NO_URLS)
def test_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match="--directory") as caught:
        HTTPDirectory(MemoryReactorClock(), url)
    assert "\n" not in str(caught.value)
