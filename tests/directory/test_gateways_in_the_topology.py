"""Gateways in what a directory shows: presence, the nodes for people, and nodes whose role it decides."""

from msgspec.structs import replace
from registered_nodes import World, identity

from nymtw.directory.core import in_place
from nymtw.encoding import key_text
from nymtw.topology.address import Address
from nymtw.topology.document import Recommended


def test_gateways_are_listed_with_both_listeners_and_the_clients_who_asked_for_it() -> None:
    world = World()
    address = Address(bytes(32), bytes([5]) * 32, identity(3)).encode(world.publisher.trust.network)
    world.announce(3, "gateways", "gateway", registered_clients=[address], services={"exit": address})
    [listed] = world.directory.presence()["GatewayNodes"]
    assert listed["clientListener"] == "127.0.0.1:3003"
    assert listed["mixnetListener"] == "127.0.0.1:2003"
    assert listed["pubKey"] == key_text(bytes([3]) * 32)
    assert listed["registeredClients"] == [{"pubKey": key_text(bytes([5]) * 32), "address": address}]
    assert listed["lastSeen"] == world.now
    assert "host" not in listed
    [described] = world.directory.nodes()
    assert {name: described[name] for name in ("role", "port", "clientPort", "clients", "services")} == {
        "role": "gateway",
        "port": 2003,
        "clientPort": 3003,
        "clients": 0,
        "services": ["exit"],
    }
    topology = world.publisher.topology()
    assert [node.identity for node in topology.gateways()] == [identity(3)]
    assert [client.address for client in topology.clients] == [address]
    assert topology.services("exit") == [address]
    assert topology.recommended == Recommended()


def test_a_node_of_any_role_is_listed_as_those_of_the_role_that_it_has() -> None:
    world = World()
    post = world.heartbeat(3, "any", takes=("mixnode", "entry-gateway"))
    world.announce(3, "nodes", "any", takes=("mixnode", "entry-gateway"))
    [entry] = world.registry.present()
    record = world.directory.placed(entry)
    lists = world.directory.presence()
    [listed] = [node for nodes in lists.values() for node in nodes]
    if record.role == "mixnode":
        assert (listed["layer"], listed["host"]) == (record.layer, post["host"])
    else:
        assert listed["mixnetListener"] == post["host"]
    as_gateway = in_place(entry.post, replace(record, role="gateway", layer=0))
    assert (as_gateway["mixnetListener"], as_gateway["clientListener"]) == (post["host"], post["clientListener"])
    as_mixnode = in_place(entry.post, replace(record, role="mixnode", layer=2))
    assert (as_mixnode["host"], as_mixnode["layer"]) == (post["host"], 2)
