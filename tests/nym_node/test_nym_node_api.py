"""What a node tells over HTTP: every answer as it is described, nothing of any peer, nothing to be changed."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from automatic_roles import AnyNetwork

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from nymtw.drop_reasons import DropReason
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.nym_node.api import SCHEMAS, NodeApi
from nymtw.nym_node.config import NodeSection
from nymtw.nym_node.service import MOST_CONNECTIONS
from nymtw.nym_node.statistics import RESOLUTION, Statistics
from nymtw.testing.clock import FakeClock
from nymtw.web.http import RoutesResource, bounded_site

SECTION = NodeSection(id="n", directory_key="", mode="auto", moniker="here", security_contact="me@example.org")


class Api:
    """The API of one node, asked over a transport in memory."""

    def __init__(self, node: Any, clock: Any) -> None:
        self.statistics = Statistics(clock, clock.wall_clock, node.counters.snapshot)
        self.routes = NodeApi(node, "auto", SECTION, self.statistics).routes()
        resource: Resource = RoutesResource(self.routes, lambda method, path, code: None)
        self.factory = bounded_site(resource, clock, most=MOST_CONNECTIONS)

    def connect(self) -> tuple[Any, StringTransport]:
        address = IPv4Address("TCP", "192.0.2.7", 4000)
        protocol: Any = self.factory.buildProtocol(address)
        transport = StringTransport(peerAddress=address)
        transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]
        if protocol is not None:
            protocol.makeConnection(transport)
        return protocol, transport

    def ask(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        protocol, transport = self.connect()
        protocol.dataReceived(f"{method} {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n".encode())
        protocol.connectionLost(Failure(ConnectionDone()))
        head, _, body = transport.value().partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), body

    def json(self, path: str) -> Any:
        code, headers, body = self.ask(f"/api/v1/{path}")
        assert headers["content-type"] == "application/json"
        assert code in (200, 503)
        return json.loads(body)


@pytest.fixture
def world() -> Iterator[AnyNetwork]:
    with AnyNetwork("api", 5) as network:
        network.run(10)
        yield network


@pytest.fixture
def api(world: AnyNetwork) -> Iterator[Api]:
    found = Api(world.services["node-1"], world.clock)
    found.factory.doStart()
    yield found
    found.factory.doStop()


def test_roles_are_those_of_the_topology_in_the_words_that_are_known(world: AnyNetwork, api: Api) -> None:
    for name, place in world.places().items():
        roles = Api(world.services[name], world.clock).json("roles")
        assert roles["place"] == place
        assert roles["mixnode_enabled"] == place.startswith("mixnode")
        assert roles["gateway_enabled"] == place.endswith("gateway")
        assert (roles["network_requester_enabled"], roles["ip_packet_router_enabled"]) == (False, False)
        assert roles["mode"] == "auto"


def test_the_next_place_is_told_as_soon_as_it_is_known(world: AnyNetwork) -> None:
    name = next(name for name, place in world.places().items() if place == "mixnode-1")
    service = world.services[name]
    service.takes = ("entry-gateway",)
    epoch = world.topology.epoch
    world.run_until(lambda: service.watch.current.find(service.core.own.identity).place(epoch + 1) != "mixnode-1", 120)
    roles = Api(service, world.clock).json("roles")
    assert (roles["place"], roles["next_place"]) == ("mixnode-1", "entry-gateway")


def test_health_says_whether_the_node_takes_part(world: AnyNetwork, api: Api) -> None:
    code, _, body = api.ask("/api/v1/health")
    assert (code, json.loads(body)["status"]) == (200, "up")
    world.directory_away = True
    world.run(10)
    code, _, body = api.ask("/api/v1/health")
    assert (code, json.loads(body)["status"], json.loads(body)["announced"]) == (503, "degraded", False)
    world.directory_away = False


def test_every_answer_is_as_it_is_described(api: Api) -> None:
    described = api.json("swagger/doc.json")
    assert described["info"]["title"] == "A nymtw node"
    for path, item in described["paths"].items():
        assert set(item) == {"get"}
        code, _, body = api.ask(path)
        schema = item["get"]["responses"][str(code)]["content"]["application/json"]["schema"]["$ref"]
        shape = SCHEMAS[schema.rpartition("/")[2]]
        assert set(json.loads(body)) == set(shape["required"]), path
    operations = {route.path for route in api.routes if route.operation}
    assert set(described["paths"]) == operations
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert references <= set(described["components"]["schemas"])


def test_what_the_operator_says_is_told(api: Api) -> None:
    assert api.json("description") == {
        "moniker": "here",
        "website": "",
        "security_contact": "me@example.org",
        "details": "",
    }
    assert api.json("build-information")["binary_name"] == "nym-node"
    assert api.json("auxiliary-details") == {"location": ""}


def test_packets_are_told_as_sums_of_whole_minutes() -> None:
    clock, counters = FakeClock(), PacketCounters()
    statistics = Statistics(clock, clock.wall_clock, counters.snapshot)
    counters.received(10)
    statistics.startService()
    counters.received(7)
    counters.forwarded(9)
    counters.dropped(DropReason.REPLAYED, 2)
    assert statistics.mixing()["received_since_startup"] == 10
    clock.advance(RESOLUTION - 0.1)
    assert statistics.mixing()["received_since_startup"] == 10
    clock.advance(0.1)
    told = statistics.mixing()
    assert (told["received_since_startup"], told["received_since_last_update"]) == (17, 7)
    assert (told["sent_since_startup"], told["dropped_since_last_update"]) == (9, 2)
    assert told["update_time"] > told["previous_update_time"]
    packets = statistics.packets()
    assert packets["dropped"] == {"replayed": 2}
    assert packets["received"] == packets["forwarded"] + packets["delivered"] + packets["queued"] + 2
    statistics.stopService()
    assert not clock.getDelayedCalls()


def test_no_answer_names_a_peer_or_a_client(world: AnyNetwork) -> None:
    door = world.gateways()[0]
    world.join("alice", door)
    world.run(5)
    api = Api(world.services[door], world.clock)
    api.statistics.startService()
    mailbox = world.clients["alice"].address
    peers = [node.identity for node in world.topology.nodes if node.identity != world.services[door].core.own.identity]
    from nymtw.encoding import key_text

    for route in api.routes:
        _, _, body = api.ask(route.path)
        for identity in peers:
            assert key_text(identity).encode() not in body
        assert mailbox.encode(world.trust.network).encode() not in body
    api.statistics.stopService()


NOTHING_ELSE = [
    ("GET", "/api/v1/nothing", 404),
    ("GET", "/api/v2/roles", 404),
    ("GET", "/metrics", 404),
    ("POST", "/api/v1/roles", 405),
    ("PUT", "/api/v1/description", 405),
    ("DELETE", "/api/v1/health", 405),
    ("HEAD", "/api/v1/roles", 200),
    ("GET", "/", 308),
    ("GET", "/api/v1/swagger", 308),
    ("GET", "/api/v1/swagger/index.html", 200),
    ("GET", "/api/v1/swagger/swagger-ui-bundle.js", 200),
]


def test_there_is_nothing_else_and_nothing_to_be_changed(api: Api) -> None:
    for method, path, code in NOTHING_ELSE:
        answered, headers, body = api.ask(path, method)
        assert (method, path, answered) == (method, path, code)
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
        if code == 405:
            assert headers["allow"] == "get"
        if code == 308:
            assert headers["location"] == "/api/v1/swagger/index.html"
        if code >= 400:
            assert "error" in json.loads(body)


def test_the_page_loads_nothing_from_elsewhere(api: Api) -> None:
    _, headers, body = api.ask("/api/v1/swagger/index.html")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert not re.findall(rb"(?:src|href)=\"(?:https?:)?//", body)
    for name in re.findall(rb"(?:src|href)=\"([a-z.-]+)\"", body):
        assert api.ask(f"/api/v1/swagger/{name.decode()}")[0] == 200


def test_slow_and_many_clients_take_no_more_than_their_share(world: AnyNetwork, api: Api) -> None:
    slow = [api.connect() for _ in range(MOST_CONNECTIONS)]
    for protocol, _ in slow:
        protocol.dataReceived(b"GET /api/v1/ro")
    # A newcomer gets the place of the one that has been idle for longest.
    slow.append(api.connect())
    assert slow[-1][0] is not None
    assert [transport.disconnecting for _, transport in slow] == [True, *[False] * MOST_CONNECTIONS]
    world.run(61)
    assert all(transport.disconnecting for _, transport in slow)
    for protocol, _ in slow:
        protocol.connectionLost(Failure(ConnectionDone()))


def test_a_long_request_is_refused(api: Api) -> None:
    protocol, transport = api.connect()
    protocol.dataReceived(b"GET /api/v1/roles HTTP/1.1\r\nHost: n\r\nContent-Length: 1000000\r\n\r\n")
    assert b" 413 " in transport.value()
    protocol.connectionLost(Failure(ConnectionDone()))
