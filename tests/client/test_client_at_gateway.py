"""A client whose mail is pushed, by itself and at a gateway in a simulated network."""

import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from client_and_edge import Net, Person

from twisted.internet.defer import Deferred

from nymtw.client.config import ClientConfig, ClientSection
from nymtw.client.sending.messages import State
from nymtw.client.service import ClientService, Environment
from nymtw.directory.config import RecommendedSection
from nymtw.encoding import key_text
from nymtw.testing.directories import RemoteDirectory
from nymtw.testing.security import MemorySecurity
from nymtw.testing.simulated import SimulatedClient
from nymtw.testing.simulation import SimulatedNetwork
from nymtw.topology.document import Topology

pytestmark = pytest.mark.long

QUIET = RecommendedSection(
    loop_cover_traffic_rate=0.5, message_sending_rate=5.0, drop_cover_traffic_rate=0.1, fetch_message_rate=2.0
)
AT_ONCE = {"gateway-1": ["--downlink-rate=0"]}


def network(seed: int, **more: Any) -> SimulatedNetwork:
    """alice at a gateway, bob at a provider."""
    sizes: dict[str, Any] = {
        "mixnodes_per_layer": 1,
        "providers": 1,
        "gateways": 1,
        "at": {"alice": "gateway-1"},
        "crypto": "none",
    }
    return SimulatedNetwork(seed, recommended=QUIET, refresh=5.0, **{**sizes, **more})


def is_done(client: SimulatedClient, message: bytes) -> bool:
    progress = client.progress(message)
    return progress is not None and progress.state is State.DONE


def waiting(net: SimulatedNetwork) -> list[Any]:
    """What the gateway keeps for alice."""
    mailbox = net.clients["alice"].address.mailbox
    return list(net.nodes["gateway-1"].clients.store.pull(mailbox, 1000, 0))


# -- by itself


def test_where_mail_is_pushed_none_is_fetched_and_what_is_done_with_is_confirmed() -> None:
    net = Net()
    alice = Person(net, "alice", push=True)
    net.clock.advance(20)
    assert alice.connection.pulls == []
    assert alice.core.status()["loopsReturned"] > 50
    alice.connection.blocked = True
    net.clock.advance(5)
    assert net.mail[alice.mailbox] == []
    alice.stop()


def test_mail_that_nobody_could_have_sent_is_no_end_of_mail() -> None:
    net = Net()
    alice = Person(net, "alice", push=True)
    net.deliver(alice.mailbox, 9, b"of no kind")
    net.deliver(alice.mailbox, 1, b"sealed for nobody")
    net.clock.advance(5)
    assert alice.core.status()["malformed"] == 1
    assert not [item for item in net.mail[alice.mailbox] if item.content.startswith((b"of no", b"sealed"))]
    alice.stop()


def test_without_a_provider_one_is_picked_and_a_gateway_where_there_are_none(tmp_path: Path) -> None:
    net = Net()
    good = net.good
    assert isinstance(good, Topology)
    doors = [node for node in good.nodes if node.role == "provider"]
    gateways = tuple(msgspec.structs.replace(node, role="gateway", identity=bytes([9]) * 32) for node in doors[:1])
    mixnodes = tuple(node for node in good.nodes if node.role == "mixnode")
    alice = Person(net, "alice", tmp_path / "alice.db", names_edge=False)
    alice.core.use_topology(msgspec.structs.replace(good, nodes=(*good.nodes, *gateways)))
    assert alice.core.address.provider in {node.identity for node in doors}
    bob = Person(net, "bob", tmp_path / "bob.db", names_edge=False)
    bob.core.use_topology(msgspec.structs.replace(good, nodes=mixnodes))
    assert not bob.core.has_address
    bob.core.use_topology(msgspec.structs.replace(good, nodes=(*mixnodes, *gateways)))
    assert bob.core.address.provider == bytes([9]) * 32
    alice.stop()
    bob.stop()


# -- in a network


@pytest.mark.parametrize("implementations", [{}, AT_ONCE], ids=["fixed rate", "at once"])
def test_messages_go_both_ways_and_the_gateway_keeps_nothing_of_them(seed: int, implementations: Any) -> None:
    with network(seed, implementations=implementations) as net:
        alice = net.clients["alice"]
        assert alice.core.status()["pushed"]
        assert not net.clients["bob"].core.status()["pushed"]
        assert alice.address.provider == bytes(net.nodes["gateway-1"].parts.identity.verify_key)
        assert net.deliver("alice", "bob", b"hello") < 30
        assert net.deliver("bob", "alice", b"hello yourself") < 30
        long = random.Random(seed).randbytes(20_000)
        sent = net.send("bob", "alice", long)
        net.run_until(lambda: is_done(net.clients["bob"], sent), 300)
        net.run(5)
        assert alice.received == [b"hello yourself", long]
        for stream in alice.core.streams.all:
            stream.stop()
        net.run(10)
        assert waiting(net) == []


