"""What a client fetches: a topology once, and from then on what has changed in it, to the byte."""

import gzip
import json
import random
from typing import Any

import pytest
from nacl.signing import SigningKey

from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer

from nymtw.directory.config import DirectoryConfig, DirectorySection
from nymtw.directory.consensus.topology_store import DELTAS
from nymtw.directory.service import DirectoryService, make_directory
from nymtw.errors import DirectoryError, EncodingError
from nymtw.node.directories.http_directory import HTTPDirectory
from nymtw.topology.delta import apply_delta, make_delta
from nymtw.topology.document import NodeRecord, PublicClient, Topology, Trust, sign_topology, verify_topology
from nymtw.topology.presence import Heartbeat

START = 1_800_000_000.0
KEY = SigningKey(bytes([1]) * 32)
TRUST = Trust((bytes(KEY.verify_key),))


def node(number: int, version: int = 0) -> NodeRecord:
    return NodeRecord(
        role="mixnode",
        identity=number.to_bytes(32, "big"),
        host="127.0.0.1",
        port=1 + number,
        layer=1 + number % 3,
        sphinx_keys={1: bytes([version]) * 32},
    )


class Site:
    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        config = DirectoryConfig(directory=DirectorySection(id="one", refresh=2.0))
        self.directory = make_directory(self.reactor, KEY, config, wall_clock=self.wall)
        self.service = DirectoryService(self.reactor, self.directory, "127.0.0.1", 8080, wall_clock=self.wall)
        self.service.startService()
        [(_, self.factory, _, _)] = self.reactor.tcpServers
        self.asked: list[tuple[str, int, int]] = []  # path, code, bytes of the body

    def wall(self) -> float:
        return START + float(self.reactor.seconds())

    def announce(self, *records: NodeRecord) -> None:
        for record in records:
            stamp = int(self.wall() * 1e9)
            self.directory.registry.accept(Heartbeat(record, (), 0, stamp, "0.1"), {"pubKey": ""}, "127.0.0.1")

    def ask(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        from twisted.internet.error import ConnectionDone

        protocol = self.factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        protocol.dataReceived(f"GET {path} HTTP/1.1\r\nHost: d\r\n{more}\r\n".encode())
        head, _, body = transport.value().partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        protocol.connectionLost(Failure(ConnectionDone()))
        found = (
            int(lines[0].split()[1]),
            {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])},
            body,
        )
        self.asked.append((path, found[0], len(body)))
        return found


@pytest.fixture
def site() -> Any:
    site = Site()
    yield site
    site.service.stopService()


def test_who_has_it_is_told_so_and_who_takes_gzip_gets_it(site: Site) -> None:
    site.announce(*map(node, range(50)))
    code, headers, whole = site.ask("/api/v1/topology")
    assert (code, headers["content-type"]) == (200, "application/cbor")
    assert "content-encoding" not in headers
    code, packed_headers, packed = site.ask("/api/v1/topology", Accept_Encoding="br, gzip")
    assert (code, packed_headers["content-encoding"], gzip.decompress(packed)) == (200, "gzip", whole)
    assert len(packed) < len(whole)
    assert site.ask("/api/v1/topology", Accept_Encoding="gzip;q=0")[2] == whole
    code, _, body = site.ask("/api/v1/topology", If_None_Match=headers["etag"])
    assert (code, body) == (304, b"")
    site.reactor.advance(2)
    assert site.ask("/api/v1/topology", If_None_Match=headers["etag"])[0] == 200


def test_json_has_the_same_values(site: Site) -> None:
    site.announce(node(1), node(2))
    code, _, body = site.ask("/api/v1/topology?format=json")
    shown = json.loads(body)
    topology = site.directory.publisher.topology()
    assert code == 200
    assert shown["topology"]["serial"] == topology.serial
    assert [each["port"] for each in shown["topology"]["nodes"]] == [2, 3]
    assert len(shown["signatures"]) == 1
    assert site.ask("/api/v1/topology?format=xml")[0] == 400
    assert site.ask("/api/v1/topology?since=-1")[0] == 400


def test_a_delta_gives_the_next_document_to_the_byte(site: Site) -> None:
    seed = 5
    print("seed", seed)
    rng = random.Random(seed)
    site.announce(*map(node, range(100)))
    held, serial = site.directory.publisher.document(), site.directory.publisher.topology().serial
    for turn in range(8):
        site.reactor.advance(2)
        site.announce(
            *(node(n, turn if n % 17 == turn else 0) for n in range(turn, 100 + 3 * turn) if rng.random() > 0.02)
        )
        whole = site.ask("/api/v1/topology")[2]
        code, headers, delta = site.ask(f"/api/v1/topology?since={serial}")
        assert (code, headers["content-type"]) == (200, "application/vnd.nymtw.topology-delta+cbor")
        assert len(delta) < len(whole)
        held = apply_delta(held, delta)
        assert held == whole
        serial = verify_topology(held, TRUST, site.wall()).serial


