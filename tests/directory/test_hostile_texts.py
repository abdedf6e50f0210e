"""Scripts and worse in every string that anybody can post: refused, or given back as text in JSON, never as a page."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from heartbeats import signed_heartbeat
from nacl.signing import SigningKey
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request, TextMessage

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from nymtw.directory.config import DirectoryConfig, DirectorySection
from nymtw.directory.service import DirectoryService, make_directory
from nymtw.topology.presence import make_metric, make_validator, sign_post

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{constructor.constructor('alert(1)')()}}",
    "javascript:alert(1)",
    "\u2028\u2029\x00\x1b[2J\r\nSet-Cookie: a=b",
    "\ud800",
    "nymtw_up 1\n# EOF",
)
NODE, OTHER = SigningKey(bytes([3]) * 32), SigningKey(bytes([4]) * 32)
HEARTBEAT, METRIC = b"nymtw presence v1\0", b"nymtw metric v1\0"


class Site:
    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        config = DirectoryConfig(directory=DirectorySection(id="one", unsigned_localhost=True))
        self.directory = make_directory(self.reactor, SigningKey(bytes([1]) * 32), config, wall_clock=self.wall)
        self.service = DirectoryService(self.reactor, self.directory, "127.0.0.1", 8080, wall_clock=self.wall)
        self.service.startService()
        [(_, self.factory, _, _)] = self.reactor.tcpServers

    def wall(self) -> float:
        return 1_800_000_000.0 + float(self.reactor.seconds())

    def now(self) -> int:
        self.reactor.advance(0.15)  # no faster than a directory takes posts
        return int(self.wall() * 1e9)

    def connect(self) -> Any:
        protocol: Any = self.factory.buildProtocol(None)
        protocol.makeConnection(StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 4000)))
        return protocol

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        protocol = self.connect()
        protocol.dataReceived(
            f"{method} {path} HTTP/1.1\r\nHost: d\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        transport = protocol.wrappedProtocol.transport.transport
        head, _, content = transport.value().partition(b"\r\n\r\n")
        protocol.connectionLost(Failure(ConnectionDone()))
        lines = head.decode("latin-1").split("\r\n")
        return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), content

    def posts(self) -> list[tuple[str, dict[str, Any], tuple[bytes, SigningKey] | None]]:
        """One good post of each kind: its path, what it says, and how it is signed."""
        now = self.now()
        keys = {1: bytes([8]) * 32, 2: bytes([9]) * 32}
        fields = {"description": "d", "country": "CH", "version": "1"}
        where = {"host": "127.0.0.1", "timestamp": now}
        mixnode = signed_heartbeat("mixnode", port=1, keys=keys, layer=1, signing_key=NODE, **where, **fields)
        provider = signed_heartbeat("provider", port=2, client_port=3, keys=keys, signing_key=OTHER, **where, **fields)
        validator = make_validator(public_key="v", kind="nym", port=4, version="1", signing_key=NODE, **where)
        metric = make_metric(public_key=keys[1], sent=1, received=2, timestamp=now, signing_key=NODE, loops=(1, 1))
        signed = {
            "/api/presence/mixnodes": (mixnode, (HEARTBEAT, NODE)),
            "/api/presence/mixproviders": (provider, (HEARTBEAT, OTHER)),
            "/api/presence/coconodes": (validator, (HEARTBEAT, NODE)),
            "/api/metrics/mixes": ({**metric, "sent": {"peer": 1}}, (METRIC, NODE)),
        }
        unsigned = {
            "mixnodes": {"host": "h:1", "pubKey": "old", "layer": 1, "version": "0.2.0"},
            "mixproviders": {"host": "h:2", "pubKey": "p", "registeredClients": [{"pubKey": "c"}]},
            "gateways": {"clientListener": "a:1", "mixnetListener": "a:2", "pubKey": "g", "registeredClients": []},
            "coconodes": {"host": "h", "pubKey": "v", "type": "nym"},
        }
        found: list[Any] = [(path, body, how) for path, (body, how) in signed.items()]
        found += [(f"/api/presence/{path}", body, None) for path, body in unsigned.items()]
        return [*found, ("/api/metrics/mixes", {"pubKey": "old", "sent": {"peer": 1}, "received": 2}, None)]


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.service.stopService()


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every string in a JSON value; a key of an object is a string too."""
    if isinstance(value, str):
        yield at
    for name, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, dict):
            yield (*at, f"key {name}")
        yield from places(each, (*at, name))


