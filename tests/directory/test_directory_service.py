"""The directory as a service: its REST API over a transport in memory, its home, its command line."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from heartbeats import signed_heartbeat
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python import usage

from nymtw.directory import tap
from nymtw.directory.admission import Admission
from nymtw.directory.config import DirectoryConfig, DirectorySection, RecommendedSection, recommended
from nymtw.directory.profiles import PROFILES
from nymtw.directory.service import DirectoryService, is_own_address, load_directory_config, make_directory
from nymtw.errors import ConfigError, KeyFileError
from nymtw.node.home import NodeHome
from nymtw.node.keys import KeyKind, load_public
from nymtw.topology.document import Recommended, Trust, verify_topology
from nymtw.topology.presence import make_metric

NODE = SigningKey(bytes([3]) * 32)


@pytest.mark.parametrize(
    ("host", "policy", "loud"),
    [("0.0.0.0", "open", True), ("127.0.0.1", "open", False), ("0.0.0.0", "allow-list", False)],
)
def test_an_open_directory_that_strangers_reach_says_so_loudly(
    host: str, policy: str, loud: bool, tmp_path: Path
) -> None:
    said: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_level") is LogLevel.critical:
            said.append(formatEvent(event))

    path = tmp_path / "admission.toml"
    path.write_text(f'[admission]\npolicy = "{policy}"\n')
    reactor = MemoryReactorClock()
    directory = make_directory(
        reactor, SigningKey(bytes([1]) * 32), DirectoryConfig(directory=DirectorySection(id="one"))
    )
    service = DirectoryService(reactor, directory, host, 8080, admission=Admission(path))
    globalLogPublisher.addObserver(observe)
    try:
        service.startService()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert [text.startswith("THIS DIRECTORY IS OPEN") for text in said] == [True] * loud


class Site:
    """A running directory, asked over its factory."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.identity = SigningKey(bytes([1]) * 32)
        config = DirectoryConfig(directory=DirectorySection(id="one"))
        directory = make_directory(self.reactor, self.identity, config, wall_clock=self.wall_clock)
        self.service = DirectoryService(self.reactor, directory, "127.0.0.1", 8080)
        self.service.startService()
        [(_, self.factory, _, _)] = self.reactor.tcpServers

    def wall_clock(self) -> float:
        return 1_800_000_000.0 + float(self.reactor.seconds())

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str, bytes]:
        protocol = self.factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        head = f"{method} {path} HTTP/1.1\r\nHost: d\r\nContent-Length: {len(body)}\r\n\r\n"
        protocol.dataReceived(head.encode() + body)
        answer, _, content = transport.value().partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in answer.decode().split("\r\n")[1:])
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        protocol.connectionLost(Failure(ConnectionDone()))
        return int(answer.split()[1]), headers["Content-Type"], content

    def json(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        code, kind, content = self.ask(method, path, b"" if body is None else json.dumps(body).encode())
        assert kind == "application/json"
        return code, json.loads(content)

    def heartbeat(self, **changes: Any) -> dict[str, Any]:
        values: dict[str, Any] = {
            "host": "192.168.1.1",  # StringTransport's peer
            "port": 1789,
            "keys": {1: bytes([8]) * 32},
            "layer": 2,
            "timestamp": int(self.wall_clock() * 1e9),
            "signing_key": NODE,
            **changes,
        }
        return signed_heartbeat("mixnode", **values)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.service.stopService()


def test_healthcheck(site: Site) -> None:
    assert site.json("GET", "/api/healthcheck") == (200, {"ok": True})


def test_a_node_announces_itself_and_is_seen_everywhere(site: Site) -> None:
    post = site.heartbeat()
    assert site.json("POST", "/api/presence/mixnodes", post) == (201, {"ok": True})
    code, lists = site.json("GET", "/api/presence/topology")
    assert code == 200
    assert lists == {
        "CocoNodes": [],
        "MixNodes": [{**post, "lastSeen": int(site.wall_clock() * 1e9)}],
        "MixProviderNodes": [],
        "GatewayNodes": [],
    }
    assert site.json("GET", "/api/presence/topology?case=lower")[1]["mixNodes"] == lists["MixNodes"]
    code, kind, document = site.ask("GET", "/api/v1/topology")
    assert (code, kind) == (200, "application/cbor")
    topology = verify_topology(document, Trust((bytes(site.identity.verify_key),)), site.wall_clock())
    assert [node.identity for node in topology.nodes] == [bytes(NODE.verify_key)]
    assert topology.nodes[0].host == "192.168.1.1"


def test_metrics_come_back_when_their_second_is_over(site: Site) -> None:
    site.json("POST", "/api/presence/mixnodes", site.heartbeat())
    stamp = int(site.wall_clock() * 1e9)
    metric = make_metric(public_key=bytes([8]) * 32, sent=5, received=6, timestamp=stamp, signing_key=NODE)
    assert site.json("POST", "/api/metrics/mixes", metric) == (201, {"ok": True})
    assert site.json("GET", "/api/metrics/mixes") == (200, [])
    site.reactor.advance(1)
    assert site.json("GET", "/api/metrics/mixes") == (
        200,
        [{"pubKey": metric["pubKey"], "sent": 5, "received": 6, "timestamp": stamp}],
    )


def test_prometheus_has_the_directorys_own_figures(site: Site) -> None:
    site.json("POST", "/api/presence/mixnodes", site.heartbeat())
    site.json("POST", "/api/presence/mixnodes", {})
    code, kind, content = site.ask("GET", "/metrics")
    lines = content.decode().splitlines()
    assert code == 200
    assert kind.startswith("text/plain; version=0.0.4")
    assert 'nymtw_directory_nodes{layer="2",role="mixnode"} 1.0' in lines
    assert 'nymtw_directory_nodes{layer="1",role="mixnode"} 0.0' in lines
    assert 'nymtw_directory_posts_total{path="mixnodes",result="accepted"} 1.0' in lines
    assert 'nymtw_directory_posts_total{path="mixnodes",result="refused"} 1.0' in lines
    assert 'nymtw_directory_answers_total{code="201",method="POST",path="/api/presence/mixnodes"} 1.0' in lines
    size = len(site.ask("GET", "/api/v1/topology")[2])
    assert f"nymtw_directory_topology_bytes {float(size)}" in lines


@pytest.mark.parametrize("path", ["/nothing", "/ws/", "/API/healthcheck", "/..", "//"])
def test_what_is_not_there_is_absent(site: Site, path: str) -> None:
    assert site.json("GET", path)[0] == 404


@pytest.mark.parametrize("path", ["/api/presence/mixnodes", "/api/presence/gateways", "/api/metrics/mixes"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"1" + b"0" * 60_000,
        b'{"timestamp": 1e999}',
        b'{"timestamp": 123456789012345678901234567890}',
        b'{"identityKey": "<script>alert(1)</script>"}',
        b'{"signature": null, "identityKey": {}}',
    ],
)
def test_bad_json_and_wrong_types_are_refused_with_a_reason(site: Site, path: str, body: bytes) -> None:
    code, kind, content = site.ask("POST", path, body)
    assert (code, kind) == (400, "application/json")
    assert set(json.loads(content)) == {"error"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layer", 4),
        ("layer", "2"),
        ("timestamp", -1),
        ("timestamp", 2**64),
        ("host", "x" * 300),
        ("host", "192.168.1.1:0"),
        ("host", "<b>:1"),
        ("pubKey", "A" * 43),
        ("unknown", 1),
        ("registeredClients", [{}]),
        ("signature", "0" * 128),
        ("keyEpoch", 2**40),
        ("version", ["x"]),
    ],
)
def test_a_heartbeat_with_one_wrong_field_is_refused(site: Site, field: str, value: Any) -> None:
    code, answer = site.json("POST", "/api/presence/mixnodes", {**site.heartbeat(), field: value})
    assert code == 400
    assert answer["error"]
    assert len(site.service.directory.registry) == 0


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(body=ANY_JSON)
def test_any_json_is_answered(body: Any) -> None:
    site = Site()
    for path in ("/api/presence/mixproviders", "/api/metrics/mixes"):
        assert site.json("POST", path, body)[0] == 400
    site.service.stopService()


