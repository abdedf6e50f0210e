"""A mixnode with several workers does what one process does, and counts what it loses when one of them dies."""

from pathlib import Path
from random import Random

import pytest
from mixnode_with_workers import EPOCH, MILLISECOND, NODE_PORT, WorkerParts
from msgspec import structs

from nymtw.drop_reasons import DropReason
from nymtw.errors import DiskError
from nymtw.link.frames import Frame, FrameType
from nymtw.mixing.loop_loss import GO_ON, PAUSE
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.mixnode.core import MixnodeCore
from nymtw.mixnode.workers.handle import GOOD_LIFE, HUNG
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.sphinx import Unwrapper, generate_keypair

pytestmark = pytest.mark.pythons


def test_a_packet_leaves_when_it_is_due_whichever_worker_has_taken_it_and_has_the_link() -> None:
    crew = WorkerParts(1)
    start = crew.clock.seconds()
    for number in (1, 2):
        for record in crew.behind:
            crew.enter(number, crew.packet(50 * MILLISECOND, to=record))
    crew.run(1.0)
    assert sorted(where for _, where, _ in crew.arrived) == sorted(2 * [record.identity for record in crew.behind])
    # The first one makes the link: there and back for the connection, the hellos and the keep-alive, and then itself.
    assert [when - start for when, _, _ in crew.arrived] == pytest.approx([0.050] * 4, abs=0.002)
    assert {frame.epoch for _, _, frame in crew.arrived} == {EPOCH}
    snapshot = crew.counters.snapshot()
    assert (snapshot.received, snapshot.forwarded, snapshot.queued, snapshot.dropped) == (4, 4, 0, {})


def test_there_is_one_link_to_each_node_behind() -> None:
    crew = WorkerParts(2, count=3, behind=4)
    for number in (1, 2, 3):
        crew.enter(number, *(crew.packet(to=record) for record in crew.behind))
    crew.run(1.0)
    assert len(crew.arrived) == 12
    ends = [receiver for sender, receiver in crew.network.connections() if receiver.startswith("10.0.0.1")]
    assert sorted(ends) == sorted(record.host for record in crew.behind)


def test_a_replay_that_reaches_two_workers_at_once_is_dropped_by_one_of_them() -> None:
    crew = WorkerParts(3)
    for record in crew.behind:
        for delay in (0, 30 * MILLISECOND):
            packet = crew.packet(delay, to=record)
            crew.enter(1, packet)
            crew.enter(2, packet, packet)
    crew.run(1.0)
    assert len(crew.arrived) == 4
    assert crew.dropped == {DropReason.REPLAYED: 8}


def test_a_replay_is_dropped_after_the_worker_that_took_the_first_one_has_died() -> None:
    crew = WorkerParts(4)
    packet = crew.packet()
    crew.enter(1, packet)
    crew.run(0.1)
    crew.process(1).kill()
    crew.run(1.0)
    crew.enter(1, packet)
    crew.enter(2, packet)
    crew.run(1.0)
    assert len(crew.arrived) == 1
    assert crew.dropped == {DropReason.REPLAYED: 2}


def test_nothing_leaves_before_its_tag_is_written(tmp_path: Path) -> None:
    crew = WorkerParts(5, folder=tmp_path)
    crew.enter(1, *(crew.packet(to=record) for record in crew.behind))

    def refuse() -> None:
        raise DiskError("no space left")

    flush = crew.guard.flush
    crew.guard.flush = refuse  # type: ignore[method-assign]
    crew.run(1.0)
    assert crew.arrived == []
    assert crew.dropped == {DropReason.DISK_ERROR: 2}
    crew.guard.flush = flush  # type: ignore[method-assign]
    crew.enter(1, *(crew.packet(to=record) for record in crew.behind))
    crew.run(1.0)
    assert len(crew.arrived) == 2


def test_what_a_dead_worker_held_is_counted_and_another_takes_its_place() -> None:
    crew = WorkerParts(6)
    first = crew.process(1)
    later = 500 * MILLISECOND
    for _ in range(5):
        crew.enter(1, *(crew.packet(later, to=record) for record in crew.behind))
        crew.enter(2, *(crew.packet(later, to=record) for record in crew.behind))
    crew.run(0.1)
    crew.enter(1, crew.packet(), crew.packet(later))  # not yet asked about
    owned = sum(crew.owner(record) == 1 for record in crew.behind)
    first.kill()
    crew.run(0.1)
    # What it had taken for its own link, what the other had for it, and the two of which nobody had heard.
    assert crew.dropped == {DropReason.WORKER_LOST: 10 * owned + 2}
    assert crew.process(1) is not first
    assert crew.counters.queued == crew.inside == 10
    crew.enter(1, crew.packet(to=crew.behind[0]), crew.packet(to=crew.behind[1]))
    crew.run(1.0)
    assert len(crew.arrived) == 12
    assert crew.counters.queued == 0


