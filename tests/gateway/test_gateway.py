"""A gateway in a whole network: mail is pushed and kept, clients send what they may, and their line tells nothing."""

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from gateway_networks import GatewayWorld, Pushed

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed

from nymtw.drop_reasons import DropReason
from nymtw.errors import PluginError, RegistrationRefused
from nymtw.gateway.rates import downlink_rate
from nymtw.gateway.service import GatewayService
from nymtw.inspection.probe import probe
from nymtw.link.control import SLOT_LENGTH
from nymtw.link.downlink import Downlink
from nymtw.link.frames import HEADER_LENGTH
from nymtw.message.fragments import FRAGMENT_LENGTH
from nymtw.message.packets import build_data_packet
from nymtw.message.sealing import unseal
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.routes import UniformRoutes
from nymtw.provider.admission import BURST, MARGIN, OpenAdmission, client_rate
from nymtw.provider.services.installed_plugins import find_implementations
from nymtw.testing.clock import FakeClock
from nymtw.testing.contracts import CredentialVerifierContract
from nymtw.testing.security import MemorySecurity
from nymtw.topology.address import Address
from nymtw.topology.document import GATEWAY, MIXNODE, Recommended, Topology

pytestmark = pytest.mark.long

RECOMMENDED = Recommended()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GatewayWorld]:
    made = GatewayWorld(tmp_path, seed=7)
    yield made
    made.close()


def drops(world: GatewayWorld) -> dict[DropReason, int]:
    found: dict[DropReason, int] = {}
    for node in world.running:
        for reason, count in node.counters.snapshot().dropped.items():
            found[reason] = found.get(reason, 0) + count
    return found