def test_a_changed_byte_anywhere_is_refused(site: Site) -> None:
    seed = 11
    print("seed", seed)
    rng = random.Random(seed)
    post = json.dumps(site.heartbeat()).encode()
    for _ in range(100):
        place = rng.randrange(len(post))
        broken = post[:place] + bytes([post[place] ^ (1 << rng.randrange(8))]) + post[place + 1 :]
        if _same(broken, post):
            continue
        assert site.ask("POST", "/api/presence/mixnodes", broken)[0] == 400


def _same(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def home(tmp_path: Path) -> NodeHome:
    return NodeHome("directory", "one", tmp_path)


def start(tmp_path: Path, **given_: Any) -> tuple[DirectoryService, NodeHome]:
    place = home(tmp_path)
    config = load_directory_config(place, {"directory": {"id": "one", **given_}})
    return DirectoryService.from_config(MemoryReactorClock(), place, config), place


def test_a_home_keeps_key_configuration_and_the_last_topology(tmp_path: Path) -> None:
    first, place = start(tmp_path, port=9999)
    document = first.directory.publisher.document()
    key = load_public(place.config / "identity_public_key.pem", KeyKind.IDENTITY)
    assert first.directory.publisher.trust.directories == (key,)
    assert (place.data / "topology.cbor").read_bytes() == document
    place.unlock()
    second, place = start(tmp_path)
    assert second.directory.publisher.document() == document
    assert second.url == "http://127.0.0.1:9999"
    place.unlock()


def test_a_disk_that_is_full_does_not_end_the_directory(tmp_path: Path) -> None:
    service, place = start(tmp_path)
    place.data.rmdir()
    assert service.directory.publisher.document()
    place.unlock()


def test_two_directories_cannot_have_one_home(tmp_path: Path) -> None:
    _, place = start(tmp_path)
    with pytest.raises(ConfigError, match="another process"):
        start(tmp_path)
    place.unlock()


def test_a_wrong_key_file_is_named(tmp_path: Path) -> None:
    _, place = start(tmp_path)
    place.unlock()
    (place.config / "identity_private_key.pem").chmod(0o644)
    with pytest.raises(KeyFileError, match=r"identity_private_key\.pem.*0644"):
        start(tmp_path)


def test_the_defaults_of_the_file_are_those_of_the_document() -> None:
    assert recommended(RecommendedSection()) == Recommended()


def test_the_command_line_ends_in_the_topology(tmp_path: Path) -> None:
    options = tap.Options()
    options.parseOptions(
        ["--id=x", "--refresh=2", "--message-sending-rate=100", "--epoch-seconds=600", "--validity=90", "--trust-hosts"]
    )
    place = NodeHome("directory", options["id"], tmp_path)
    config = load_directory_config(place, options.sections())
    assert config.directory.trust_hosts
    topology = DirectoryService.from_config(MemoryReactorClock(), place, config).directory.publisher.topology()
    assert (topology.refresh, topology.epoch_seconds, topology.recommended.message_sending_rate) == (2.0, 600, 100.0)
    assert topology.valid_until - topology.published == 90 * 10**9
    place.unlock()


def test_a_profile_is_values_that_others_may_replace() -> None:
    options = tap.Options()
    options.parseOptions(["--profile=safer", "--line-headroom=2"])
    given = options.sections()["recommended"]
    assert given == {**PROFILES["safer"], "line_headroom": 2.0}
    for values in PROFILES.values():
        assert values.keys() <= set(RecommendedSection.__struct_fields__)
    with pytest.raises(usage.UsageError):
        tap.Options().parseOptions(["--profile=best"])


def test_every_option_is_in_the_file_and_the_other_way_round() -> None:
    names = {name.replace("-", "_") for name, *_ in [*tap.Options.optParameters, *tap.Options.optFlags]}
    names -= {"profile"}  # stands for values of others
    names |= {"id", "host", "port", "peers"}  # the last is given as --peer, again for each
    assert names == {*DirectorySection.__struct_fields__, *RecommendedSection.__struct_fields__}


@pytest.mark.parametrize("words", [["--refresh=x"], ["--port=x"], ["--capacity=1.5"], ["--nope"], ["--fetch-slots="]])
def test_an_option_of_the_wrong_kind_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(usage.UsageError):
        tap.Options().parseOptions(words)


@pytest.mark.parametrize("given_", [{"refresh": 0.0}, {"epoch_seconds": 1}, {"capacity": 0}, {"validity": -1.0}])
def test_a_value_out_of_range_is_named(tmp_path: Path, given_: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(given_)).replace('_', '-')}"):
        load_directory_config(home(tmp_path), {"directory": {"id": "one", **given_}})


