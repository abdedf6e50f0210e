"""A whole network in one process: what is sent arrives, a seed repeats everything, every packet is accounted for."""

import os
import subprocess
import sys
from typing import Any

import pytest

from nymtw.directory.config import RecommendedSection
from nymtw.testing.simulation import SimulatedNetwork

# Enough to say much in little time: a packet a second from each stream.
QUIET = RecommendedSection(
    loop_cover_traffic_rate=0.5, message_sending_rate=5.0, drop_cover_traffic_rate=0.1, fetch_message_rate=2.0
)


def small(seed: int, **more: Any) -> SimulatedNetwork:
    return SimulatedNetwork(seed, **{"mixnodes_per_layer": 1, "providers": 1, "recommended": QUIET, **more})


@pytest.mark.pythons
def test_messages_arrive(seed: int) -> None:
    with SimulatedNetwork(seed, recommended=QUIET) as network:
        assert set(network.clients) == {"alice", "bob"}
        assert network.deliver("alice", "bob", b"hello") < 30
        assert network.deliver("bob", "alice", b"hello yourself") < 30
        long = network.random_of("a long message").randbytes(20_000)
        identifier = network.send("alice", "bob", long)
        network.run_until(lambda: long in network.clients["bob"].received, 300)
        network.run_until(lambda: network.clients["alice"].progress(identifier).state == "done", 300)
        assert network.clients["bob"].received == [b"hello", long]
        assert network.clients["alice"].received == [b"hello yourself"]


@pytest.mark.long
def test_every_packet_is_accounted_for(seed: int) -> None:
    with SimulatedNetwork(seed, recommended=QUIET) as network:
        network.deliver("alice", "bob", b"hello")
        network.run(20)
        for name, counters in network.counters().items():
            node = network.nodes[name]
            assert counters.received > 0, name
            # What the sum leaves is what the node holds.
            assert counters.queued == node.core.queued + node.links.pending, name


@pytest.mark.long
def test_mixnodes_send_loops_if_they_are_told(seed: int) -> None:
    with small(seed, mix_loops=1.0) as network:
        network.run(60)
        loops = [node.loops.ledger for node in network.nodes.values() if hasattr(node, "loops")]
        assert len(loops) == 3
        assert all(ledger.sent > 25 and ledger.sent - ledger.returned < 10 for ledger in loops)


@pytest.mark.long
def test_a_seed_repeats_a_run_to_the_byte(seed: int) -> None:
    def run(number: int) -> str:
        with small(number) as network:
            network.deliver("alice", "bob", b"hello")
            network.run(10)
            return network.transcript.digest()

    assert run(seed) == run(seed)
    assert run(seed) != run(seed + 1)


@pytest.mark.long
def test_a_seed_repeats_a_run_in_another_process(seed: int) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_simulation import small\n"
        f"with small({seed}) as network:\n"
        "    network.deliver('alice', 'bob', b'hello')\n"
        "    print(network.transcript.digest())"
    )

    def run(hash_seed: str) -> str:
        command = [sys.executable, "-c", program, os.path.dirname(__file__)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert run("1") == run("2")


@pytest.mark.parametrize("loss", [0.05, 0.2])
def test_loss_costs_time_not_data(seed: int, loss: float) -> None:
    with SimulatedNetwork(seed, recommended=QUIET) as network:
        network.impair(loss=loss, duplicate=0.05, reorder=0.1)
        message = network.random_of("a message").randbytes(15_000)
        network.deliver("alice", "bob", message, limit=900)
        assert network.clients["bob"].received == [message]
        assert sum(impairment.lost for impairment in network.impairments.values()) > 0


@pytest.mark.long
def test_a_mixnode_that_dies_costs_time_not_data(seed: int) -> None:
    with SimulatedNetwork(seed, recommended=QUIET, refresh=10.0) as network:
        message = network.random_of("a message").randbytes(15_000)
        network.send("alice", "bob", message)
        network.run(1)
        network.kill("mixnode-2-1")
        network.run_until(lambda: network.clients["bob"].received == [message], 600)
        network.restart("mixnode-2-1")
        network.run(30)
        assert network.nodes["mixnode-2-1"].counters.snapshot().received > 0


@pytest.mark.long
@pytest.mark.parametrize("name", ["alice", "bob", "provider-1", "provider-2"])
def test_a_client_or_node_that_is_killed_and_restarted_finishes_the_job(seed: int, name: str) -> None:
    with SimulatedNetwork(seed, recommended=QUIET) as network:
        message = network.random_of("a message").randbytes(10_000)
        network.send("alice", "bob", message)
        network.run(1.5)
        network.kill(name)
        network.run(10)
        network.restart(name)
        network.run_until(lambda: network.clients["bob"].received == [message], 900)
        network.run(20)
        assert network.clients["bob"].received == [message]


def test_a_restarted_client_or_node_draws_anew(seed: int) -> None:
    def identifiers() -> list[bytes]:
        with small(seed, clients=("alice",)) as network:
            found = []
            for _ in range(3):
                network.run_until(network.clients["alice"].is_ready, 60)
                found += [network.send("alice", "alice", b"note") for _ in range(3)]
                network.kill("alice")
                network.restart("alice")
            network.run_until(network.clients["alice"].is_ready, 60)
        return found

    found = identifiers()
    assert len(set(found)) == len(found) == 9
    assert identifiers() == found


def test_a_cut_link_and_a_silent_directory_are_survived(seed: int) -> None:
    with SimulatedNetwork(seed, recommended=QUIET) as network:
        network.network.cut("alice", "provider-1")
        network.directory_away = True
        network.run(30)
        assert not network.clients["alice"].is_ready()
        network.network.mend("alice", "provider-1")
        network.deliver("bob", "alice", b"hello", limit=300)
        network.directory_away = False
        network.deliver("alice", "bob", b"hello", limit=300)


def test_a_client_that_was_killed_still_gets_mail_and_names_that_nobody_has_are_said(seed: int) -> None:
    with small(seed) as network:
        network.kill("bob")
        network.send("alice", "bob", b"while you were away")
        for mistake, name in (
            (lambda: network.send("bob", "alice", b"x"), "'bob' was killed"),
            (lambda: network.deliver("alice", "bob", b"x"), "'bob' was killed"),
            (lambda: network.kill("bob"), "'bob' was killed"),
            (lambda: network.fill_disk("bob"), "'bob' was killed"),
            (lambda: network.send("alice", "carol", b"x"), "no 'carol': it has alice, bob"),
            (lambda: network.kill("carol"), "no 'carol'"),
            (lambda: network.restart("carol"), "no 'carol'"),
            (lambda: network.restart("alice"), "'alice' runs"),
        ):
            with pytest.raises(ValueError, match=name):
                mistake()
        network.restart("bob")
        network.run_until(lambda: network.clients["bob"].received == [b"while you were away"], 300)
