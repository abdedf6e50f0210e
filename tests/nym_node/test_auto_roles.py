"""Nodes that are what the directory asks for, on the fake clock: neither packets nor mail are lost on the way."""

import random
from collections.abc import Iterator

import pytest
from automatic_roles import EPOCH, REFRESH, AnyNetwork
from msgspec import structs

from nymtw.encoding import key_text
from nymtw.topology.document import LAYERS, MIXNODE, NOTICE

pytestmark = pytest.mark.long


@pytest.fixture
def world() -> Iterator[AnyNetwork]:
    with AnyNetwork("roles", 10) as network:
        network.run(2 * REFRESH)
        yield network


def assert_counters_add_up(world: AnyNetwork) -> None:
    for name, counters in world.counters().items():
        ended = counters.forwarded + counters.delivered + counters.queued + sum(counters.dropped.values())
        assert counters.received == ended, name
        assert counters.queued >= 0, name


def test_a_network_of_such_nodes_fills_its_layers_and_doors_by_itself(world: AnyNetwork) -> None:
    assert sorted(world.counted().values()) == [2, 2, 3, 3]
    assert all(len(world.topology.mixnodes(layer)) >= 2 for layer in LAYERS)
    for name, service in world.services.items():
        assert service.place() == world.places()[name]
    first, second = world.gateways()[:2]
    world.join("alice", first)
    world.join("bob", second)
    world.deliver("alice", "bob", b"hello")


def test_roles_change_over_epochs_while_messages_flow_and_not_one_packet_is_lost(world: AnyNetwork) -> None:
    source = random.Random("roles")
    doors = world.gateways()
    world.join("alice", doors[0])
    world.join("bob", doors[1])
    seen: dict[str, set[str]] = {name: set() for name in world.services}
    sent: list[bytes] = []
    for number in range(3):
        movable = [name for name in world.services if name not in doors[:2]]
        chosen = source.sample(movable, 2)
        for name in movable:
            world.services[name].takes = ("entry-gateway",) if name in chosen else ("mixnode",)
        epoch = world.topology.epoch
        while world.topology.epoch == epoch:
            sent.append(b"%d " % len(sent) + bytes(source.randrange(4000)))
            world.send("alice", "bob", sent[-1])
            world.run(5.0)
        for name, place in world.places().items():
            seen[name].add(place)
        assert {name for name in world.gateways() if name not in doors} == set(chosen) - set(doors), number
        assert set(doors[:2]) <= set(world.gateways())
    world.run_until(lambda: len(world.clients["bob"].received) == len(sent), 600)
    assert sorted(world.clients["bob"].received) == sorted(sent)
    assert sum(len(places) for places in seen.values()) > len(seen) + 5
    assert world.dropped() == {}
    loops = [service.cover.loops.ledger for service in world.services.values()]
    assert sum(ledger.sent for ledger in loops) > 100
    assert_counters_add_up(world)
    for client in world.clients.values():
        world.nodes.pop(client.name)
        world.clock.wait_for(client.service.stopService(), 60)
    for service in world.services.values():
        service.cover.loops.set_rate(0)
    world.run(60.0)
    assert all(counters.queued == 0 for counters in world.counters().values())
    assert sum(ledger.sent for ledger in loops) == sum(ledger.returned for ledger in loops)
    assert world.dropped() == {}


