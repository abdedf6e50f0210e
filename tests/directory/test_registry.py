"""The registry, the publisher and the metrics on fake clocks."""

from typing import Any

import pytest
from registered_nodes import World, identity, node_key

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from nymtw.directory.consensus.publisher import RESTART_GRACE
from nymtw.directory.core import LocalDirectory
from nymtw.directory.retention import EXPIRY
from nymtw.encoding import key_text
from nymtw.errors import DirectoryError, EncodingError
from nymtw.topology.address import Address
from nymtw.topology.document import Recommended, verify_topology
from nymtw.topology.presence import MAX_SKEW, make_metric


def test_a_node_is_gone_five_seconds_after_its_last_heartbeat() -> None:
    world = World()
    world.announce(1)
    world.clock.advance(4)
    world.announce(1)
    world.clock.advance(4.9)
    assert [entry.record.identity for entry in world.registry.present()] == [identity(1)]
    world.clock.advance(0.2)
    assert world.registry.present() == []
    assert world.registry.find(identity(1)) is None
    world.announce(1)
    assert len(world.registry) == 1


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_stepped_wall_clock_makes_nobody_vanish(step: float) -> None:
    world = World()
    world.announce(1)
    world.clock.advance(2)
    world.clock.step = step
    assert len(world.registry) == 1
    world.clock.advance(4)
    assert len(world.registry) == 0


def test_a_replayed_heartbeat_is_refused_even_after_the_node_has_gone() -> None:
    world = World()
    post = world.heartbeat(1)
    world.directory.announce("mixnodes", post, "127.0.0.1")
    with pytest.raises(DirectoryError, match="not newer"):
        world.directory.announce("mixnodes", post, "127.0.0.1")
    world.clock.advance(30)
    assert len(world.registry) == 0
    with pytest.raises(DirectoryError, match="not newer"):
        world.directory.announce("mixnodes", post, "127.0.0.1")


def test_a_heartbeat_dated_ahead_can_never_be_replayed() -> None:
    world = World()
    post = world.heartbeat(1, timestamp=world.now + int(MAX_SKEW * 1e9))
    world.directory.announce("mixnodes", post, "127.0.0.1")
    for _ in range(60):
        world.clock.advance(5)
        world.registry.expire()
        with pytest.raises((DirectoryError, EncodingError)):
            world.directory.announce("mixnodes", post, "127.0.0.1")
    assert not world.registry.remembered