def test_a_serial_that_is_not_kept_gives_the_whole(site: Site) -> None:
    site.announce(*map(node, range(20)))
    first = site.directory.publisher.topology().serial
    for _ in range(DELTAS + 1):
        site.reactor.advance(2)
        site.announce(*map(node, range(20)))
        site.directory.publisher.document()
    for since in (first, 1, 2**62):
        code, headers, body = site.ask(f"/api/v1/topology?since={since}")
        assert (code, headers["content-type"], body) == (200, "application/cbor", site.directory.publisher.document())


def test_a_delta_that_does_not_fit_is_refused() -> None:
    def topology(serial: int, *nodes: NodeRecord, **more: Any) -> Topology:
        return Topology(
            serial=serial, network=TRUST.network, published=0, valid_until=0, refresh=1.0, epoch=1, epoch_seconds=60,
            nodes=nodes, **more,
        )  # fmt: skip

    before, after = topology(1, node(1), node(2)), topology(2, node(2, 1), node(3))
    listed = topology(3, node(2, 1), node(3), clients=(PublicClient(address="a", provider=bytes(32)),))
    signed = [sign_topology(each, [KEY]) for each in (before, after, listed)]
    delta = make_delta(before, after, signed[1])
    assert apply_delta(signed[0], delta) == signed[1]
    assert apply_delta(signed[1], make_delta(after, listed, signed[2])) == signed[2]
    for base in (signed[1], signed[2], b"", b"\xa0", delta):
        with pytest.raises(EncodingError):
            apply_delta(base, delta)
    other = sign_topology(topology(1, node(1), node(2, 9), node(7)), [KEY])
    with pytest.raises(EncodingError, match="does not lead"):
        apply_delta(other, delta)
    for place in range(0, len(delta), 7):
        broken = delta[:place] + bytes([delta[place] ^ 1]) + delta[place + 1 :]
        try:
            result = apply_delta(signed[0], broken)
        except EncodingError:
            continue
        # A signature may have been hit: the document is the one that was meant.
        assert len(result) == len(signed[1])


@implementer(IAgent)
class Wire:
    """An agent that asks the site in memory; `spoil` may change an answer."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.spoil: Any = lambda code, headers, body: (code, headers, body)

    def request(self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: Any = None) -> Any:
        sent = {} if headers is None else {k.decode(): v[0].decode() for k, v in headers.getAllRawHeaders()}
        path = uri.decode().split("8080", 1)[1]
        code, answered, body = self.spoil(*self.site.ask(path, **{k.replace("-", "_"): v for k, v in sent.items()}))

        class Response:
            def __init__(self) -> None:
                self.code = code
                self.headers = Headers({k: [v] for k, v in answered.items()})

            def deliverBody(self, protocol: Any) -> None:
                protocol.makeConnection(StringTransport())
                protocol.dataReceived(body)
                protocol.connectionLost(Failure(ResponseDone()))

        return succeed(Response())


def fetched(deferred: Deferred[bytes]) -> bytes:
    results: list[Any] = []
    deferred.addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return bytes(results[0])


def test_a_client_fetches_the_whole_once(site: Site) -> None:
    wire = Wire(site)
    client = HTTPDirectory(site.reactor, "http://127.0.0.1:8080", wire)
    site.announce(*map(node, range(200)))
    assert fetched(client.topology()) == site.directory.publisher.document()
    assert fetched(client.topology()) == site.directory.publisher.document()
    for turn in range(3):
        site.reactor.advance(2)
        site.announce(*map(node, range(200 + turn)))
        assert fetched(client.topology()) == site.directory.publisher.document()
    assert [code for _, code, _ in site.asked] == [200, 304, 200, 200, 200]
    assert all("since" in path for path, _, _ in site.asked[1:])
    assert max(size for _, _, size in site.asked[1:]) < site.asked[0][2] / 2


def test_a_client_survives_a_delta_that_lies_and_one_that_bursts(site: Site) -> None:
    wire = Wire(site)
    client = HTTPDirectory(site.reactor, "http://127.0.0.1:8080", wire)
    site.announce(*map(node, range(200)))
    fetched(client.topology())
    site.reactor.advance(2)
    site.announce(*map(node, range(201)))
    honest = wire.spoil

    def lie(code: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if "delta" in headers.get("content-type", ""):
            return code, {k: v for k, v in headers.items() if k != "content-encoding"}, b"\xa0"
        return code, headers, body

    wire.spoil = lie
    assert fetched(client.topology()) == site.directory.publisher.document()
    wire.spoil = lambda code, headers, body: (200, {"content-encoding": "gzip"}, gzip.compress(bytes(64 * 2**20)))
    with pytest.raises(DirectoryError, match="longer than allowed"):
        fetched(client.topology())
    wire.spoil = lambda code, headers, body: (200, {"content-encoding": "gzip"}, b"\x1f\x8bnothing")
    with pytest.raises(DirectoryError, match="damaged"):
        fetched(client.topology())
    wire.spoil = honest
    assert fetched(client.topology()) == site.directory.publisher.document()