def test_own_addresses() -> None:
    assert is_own_address("127.0.0.1")
    assert not is_own_address("192.0.2.123")
    assert not is_own_address("not an address")


def test_ten_thousand_nodes_are_a_document_that_can_be_read() -> None:
    """A bound on size alone: 10,000 nodes stay below the 8 MiB that a reader takes."""
    reactor = MemoryReactorClock()
    config = DirectoryConfig(directory=DirectorySection(id="one"))
    directory = make_directory(reactor, SigningKey(bytes([1]) * 32), config, wall_clock=time.time)
    from nymtw.topology.document import NodeRecord
    from nymtw.topology.presence import Heartbeat

    for number in range(10_000):
        record = NodeRecord(
            role="mixnode",
            identity=number.to_bytes(32, "big"),
            host="127.0.0.1",
            port=1 + number,
            layer=1 + number % 3,
            sphinx_keys={20000: number.to_bytes(32, "little"), 20001: number.to_bytes(32, "big")},
        )
        directory.registry.accept(Heartbeat(record, (), 0, 1, "0.1"), {}, "127.0.0.1")
    document = directory.publisher.document()
    assert len(document) < 8 * 2**20
    topology = verify_topology(document, directory.publisher.trust, time.time())
    assert len(topology.nodes) == 10_000
