"""Who is beside a node goes by the key epoch of a packet, where nodes change their role."""

from random import Random

from msgspec import structs

from twisted.internet.task import Clock

from nymtw.drop_reasons import DropReason
from nymtw.link.frames import Frame, FrameType
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.mixnode.core import MixnodeCore
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.sphinx import SizeClass, Unwrapper
from nymtw.topology.document import GATEWAY, MIXNODE, NodeRecord, Topology

EPOCH = 7


def node(number: int, role: str, layer: int = 0, **places: str) -> NodeRecord:
    record = NodeRecord(
        role=role, identity=bytes([number]) * 32, host="192.0.2.1", port=number, layer=layer, sphinx_keys={}
    )
    named = {int(epoch.removeprefix("_")): place for epoch, place in places.items()}
    return structs.replace(record, places=named, takes=("mixnode",)) if named else record


DOOR = node(1, GATEWAY)
FIRST = node(2, MIXNODE, 1)
SECOND = node(3, MIXNODE, 2)
THIRD = node(4, MIXNODE, 3)
# In layer 1 until epoch 7, then in layer 3.
MOVER = node(5, MIXNODE, 1, _6="mixnode-1", _8="mixnode-3")


def topology(*nodes: NodeRecord) -> Topology:
    return Topology(
        serial=1,
        network=bytes(16),
        published=1,
        valid_until=2,
        refresh=1.0,
        epoch=EPOCH,
        epoch_seconds=60,
        nodes=nodes,
    )


def core(own: NodeRecord, *nodes: NodeRecord) -> MixnodeCore:
    engine = MixnodeCore(
        clock=Clock(),
        random=Random(1),
        unwrapper=Unwrapper({}),
        guard=ReplayGuard(None, capacity=10),
        counters=PacketCounters(),
        own=own,
    )
    engine.use_topology(topology(DOOR, FIRST, SECOND, THIRD, MOVER, *nodes))
    return engine


def frame(epoch: int) -> Frame:
    return Frame(FrameType.PACKET, SizeClass.REGULAR, epoch, bytes(100))


def test_who_moves_has_the_neighbours_of_either_place() -> None:
    engine = core(MOVER)
    assert engine.next_hops(EPOCH) == engine.next_hops(EPOCH - 1) == {SECOND.identity}
    assert engine.next_hops(EPOCH + 1) == {DOOR.identity}
    assert engine.admits(DOOR.identity)
    assert engine.admits(SECOND.identity)


def test_its_neighbours_know_where_it_is_for_a_packet() -> None:
    engine = core(SECOND)
    assert engine.next_hops(EPOCH) == {THIRD.identity}
    assert engine.next_hops(EPOCH + 1) == {THIRD.identity, MOVER.identity}
    assert engine.admits(MOVER.identity)
    door = core(DOOR)
    assert door.next_hops(EPOCH) == {FIRST.identity, MOVER.identity}
    assert door.next_hops(EPOCH + 1) == {FIRST.identity}


def test_epochs_that_are_further_away_are_like_the_nearest_that_is_known() -> None:
    engine = core(MOVER)
    assert engine.next_hops(EPOCH + 5) == engine.next_hops(EPOCH + 1)
    assert engine.next_hops(0) == engine.next_hops(EPOCH - 1)


def test_a_packet_of_an_epoch_in_which_its_sender_is_no_neighbour_is_dropped() -> None:
    engine = core(SECOND)
    engine.receive(MOVER.identity, [frame(EPOCH + 1)])
    assert engine.counters.snapshot().dropped == {DropReason.WRONG_LAYER: 1}
    engine.receive(MOVER.identity, [frame(EPOCH)])
    assert engine.counters.snapshot().dropped == {DropReason.WRONG_LAYER: 1, DropReason.UNKNOWN_EPOCH: 1}
    engine.receive(FIRST.identity, [frame(EPOCH + 1)])
    assert engine.counters.snapshot().dropped[DropReason.WRONG_LAYER] == 1


def test_where_nobody_moves_there_is_one_network() -> None:
    still = topology(DOOR, FIRST, SECOND, THIRD, node(6, MIXNODE, 1, _6="mixnode-1"))
    assert still.at(EPOCH - 1) is still
    assert still.at(EPOCH + 1) is still


def test_a_stranger_that_the_topology_has_just_forgotten_is_not_taken_for_one_in_a_wrong_layer() -> None:
    engine = core(SECOND)
    engine.receive(bytes([99]) * 32, [frame(EPOCH)])
    assert engine.counters.snapshot().dropped == {DropReason.UNKNOWN_EPOCH: 1}
