"""Which role nodes get that take any: pure, from tables of who is there."""

import random
from collections import Counter

import msgspec
import pytest

from nymtw.directory.consensus.role_assignment import assign, places_in
from nymtw.topology.document import (
    ANY,
    GATEWAY,
    LAYERS,
    MIXNODE,
    NOTICE,
    PLACES,
    PROVIDER,
    NodeRecord,
    Topology,
    check_consistent,
)

EPOCH, SECONDS, REFRESH = 100, 3600, 60.0
BEGIN = EPOCH * SECONDS
LATE = BEGIN + SECONDS - NOTICE * REFRESH + 1  # when it is time to decide on the next epoch
EVERYTHING = ("mixnode", "entry-gateway", "exit-gateway")
USUAL = ("mixnode", "entry-gateway")


def node(number: int, role: str = ANY, layer: int = 0, takes=USUAL, services=msgspec.UNSET) -> NodeRecord:
    return NodeRecord(
        role=role,
        identity=bytes([number]) * 32,
        host="192.0.2.1",
        port=number,
        layer=layer,
        sphinx_keys={},
        services=services,
        takes=takes if role == ANY else msgspec.UNSET,
    )


def make(nodes, before=None, at=BEGIN + 10.0) -> Topology:
    epoch = int(at // SECONDS)
    topology = Topology(
        serial=int(at * 1e9),
        network=bytes(16),
        published=int(at * 1e9),
        valid_until=int(at * 1e9) + 10**12,
        refresh=REFRESH,
        epoch=epoch,
        epoch_seconds=SECONDS,
        nodes=assign(
            nodes, places_in(before), epoch=epoch, published=int(at * 1e9), epoch_seconds=SECONDS, refresh=REFRESH
        ),
    )
    check_consistent(topology)
    return topology


def counted(topology: Topology) -> Counter:
    return Counter((each.role, each.layer) for each in topology.nodes)


def even(*numbers: int) -> dict:
    places = [(MIXNODE, layer) for layer in LAYERS] + [(GATEWAY, 0)]
    return {place: number for place, number in zip(places, numbers, strict=True) if number}


def test_nodes_with_a_role_of_their_own_stay_as_they_are() -> None:
    nodes = [node(1, MIXNODE, 2), node(2, PROVIDER)]
    assert make(nodes).nodes == tuple(nodes)


@pytest.mark.parametrize(
    ("number", "filled"), [(1, (1, 0, 0, 0)), (4, (1, 1, 1, 1)), (6, (2, 2, 1, 1)), (12, (3,) * 4)]
)
def test_new_nodes_fill_the_layers_and_the_doors_evenly(number: int, filled) -> None:
    assert counted(make([node(each) for each in range(1, number + 1)])) == even(*filled)


def test_a_new_node_gets_what_is_lacking_beside_those_with_roles_of_their_own() -> None:
    nodes = [node(1, MIXNODE, 1), node(2, MIXNODE, 3), node(3, PROVIDER)]
    assert make([*nodes, node(4)]).find(bytes([4]) * 32).layer == 2


def test_nobody_is_made_an_exit_who_does_not_ask_for_it() -> None:
    topology = make([node(each) for each in range(1, 11)])
    assert {each.place(EPOCH) for each in topology.nodes} == set(PLACES) - {"exit-gateway"}
    topology = make([node(each, takes=EVERYTHING) for each in range(1, 11)])
    assert Counter(each.place(EPOCH) for each in topology.nodes) == dict.fromkeys(PLACES, 2)


def test_an_exit_is_told_by_its_service() -> None:
    fixed = [node(layer, MIXNODE, layer) for layer in LAYERS]
    doors = [node(4, GATEWAY, services={"exit": "somewhere"})]
    assert (
        make([*fixed, *doors, node(5, takes=("entry-gateway", "exit-gateway"))]).nodes[-1].place(EPOCH)
        == "entry-gateway"
    )


def test_within_an_epoch_nobody_moves() -> None:
    nodes = [node(each) for each in range(1, 13)]
    first = make(nodes)
    left = [each for each in nodes if first.find(each.identity).layer != 1]
    later = make(left, first, BEGIN + 1000.0)
    assert all(later.find(each.identity) == first.find(each.identity) for each in left)
    assert not later.mixnodes(1)


def test_a_layer_that_is_empty_is_filled_at_the_next_epoch_and_that_is_announced_before() -> None:
    nodes = [node(each) for each in range(1, 13)]
    first = make(nodes)
    left = [each for each in nodes if first.find(each.identity).layer != 1]
    noticed = make(left, first, LATE)
    assert counted(noticed) == even(0, 3, 3, 3)
    assert counted(noticed.at(EPOCH + 1)) == even(2, 2, 2, 3)
    assert noticed.at(EPOCH) is not noticed
    assert counted(noticed.at(EPOCH)) == counted(noticed)
    turned = make(left, noticed, BEGIN + SECONDS + 1.0)
    assert counted(turned) == even(2, 2, 2, 3)
    # What is still under way for the epoch before goes where it went.
    assert counted(turned.at(EPOCH)) == even(0, 3, 3, 3)


def test_what_has_been_announced_holds() -> None:
    nodes = [node(each) for each in range(1, 13)]
    first = make(nodes)
    left = [each for each in nodes if first.find(each.identity).layer != 1]
    noticed = make(left, first, LATE)
    again = make(nodes, noticed, LATE + REFRESH)
    assert all(again.find(each.identity).places == noticed.find(each.identity).places for each in left)


def test_a_gateway_that_cannot_leave_stays_and_a_mixnode_goes_in_its_place() -> None:
    nodes = [node(each) for each in range(1, 5)]
    first = make(nodes)
    door = first.gateways()[0].identity
    crowd = [*nodes, *(node(each, GATEWAY) for each in range(10, 20))]
    bound = [
        msgspec.structs.replace(each, takes=("entry-gateway",)) if each.identity == door else each for each in crowd
    ]
    assert make(bound, first, LATE).at(EPOCH + 1).find(door).role == GATEWAY
    assert make(crowd, first, LATE).at(EPOCH + 1).find(door).role == MIXNODE


def test_who_does_not_take_its_place_any_more_gets_another() -> None:
    nodes = [node(each) for each in range(1, 13)]
    first = make(nodes)
    mix = first.mixnodes(1)[0].identity
    left = [msgspec.structs.replace(each, takes=("entry-gateway",)) if each.identity == mix else each for each in nodes]
    noticed = make(left, first, LATE)
    assert noticed.find(mix).role == MIXNODE
    assert noticed.at(EPOCH + 1).find(mix).role == GATEWAY


def test_nobody_moves_where_an_epoch_is_too_short_to_tell_everybody() -> None:
    nodes = [node(each) for each in range(1, 13)]
    first = make(nodes)
    left = [each for each in nodes if first.find(each.identity).layer != 1]
    placed = assign(
        left, places_in(first), epoch=EPOCH, published=int(LATE * 1e9), epoch_seconds=SECONDS, refresh=SECONDS / NOTICE
    )
    assert all(len(each.places or ()) == 1 for each in placed)


def test_over_many_epochs_of_comings_and_goings_nobody_moves_unannounced() -> None:
    source = random.Random("assignment")
    everybody = [node(each, takes=source.choice([USUAL, EVERYTHING])) for each in range(1, 60)]
    there, before, moves = everybody[:30], None, 0
    for step in range(400):
        if step % 3 == 0:
            there = sorted(source.sample(everybody, source.randint(25, 59)), key=lambda each: each.identity)
        topology = make(there, before, BEGIN + step * SECONDS / 10 + SECONDS / 10 - 2 * REFRESH)
        assert [each.identity for each in topology.nodes] == [each.identity for each in there]
        for each in topology.nodes if before else ():
            earlier = before.find(each.identity)
            if earlier is not None:
                for epoch in range(topology.epoch - 1, before.epoch + 1):
                    assert each.place(epoch) == earlier.place(epoch)
                turned = topology.epoch == before.epoch + 1
                if turned:
                    assert each.place(topology.epoch) == earlier.place(topology.epoch)
                moves += turned and each.place(before.epoch) != each.place(topology.epoch)
        before = topology
    assert moves > 10


def test_directories_that_know_the_same_decide_the_same_whatever_the_order() -> None:
    nodes = [node(each, takes=EVERYTHING) for each in range(1, 40)]
    one = {each.identity: each.places for each in make(nodes).nodes}
    random.Random(7).shuffle(nodes)
    assert {each.identity: each.places for each in make(nodes).nodes} == one