@pytest.mark.parametrize(("skew", "word"), [(121, "ahead"), (-121, "behind")])
def test_two_minutes_of_skew_are_tolerated_and_more_is_reported(skew: int, word: str) -> None:
    world = World()
    world.announce(1, timestamp=world.now + (skew - skew // abs(skew) * 2) * 10**9)
    with pytest.raises(EncodingError, match=rf"121 seconds {word}"):
        world.announce(2, timestamp=world.now + skew * 10**9)


def test_a_forged_heartbeat_is_refused() -> None:
    world = World()
    with pytest.raises(EncodingError, match="signature"):
        world.directory.announce("mixnodes", {**world.heartbeat(1), "layer": 3}, "127.0.0.1")
    assert world.directory.posts == {("mixnodes", False): 1}


def test_one_cannot_take_anothers_place() -> None:
    world = World()
    world.announce(1)
    with pytest.raises(DirectoryError, match=r"127\.0\.0\.1 port 2001 belongs to another node"):
        world.announce(2, port=2001)
    world.announce(3, "mixproviders", "provider")
    with pytest.raises(DirectoryError, match="port 3003 belongs"):
        world.announce(2, port=3003)
    world.clock.advance(6)
    world.announce(2, port=2001)


def test_a_node_may_move() -> None:
    world = World()
    world.announce(1)
    world.clock.advance(1)
    world.announce(1, port=2900)
    world.announce(2, port=2001)
    assert {entry.record.port for entry in world.registry.present()} == {2900, 2001}


def test_a_host_is_where_the_post_came_from() -> None:
    world = World(is_own_address=lambda host: host == "198.51.100.1")
    world.announce(1, source="192.0.2.7", host="")
    assert world.registry.present()[0].record.host == "192.0.2.7"
    assert world.directory.presence()["MixNodes"][0]["host"] == "192.0.2.7:2001"
    world.announce(2, source="192.0.2.7", host="192.0.2.7")
    with pytest.raises(DirectoryError, match=r"192\.0\.2\.8 is not .* 192\.0\.2\.7"):
        world.announce(3, source="192.0.2.7", host="192.0.2.8")
    with pytest.raises(DirectoryError, match=r"127\.0\.0\.1 is not"):
        world.announce(3, source="192.0.2.7")
    world.announce(3, source="127.0.0.1", host="198.51.100.1")
    with pytest.raises(DirectoryError, match=r"198\.51\.100\.2 is not"):
        world.announce(4, source="127.0.0.1", host="198.51.100.2")
    trusting = World(trust_hosts=True)
    trusting.announce(3, source="192.0.2.7", host="mix.example.org")
    assert trusting.registry.present()[0].record.host == "mix.example.org"


def test_an_empty_ipv6_host_is_filled_in() -> None:
    world = World()
    world.announce(1, "mixproviders", "provider", source="2001:db8::1", host="")
    entry = world.directory.presence()["MixProviderNodes"][0]
    assert (entry["host"], entry["clientListener"]) == ("[2001:db8::1]:2001", "[2001:db8::1]:3001")


def test_a_flood_of_identities_from_one_address_ends() -> None:
    world = World(per_address=3)
    for number in (1, 2, 3):
        world.announce(number, source="192.0.2.7", host="")
    with pytest.raises(DirectoryError, match="3 nodes have been announced from"):
        world.announce(4, source="192.0.2.7", host="")
    world.announce(4, source="192.0.2.8", host="")
    for number in (10, 11, 12, 13):
        world.announce(number)
    world.clock.advance(1)
    world.announce(1, source="192.0.2.7", host="")


def test_no_more_are_remembered_than_there_is_room_for() -> None:
    world = World(capacity=3)
    for number in (1, 2, 3):
        world.announce(number)
    with pytest.raises(DirectoryError, match="keeps 3 nodes"):
        world.announce(4)
    world.clock.advance(6)
    with pytest.raises(DirectoryError, match="keeps 3 nodes"):
        world.announce(4)  # the heartbeats of those that are gone could still be replayed
    world.announce(1)
    world.clock.advance(2 * MAX_SKEW + 2)
    world.announce(4)


def test_roles_announce_themselves_at_their_own_path() -> None:
    world = World()
    with pytest.raises(DirectoryError, match="a mixnode does not"):
        world.announce(1, "mixproviders")
    with pytest.raises(DirectoryError, match="a provider does not"):
        world.announce(1, "mixnodes", "provider")


def test_the_lists_have_what_was_posted_in_both_cases() -> None:
    world = World()
    world.announce(1)
    world.announce(2, "mixproviders", "provider")
    world.announce(3, "gateways", "gateway")
    post = world.heartbeat(1)
    upper, lower = world.directory.presence(), world.directory.presence(lower=True)
    assert upper["MixNodes"] == [{**post, "lastSeen": world.now}]
    assert {name: len(nodes) for name, nodes in upper.items()} == {
        "CocoNodes": 0,
        "MixNodes": 1,
        "MixProviderNodes": 1,
        "GatewayNodes": 1,
    }
    assert list(lower) == ["cocoNodes", "mixNodes", "mixProviderNodes", "gatewayNodes"]
    assert list(lower.values()) == list(upper.values())


def test_the_topology_is_signed_and_has_the_nodes() -> None:
    world = World()
    world.announce(1)
    world.announce(2, "mixproviders", "provider")
    document = world.publisher.document()
    topology = verify_topology(document, world.publisher.trust, world.clock.wall_clock())
    assert {node.identity for node in topology.nodes} == {identity(1), identity(2)}
    assert topology.epoch == int(world.clock.wall_clock() // 86400)
    assert topology.valid_until - topology.published == 1800 * 10**9
    assert (topology.refresh, topology.recommended) == (60.0, Recommended())


def test_one_is_signed_when_it_is_due_and_asked_for_and_not_else() -> None:
    world = World()
    signed: list[bytes] = []
    world.publisher = world.make_publisher(signed=signed.append)

    def announce_and_ask() -> bytes:
        world.announce(1)
        return world.publisher.document()

    first = announce_and_ask()
    for _ in range(29):
        world.clock.advance(2)
        assert announce_and_ask() == first
    world.clock.advance(2)
    second = announce_and_ask()
    assert second != first
    assert signed == [first, second]


def test_a_node_that_comes_or_goes_or_changes_is_in_the_next_one_a_second_later() -> None:
    world = World()
    serial, nodes = world.serials()
    assert nodes == []
    world.announce(1)
    assert world.serials() == (serial, [])
    world.clock.advance(1)
    newer, nodes = world.serials()
    assert newer > serial
    assert nodes == [identity(1)]
    world.announce(1, layer=3)
    world.clock.advance(1)
    assert world.publisher.topology().nodes[0].layer == 3
    world.clock.advance(6)
    assert world.serials()[1] == [identity(1)]
    world.clock.advance(2 * EXPIRY)
    assert world.serials()[1] == []


def test_a_serial_grows_although_the_wall_clock_goes_back() -> None:
    world = World()
    before = world.publisher.topology().serial
    world.clock.step = -3600
    world.clock.advance(60)
    assert world.publisher.topology().serial > before


def test_a_new_key_epoch_has_a_new_topology_at_once() -> None:
    world = World()
    epoch = world.publisher.topology().epoch
    world.clock.step = 86400 - world.clock.wall_clock() % 86400 - 1
    assert world.publisher.topology().epoch == epoch
    world.clock.advance(1.5)
    assert world.publisher.topology().epoch == epoch + 1


def test_after_a_restart_the_last_topology_stands_until_everybody_could_have_announced_himself() -> None:
    world = World()
    world.announce(1)
    document, before = world.publisher.document(), world.publisher.topology().serial
    restarted = World(document, world.clock)
    assert restarted.publisher.document() == document
    restarted.clock.advance(RESTART_GRACE - 1)
    restarted.announce(2)
    assert restarted.publisher.document() == document
    restarted.clock.advance(1.1)
    serial, nodes = restarted.serials()
    assert serial > before
    assert set(nodes) == {identity(1), identity(2)}
    restarted.clock.advance(2 * EXPIRY)
    restarted.announce(2)
    assert restarted.serials()[1] == [identity(2)]


def test_nobody_crowds_out_the_listed_clients_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from nymtw.directory.consensus import merge

    monkeypatch.setattr(merge, "MAX_CLIENTS", 4)
    world = World()
    addresses = {
        number: [Address(bytes([n]) * 32, bytes(32), identity(number)).encode(bytes(16)) for n in range(count)]
        for number, count in ((1, 50), (2, 1), (3, 1))
    }
    for number, listed in addresses.items():
        world.announce(number, "mixproviders", "provider", registered_clients=listed)
    clients = [client.address for client in world.publisher.topology().clients]
    assert len(clients) == 4
    assert {addresses[1][0], addresses[1][1], addresses[2][0], addresses[3][0]} == set(clients)


@pytest.mark.parametrize("previous", [b"", b"garbage"])
def test_what_was_kept_and_cannot_be_used_is_made_anew(previous: bytes) -> None:
    world = World(previous)
    assert world.publisher.topology().nodes == ()


def test_an_old_topology_is_not_served_after_a_long_rest() -> None:
    world = World()
    world.announce(1)
    document = world.publisher.document()
    world.clock.advance(3600)
    restarted = World(document, world.clock)
    assert restarted.publisher.topology().nodes == ()


def metric(world: World, number: int, sent: int = 1, received: int = 2, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"public_key": bytes([number]) * 32, "timestamp": world.now, **changes}
    return make_metric(sent=sent, received=received, signing_key=node_key(number), **values)


def test_metrics_are_summed_over_a_window_and_shown_when_it_is_complete() -> None:
    world = World()
    world.announce(1)
    world.directory.report(metric(world, 1, 3, 4))
    world.clock.advance(0.25)
    world.directory.report(metric(world, 1, 5, 6))
    assert world.directory.metrics() == []
    posted = world.now
    world.clock.advance(0.75)
    key = key_text(bytes([1]) * 32)
    assert world.directory.metrics() == [{"pubKey": key, "sent": 8, "received": 10, "timestamp": posted}]
    world.clock.advance(1)
    assert world.directory.metrics() == []


def test_metrics_are_refused_from_strangers_twice_and_for_others() -> None:
    world = World()
    with pytest.raises(DirectoryError, match="no mixnode"):
        world.directory.report(metric(world, 1))
    world.announce(1)
    world.announce(2, "mixproviders", "provider")
    with pytest.raises(DirectoryError, match="no mixnode"):
        world.directory.report(metric(world, 2))
    with pytest.raises(DirectoryError, match="another key"):
        world.directory.report(metric(world, 1, public_key=bytes([9]) * 32))
    world.directory.report(metric(world, 1))
    with pytest.raises(DirectoryError, match="not newer"):
        world.directory.report(metric(world, 1))
    with pytest.raises(EncodingError):
        world.directory.report({"sent": 2**80})


def test_metrics_of_nodes_that_are_gone_are_forgotten() -> None:
    world = World()
    world.announce(1)
    world.directory.report(metric(world, 1))
    world.clock.advance(10)
    assert world.directory.metrics() == []
    assert world.directory.windows.reporters == frozenset()


def test_a_directory_in_memory_is_a_directory() -> None:
    from zope.interface.verify import verifyObject

    from nymtw.interfaces import IDirectory

    world = World()
    local = LocalDirectory(world.directory)
    assert verifyObject(IDirectory, local)
    results: list[Any] = []

    def note(deferred: "Deferred[Any]") -> Any:
        deferred.addBoth(results.append)
        return results.pop()

    assert note(local.announce("mixnodes", world.heartbeat(1))) is None
    assert note(local.report(metric(world, 1))) is None
    assert note(local.topology()) == world.publisher.document()
    refused = note(local.announce("mixnodes", {"garbage": 1}))
    assert isinstance(refused, Failure)
    assert refused.check(DirectoryError)
    assert isinstance(note(local.report({})), Failure)