def test_packets_under_way_at_the_turn_would_be_lost_without_the_places_of_their_epoch(
    world: AnyNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above is worth: with one role at a time it fails."""
    from nymtw.topology.document import Topology

    doors = world.gateways()
    world.join("alice", doors[0])
    monkeypatch.setattr(Topology, "at", lambda topology, epoch: topology)
    for name in [name for name in world.services if name not in doors][:3]:
        world.services[name].takes = ("entry-gateway",)
    world.next_epoch()
    assert set(world.dropped()) <= {"unknown-next-hop", "unknown-destination", "link-down"}
    assert sum(world.dropped().values()) > 0


def test_a_layer_that_falls_out_is_filled_at_the_next_epoch(world: AnyNetwork) -> None:
    doors = world.gateways()
    world.join("alice", doors[0])
    world.join("bob", doors[1])
    for name, place in world.places().items():
        if place == "mixnode-2":
            world.kill(name)
    world.run(5 * REFRESH)  # twice the expiry, as all of a layer is silent
    assert not world.topology.mixnodes(2)
    world.next_epoch()
    assert world.topology.usable_mixnodes(2)
    world.deliver("alice", "bob", b"there again")
    assert_counters_add_up(world)


def test_a_gateway_with_mailboxes_stays_and_keeps_mail_whatever_the_network_lacks(world: AnyNetwork) -> None:
    doors = world.gateways()
    world.join("alice", doors[0])
    world.join("bob", doors[1])
    address = world.clients["bob"].address
    world.kill("bob")
    sent = [b"%d" % number for number in range(6)]
    for message in sent:
        world.clients["alice"].send(address, message)
        world.run(EPOCH / 2)
        mixnodes = [name for name, place in world.places().items() if place.startswith("mixnode")]
        for name in mixnodes:
            world.services[name].takes = ("mixnode",)
        assert {doors[0], doors[1]} <= set(world.gateways())
    world.restart("bob")
    world.run_until(lambda: len(world.clients["bob"].received) == len(sent), 300)
    assert sorted(world.clients["bob"].received) == sent
    assert world.dropped() == {}


def test_a_gateway_without_mailboxes_goes_where_it_is_needed(world: AnyNetwork) -> None:
    doors = world.gateways()
    kept: set[str] = set()
    for name, place in world.places().items():
        if place == "mixnode-3" or place in kept:
            world.kill(name)
        elif place.startswith("mixnode"):
            kept.add(place)
    world.next_epoch()
    assert sorted(world.places()[name] for name in doors) == ["entry-gateway", "mixnode-3"]


def test_nobody_can_register_while_a_gateway_may_be_about_to_leave(world: AnyNetwork) -> None:
    door = world.services[world.gateways()[0]]
    decided = (world.topology.epoch + 1) * EPOCH - NOTICE * REFRESH
    assert (door.closed(), door.can_be()) == ("", ("entry-gateway",))
    world.run(decided - world.clock.wall_clock() - 5.0)
    # Closed first, and offered somewhat later.
    assert "needed elsewhere" in door.closed()
    assert door.can_be() == ("entry-gateway",)
    world.run(2.0)
    assert door.closed()
    assert door.can_be() == ("mixnode", "entry-gateway")
    world.next_epoch()
    assert (door.place(), door.closed()) == ("entry-gateway", "")


def test_a_gateway_with_a_mailbox_takes_clients_all_the_time(world: AnyNetwork) -> None:
    first = world.gateways()[0]
    world.join("alice", first)
    decided = (world.topology.epoch + 1) * EPOCH - NOTICE * REFRESH
    world.run(max(0.0, decided - world.clock.wall_clock() - 1.0))
    assert world.services[first].closed() == ""
    assert world.services[first].can_be() == ("entry-gateway",)


def test_a_mixnode_takes_no_clients(world: AnyNetwork) -> None:
    name = next(name for name, place in world.places().items() if place.startswith("mixnode"))
    assert world.services[name].closed() == "this node is not a gateway at present"
    with pytest.raises(TimeoutError):
        world.join("carol", name)
    assert world.services[name].clients.store.count() == 0


def test_metrics_come_from_those_who_are_mixnodes_now(world: AnyNetwork) -> None:
    name = next(name for name, place in world.places().items() if place == "mixnode-1")
    world.services[name].takes = ("entry-gateway",)
    world.next_epoch()
    world.run(3.0)
    reporting = {metric["pubKey"] for metric in world.directory.metrics()}
    mixnodes = {node.identity for node in world.topology.nodes if node.role == MIXNODE}
    keys = {service.core.own.identity: service.heartbeat()["pubKey"] for service in world.services.values()}
    assert reporting == {key for identity, key in keys.items() if identity in mixnodes}


def test_a_node_that_is_restarted_has_its_identity_keys_and_mail_whatever_it_was(world: AnyNetwork) -> None:
    doors = world.gateways()
    world.join("alice", doors[0])
    world.join("bob", doors[1])
    before = world.services[doors[1]].core.own.identity
    address = world.clients["bob"].address
    world.kill("bob")
    world.clients["alice"].send(address, b"kept")
    world.run(30.0)
    world.kill(doors[1])
    world.run(2.0)
    world.restart(doors[1])
    world.run(10.0)
    assert world.services[doors[1]].core.own.identity == before
    assert world.places()[doors[1]] == "entry-gateway"
    world.restart("bob")
    world.run_until(lambda: world.clients["bob"].received == [b"kept"], 120)


def test_the_dashboard_hears_of_a_role_that_changes(world: AnyNetwork) -> None:
    name = next(name for name, place in world.places().items() if place == "mixnode-1")
    own = world.services[name].core.own.identity
    shown = {node["identityKey"]: node["role"] for node in world.directory.nodes()}
    assert shown[key_text(own)] == "mixnode"
    before = world.directory.revision
    world.services[name].takes = ("entry-gateway",)
    world.next_epoch()
    assert world.directory.revision > before
    shown = {node["identityKey"]: node["role"] for node in world.directory.nodes()}
    assert shown[key_text(own)] == "gateway"
    lists = world.directory.presence()
    assert len(lists["MixNodes"]) + len(lists["GatewayNodes"]) == len(world.services)


def test_an_exit_is_announced_where_a_node_is_one_and_stays_it(world: AnyNetwork) -> None:
    world.add("out", 2100, ("mixnode", "exit-gateway"))
    world.restart("out")
    world.run(2 * REFRESH)
    assert world.places()["out"] == "exit-gateway"
    world.run(2 * REFRESH)
    assert len(world.topology.services("exit")) == 1
    assert world.services["out"].can_be() == ("exit-gateway",)
    world.services["out"].core.own = structs.replace(world.services["out"].core.own, places={0: "mixnode-1"})
    assert "exit" not in world.services["out"].announced().record.services


def test_who_can_be_a_gateway_alone_takes_clients_all_the_time(world: AnyNetwork) -> None:
    door = world.services[world.gateways()[0]]
    door.takes = ("entry-gateway", "exit-gateway")
    decided = (world.topology.epoch + 1) * EPOCH - NOTICE * REFRESH
    world.run(max(0.0, decided - world.clock.wall_clock() - 1.0))
    assert door.closed() == ""
    assert door.can_be() == ("entry-gateway", "exit-gateway")


def test_what_can_change_while_it_runs_does_for_both_roles(world: AnyNetwork) -> None:
    service = world.services["node-1"]
    service.reread = lambda: structs.replace(
        service.section, loop_rate=0.0, max_delay=30.0, downlink_rate=9.0, client_port=1, metrics=False
    )
    service.reload()
    now = service.section
    assert (now.loop_rate, now.max_delay, now.downlink_rate, now.metrics) == (0.0, 30.0, 9.0, False)
    assert service.clients.downlink.rate == 9.0
    assert now.client_port != 1
    service.reread = lambda: structs.replace(service.section, takes=("entry-gateway",))
    service.reload()
    assert service.takes == service.section.takes == ("entry-gateway",)
    # Nothing is there with which it could be an exit.
    service.reread = lambda: structs.replace(service.section, takes=("mixnode", "exit-gateway"))
    service.reload()
    assert service.takes == service.section.takes == ("entry-gateway",)
    sent = service.cover.loops.ledger.sent
    world.run(60.0)
    assert service.cover.loops.ledger.sent == sent
