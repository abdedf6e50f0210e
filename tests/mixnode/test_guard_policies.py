"""A flood fills a replay filter: the node says so, gives each peer a share of the rest, and announces a new key."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from packet_chain import EPOCH, Chain, Node, frame

from twisted.logger import globalLogPublisher

from nymtw.drop_reasons import DropReason
from nymtw.errors import KeyFileError
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.node.engine.guard_watch import SYNC_INTERVAL, GuardWatch
from nymtw.node.engine.key_rotation import MOST_KEYS, RENEWED_AT_MOST_EVERY, SUPERSEDED_FOR, KeyRotation
from nymtw.node.home import NodeHome
from nymtw.node.keys import KeyRing, epoch_of
from nymtw.sphinx import Hop, build_packet, public_key
from nymtw.testing.clock import FakeClock

CAPACITY = 100
ELSEWHERE = Hop(b"?" * 32, public_key(bytes(range(32))))
NEXT = 1 << 32


class Flooded(Chain):
    """A chain whose first mixnode has a small filter and two peers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.second_edge = self._record("provider", 0)[0]
        self.topology = self.topology_of([*self.topology.nodes, self.second_edge])
        self.first = self.mixnodes[0]
        self.first.core.use_topology(self.topology)
        self.peers = [self.provider.record.identity, self.second_edge.identity]

    def guard_of(self, record: Any) -> ReplayGuard:
        return ReplayGuard(None, capacity=CAPACITY)

    def packet(self, private_key: bytes | None = None) -> bytes:
        """A packet that the first mixnode unwraps, and then drops: nobody has its next address."""
        own = Hop(self.first.record.identity, public_key(private_key or self.first.private_key))
        return build_packet(b"", [own, ELSEWHERE], [0], b"b" * 32, random=self.random)

    def send(self, peer: int, count: int) -> None:
        self.first.core.receive(self.peers[peer], [frame(self.packet()) for _ in range(count)])


def refused(node: Node) -> dict[DropReason, int]:
    """Drops, without those that every packet of these tests ends in."""
    return {reason: number for reason, number in node.drops().items() if reason is not DropReason.UNKNOWN_NEXT_HOP}


def test_each_peer_gets_an_equal_share_of_what_is_left() -> None:
    chain = Flooded(60)
    chain.send(0, 75)
    chain.first.core.ration(EPOCH)
    chain.send(0, 40)
    assert refused(chain.first) == {DropReason.PEER_SHARE: 28}
    chain.send(1, 12)
    assert refused(chain.first) == {DropReason.PEER_SHARE: 28}
    chain.send(1, 1)
    assert refused(chain.first) == {DropReason.PEER_SHARE: 29}


def test_a_replay_costs_no_share() -> None:
    chain = Flooded(61)
    packet = chain.packet()
    chain.first.core.ration(EPOCH)
    chain.first.core.receive(chain.peers[0], [frame(packet)] * 80)
    assert refused(chain.first) == {DropReason.REPLAYED: 79}
    chain.send(0, 49)
    assert refused(chain.first) == {DropReason.REPLAYED: 79}
    chain.send(0, 1)
    assert refused(chain.first)[DropReason.PEER_SHARE] == 1


def test_without_rations_a_full_filter_fails_closed() -> None:
    chain = Flooded(62)
    chain.send(0, CAPACITY + 10)
    assert refused(chain.first) == {DropReason.REPLAY_GUARD_FULL: 10}


def test_packets_for_the_new_key_and_for_the_old_one_pass_and_replays_of_both_do_not() -> None:
    chain = Flooded(63)
    new = bytes(range(1, 33))
    core = chain.first.core
    core.use_keys({EPOCH: chain.first.private_key, EPOCH + NEXT: new})
    old_packet, new_packet = chain.packet(), chain.packet(new)
    frames = [
        frame(old_packet),
        frame(new_packet),
        frame(old_packet),
        frame(new_packet),
        frame(bytes(32) + b"x" * 2381),
    ]
    core.receive(chain.peers[0], frames)
    assert chain.first.drops() == {
        DropReason.UNKNOWN_NEXT_HOP: 2,
        DropReason.REPLAYED: 2,
        DropReason.LOW_ORDER_POINT: 1,
    }
    core.use_keys({EPOCH + NEXT: new})
    core.receive(chain.peers[0], [frame(old_packet), frame(chain.packet())])
    assert chain.first.drops()[DropReason.BAD_MAC] == 2
    assert core.replays.guard.epochs == [EPOCH + NEXT]