def test_the_account_is_exact_whenever_workers_die() -> None:
    seed = 7
    crew = WorkerParts(seed, count=3, behind=4)
    random = Random(seed)
    kept: list[bytes] = []

    def enter() -> None:
        packets = [crew.packet(int(random.expovariate(1 / (30 * MILLISECOND)))) for _ in range(random.randrange(1, 4))]
        kept.extend(packets)
        packets += [*random.sample(kept, min(len(kept), random.randrange(3))), random.randbytes(2413)]
        handle = random.choice(crew.workers.handles)
        if handle.process is not None and handle.process.worker.core is not None:
            crew.enter(handle.number, *packets)

    def kill() -> None:
        handle = random.choice(crew.workers.handles)
        if handle.process is not None:
            handle.process.kill()

    for index in range(150):
        crew.clock.callLater(index * 0.01, enter)
    for _ in range(12):
        crew.clock.callLater(random.uniform(0, 1.5), kill)
    crew.run(1.4)
    assert crew.counters.queued > 0
    crew.run(30.0)
    snapshot = crew.counters.snapshot()
    assert snapshot.queued == crew.inside == 0
    assert snapshot.forwarded >= len(crew.arrived) > 50
    assert set(snapshot.dropped) >= {DropReason.WORKER_LOST, DropReason.REPLAYED, DropReason.BAD_MAC}
    assert len({frame.body for _, _, frame in crew.arrived}) == len(crew.arrived)


def test_a_worker_that_keeps_dying_is_started_at_growing_intervals_and_others_do_its_work() -> None:
    crew = WorkerParts(8)
    births = []
    for _ in range(6):
        began = crew.clock.seconds()
        crew.process(1).kill()
        crew.clock.advance_until(lambda: crew.process(1) is None, 1.0)
        crew.run(0.05)
        if crew.process(1) is None:
            assert {crew.owner(record) for record in crew.behind} == {2}
            crew.enter(2, *(crew.packet(to=record) for record in crew.behind))
        crew.clock.advance_until(lambda: crew.process(1) is not None, 60.0)
        births.append(crew.clock.seconds() - began)
        crew.run(0.05)
    assert births == pytest.approx([0, 0.5, 1, 2, 4, 8], abs=0.1)
    crew.run(2.0)
    assert len(crew.arrived) == 10
    assert {crew.owner(record) for record in crew.behind} == {1, 2}
    crew.run(GOOD_LIFE)
    crew.process(1).kill()
    crew.run(0.1)
    assert crew.process(1) is not None


def test_a_worker_that_hangs_is_killed() -> None:
    crew = WorkerParts(9)
    hung = crew.process(2)
    for call in crew.clock.getDelayedCalls():
        if call.owner is hung.host:
            call.cancel()
    crew.run(HUNG + 5)
    assert crew.process(2) is not hung


def test_keys_rotate_in_all_workers_and_tags_for_a_destroyed_key_are_refused() -> None:
    crew = WorkerParts(10)
    private, public = generate_keypair(crew.random)
    crew.coordinator.use_keys({EPOCH: crew.private, EPOCH + 1: private})
    crew.run(0.01)
    old, new = [crew.packet() for _ in range(2)], [crew.packet(key=public) for _ in range(2)]
    for number in (1, 2):
        crew.enter(number, old[number - 1])
        crew.enter(number, new[number - 1], epoch=EPOCH + 1)
    crew.run(1.0)
    assert sorted(frame.epoch for _, _, frame in crew.arrived) == [EPOCH, EPOCH, EPOCH + 1, EPOCH + 1]
    # A replay of the old key's packet that a worker has unwrapped when the key goes.
    crew.enter(1, old[0])
    crew.coordinator.use_keys({EPOCH + 1: private})
    crew.run(1.0)
    assert crew.dropped == {DropReason.UNKNOWN_EPOCH: 1}
    assert crew.guard.epochs == [EPOCH + 1]
    crew.enter(2, old[1])
    crew.process(1).kill()
    crew.run(1.0)
    crew.enter(1, crew.packet(key=public), epoch=EPOCH + 1)
    crew.run(1.0)
    assert crew.dropped == {DropReason.UNKNOWN_EPOCH: 2}
    assert len(crew.arrived) == 5


