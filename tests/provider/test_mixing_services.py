"""Whole mixnodes and a provider, started as their commands start them, over a network in memory."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from mixing_services import Client, World

from twisted.internet.defer import Deferred
from twisted.python import usage
from zope.interface import implementer

from nymtw.errors import ConfigError, DiskError, ListenError, PluginError, RegistrationRefused
from nymtw.interfaces import IProvider
from nymtw.message.sealing import unseal


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, seed=5)
    yield made
    made.close()


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


def test_a_mixnode_works_in_the_layer_that_the_directory_has_put_it_into(world: World) -> None:
    for layer in (1, 2, 3):
        world.mixnode(f"m{layer}", layer)
    world.clock.advance(10.0)
    [moved] = [node for node in world.running if node.core.own.layer == 1]
    topology = moved.watch.current
    assert topology is not None
    nodes = [
        msgspec.structs.replace(node, layer=3) if node.identity == moved.core.own.identity else node
        for node in topology.nodes
    ]
    moved.use_topology(msgspec.structs.replace(topology, nodes=tuple(nodes)))
    assert moved.core.own.layer == moved.announced().record.layer == 3


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
