"""What Prometheus is shown: exact, complete, documented, and nothing that names anybody."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mixing_services import World
from prometheus_client.parser import text_string_to_metric_families

from twisted.internet.protocol import ClientFactory, Protocol

from nymtw.drop_reasons import DropReason
from nymtw.errors import ListenError
from nymtw.node.engine.mix_node import MixNode
from nymtw.provider.service import ProviderService
from nymtw.provider.services.adapter import COUNTS
from nymtw.provider.services.installed_plugins import find_implementations
from nymtw.testing.simulation import SimulatedNetwork

PORT = 9100
MANUAL = Path(__file__).parents[2] / "docs" / "operating.md"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, seed=50)
    yield made
    made.close()


class Asking(Protocol):
    """Sends one request and keeps what comes until the connection ends."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.factory.request)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.factory.answer += data  # type: ignore[union-attr]


class Question(ClientFactory):
    protocol = Asking

    def __init__(self, path: str) -> None:
        self.request = f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode()
        self.answer = b""


def ask(world: World, port: int, path: str = "/metrics") -> tuple[bytes, str]:
    """The status line and the body of the answer."""
    question = Question(path)
    world.network.host("prometheus").connectTCP("127.0.0.1", port, question)
    world.clock.advance(1.0)
    head, _, body = question.answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], body.decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values in the order of their labels) to value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def started(world: World, **given: Any) -> tuple[MixNode, int]:
    """A mixnode of layer 1 in a whole network, with figures."""
    node = world.mixnode("watched", 1, metrics_port=PORT, **given)
    world.network_of_four()
    return node, PORT


def test_the_figures_are_those_of_the_account(world: World) -> None:
    node, port = started(world)
    client = world.client(world.running[-1])  # type: ignore[arg-type]
    for _ in range(20):
        client.send(b"counted")
    world.clock.advance(5.0)
    client.connection.abort()
    status, text = ask(world, port)
    assert status == b"HTTP/1.0 200 OK"
    found = samples(text)
    counters = node.counters.snapshot()
    assert counters.received > 0
    assert found["nymtw_packets_received_total",] == counters.received
    assert found["nymtw_packets_forwarded_total",] == counters.forwarded
    assert found["nymtw_packets_delivered_total",] == counters.delivered
    assert {name[1] for name in found if name[0] == "nymtw_packets_dropped_total"} == {*DropReason}
    dropped = sum(value for name, value in found.items() if name[0] == "nymtw_packets_dropped_total")
    queued = sum(value for name, value in found.items() if name[0] == "nymtw_packets_queued")
    assert counters.received == counters.forwarded + counters.delivered + dropped + queued
    assert found["nymtw_replay_tags", "current"] == node.parts.guard.count(node.rotation.epoch or 0) > 0
    assert found["nymtw_links", "out"] == 1
    assert found["nymtw_announced",] == 1


def test_the_age_of_the_topology_grows_while_the_directory_is_away(world: World) -> None:
    node, port = started(world)
    world.directory.away = True
    world.clock.advance(600.0)
    found = samples(ask(world, port)[1])
    assert 600 < found["nymtw_topology_age_seconds",] < 610
    assert 2990 < found["nymtw_topology_valid_seconds",] < 3000
    assert found["nymtw_announced",] == 0
    assert found["nymtw_key_epoch",] == node.rotation.epoch


def test_before_the_first_topology_there_are_figures_too(world: World) -> None:
    world.directory.away = True
    world.mixnode("alone", 1, metrics_port=PORT)
    world.clock.advance(5.0)
    found = samples(ask(world, PORT)[1])
    assert found["nymtw_topology_age_seconds",] == found["nymtw_key_epoch",] == -1


