"""Whole mixnodes and a provider, started as their commands start them, over a network in memory."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from nacl.signing import SigningKey

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python import usage
from zope.interface import implementer

from nymtw.errors import ConfigError, DirectoryError, DiskError, ListenError, PluginError, RegistrationRefused
from nymtw.interfaces import IDirectory, IProvider
from nymtw.link.client_link import ProviderConnection, connect_to_provider
from nymtw.message.fragments import FRAGMENT_LENGTH
from nymtw.message.packets import build_data_packet
from nymtw.message.sealing import unseal
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.routes import UniformRoutes
from nymtw.mixnode.options import MixnodeConfig, MixnodeSection
from nymtw.mixnode.service import MixnodeService
from nymtw.node.engine.mix_node import Environment, MixNode
from nymtw.node.home import NodeHome
from nymtw.provider.options import Options, ProviderConfig, ProviderSection
from nymtw.provider.service import ProviderService
from nymtw.provider.services.installed_plugins import find_implementations
from nymtw.sphinx import generate_keypair
from nymtw.testing.clock import FakeClock
from nymtw.testing.network import MemoryNetwork
from nymtw.testing.security import MemorySecurity
from nymtw.topology.address import Address, mailbox_id
from nymtw.topology.document import NodeRecord, Recommended, Topology, Trust, sign_topology
from nymtw.topology.presence import read_heartbeat, read_metric

KEY = SigningKey(bytes(range(32)))


@implementer(IDirectory)
class FakeDirectory:
    """Lists whoever has announced itself, for good; `away` refuses everybody."""

    def __init__(self, clock: FakeClock, epoch_seconds: int) -> None:
        self.clock = clock
        self.epoch_seconds = epoch_seconds
        self.nodes: dict[bytes, NodeRecord] = {}
        self.numbers: dict[bytes, int] = {}
        self.listed: dict[bytes, list[str]] = {}
        self.metrics: dict[bytes, list[int]] = {}
        self.paths: set[str] = set()
        self.recommended = Recommended()
        self.away = False
        self.serial = 0

    def announce(self, path: str, heartbeat: Mapping[str, Any]) -> "Deferred[None]":
        if self.away:
            return fail(DirectoryError("away"))
        read = read_heartbeat(dict(heartbeat), self.clock.wall_clock())
        self.nodes[read.record.identity] = read.record
        self.numbers[read.record.identity] = read.number
        self.listed[read.record.identity] = [client.address for client in read.clients]
        self.paths.add(path)
        return succeed(None)

    def topology(self) -> "Deferred[bytes]":
        if self.away:
            return fail(DirectoryError("away"))
        return succeed(sign_topology(self.newest(), [KEY]))

    def newest(self) -> Topology:
        self.serial += 1
        now = self.clock.wall_clock()
        return Topology(
            serial=self.serial,
            network=Trust((bytes(KEY.verify_key),)).network,
            published=int(now * 1e9),
            valid_until=int((now + 3600) * 1e9),
            refresh=2.0,
            epoch=int(now // self.epoch_seconds),
            epoch_seconds=self.epoch_seconds,
            nodes=tuple(self.nodes.values()),
            recommended=self.recommended,
        )

    def report(self, metric: Mapping[str, Any]) -> "Deferred[None]":
        read = read_metric(dict(metric), self.clock.wall_clock())
        sums = self.metrics.setdefault(read.identity, [0, 0])
        sums[0] += read.received
        sums[1] += read.sent
        return succeed(None)


class World:
    """A directory, and the nodes that a test starts."""

    def __init__(self, folder: Path, seed: int, epoch_seconds: int = 86400) -> None:
        print("seed", seed)
        self.folder = folder
        self.random = Random(seed)
        self.clock = FakeClock()
        self.network = MemoryNetwork(self.clock)
        self.directory = FakeDirectory(self.clock, epoch_seconds)
        self.running: list[MixNode] = []

    def environment(self) -> Environment:
        return Environment(
            random=self.random,
            wall_clock=self.clock.wall_clock,
            directory=self.directory,
            trust=Trust((bytes(KEY.verify_key),)),
            security=lambda key: MemorySecurity(bytes(key.verify_key), self.random),
        )

    def mixnode(self, name: str, layer: int = 0, port: int = 0, **given: Any) -> MixnodeService:
        told = {"rate": 1, "loop_rate": 0, **given}
        section = MixnodeSection(id=name, host="127.0.0.1", port=port, directory_key="", layer=layer, **told)
        home = NodeHome("mixnode", name, self.folder)
        return self.started(
            MixnodeService.from_config(self.network.host(name), home, MixnodeConfig(node=section), self.environment())
        )

    def provider(self, factory: Any = None, argv: tuple[str, ...] = (), name: str = "p") -> ProviderService:
        options = Options()
        options.parseOptions(list(argv))
        section = ProviderSection(id=name, host="127.0.0.1", port=0, client_port=0, directory_key="", rate=1)
        return self.started(
            ProviderService.from_config(
                self.network.host(name),
                NodeHome("provider", name, self.folder),
                ProviderConfig(node=section),
                [factory or find_implementations().choose("store")],
                options,
                self.environment(),
            )
        )

    def started(self, node: Any) -> Any:
        self.running.append(node)
        node.privilegedStartService()
        node.startService()
        return node

    def stop(self, node: MixNode) -> None:
        self.running.remove(node)
        self.clock.wait_for(node.stopService(), 10.0)

    def network_of_four(self) -> ProviderService:
        for layer in (1, 2, 3):
            self.mixnode(f"m{layer}", layer)
        provider = self.provider()
        self.clock.advance(10.0)
        return provider

    def run_exactly(self, seconds: float) -> None:
        """Let time pass; after each event the account of every node must be what is really in it."""

        def exact() -> bool:
            for node in self.running:
                assert node.counters.queued == node.core.queued + node.links.pending, node.counters.snapshot()
            return False

        with pytest.raises(TimeoutError):
            self.clock.advance_until(exact, seconds)

    def client(self, provider: ProviderService) -> "Client":
        return Client(self, provider)


class Client:
    """One that registers, logs in, sends to itself and pulls."""

    def __init__(self, world: World, provider: ProviderService) -> None:
        self.world = world
        self.mailbox_key = SigningKey(world.random.randbytes(32))
        self.private_key, self.public_key = generate_keypair(world.random)
        self.provider = world.directory.nodes[bytes(provider.parts.identity.verify_key)]
        self.connection = self.connect()
        self.token = world.clock.wait_for(self.connection.register(), 5.0)
        world.clock.wait_for(self.connection.login(self.token), 5.0)

    def connect(self) -> ProviderConnection:
        connecting = connect_to_provider(
            self.world.network.host("client"),
            self.provider.host,
            self.provider.client_port,
            self.provider.identity,
            MemorySecurity(None, self.world.random),
            mailbox_key=self.mailbox_key,
            lost=lambda: None,
        )
        return self.world.clock.wait_for(connecting, 5.0)

    @property
    def own(self) -> Address:
        mailbox = mailbox_id(bytes(self.mailbox_key.verify_key))
        return Address(mailbox, self.public_key, self.provider.identity)

    def address(self) -> str:
        return self.own.encode(self.world.environment().trust.network)

    def send(self, text: bytes) -> bytes:
        """Send to itself what a client would; returns what the ack will say."""
        topology, random = self.world.directory.newest(), self.world.random
        plaintext = text.ljust(FRAGMENT_LENGTH)
        routes, delays = UniformRoutes(), ExponentialDelays(0.05)
        outgoing = build_data_packet(topology, self.own, self.own, plaintext, routes, delays, random)
        assert self.connection.submit(outgoing.first_hop, outgoing.epoch, outgoing.packet)
        return outgoing.ack_id

    def pull(self) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        for item in self.world.clock.wait_for(self.connection.pull(), 5.0):
            found.setdefault(item.kind, []).append(item.content)
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, seed=5)
    yield made
    for node in list(made.running):
        made.stop(node)
        assert node.counters.queued == 0
    made.clock.advance(100.0)
    assert made.clock.getDelayedCalls() == []


def test_a_message_and_its_ack_cross_the_network(world: World) -> None:
    provider = world.network_of_four()
    client = world.client(provider)
    ack = client.send(b"hello")
    world.clock.advance(3.0)
    mail = client.pull()
    assert [unseal(content, client.private_key).rstrip() for content in mail[1]] == [b"hello"]
    assert mail[2] == [ack]
    for node in world.running:
        assert node.counters.queued == node.core.queued + node.links.pending == 0
        assert node.counters.dropped_total == 0
        assert node.counters.received_total >= 2
    client.connection.abort()


def test_the_accounts_are_exact_at_every_moment_while_a_mixnode_dies(world: World) -> None:
    client = world.client(world.network_of_four())
    second = world.running[1]
    for number in range(60):
        client.send(b"%d" % number)
        world.run_exactly(0.02)
        if number == 20:
            world.network.cut("m1", "m2")
        if number == 30:
            assert world.running[0].links.pending > 0
        if number == 40:
            world.stop(second)
    world.run_exactly(60.0)
    drops = world.running[0].counters.snapshot().dropped
    assert sum(drops.values()) > 20
    client.connection.abort()


def test_a_client_is_listed_only_if_it_asks_and_only_with_its_own_address(world: World) -> None:
    provider = world.network_of_four()
    asking, silent = world.client(provider), world.client(provider)
    identity = provider.core.own.identity

    def login(client: Client, listing: str) -> None:
        client.connection.abort()
        client.connection = client.connect()
        world.clock.wait_for(client.connection.login(client.token, listing), 5.0)
        world.clock.advance(5.0)

    login(asking, asking.address())
    assert world.directory.listed[identity] == [asking.address()]
    for wrong in (silent.address(), asking.address()[:-1], "x"):
        with pytest.raises(RegistrationRefused, match="the address to be listed"):
            login(asking, wrong)
    assert world.directory.listed[identity] == [asking.address()]
    login(asking, "")
    assert world.directory.listed[identity] == []
    for client in (asking, silent):
        client.connection.abort()


def test_what_is_announced_is_what_the_topology_needs(world: World) -> None:
    provider = world.network_of_four()
    world.client(provider).connection.abort()
    world.clock.advance(5.0)
    assert world.directory.paths == {"mixnodes", "mixproviders"}
    record = world.directory.nodes[bytes(provider.parts.identity.verify_key)]
    assert provider.client_listener is not None
    assert (record.port, record.client_port) == (provider.listener.port, provider.client_listener.port)
    assert world.directory.numbers[record.identity] == 1
    assert sorted(node.layer for node in world.directory.nodes.values()) == [0, 1, 2, 3]
    epoch = world.directory.newest().epoch
    assert all(set(node.sphinx_keys) == {epoch, epoch + 1} for node in world.directory.nodes.values())


def test_the_directory_learns_how_much_went_through_a_mixnode_unless_that_is_turned_off(world: World) -> None:
    silent = world.mixnode("silent", 1, metrics=False)
    client = world.client(world.network_of_four())
    for _ in range(5):
        client.send(b"counted")
    world.clock.advance(5.0)
    client.connection.abort()
    told = {node.core.own.layer: node for node in world.running if node.core.own.identity in world.directory.metrics}
    assert set(told) == {1, 2, 3}
    assert silent not in told.values()
    for node in told.values():
        assert world.directory.metrics[node.core.own.identity] == [
            node.counters.received_total,
            node.counters.forwarded_total,
        ]
    assert told[2].counters.received_total == 10  # five messages and their acks


def test_keys_rotate_packets_go_on_and_old_keys_and_tags_are_destroyed(tmp_path: Path) -> None:
    world = World(tmp_path, seed=6, epoch_seconds=60)
    provider = world.network_of_four()
    client = world.client(provider)
    for number in range(6):
        client.send(b"%d" % number)
        world.clock.advance(45.0)
        mail = client.pull()
        assert [unseal(content, client.private_key).rstrip() for content in mail[1]] == [b"%d" % number]
    epoch = world.directory.newest().epoch
    for node in world.running:
        data = node.parts.home.data
        assert sorted(int(path.stem) for path in (data / "sphinx_keys").glob("*.pem")) == [epoch - 1, epoch, epoch + 1]
        assert all(int(path.stem.removeprefix("replay-")) >= epoch - 1 for path in (data / "replay").glob("*.tags"))
        assert node.counters.dropped_total == 0
    client.connection.abort()
    for node in list(world.running):
        world.stop(node)


def test_the_mixnode_mixes_on_while_the_directory_is_away(world: World) -> None:
    provider = world.network_of_four()
    client = world.client(provider)
    world.directory.away = True
    world.clock.advance(600.0)
    client.connection.abort()
    client.connection = client.connect()
    world.clock.wait_for(client.connection.login(client.token), 5.0)
    client.send(b"still there")
    world.clock.advance(3.0)
    assert set(client.pull()) == {1, 2}
    client.connection.abort()


def test_a_node_that_starts_before_its_directory_takes_part_when_it_comes(world: World) -> None:
    world.directory.away = True
    node = world.mixnode("m1", 1)
    world.clock.advance(60.0)
    assert world.directory.nodes == {}
    world.directory.away = False
    world.clock.advance(60.0)
    assert [record.identity for record in world.directory.nodes.values()] == [node.core.own.identity]


def test_without_a_layer_a_mixnode_takes_the_thinnest_and_keeps_it(world: World) -> None:
    for layer in (1, 3):
        world.mixnode(f"m{layer}", layer)
        world.clock.advance(5.0)
    world.mixnode("free")
    world.clock.advance(10.0)
    assert sorted(node.layer for node in world.directory.nodes.values()) == [1, 2, 3]
    world.stop(world.running[-1])
    world.mixnode("other", 2)
    world.mixnode("another", 2)
    world.clock.advance(10.0)
    again = world.mixnode("free")
    world.clock.advance(10.0)
    assert again.core.own.layer == 2


def test_mail_waits_for_a_client_over_a_restart_of_its_provider(world: World) -> None:
    provider = world.network_of_four()
    client = world.client(provider)
    client.send(b"wait for me")
    world.clock.advance(3.0)
    client.connection.abort()
    world.stop(provider)
    again = world.provider()
    world.clock.advance(10.0)
    client.provider = world.directory.nodes[bytes(again.parts.identity.verify_key)]
    client.connection = client.connect()
    world.clock.wait_for(client.connection.login(client.token), 5.0)
    assert unseal(client.pull()[1][0], client.private_key).rstrip() == b"wait for me"
    client.connection.abort()


def test_two_nodes_do_not_share_a_home_or_a_port(world: World) -> None:
    node = world.mixnode("m1", 1, port=1789)
    with pytest.raises(ConfigError, match="another process is using this folder"):
        world.mixnode("m1", 1)
    with pytest.raises(ListenError, match=r"cannot listen on 127\.0\.0\.1:1789: Address already in use"):
        world.mixnode("m2", 1, port=1789)
    refused = world.running.pop()
    world.clock.wait_for(refused.stopService(), 10.0)
    assert world.running == [node]


@implementer(IProvider)
class Slow:
    """Starts when `started` fires."""

    def __init__(self) -> None:
        self.started: Deferred[None] = Deferred()
        self.stopped = 0

    def start(self) -> "Deferred[None]":
        return self.started

    def deliver(self, delivery: Any) -> None:
        return None

    def stop(self) -> None:
        self.stopped += 1


def factory_of(make: Any) -> Any:
    return SimpleNamespace(name="other", summary="", options=usage.Options, make_provider=make)


def test_a_provider_takes_part_when_its_implementation_has_started(world: World) -> None:
    slow = Slow()
    provider = world.provider(factory_of(lambda context, options: slow))
    world.clock.advance(10.0)
    assert world.directory.nodes == {}
    slow.started.callback(None)
    world.clock.advance(10.0)
    (record,) = world.directory.nodes.values()
    assert record.client_port == 0  # it has no mailboxes, so no clients
    world.stop(provider)
    assert slow.stopped == 1


def test_an_implementation_that_cannot_start_ends_the_node_with_one_line(world: World) -> None:
    class Broken(Slow):
        def start(self) -> Any:
            raise ZeroDivisionError("by zero")

    broken = Broken()
    with pytest.raises(PluginError, match="the provider 'other' cannot start: ZeroDivisionError: by zero"):
        world.provider(factory_of(lambda context, options: broken))
    assert broken.stopped == 0  # it was never there
    world.running.clear()


def test_a_store_that_cannot_open_its_mailboxes_ends_the_node_with_one_line(world: World) -> None:
    folder = world.folder / "providers" / "p" / "data" / "store"
    folder.mkdir(parents=True)
    (folder / "mailboxes.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(DiskError, match=r"mailboxes\.sqlite: cannot open the mailboxes: file is not a database"):
        world.provider()
    world.running.clear()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda context, options: 1 / 0, "the provider 'other' cannot be made: ZeroDivisionError"),
        (lambda context, options: object(), "make_provider returns neither an IProvider nor an IService"),
    ],
)
def test_an_implementation_that_cannot_be_made_ends_the_node_with_one_line(world: World, make: Any, error: str) -> None:
    with pytest.raises(PluginError, match=error):
        world.provider(factory_of(make))
