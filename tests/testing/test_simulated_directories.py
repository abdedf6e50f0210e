"""Whole networks with several directories: nodes and clients go on while a minority of them is dead."""

import os

import pytest

from nymtw.directory.config import RecommendedSection
from nymtw.encoding import from_cbor
from nymtw.testing.simulation import SimulatedNetwork
from nymtw.topology.document import MAX_TOPOLOGY_LENGTH, SignedTopology

pytestmark = pytest.mark.long

RATES = RecommendedSection(
    loop_cover_traffic_rate=0.5, message_sending_rate=2.0, fetch_message_rate=1.0, average_packet_delay=0.05
)


def network(seed: int | str, directories: int) -> SimulatedNetwork:
    return SimulatedNetwork(
        seed, directories=directories, mixnodes_per_layer=1, providers=2, recommended=RATES, refresh=20.0, crypto="none"
    )


def signers(world: SimulatedNetwork) -> int:
    document = world.directories.running[world.directories.names[-1]].publisher.document()
    return len(from_cbor(document, SignedTopology, MAX_TOPOLOGY_LENGTH).signatures)


@pytest.mark.parametrize("count", [3, 5, 7] if os.environ.get("NYMTW_FULL") else [3])
def test_messages_go_on_while_a_minority_of_directories_dies_and_comes_back(seed: int, count: int) -> None:
    with network(seed, count) as world:
        world.deliver("alice", "bob", b"with all")
        world.run(60)
        assert signers(world) == count
        alice = world.clients["alice"].service.watch
        before = alice.usable().serial
        dead = world.directories.names[: (count - 1) // 2]
        for name in dead:
            world.directories.kill(name)
        world.run(120)
        # What was there does no longer answer, and the topology is as new as ever.
        assert alice.usable().serial >= before + 100 * 10**9
        assert len(alice.usable().nodes) == 5
        assert signers(world) == world.trust.threshold
        world.deliver("bob", "alice", b"with a majority")
        world.kill("mixnode-2-1")
        world.run(160)  # the last node of its layer stays for three refreshes, and for a grace of three more
        assert not alice.usable().mixnodes(2)  # what happens now is seen, too
        world.restart("mixnode-2-1")
        for name in dead:
            world.directories.restart(name)
        world.run(80)
        assert signers(world) == count
        assert len(alice.usable().nodes) == 5
        world.deliver("alice", "bob", b"with all again")


def test_without_a_majority_the_last_topology_is_used_and_a_majority_that_returns_goes_on(seed: int) -> None:
    with network(seed, 3) as world:
        world.run(60)
        alice = world.clients["alice"].service.watch
        world.directories.kill("directory")
        world.directories.kill("directory-2")
        world.run(60)
        before = alice.usable().serial
        world.run(120)
        assert alice.usable().serial == before
        world.deliver("alice", "bob", b"no majority")
        world.directories.restart("directory-2")
        world.run(100)
        assert alice.usable().serial > before
        assert len(alice.usable().nodes) == 5