def test_a_provider_counts_its_mailboxes_and_sessions(world: World) -> None:
    provider = world.network_of_four()
    provider.service_hosts[0].metrics.count("refusals", 3)
    assert samples(provider.metrics.text().decode())["nymtw_mailboxes",] == 0
    first, second = world.client(provider), world.client(provider)
    second.connection.abort()
    world.clock.advance(1.0)
    found = samples(provider.metrics.text().decode())
    assert (found["nymtw_mailboxes",], found["nymtw_client_sessions",]) == (2, 1)
    assert found["nymtw_implementation_total", "refusals", "store"] == 3
    first.connection.abort()


def test_a_service_shows_what_it_did_with_requests(seed: int) -> None:
    words = {"provider-1": ["--impl=store", "--impl=echo"]}
    with SimulatedNetwork(
        seed, mixnodes_per_layer=1, providers=1, clients=["alice"], refresh=5.0, implementations=words
    ) as network:
        node = network.nodes["provider-1"]

        def metrics() -> dict[tuple[str, ...], float]:
            return samples(node.metrics.text().decode())

        counts = {names[1]: value for names, value in metrics().items() if names[0] == "nymtw_implementation_total"}
        assert counts == dict.fromkeys(COUNTS, 0), "a count that appears with its first event hides that event"
        alice = network.clients["alice"]
        alice.send(node.service_hosts[1].address, b"to be echoed", surbs=20)
        network.run_until(lambda: b"to be echoed" in alice.received, 60)
        found = metrics()
        for name, value in {"requests": 1, "answered": 1, "failed": 0, "blocked": 0}.items():
            assert found["nymtw_implementation_total", name, "echo"] == value
        assert found["nymtw_service_packets_total", "echo"] >= 1
        assert found["nymtw_service_packets_again_total", "echo"] == 0
        assert found["nymtw_service_requests", "echo", "running"] == 0
        network.run(10)
        assert metrics()["nymtw_service_bytes_under_way", "echo"] == 0


def test_nothing_in_the_figures_names_anybody(world: World) -> None:
    _, port = started(world)
    client = world.client(world.running[-1])  # type: ignore[arg-type]
    client.send(b"hidden")
    world.clock.advance(3.0)
    text = ask(world, port)[1] + world.running[-1].metrics.text().decode()
    client.connection.abort()
    labels = set(re.findall(r"[{,]([a-z_]+)=\"", text))
    assert labels <= {"reason", "place", "direction", "key", "kind", "implementation", "count"}
    assert "127.0.0.1" not in text
    assert client.own.mailbox.hex() not in text
    assert client.address() not in text


def test_everything_else_is_not_there(world: World) -> None:
    _, port = started(world)
    assert ask(world, port, "/")[0] == b"HTTP/1.0 404 Not Found"
    assert ask(world, port, "/metrics/x")[0] == b"HTTP/1.0 404 Not Found"


def test_without_a_port_nobody_listens(world: World) -> None:
    node = world.mixnode("silent", 1)
    assert node.exporter is None


def test_a_taken_port_is_told(world: World) -> None:
    world.mixnode("one", 1, metrics_port=PORT)
    with pytest.raises(ListenError, match=rf"cannot listen on 127\.0\.0\.1:{PORT}"):
        world.mixnode("two", 1, metrics_port=PORT)
    refused = world.running.pop()
    world.clock.wait_for(refused.stopService(), 10.0)


def test_the_manual_lists_every_figure_and_no_other(world: World) -> None:
    mixnode, _ = started(world)
    provider = world.running[-1]
    assert isinstance(provider, ProviderService)
    provider.service_hosts[0].metrics.count("something")
    service = world.provider(find_implementations().choose("echo"), name="service")
    names = {
        sample.name
        for node in (mixnode, provider, service)
        for family in text_string_to_metric_families(node.metrics.text().decode())
        for sample in family.samples
        if not sample.name.startswith("process_")
    }
    listed = set(re.findall(r"^\| `(nymtw_[a-z_]+)", MANUAL.read_text(), re.MULTILINE))
    assert listed == names
