"""The HTTP server: bounded, JSON alone, and closed about its inside."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from nymtw.encoding import unmapped
from nymtw.errors import DirectoryError, EncodingError
from nymtw.testing.clock import FakeClock
from nymtw.web.http import BODY_LIMIT, IDLE_TIMEOUT, Answer, Call, Route, RoutesResource, as_json, bounded_site

pytestmark = pytest.mark.pythons


class Server:
    """The routes of the tests, over transports in memory."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.waiting: list[Deferred[Answer]] = []
        self.counted: list[tuple[str, str, int]] = []
        self.clock = FakeClock()
        routes = [
            Route("GET", "/ok", lambda call: as_json({"ok": True})),
            Route("POST", "/post", self.post),
            Route("POST", "/refuse", self.refuse),
            Route("POST", "/garble", self.garble),
            Route("GET", "/broken", self.broken),
            Route("GET", "/waits", self.wait),
        ]
        resource = RoutesResource(routes, lambda *answer: self.counted.append(answer))
        self.factory = bounded_site(resource, self.clock)

    def post(self, call: Call) -> Answer:
        self.calls.append(call)
        return as_json({"ok": True}, 201)

    def refuse(self, call: Call) -> Answer:
        raise DirectoryError("the reason")

    def garble(self, call: Call) -> Answer:
        raise EncodingError("not JSON")

    def broken(self, call: Call) -> Answer:
        raise RuntimeError("a secret of the inside")

    def wait(self, call: Call) -> "Deferred[Answer]":
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def connect(self) -> tuple[Any, StringTransport]:
        address = IPv4Address("TCP", "192.0.2.7", 4000)
        protocol: Any = self.factory.buildProtocol(address)
        transport = StringTransport(peerAddress=address)
        transport.abortConnection = transport.loseConnection
        if protocol is not None:
            protocol.makeConnection(transport)
        return protocol, transport

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        protocol, transport = self.connect()
        protocol.dataReceived(request)
        head, _, body = transport.value().partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        return int(lines[0].split()[1]), headers, body


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.factory.doStart()
    yield server
    server.factory.doStop()


def test_an_answer_is_json_and_does_not_name_the_server(server: Server) -> None:
    code, headers, body = server.ask(b"GET /ok HTTP/1.1\r\nHost: d\r\n\r\n")
    assert (code, json.loads(body)) == (200, {"ok": True})
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(body))
    assert "server" not in headers


def test_a_head_is_a_get_without_its_body(server: Server) -> None:
    code, headers, body = server.ask(b"HEAD /ok HTTP/1.1\r\nHost: d\r\n\r\n")
    assert (code, headers["content-length"], body) == (200, "11", b"")


def test_an_unknown_path_and_a_wrong_method_are_json_too(server: Server) -> None:
    code, headers, body = server.ask(b"GET /../etc/passwd HTTP/1.1\r\nHost: d\r\n\r\n")
    assert code == 404
    assert set(json.loads(body)) == {"error"}
    assert "server" not in headers
    code, headers, body = server.ask(b"DELETE /ok HTTP/1.1\r\nHost: d\r\n\r\n")
    assert (code, headers["allow"]) == (405, "get")
    assert set(json.loads(body)) == {"error"}
    assert server.counted == [("other", "other", 404), ("other", "other", 405)]


def test_a_handler_is_told_body_query_and_source(server: Server) -> None:
    code, _, _ = server.ask(b"POST /post?a=1&a=2&b=%C3%A9 HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n{}")
    assert code == 201
    assert server.calls == [Call(b"{}", {"a": "2", "b": "é"}, "192.0.2.7")]
    assert server.counted == [("POST", "/post", 201)]


@pytest.mark.parametrize(("path", "reason"), [("refuse", "the reason"), ("garble", "not JSON")])
def test_a_refusal_gives_its_reason(server: Server, path: str, reason: str) -> None:
    code, _, body = server.ask(f"POST /{path} HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n".encode())
    assert (code, json.loads(body)) == (400, {"error": reason})


def test_a_fault_is_logged_and_not_shown(server: Server, expected_failures: list[str]) -> None:
    code, _, body = server.ask(b"GET /broken HTTP/1.1\r\nHost: d\r\n\r\n")
    assert code == 500
    assert b"secret" not in body
    assert b"Traceback" not in body
    expected_failures.append("{method} {path} failed")


def test_the_longest_body_is_taken(server: Server) -> None:
    head = f"POST /post HTTP/1.1\r\nHost: d\r\nContent-Length: {BODY_LIMIT}\r\n\r\n".encode()
    assert server.ask(head + bytes(BODY_LIMIT))[0] == 201
    assert len(server.calls[0].body) == BODY_LIMIT


def test_a_longer_body_is_refused_at_its_headers(server: Server) -> None:
    protocol, transport = server.connect()
    protocol.dataReceived(f"POST /post HTTP/1.1\r\nHost: d\r\nContent-Length: {BODY_LIMIT + 1}\r\n\r\n".encode())
    assert transport.value().startswith(b"HTTP/1.1 413 ")
    assert transport.disconnecting
    before = transport.value()
    protocol.dataReceived(bytes(BODY_LIMIT + 1))
    assert transport.value() == before
    assert server.calls == []