def test_a_gateway_stands_in_the_topology_and_packets_go_through_it_in_both_directions(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway()
    assert world.directory.paths == {"mixnodes", "gateways"}
    (record,) = world.directory.newest().gateways()
    assert record.role == GATEWAY
    assert gateway.client_listener is not None
    assert (record.port, record.client_port) == (gateway.listener.port, gateway.client_listener.port)
    client = Pushed(world, gateway, "alice")
    acks = [client.send(b"%d" % number) for number in range(20)]
    world.run_exactly(5.0)
    assert sorted(client.texts()) == sorted(b"%d" % number for number in range(20))
    assert sorted(client.acks()) == sorted(acks)
    assert drops(world) == {}
    world.clock.advance(10.0)
    assert world.directory.numbers[record.identity] == 1
    client.connection.abort()


def test_clients_of_a_gateway_and_of_a_provider_write_to_each_other(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway()
    provider = world.provider()
    world.clock.advance(10.0)
    alice, bob = Pushed(world, gateway, "alice"), world.client(provider)
    ack = _send(alice, bob.own, b"to the provider")
    _send(bob, alice.own, b"to the gateway")
    world.clock.advance(3.0)
    assert alice.texts() == [b"to the gateway"]
    assert alice.acks() == [ack]
    assert {kind: len(items) for kind, items in bob.pull().items()} == {1: 1, 2: 1}
    for client in (alice, bob):
        client.connection.abort()


def _send(client: Any, to: Address, text: bytes) -> bytes:
    """Send one packet to another client; returns what its ack will say."""
    world = client.world
    out = build_data_packet(
        world.directory.newest(),
        client.own,
        to,
        text.ljust(FRAGMENT_LENGTH),
        UniformRoutes(),
        ExponentialDelays(0.05),
        world.random,
    )
    assert client.connection.submit(out.first_hop, out.epoch, out.packet)
    return out.ack_id


def test_mail_outlives_a_restart_of_the_gateway_and_nothing_confirmed_comes_twice(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway()
    client = Pushed(world, gateway, "alice")
    for number in range(10):
        client.send(b"before %d" % number)
    world.clock.advance(5.0)
    client.confirming = False
    for number in range(10):
        client.send(b"not confirmed %d" % number)
    world.clock.advance(5.0)
    assert len(client.texts()) == 20
    first = list(client.items)
    client.connection.abort()
    for number in range(5):
        other = Pushed(world, gateway, f"other {number}")
        _send(other, client.own, b"away %d" % number)
        world.clock.advance(2.0)
        other.connection.abort()
    world.stop(gateway)
    again = world.gateway()
    world.clock.advance(10.0)
    client.provider = world.directory.nodes[bytes(again.parts.identity.verify_key)]
    client.items, client.confirming = [], True
    client.again()
    world.clock.advance(5.0)
    texts = client.texts()
    assert sorted(texts) == sorted(
        [b"not confirmed %d" % number for number in range(10)] + [b"away %d" % number for number in range(5)]
    )
    confirmed = {item.number for item in first if item.kind == 1 and b"before" in _open(client, item)}
    assert len(confirmed) == 10
    assert not confirmed & {item.number for item in client.items}
    client.items = []
    client.again()
    world.clock.advance(5.0)
    assert client.items == []
    client.connection.abort()


def _open(client: Pushed, item: Any) -> bytes:
    return unseal(item.content, client.private_key)


def test_a_gateway_that_is_killed_loses_nothing_that_was_acknowledged(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway(client_port=9001)
    alice, bob = Pushed(world, gateway, "alice"), Pushed(world, gateway, "bob")
    alice.connection.abort()
    acks = {}
    for number in range(50):
        acks[_send(bob, alice.own, b"%d" % number)] = b"%d" % number
        world.clock.advance(0.002)
    world.clock.advance_until(lambda: len(bob.acks()) > 20, 10.0)
    acknowledged = [acks[ack] for ack in bob.acks()]
    world.running.remove(gateway)
    world.network.kill("g")
    gateway.parts.home.unlock()
    again = world.gateway(client_port=9001)
    world.clock.advance(20.0)
    alice.provider = world.directory.nodes[bytes(again.parts.identity.verify_key)]
    alice.again()
    world.clock.advance(10.0)
    assert set(acknowledged) <= set(alice.texts())
    assert len(alice.texts()) == len(set(alice.texts()))
    alice.connection.abort()


def test_rates_that_follow_from_the_topology() -> None:
    recommended = Recommended(
        message_sending_rate=20.0, loop_cover_traffic_rate=5.0, drop_cover_traffic_rate=3.0, average_packet_delay=0.05
    )
    assert client_rate(recommended) == pytest.approx(1.1 * 28)
    assert downlink_rate(recommended) == pytest.approx(2 * 28 + 20)
    silent = Recommended(message_sending_rate=0, loop_cover_traffic_rate=0, drop_cover_traffic_rate=0)
    assert downlink_rate(silent) == 1.0  # 0 would mean: at once


def test_what_is_too_much_is_dropped_and_counted_and_the_client_stays(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway()
    greedy, modest = Pushed(world, gateway, "greedy"), Pushed(world, gateway, "modest")
    world.clock.advance(10.0)
    allowed = BURST + 10 * client_rate(RECOMMENDED)
    for _ in range(100):
        for _ in range(6):
            greedy.send(b"too much")
        modest.send(b"fair")
        world.clock.advance(0.1)
    world.run_exactly(10.0)
    found = drops(world)
    assert found.keys() == {DropReason.OVER_ALLOWANCE}
    assert 600 - found[DropReason.OVER_ALLOWANCE] == pytest.approx(allowed, abs=5)
    assert len(modest.texts()) == 100
    assert greedy.connection.up
    exported = gateway.metrics.text().decode()
    assert (
        f'nymtw_packets_dropped_total{{reason="over-allowance"}} {float(found[DropReason.OVER_ALLOWANCE])}' in exported
    )
    for client in (greedy, modest):
        client.connection.abort()


def test_logging_in_again_fills_no_bucket(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway(client_rate=1.0)
    client = Pushed(world, gateway, "alice")
    for _ in range(5):
        for _ in range(100):
            client.send(b"x")
            world.clock.advance(0.01)
        client.connection.abort()
        client.again()
    world.clock.advance(5.0)
    assert drops(world) == {DropReason.OVER_ALLOWANCE: pytest.approx(500 - BURST - 5, abs=5)}
    client.connection.abort()


def test_a_poisson_stream_at_the_recommended_rates_is_never_cut() -> None:
    class Clock:
        now = 0.0

        def seconds(self) -> float:
            return self.now

    clock, rng = Clock(), Random(3)
    print("seed", 3)
    admission = OpenAdmission(clock)  # type: ignore[arg-type]
    bucket = admission.verify(b"m" * 32, b"")
    for _ in range(1_000_000):
        clock.now += rng.expovariate(admission.rate / MARGIN)
        assert bucket.take() is None


class TestOpenAdmission(CredentialVerifierContract):
    def make_verifier(self, clock: FakeClock) -> OpenAdmission:
        return OpenAdmission(clock)


def test_buckets_that_are_like_new_are_forgotten() -> None:
    clock = FakeClock()
    admission = OpenAdmission(clock)
    for number in range(5000):
        admission.verify(number.to_bytes(32, "big"), b"").take()
        clock.advance(0.01)
    assert admission.remembered < 1100


def test_a_client_is_listed_at_a_gateway_if_it_asks(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway()
    client = Pushed(world, gateway, "alice")
    client.connection.abort()
    client.connection = client.connect()
    world.clock.wait_for(client.connection.login(client.token, client.address()), 5.0)
    world.clock.advance(5.0)
    assert world.directory.listed[gateway.core.own.identity] == [client.address()]
    client.connection.abort()


def test_the_rates_of_a_new_topology_are_taken_up(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway()
    assert gateway.clients is not None
    assert gateway.clients.downlink is not None
    assert gateway.clients.downlink.rate == downlink_rate(RECOMMENDED)
    early = Pushed(world, gateway, "early")
    world.directory.recommended = Recommended(message_sending_rate=1, loop_cover_traffic_rate=1)
    world.clock.advance(3.0)
    assert gateway.clients.downlink.rate == 5.0
    assert gateway.clients.verifier.rate == pytest.approx(2.2)
    late = Pushed(world, gateway, "late")
    assert (early.connection.slots, late.connection.slots) == (2, 1)
    early.send(b"to oneself")
    world.clock.advance(4.0)
    assert early.texts() == [b"to oneself"]
    early.confirming = False
    early.send(b"kept")
    world.clock.advance(300.0)  # by and by everybody has to log in again
    assert (early.connection.up, late.connection.up) == (False, True)
    early.items, early.confirming = [], True
    early.again()
    world.clock.advance(5.0)
    assert early.connection.slots == 1
    assert early.texts() == [b"kept"]
    for client in (early, late):
        client.connection.abort()
    world.clock.advance(1.0)


def test_nobody_logs_in_before_it_is_known_at_what_rate_to_serve_them(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway()
    client = Pushed(world, gateway, "alice")
    client.connection.abort()
    world.stop(gateway)
    world.directory.away = True
    again = world.gateway()
    world.clock.advance(60.0)
    assert again.client_listener is not None
    record = world.directory.nodes[bytes(gateway.parts.identity.verify_key)]
    client.provider = msgspec.structs.replace(record, client_port=again.client_listener.port)
    with pytest.raises(ConnectionClosed):
        client.again()
    world.directory.away = False
    world.clock.advance(60.0)
    client.again()
    client.connection.abort()


def test_a_verifier_of_ones_own_is_asked_and_follows_the_topology(world: GatewayWorld) -> None:
    class Nobody:
        topologies = 0

        def verify(self, mailbox: bytes, credential: bytes) -> None:
            raise RegistrationRefused("members only")

        def use_topology(self, topology: Topology) -> None:
            self.topologies += 1

    verifier = Nobody()
    gateway = world.network_with_a_gateway(verifier=verifier)
    assert verifier.topologies > 0
    with pytest.raises(RegistrationRefused, match="members only"):
        Pushed(world, gateway, "alice")
    world.clock.advance(5.0)


@pytest.mark.parametrize("rate", [None, 7.0])
def test_an_observer_of_a_clients_line_does_not_see_that_it_receives(tmp_path: Path, rate: float | None) -> None:
    """The same client twice, from the same seed: once nobody writes to it, once it gets a message every 0.2 s."""
    traces = []
    for busy in (False, True):
        world = GatewayWorld(tmp_path / str(busy), seed=9)
        gateway = world.network_with_a_gateway(downlink_rate=rate)
        alice, bob = Pushed(world, gateway, "alice"), Pushed(world, gateway, "bob")
        world.clock.advance(1.0)
        began = world.clock.seconds()
        seen: list[tuple[float, str, int]] = []

        def watch(when: float, near: str, far: str, data: bytes, seen: Any = seen, began: float = began) -> None:
            if "alice" in (near, far):
                seen.append((round(when - began, 6), near, len(data)))

        world.network.observer = watch
        for number in range(100):
            if busy:
                _send(bob, alice.own, b"%d" % number)
            world.clock.advance(0.2)
        world.network.observer = None
        assert len(alice.texts()) >= 90 * busy
        assert bool(alice.texts()) == busy
        traces.append(seen)
        for client in (alice, bob):
            client.connection.abort()
        world.clock.advance(1.0)
        for node in list(world.running):
            world.stop(node)
    assert traces[0] == traces[1]
    slots = downlink_rate(RECOMMENDED) if rate is None else rate
    down = sum(size for _, near, size in traces[0] if near == "g")
    assert down / 20 == pytest.approx(slots * SLOT_LENGTH, rel=0.03)


def test_with_a_downlink_rate_of_zero_mail_is_there_at_once_and_the_line_is_silent_without(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway(downlink_rate=0.0)
    client = Pushed(world, gateway, "alice")
    seen: list[int] = []
    world.network.observer = lambda when, near, far, data: seen.append(len(data)) if "alice" in (near, far) else None
    world.clock.advance(10.0)
    assert seen == []
    client.send(b"at once")
    world.clock.advance(3.0)
    assert client.texts() == [b"at once"]
    assert len(client.acks()) == 1
    assert gateway.clients is not None
    assert list(gateway.clients.store.pull(client.own.mailbox, 10, 0)) == []
    client.connection.abort()


def test_an_exit_is_an_entry_too_and_its_service_stands_in_the_topology(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway(argv=("--mode=exit",))
    client = Pushed(world, gateway, "alice")
    (address,) = world.directory.newest().services("exit")
    assert Address.parse(address, world.environment().trust.network).provider == gateway.core.own.identity
    client.send(b"mail as at an entry")
    world.clock.advance(3.0)
    assert client.texts() == [b"mail as at an entry"]
    client.connection.abort()


def test_a_gateway_without_mailboxes_is_refused(world: GatewayWorld) -> None:
    with pytest.raises(PluginError, match="mailboxes"):
        world.gateway(factories=[find_implementations().choose("echo")])


def test_the_rates_can_be_changed_while_it_runs(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway(downlink_rate=10.0, client_rate=3.0)
    section = gateway.section
    gateway.reread = lambda: msgspec.structs.replace(section, downlink_rate=0.0, client_rate=None)
    gateway.reload()
    assert gateway.clients is not None
    assert gateway.clients.downlink is not None
    assert gateway.clients.downlink.at_once
    assert gateway.clients.verifier.rate == pytest.approx(client_rate(RECOMMENDED))
    assert isinstance(gateway, GatewayService)
    world.clock.advance(10.0)
    assert gateway.clients.downlink.at_once


def test_the_figures_of_a_gateway_are_those_of_its_page(world: GatewayWorld) -> None:
    gateway = world.network_with_a_gateway()
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
    assert re.findall(r"^\| `(nymtw_[a-z_]+)", page, re.MULTILINE) == [
        "nymtw_downlink_slots_per_second",
        "nymtw_downlink_rounds_skipped_total",
    ]
    assert "nymtw_downlink_rounds_skipped_total 0" in gateway.metrics.text().decode()
    assert f"nymtw_downlink_slots_per_second {downlink_rate(RECOMMENDED)}" in gateway.metrics.text().decode()


def test_the_costs_on_its_page_are_those_of_its_frames() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
    rows = re.findall(
        r"^\| (\d+) \+ (\d+) \+ (\d+).*?\| (\d+) \| (\d+) slots? every (\d+) ms \| ([\d.]+) (.B)/s.*\| ([\d.]+) KB/s",
        page,
        re.M,
    )
    assert len(rows) == 3
    for sending, loop, drop, rate, slots, interval, down, unit, up in rows:
        recommended = Recommended(
            message_sending_rate=float(sending),
            loop_cover_traffic_rate=float(loop),
            drop_cover_traffic_rate=float(drop),
        )
        downlink = Downlink(FakeClock(), downlink_rate(recommended))
        assert (downlink.rate, downlink.slots, round(downlink.interval * 1000)) == (
            int(rate),
            int(slots),
            int(interval),
        )
        a_second = 1 / downlink.interval
        bytes_down = (len(downlink.dummies) + 22) * a_second / {"KB": 1e3, "MB": 1e6}[unit]
        assert bytes_down == pytest.approx(float(down), rel=0.03)
        assert (HEADER_LENGTH + 8 * downlink.slots + 22) * a_second / 1e3 == pytest.approx(float(up), rel=0.15)


def test_a_network_whose_clients_come_through_a_gateway_can_be_checked(world: GatewayWorld) -> None:
    world.network_with_a_gateway()
    for number in range(18):  # more routes than a client may send packets at once
        world.mixnode(f"another-{number}", 1)
    world.clock.advance(10.0)
    topology = world.directory.newest()
    (edge,) = topology.gateways()
    network = world.environment().trust.network
    host = world.network.host("checker")
    checking = probe(host, topology, network, edge, MemorySecurity(None, world.random), world.random)
    proven = world.clock.wait_for(Deferred.fromCoroutine(checking), 60.0)
    assert proven == {node.identity for node in topology.nodes if node.role == MIXNODE}
    assert drops(world) == {}
    world.clock.advance(1.0)
