"""The websockets: what is shown each second, and viewers who shout, stall, vanish or are too many."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from heartbeats import signed_heartbeat
from nacl.signing import SigningKey
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Pong, Request, TextMessage

from twisted.internet.testing import MemoryReactorClock, StringTransport

from nymtw.directory.config import DirectoryConfig, DirectorySection
from nymtw.directory.dashboard.websocket import PATIENCE, SILENCE, TOO_BUSY
from nymtw.directory.service import DirectoryService, make_directory
from nymtw.topology.presence import make_metric, make_validator

START = 1_800_000_000.0


class Browser:
    """A websocket client in memory."""

    def __init__(self, factory: Any, path: str, subprotocols: Sequence[str] = ()) -> None:
        self.protocol = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.aborted = False
        self.transport.abortConnection = self._abort  # type: ignore[method-assign]
        self.protocol.makeConnection(self.transport)
        self.wire = WSConnection(ConnectionType.CLIENT)
        self.send(Request(host="d", target=path, subprotocols=list(subprotocols)))

    def _abort(self) -> None:
        self.aborted = True

    def send(self, event: Any) -> None:
        self.protocol.dataReceived(self.wire.send(event))

    def events(self) -> list[Any]:
        self.wire.receive_data(self.transport.value())
        self.transport.clear()
        return list(self.wire.events())

    def texts(self) -> list[str]:
        return [event.data for event in self.events() if isinstance(event, TextMessage)]


class Site:
    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        config = DirectoryConfig(directory=DirectorySection(id="one"))
        self.directory = make_directory(self.reactor, SigningKey(bytes([1]) * 32), config, wall_clock=self.wall)
        self.service = DirectoryService(self.reactor, self.directory, "127.0.0.1", 8080, wall_clock=self.wall)
        self.service.startService()
        [(_, self.factory, _, _)] = self.reactor.tcpServers

    def wall(self) -> float:
        return START + float(self.reactor.seconds())

    @property
    def now(self) -> int:
        return int(self.wall() * 1e9)

    def announce(self, number: int) -> None:
        values: dict[str, Any] = {"host": "127.0.0.1", "port": 2000 + number, "keys": {1: bytes([number]) * 32}}
        post = signed_heartbeat("mixnode", layer=1 + number % 3, timestamp=self.now, signing_key=key(number), **values)
        self.directory.announce("mixnodes", post, "127.0.0.1")

    def report(self, number: int, sent: int, received: int) -> None:
        self.directory.report(
            make_metric(
                public_key=bytes([number]) * 32,
                sent=sent,
                received=received,
                timestamp=self.now,
                signing_key=key(number),
            )
        )

    def browse(self, path: str = "/ws") -> Browser:
        return Browser(self.factory, path)


def key(number: int) -> SigningKey:
    return SigningKey(bytes([number, 9]) * 16)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.service.stopService()


def test_once_a_second_a_line_for_every_metric(site: Site) -> None:
    browser = site.browse()
    assert [type(event) for event in browser.events()] == [AcceptConnection]
    site.announce(1)
    site.announce(2)
    site.report(1, 5, 6)
    stamp = site.now
    site.reactor.advance(0.5)
    site.report(1, 7, 8)
    site.report(2, 1, 2)
    assert browser.texts() == []
    site.reactor.advance(0.5)
    [text] = browser.texts()
    lines = [json.loads(line) for line in text.split("\n")]
    assert [(line["sent"], line["received"]) for line in lines] == [(5, 6), (7, 8), (1, 2)]
    assert lines[0]["timestamp"] == stamp
    assert set(lines[0]) == {"pubKey", "sent", "received", "timestamp"}
    site.reactor.advance(1)
    assert browser.texts() == []


@pytest.mark.parametrize("path", ["/ws", "/api/v1/live"])
def test_a_browser_that_offers_subprotocols_gets_one(site: Site, path: str) -> None:
    [accepted] = Browser(site.factory, path, ["json", "other"]).events()
    assert accepted.subprotocol == "json"


def test_a_clock_that_runs_on_while_it_is_read_stops_nothing(site: Site) -> None:
    """A process that is late for a second by more than a second, on a clock that grows with every look at it."""
    browser = site.browse("/api/v1/live")
    seconds = site.reactor.seconds

    def later() -> float:
        site.reactor.rightNow += 1e-6
        return float(seconds())

    def call_later(delay: float, function: Any) -> Any:
        assert delay >= 0  # as the real reactor asserts
        return site.reactor.callLater(delay, function)

    site.service.live_feed.clock = type(
        "Late", (), {"seconds": staticmethod(later), "callLater": staticmethod(call_later)}
    )()
    site.reactor.advance(3.7)
    site.reactor.pump([1.0] * 3)
    assert len(browser.texts()) >= 4


def test_dashboards_get_a_row_for_each_node_in_the_order_of_the_list(site: Site) -> None:
    browser = site.browse("/api/v1/live")
    for number in (1, 2, 3):
        site.announce(number)
    site.report(3, 30, 31)
    site.reactor.advance(1)
    frames = [json.loads(text) for text in browser.texts()]
    assert frames
    listed = [node["identityKey"] for node in site.directory.nodes()]
    from nymtw.encoding import key_text

    place = listed.index(key_text(bytes(key(3).verify_key)))
    assert frames[-1]["revision"] == site.directory.registry.revision
    assert frames[-1]["rows"][place] == [1.0, 30, 31]
    assert all(row == [1.0] for number, row in enumerate(frames[-1]["rows"]) if number != place)
    site.reactor.pump([1.0] * 5)
    assert json.loads(browser.texts()[-1])["rows"] == []
    validator = make_validator(
        public_key="v",
        host="192.0.2.1",
        port=1,
        kind="nym-validator",
        timestamp=site.now,
        signing_key=SigningKey(bytes(32)),
        block=(7, 5),
    )
    site.directory.announce("coconodes", validator, "192.0.2.1")
    site.reactor.advance(1)
    assert json.loads(browser.texts()[-1])["validators"] == [[1.0, 7, 5]]


def test_what_a_viewer_sends_is_ignored(site: Site) -> None:
    browser = site.browse()
    browser.events()
    for _ in range(100):
        browser.send(TextMessage("{" * 10_000, message_finished=False))
    browser.send(Ping(b"x"))
    assert [type(event) for event in browser.events()] == [Pong]
    site.announce(1)
    site.report(1, 1, 1)
    site.reactor.advance(1)
    assert len(browser.texts()) == 1


@pytest.mark.parametrize("garbage", [bytes(100), b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x81\x05hello"])
def test_garbage_ends_one_viewer_and_raises_nothing(site: Site, garbage: bytes) -> None:
    browser, other = site.browse(), site.browse()
    browser.protocol.dataReceived(garbage)
    assert browser.transport.disconnecting
    assert not other.transport.disconnecting
    assert len(site.service.live_feed.metrics.viewers) == 1


@pytest.mark.parametrize(
    "head",
    [
        "GET /ws HTTP/1.1\r\nHost: d\r\n",
        "GET /ws HTTP/1.1\r\nHost: d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        "GET /ws HTTP/1.1\r\nHost: d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 1\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        "GET /ws HTTP/1.1\r\nHost: d\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n",
    ],
)
def test_a_request_that_is_no_handshake_is_told_so(site: Site, head: str) -> None:
    protocol = site.factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(f"{head}\r\n".encode())
    assert transport.value().startswith(b"HTTP/1.1 426 ")
    assert b"Upgrade: websocket\r\n" in transport.value()


def test_a_slow_viewer_misses_frames_and_is_then_hung_up_on(site: Site) -> None:
    slow, quick = site.browse(), site.browse()
    slow.events()
    slow.transport.producer.pauseProducing()
    site.announce(1)
    for _ in range(3):
        site.report(1, 1, 1)
        site.reactor.advance(1)
    assert slow.transport.value() == b""
    assert len(quick.texts()) == 3
    slow.transport.producer.resumeProducing()
    site.report(1, 1, 1)
    site.reactor.advance(1)
    assert len(slow.texts()) == 1
    slow.transport.producer.pauseProducing()
    site.reactor.pump([1.0] * (int(PATIENCE) + 2))
    assert slow.aborted
    assert not quick.aborted


def test_a_viewer_who_hears_nothing_is_pinged(site: Site) -> None:
    browser = site.browse()
    browser.events()
    site.reactor.pump([1.0] * (int(SILENCE) + 3))
    assert [type(event) for event in browser.events()] == [Ping]


def test_there_are_never_too_many_viewers(site: Site) -> None:
    site.service.live_feed.metrics.limit = 2
    browsers = [site.browse() for _ in range(3)]
    closes = [event.code for event in browsers[2].events() if isinstance(event, CloseConnection)]
    assert closes == [TOO_BUSY]
    assert len(site.service.live_feed.metrics.viewers) == 2


def test_a_viewer_who_leaves_is_forgotten(site: Site) -> None:
    from twisted.internet.error import ConnectionDone
    from twisted.python.failure import Failure

    polite, rude = site.browse(), site.browse()
    polite.events()
    polite.send(CloseConnection(1000))
    assert polite.transport.disconnecting
    rude.protocol.connectionLost(Failure(ConnectionDone()))
    assert not site.service.live_feed.metrics.viewers
    site.reactor.advance(2)


def test_the_directory_says_goodbye(site: Site) -> None:
    browser = site.browse()
    site.service.live_feed.stopService()
    assert [event.code for event in browser.events() if isinstance(event, CloseConnection)] == [1001]
    site.service.live_feed.startService()