def test_a_chunked_body_is_refused_when_it_has_grown_too_long(server: Server) -> None:
    protocol, transport = server.connect()
    protocol.dataReceived(b"POST /post HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(BODY_LIMIT // 4096):
        protocol.dataReceived(b"1000\r\n" + bytes(4096) + b"\r\n")
    assert transport.value() == b""
    for _ in range(10):
        protocol.dataReceived(b"1000\r\n" + bytes(4096) + b"\r\n")
    assert transport.value().count(b"HTTP/1.1 413 ") == 1
    protocol.dataReceived(b"0\r\n\r\n")
    assert transport.value().count(b"HTTP/1.1") == 1
    assert server.calls == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00" * 100,
        b"GET\r\n\r\n",
        b"GET /ok HTTP/9.9\r\n\r\n",
        b"POST /post HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /post HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /post HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /post HTTP/1.1\r\nContent-Type: multipart/form-data\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /" + b"a" * 100_000,
        b"GET /ok HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
        bytes(range(256)) * 300,
    ],
)
def test_garbage_raises_nothing(server: Server, garbage: bytes) -> None:
    protocol, transport = server.connect()
    for start in range(0, len(garbage), 1000):
        if not transport.disconnecting:
            protocol.dataReceived(garbage[start : start + 1000])
    assert len(transport.value()) < 10_000
    assert b"Traceback" not in transport.value()


def test_an_idle_connection_is_closed_and_nobody_logs_whose_it_was(server: Server) -> None:
    logged: list[str] = []

    def observe(event: LogEvent) -> None:
        logged.append(str(event))

    globalLogPublisher.addObserver(observe)
    _, transport = server.connect()
    server.clock.advance(IDLE_TIMEOUT - 1)
    assert not transport.disconnecting
    server.clock.advance(2)
    globalLogPublisher.removeObserver(observe)
    assert transport.disconnecting
    assert not [line for line in logged if "192.0.2.7" in line]


def test_a_request_that_drips_is_cut_off(server: Server) -> None:
    protocol, transport = server.connect()
    protocol.dataReceived(b"POST /post HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(IDLE_TIMEOUT + 1):
        assert not transport.disconnecting
        protocol.dataReceived(b"x")
        server.clock.advance(1)
        if transport.disconnecting:
            break
    assert transport.disconnecting
    assert server.calls == []


def test_a_kept_connection_lives_while_it_is_used(server: Server) -> None:
    protocol, transport = server.connect()
    for _ in range(5):
        server.clock.advance(IDLE_TIMEOUT - 1)
        protocol.dataReceived(b"GET /ok HTTP/1.1\r\nHost: d\r\n\r\n")
    assert transport.value().count(b"HTTP/1.1 200 OK") == 5
    assert not transport.disconnecting


def lost(protocol: Any) -> None:
    protocol.connectionLost(Failure(ConnectionDone()))


def test_who_comes_when_all_places_are_taken_gets_that_of_who_has_been_idle_for_longest(server: Server) -> None:
    server.factory.limit = 3
    first, second, third = (server.connect() for _ in range(3))
    first[0].dataReceived(b"GET /ok HTTP/1.1\r\nHost: d\r\n\r\n")  # so the second is the one idle for longest
    assert server.ask(b"GET /ok HTTP/1.1\r\nHost: d\r\n\r\n")[0] == 200
    assert [transport.disconnecting for _, transport in (first, second, third)] == [False, True, False]
    lost(second[0])
    server.connect()
    assert [transport.disconnecting for _, transport in (first, third)] == [False, True]


def test_nobody_is_hung_up_on_in_the_midst_of_an_answer(server: Server) -> None:
    server.factory.limit = 2
    busy = [server.connect() for _ in range(2)]
    for protocol, _ in busy:
        protocol.dataReceived(b"GET /waits HTTP/1.1\r\nHost: d\r\n\r\n")
    assert server.connect()[0] is None
    for waiting in server.waiting:
        waiting.callback(as_json({"ok": True}))
    assert not any(transport.disconnecting for _, transport in busy)
    assert server.connect()[0] is not None
    assert [transport.disconnecting for _, transport in busy] == [True, False]


def test_there_are_never_more_connections_than_fit(server: Server) -> None:
    server.factory.limit = 2
    there = [server.connect() for _ in range(1000)]
    assert sum(protocol is not None for protocol, _ in there) <= 2 + 32
    for protocol, transport in there:
        if transport.disconnecting and protocol is not None:
            lost(protocol)
    assert len(server.factory.protocols) == 2


def test_ten_thousand_idle_connections_keep_nobody_out_and_end_after_a_minute(server: Server) -> None:
    server.factory.limit = 10_000
    idle = [server.connect() for _ in range(10_000)]
    assert all(protocol is not None for protocol, _ in idle)
    assert server.ask(b"GET /ok HTTP/1.1\r\nHost: d\r\n\r\n")[0] == 200
    assert sum(transport.disconnecting for _, transport in idle) == 1
    server.clock.advance(IDLE_TIMEOUT + 1)
    assert all(transport.disconnecting for _, transport in idle)


@pytest.mark.parametrize(
    ("host", "seen"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:0:1", "::ffff:0:1"),
    ],
)
def test_ipv4_is_seen_as_such_by_whoever_listens_on_both(host: str, seen: str) -> None:
    assert unmapped(host) == seen