def changed(value: Any, at: tuple[Any, ...], text: str) -> Any:
    """`value` with `text` at that place."""
    if not at:
        return text
    name, *rest = at
    if isinstance(name, str) and name.startswith("key ") and not rest:
        return {(text if key == name[4:] else key): each for key, each in value.items()}
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[name] = changed(copy[name], tuple(rest), text)
    return copy


@pytest.mark.long
def test_scripts_in_every_string(site: Site) -> None:
    taken, refused = set(), 0
    for text in HOSTILE:
        for number in range(len(site.posts())):
            for place in list(places(site.posts()[number][1])):
                path, body, how = site.posts()[number]
                post = changed(body, place, text)
                if how is not None and place != ("signature",) and "identityKey" in post:
                    unsigned = {name: value for name, value in post.items() if name != "signature"}
                    try:
                        post = sign_post(unsigned, *how)
                    except UnicodeEncodeError:
                        pass  # half a character has no bytes that could be signed
                code, headers, content = site.ask("POST", path, json.dumps(post).encode())
                assert code in (201, 400), (path, place, text)
                assert headers["Content-Type"] == "application/json"
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert "Set-Cookie" not in headers
                assert isinstance(json.loads(content), dict)
                if code == 201:
                    taken.add((number, place))
                refused += code == 400
                check_answers(site)
    assert refused > 100
    names = {place[-1] for _, place in taken}
    assert {"description", "type", "pubKey", "host", "clientListener", "key peer"} <= names, "nothing hostile was taken"


def check_answers(site: Site) -> None:
    """Everything that can be read, as it is now."""
    for route in site.service.resource.routes:
        if route.method == "GET" and not route.path.startswith("/swagger"):
            code, headers, content = site.ask("GET", route.path)
            assert headers["X-Content-Type-Options"] == "nosniff"
            kind = headers["Content-Type"].split(";")[0]
            if code == 400:
                assert route.path == "/api/v1/node"
            if kind == "application/json":
                json.loads(content)
            else:
                assert kind in (
                    "text/html",
                    "text/plain",
                    "text/css",
                    "text/javascript",
                    "image/svg+xml",
                    "application/cbor",
                )
                for text in (b"alert(1)", b"Set-Cookie", b"nymtw_up", b"[2J"):
                    assert text not in content, route.path


def test_what_was_taken_comes_back_to_the_letter_in_json_and_in_frames(site: Site) -> None:
    text = HOSTILE[1]
    fields = {"host": text, "pubKey": text, "layer": 1, "version": text}
    assert site.ask("POST", "/api/presence/mixnodes", json.dumps(fields).encode())[0] == 201
    metric = {"pubKey": text, "sent": {text: 1}, "received": 2}
    assert site.ask("POST", "/api/metrics/mixes", json.dumps(metric).encode())[0] == 201
    [shown] = json.loads(site.ask("GET", "/api/presence/topology")[2])["MixNodes"]
    assert {name: shown[name] for name in fields} == fields
    protocol, wire = site.connect(), WSConnection(ConnectionType.CLIENT)
    protocol.dataReceived(wire.send(Request(host="d", target="/ws")))
    transport = protocol.wrappedProtocol.transport.transport
    site.reactor.advance(0.1)
    assert site.ask("POST", "/api/metrics/mixes", json.dumps(metric).encode())[0] == 201
    site.reactor.advance(1)
    wire.receive_data(transport.value())
    lines = [line for event in wire.events() if isinstance(event, TextMessage) for line in event.data.splitlines()]
    assert [json.loads(line)["pubKey"] for line in lines if line] == [text]
    assert json.loads(site.ask("GET", "/api/metrics/mixes")[2])[0]["pubKey"] == text
    protocol.connectionLost(Failure(ConnectionDone()))