def test_a_newer_connection_of_a_peer_ends_the_older_one_with_another_worker() -> None:
    crew = WorkerParts(11)
    host = crew.network.host("edge", crew.edge.host)
    links = crew.links_of(host, crew.edge, lambda peer, frames: None)
    addresses = [crew.process(number).host.address for number in (1, 2)]

    def connections() -> list[str]:
        return [receiver.split(".")[0] for sender, receiver in crew.network.connections() if sender == "edge"]

    for address, there in ((addresses[0], "worker 1"), (addresses[1], "worker 2"), (addresses[0], "worker 1")):
        older = links
        links = crew.links_of(host, crew.edge, lambda peer, frames: None)
        links.set_peers({crew.own.identity: (address, NODE_PORT)})
        links.send(crew.own.identity, EPOCH, crew.packet())
        crew.run(0.1)
        older.stop()
        assert connections() == [there]
    assert len(crew.arrived) == 3


def test_the_nodes_come_and_go_and_few_links_move() -> None:
    crew = WorkerParts(12, behind=5)
    before = dict(crew.workers.owners)
    crew.use_nodes(crew.behind[:4])
    crew.run(0.1)
    moved = [hop for hop, owner in crew.workers.owners.items() if before[hop] != owner]
    assert len(moved) <= 1
    gone = crew.packet(to=crew.behind[4])
    crew.enter(1, gone)
    crew.run(0.1)
    assert crew.dropped == {DropReason.UNKNOWN_NEXT_HOP: 1}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("rate", [1, 2])
def test_workers_take_and_pass_on_what_one_process_does_by_the_key_epoch_of_the_frame(count: int, rate: int) -> None:
    """A node that is in layer 1 in this key epoch and in layer 3 in the next: packets to it and from it."""
    crew = WorkerParts(13, count=count)
    later = generate_keypair(crew.random)
    stays, mover = crew.behind
    mover = structs.replace(mover, layer=1, places={EPOCH: "mixnode-1", EPOCH + 1: "mixnode-3"}, takes=("mixnode",))
    crew.use_nodes([stays, mover])
    keys = {EPOCH: crew.private, EPOCH + 1: later[0]}
    crew.coordinator.use_keys(keys)
    crew.run(0.1)
    alone = MixnodeCore(
        clock=crew.clock,
        random=crew.random,
        unwrapper=Unwrapper({}),
        guard=ReplayGuard(None, capacity=1000),
        counters=PacketCounters(),
        own=crew.own,
    )
    alone.use_topology(crew.topology)
    alone.use_keys(keys)
    for epoch, key in (EPOCH, crew.own.sphinx_keys[EPOCH]), (EPOCH + 1, later[1]):
        for peer in crew.edge.identity, mover.identity:
            for to in stays, mover:
                packets = [crew.packet(MILLISECOND, to=to, key=key) for _ in range(rate * count)]
                frames = [Frame(FrameType.PACKET, 0, epoch, packet) for packet in packets]
                for number in range(count):
                    crew.worker(number + 1).core.receive(peer, frames[number::count])
                alone.receive(peer, frames)
    assert alone.queued == 4 * rate * count
    alone.stop()
    crew.run(1.0)
    times = rate * count
    dropped = {DropReason.UNKNOWN_NEXT_HOP: 2 * times, DropReason.WRONG_LAYER: 2 * times}
    assert crew.dropped == dropped
    assert alone.counters.snapshot().dropped == {**dropped, DropReason.SHUTDOWN: 4 * times}
    assert crew.counters.snapshot().forwarded == len(crew.arrived) == 4 * times


def test_a_packet_whose_link_has_moved_goes_to_the_worker_that_has_it() -> None:
    crew = WorkerParts(13)
    for record in crew.behind:
        crew.enter(crew.owner(record), crew.packet(200 * MILLISECOND, to=record))
    crew.run(0.1)
    swapped = {hop: 3 - owner for hop, owner in crew.workers.owners.items()}
    crew.workers.owners = swapped
    crew.workers.assign()
    assert crew.workers.owners == swapped
    crew.run(1.0)
    assert len(crew.arrived) == 2
    assert crew.counters.snapshot().dropped == {}


