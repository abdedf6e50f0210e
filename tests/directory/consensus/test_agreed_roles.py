"""Several directories assign roles to nodes that take any: alike, over epochs, with one of them dead or new."""

from collections import Counter
from collections.abc import Iterator

import pytest
from voting_directories import REFRESH, Council, agreed, node_identity, unbroken

from nymtw.topology.document import ANY, LAYERS, Topology

EPOCH = 200  # ten versions
NODES = range(1, 11)


@pytest.fixture(name="council")
def make_council() -> Iterator[Council]:
    council = Council(3)
    council.settings = {number: {"epoch_seconds": EPOCH} for number in council.numbers}
    for number in NODES:
        council.add_node(number, ANY, takes=("mixnode", "entry-gateway"), client_port=5000 + number)
    yield council
    council.stop()


def counted(topology: Topology) -> Counter[str]:
    return Counter(node.place(topology.epoch) for node in topology.nodes)


def run_to_epoch_behind(council: Council, epoch: int, number: int) -> Topology:
    while council.topology(number).epoch <= epoch:
        council.run(1)
    return council.topology(number)


def test_all_directories_give_the_same_places_and_keep_them(council: Council) -> None:
    council.start()
    council.run(3)
    first = council.topology(1)
    assert sorted(counted(first).values()) == [2, 2, 3, 3]
    places = {node.identity: node.place(first.epoch) for node in first.nodes}
    council.kill(3)
    council.run(2)
    council.start(3)
    council.run(1)
    council.kill(1)
    turned = run_to_epoch_behind(council, first.epoch, 2)
    assert {node.identity: node.place(turned.epoch) for node in turned.nodes} == places
    assert council.topology(2).nodes == council.topology(3).nodes
    unbroken(council, 2)


def test_what_is_lacking_is_filled_at_the_next_epoch_after_notice(council: Council) -> None:
    council.expiry = REFRESH / 2  # an epoch is short here
    council.start()
    council.run(2)
    # At the beginning of an epoch, so that there is time.
    first = run_to_epoch_behind(council, council.topology(1).epoch, 1)
    gone = [number for number in NODES if first.find(node_identity(number)).layer == 2]  # type: ignore[union-attr]
    for number in gone:
        del council.nodes[number]
    council.run(2)
    assert not council.topology(1).mixnodes(2)
    turned = run_to_epoch_behind(council, first.epoch, 1)
    assert all(turned.mixnodes(layer) for layer in LAYERS)
    # It was said before, and nobody's place was another than had been said.
    logged: dict[tuple[bytes, int], str] = {}
    noticed = False
    for topology in agreed(council, *council.numbers).values():
        for node in topology.nodes:
            for epoch in node.places or ():
                assert logged.setdefault((node.identity, epoch), node.place(epoch)) == node.place(epoch)
                noticed |= topology.epoch == first.epoch and epoch > topology.epoch and node.place(epoch) == "mixnode-2"
    assert noticed