class Watched:
    """A guard, a rotation and the watch between them."""

    def __init__(self, folder: Path, capacity: int = CAPACITY) -> None:
        self.home = NodeHome("mixnode", "m", folder)
        self.home.create()
        self.clock = FakeClock()
        self.ring = KeyRing(self.home, Random(1))
        self.guard = ReplayGuard(None, capacity=capacity)
        self.rations: list[int] = []
        self.used: list[list[int]] = []
        self.rotation = KeyRotation(self.clock, lambda: self.clock.seconds() + 7 * 86400, self.ring, self.use)
        self.watch = GuardWatch(self.clock, self.guard, self.rations.append, self.rotation.renew)
        self.rotation.startService()
        self.rotation.follow(86400)
        self.watch.startService()

    def use(self, keys: dict[int, bytes]) -> None:
        self.used.append(sorted(keys))
        for number in self.guard.epochs:
            if number not in keys:
                self.guard.forget(number)

    def fill(self, number: int, count: int) -> None:
        random = Random(number)
        for _ in range(count):
            assert self.guard.fresh(number, random.randbytes(32))

    def stop(self) -> None:
        self.watch.stopService()
        self.rotation.stopService()
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_key_whose_filter_is_three_quarters_full_is_replaced_at_once_and_destroyed_half_an_hour_later(
    watched: Watched,
) -> None:
    before = watched.rotation.public_keys()
    watched.fill(7, 74)
    watched.clock.advance(5.0)
    assert (watched.rations, watched.rotation.renewals) == ([], 0)
    watched.guard.fresh(7, b"!" * 32)
    watched.clock.advance(1.0)
    assert (watched.rations, watched.rotation.renewals) == ([7], 1)
    after = watched.rotation.public_keys()
    assert after[7] != before[7]
    assert after[8] == before[8]
    assert watched.used[-1] == [7, 8, 7 + NEXT]
    assert watched.guard.count(watched.rotation.number(7)) == 0
    watched.clock.advance(SUPERSEDED_FOR + 31.0)
    assert watched.used[-1] == [8, 7 + NEXT]
    assert sorted(path.name for path in (watched.home.data / "sphinx_keys").iterdir()) == ["7.1.pem", "8.pem"]
    assert watched.guard.epochs == []
    watched.stop()


def test_the_next_epochs_key_is_replaced_too_and_an_older_one_is_not(watched: Watched) -> None:
    watched.fill(6, 80)
    watched.fill(8, 80)
    before = watched.rotation.public_keys()
    watched.clock.advance(1.0)
    assert sorted(watched.rations) == [6, 8]
    assert watched.rotation.public_keys()[8] != before[8]
    assert watched.rotation.renewals == 1
    watched.stop()


def test_it_is_logged_once(watched: Watched) -> None:
    logged: list[str] = []

    def listen(event: dict[str, Any]) -> None:
        if str(event.get("log_namespace", "")).startswith("nymtw.node.engine.guard_watch"):
            logged.append(event["log_format"])

    globalLogPublisher.addObserver(listen)
    watched.fill(7, 80)
    watched.clock.advance(100.0)
    globalLogPublisher.removeObserver(listen)
    assert [line.split(":")[0] for line in logged] == [
        "The replay guard of a key is three quarters full",
        "A new key is announced in its place",
    ]
    watched.stop()


def test_a_flood_that_goes_on_makes_a_node_hold_few_keys_and_a_new_one_a_minute_at_most(watched: Watched) -> None:
    for _ in range(600):
        number = watched.rotation.number(7)
        watched.fill(number, watched.guard.room(number))
        watched.clock.advance(1.0)
        assert sum(epoch_of(key) == 7 for key in watched.ring.private_keys()) <= MOST_KEYS
    assert 600 / RENEWED_AT_MOST_EVERY - 1 <= watched.rotation.renewals <= 600 / RENEWED_AT_MOST_EVERY + 1
    watched.stop()


def test_keys_that_were_replaced_survive_a_restart_and_are_destroyed_all_the_same(watched: Watched) -> None:
    watched.fill(7, 80)
    watched.clock.advance(1.0)
    watched.stop()
    announced = watched.rotation.public_keys()
    ring = KeyRing(watched.home, Random(2))
    clock, used = FakeClock(), []
    rotation = KeyRotation(clock, lambda: 7 * 86400 + 60.0 + clock.seconds(), ring, lambda keys: used.append(set(keys)))
    rotation.startService()
    rotation.follow(86400)
    assert rotation.public_keys() == announced
    assert used[-1] == {7, 8, 7 + NEXT}
    clock.advance(SUPERSEDED_FOR + 31.0)
    assert used[-1] == {8, 7 + NEXT}
    clock.advance(3 * 86400)
    assert sorted(ring.private_keys()) == [9, 10, 11]
    rotation.stopService()


def test_a_full_disk_keeps_the_key_that_is_there(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(epoch: int) -> None:
        raise KeyFileError("no space left on device")

    before = watched.rotation.public_keys()
    monkeypatch.setattr(watched.ring, "renew", refuse)
    watched.fill(7, 80)
    watched.clock.advance(10.0)
    assert watched.rotation.public_keys() == before
    monkeypatch.undo()
    watched.clock.advance(1.0)
    assert watched.rotation.public_keys() != before
    watched.stop()


def test_tags_are_synced_every_ten_seconds(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[float] = []
    monkeypatch.setattr(watched.guard, "sync", lambda: synced.append(watched.clock.seconds()))
    watched.clock.advance(35.0)
    assert synced == [SYNC_INTERVAL, 2 * SYNC_INTERVAL, 3 * SYNC_INTERVAL]
    watched.stop()


def test_a_disk_that_keeps_old_tags_stops_neither_the_watch_nor_the_rotation(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        raise PermissionError("read-only file system")

    watched.fill(7, 80)
    watched.clock.advance(1.0)
    monkeypatch.setattr(watched.guard, "forget", refuse)
    watched.clock.advance(SUPERSEDED_FOR + 31.0)
    monkeypatch.undo()
    watched.fill(7 + NEXT, 80)
    watched.clock.advance(1.0)
    assert watched.rotation.renewals == 2
    watched.stop()