def test_a_reply_finds_a_client_at_a_gateway(seed: int) -> None:
    with network(seed) as net:
        alice, bob = net.clients["alice"], net.clients["bob"]
        tags: list[Any] = []
        bob.core.inbox.subscribe(lambda message: tags.append(message.tag))
        alice.send(bob, b"who is there?", surbs=3)
        net.run_until(lambda: bool(tags), 60)
        net.clock.wait_for(Deferred.fromCoroutine(bob.core.reply(tags[0], b"bob")), 60)
        net.run_until(lambda: bool(alice.received), 60)
        assert alice.received == [b"bob"]


def test_what_came_while_it_was_away_is_found_once(seed: int) -> None:
    with network(seed) as net:
        bob, address = net.clients["bob"], net.clients["alice"].address
        net.kill("alice")
        messages = [bytes([number]) * 5000 for number in range(3)]
        sent = [bob.send(address, message) for message in messages]
        net.run_until(lambda: all(is_done(bob, each) for each in sent), 300)
        net.kill("gateway-1")
        net.run(5)
        net.restart("gateway-1")
        net.restart("alice")
        alice = net.clients["alice"]
        net.run_until(lambda: len(alice.received) == 3, 120)
        net.run(60)
        assert sorted(alice.received) == messages


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_a_gateway_that_is_restarted_loses_nothing_and_gives_nothing_twice(seed: int, loss: float) -> None:
    with network(seed, mixnodes_per_layer=2) as net:
        alice, bob = net.clients["alice"], net.clients["bob"]
        net.impair(layer=None, loss=loss, duplicate=loss, reorder=loss)
        there, back = (random.Random(f"{seed} {way}").randbytes(25_000) for way in ("there", "back"))
        sent = [alice.send(bob, there), bob.send(alice, back)]
        for _ in range(3):
            net.run(1.5)
            net.kill("gateway-1")
            net.run(4)
            assert not alice.is_ready()
            assert "gateway" in alice.core.status()["trouble"]
            net.restart("gateway-1")
            net.run_until(alice.is_ready, 120)
        net.run_until(lambda: is_done(alice, sent[0]) and is_done(bob, sent[1]), 1200)
        net.run(60)
        assert (alice.received, bob.received) == ([back], [there])


def test_what_is_sent_while_the_gateway_is_away_waits_for_it(seed: int) -> None:
    with network(seed) as net:
        alice, bob = net.clients["alice"], net.clients["bob"]
        net.network.cut("alice", "gateway-1")
        sent = [alice.send(bob, bytes([number])) for number in range(5)]
        net.run(90)
        assert bob.received == []
        assert alice.core.status()["queueLength"] + alice.core.status()["inFlight"] >= 5
        net.network.mend("alice", "gateway-1")
        net.run_until(lambda: all(is_done(alice, each) for each in sent), 600)
        net.run(30)
        assert sorted(bob.received) == [bytes([number]) for number in range(5)]


def test_a_second_login_takes_over_and_two_copies_do_not_fight_without_pause(seed: int) -> None:
    with network(seed) as net:
        first = net.clients["alice"]
        first_link: Any = first.service.link
        other = copy_of_alice(net)
        other.start()
        net.run_until(other.is_ready, 60)
        assert not first.is_ready()
        logins = 0

        def count(connect: Any) -> Any:
            def counted(connection: Any) -> None:
                nonlocal logins
                logins += 1
                connect(connection)

            return counted

        for link in (first_link, other.service.link):
            link.connected = count(link.connected)
        net.run(100)
        assert 4 < logins < 25
        # Without the other it has its mailbox for itself.
        net.clock.wait_for(other.service.stopService(), 60)
        net.run_until(first.is_ready, 120)
        net.deliver("bob", "alice", b"hello")
        assert first.received == [b"hello"]


def copy_of_alice(net: SimulatedNetwork) -> SimulatedClient:
    """Her folder, once more, at another host."""
    home = net.home("client", "copy")
    home.create()
    here = net.homes["alice"]
    for name in ("config", "data"):
        shutil.copytree(here.path / name, home.path / name, dirs_exist_ok=True)
    source = random.Random(f"{net.seed} copy")
    gateway = bytes(net.nodes["gateway-1"].parts.identity.verify_key)
    environment = Environment(
        random=source,
        wall_clock=net.clock.wall_clock,
        directory=RemoteDirectory(net, net.network.host("copy")),
        trust=net.trust,
        security=MemorySecurity(None, source),
    )
    config = ClientConfig(client=ClientSection(id="copy", gateway_id=key_text(gateway)))
    return SimulatedClient(
        net, "copy", ClientService.from_config(net.network.host("copy"), home, config, None, environment)
    )


def test_all_at_gateways_and_no_provider(seed: int) -> None:
    places = {"alice": "gateway-1", "bob": "gateway-2"}
    with network(seed, providers=0, gateways=2, at=places) as net:
        net.impair(layer=None, loss=0.1, duplicate=0.1, reorder=0.1)
        message = random.Random(seed).randbytes(20_000)
        net.deliver("alice", "bob", message)
        net.deliver("bob", "alice", message)
        net.run(60)
        assert net.clients["alice"].received == net.clients["bob"].received == [message]