def test_a_packet_of_the_node_itself_leaves_and_one_that_ends_here_is_handled_by_the_node() -> None:
    crew = WorkerParts(14)
    back: list[bytes] = []

    def came_back(identifier: bytes) -> bool:
        back.append(identifier)
        return True

    crew.coordinator.came_back = came_back
    crew.counters.received()
    crew.workers.send(crew.behind[0].identity, EPOCH, crew.packet())
    from nymtw.sphinx import Hop, build_packet

    route = [Hop(crew.own.identity, crew.own.sphinx_keys[EPOCH])]
    loop = build_packet(b"", route, [], bytes(32), b"i" * 16, random=crew.random)
    crew.enter(1, loop)
    crew.enter(2, loop)
    crew.run(1.0)
    assert back == [b"i" * 16]
    snapshot = crew.counters.snapshot()
    assert (snapshot.received, snapshot.forwarded, snapshot.delivered) == (3, 1, 1)
    assert snapshot.dropped == {DropReason.REPLAYED: 1}


def test_what_the_cover_policy_decides_reaches_all_workers_also_new_ones() -> None:
    crew = WorkerParts(15)
    crew.coordinator.act(PAUSE)
    crew.process(1).kill()
    crew.run(0.1)
    for number in (1, 2):
        crew.enter(number, *(crew.packet(to=record) for record in crew.behind))
    crew.run(1.0)
    assert crew.arrived == []
    crew.coordinator.act(GO_ON)
    crew.run(1.0)
    assert len(crew.arrived) == 4


def test_the_end_sends_what_it_can_and_counts_the_rest() -> None:
    crew = WorkerParts(16)
    for number in (1, 2):
        crew.enter(number, *(crew.packet(to=record) for record in crew.behind), crew.packet(5000 * MILLISECOND))
    crew.run(0.5)
    crew.workers.drain()
    crew.run(0.01)
    crew.enter(1, crew.packet())
    ended = crew.workers.stop()
    crew.clock.wait_for(ended, 10.0)
    assert all(handle.process is None for handle in crew.workers.handles)
    assert len(crew.arrived) == 4
    assert crew.dropped == {DropReason.SHUTDOWN: 3}
    assert crew.counters.queued == 0
    assert [call for call in crew.clock.getDelayedCalls() if call.owner is crew.hosts["node"]] == []


def test_a_worker_that_ignores_the_end_is_killed() -> None:
    crew = WorkerParts(17)
    crew.enter(1, crew.packet(500 * MILLISECOND), crew.packet(500 * MILLISECOND))
    crew.run(0.1)
    deaf = crew.process(1)
    deaf.worker.dataReceived = lambda data: None  # type: ignore[method-assign]
    crew.clock.wait_for(crew.workers.stop(), 10.0)
    assert crew.counters.queued == 0


def test_a_peer_has_one_share_of_a_nearly_full_guard_whichever_workers_it_sends_to() -> None:
    crew = WorkerParts(18)
    crew.guard.capacity = 10
    crew.coordinator.ration(EPOCH)  # of the ten that there is room for, the one peer may have all
    for number in (1, 2):
        crew.enter(number, *(crew.packet() for _ in range(8)))
    crew.run(1.0)
    assert sum(crew.dropped.values()) == 6
    assert set(crew.dropped) <= {DropReason.PEER_SHARE, DropReason.REPLAY_GUARD_FULL}
    assert len(crew.arrived) == 10


def test_a_changed_maximum_of_delays_reaches_all_workers_also_new_ones() -> None:
    crew = WorkerParts(19)
    crew.coordinator.set_max_delay(0.1)
    crew.process(1).kill()
    crew.run(0.1)
    for number in (1, 2):
        crew.enter(number, crew.packet(100 * MILLISECOND), crew.packet(100 * MILLISECOND + 1))
    crew.run(1.0)
    assert crew.dropped == {DropReason.DELAY_TOO_LONG: 2}
    assert len(crew.arrived) == 2


def test_a_worker_that_does_not_read_gets_no_more_than_a_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nymtw.mixnode.workers.handle.BACKLOG", 20_000)
    crew = WorkerParts(20)
    crew.process(2).pauseProducing()
    to = next(record for record in crew.behind if crew.owner(record) == 2)
    for _ in range(10):
        crew.enter(1, *(crew.packet(to=to) for _ in range(4)))
        crew.run(0.05)
    dropped = crew.dropped[DropReason.DELAY_QUEUE_FULL]
    assert 0 < dropped < 40
    assert crew.arrived == []
    crew.process(2).resumeProducing()
    crew.run(1.0)
    assert len(crew.arrived) == 40 - dropped
    assert crew.counters.queued == 0
