"""The topology watch and the presence: they keep trying, with jitter, and say so once."""

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from nacl.signing import SigningKey

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from nymtw.errors import DirectoryError, TopologyError, TopologyExpired
from nymtw.node.announce.presence import Presence
from nymtw.node.announce.traffic_report import TrafficReport
from nymtw.node.directories.topology_watch import TopologyWatch
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.testing.clock import FakeClock
from nymtw.topology.document import NodeRecord, Topology, Trust, sign_topology

KEY = SigningKey(bytes(32))
TRUST = Trust((bytes(KEY.verify_key),))
SEED = 7


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if str(event.get("log_namespace", "")).startswith("nymtw.node") and event["log_level"] > LogLevel.debug:
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


class FakeDirectory:
    """Counts what it is asked, and answers what the test says."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[float] = []
        self.answer: Callable[[], Any] = lambda: fail(DirectoryError("http://d: Connection refused"))

    def topology(self) -> "Deferred[bytes]":
        self.asked.append(self.clock.seconds())
        return self.answer()  # type: ignore[no-any-return]  # what the test says

    def report(self, metric: Mapping[str, Any]) -> "Deferred[None]":
        return self.answer()  # type: ignore[no-any-return]  # what the test says

    def announce(self, path: str, heartbeat: Mapping[str, Any]) -> "Deferred[None]":
        self.asked.append(self.clock.seconds())
        return self.answer()  # type: ignore[no-any-return]  # what the test says


def complete(epoch: int = 0) -> tuple[NodeRecord, ...]:
    mixnodes = [
        NodeRecord(
            role="mixnode", identity=bytes([n]) * 32, host="127.0.0.1", port=n, layer=n, sphinx_keys={epoch: bytes(32)}
        )
        for n in (1, 2, 3)
    ]
    provider = NodeRecord(
        role="provider",
        identity=bytes([4]) * 32,
        host="127.0.0.1",
        port=4,
        client_port=5,
        sphinx_keys={epoch: bytes(32)},
    )
    return (*mixnodes, provider)


def signed(serial: int, *, valid: int = 10**18, key: SigningKey = KEY, **fields: Any) -> bytes:
    values = {"refresh": 60.0, "nodes": complete(), **fields}
    return sign_topology(
        Topology(
            serial=serial,
            network=Trust((bytes(key.verify_key),)).network,
            published=0,
            valid_until=valid,
            epoch=0,
            epoch_seconds=86400,
            **values,
        ),
        [key],
    )


def watch(clock: FakeClock, directory: FakeDirectory) -> TopologyWatch:
    return TopologyWatch(clock, directory, TRUST, random.Random(SEED), clock.seconds)  # type: ignore[arg-type]  # a fake


def test_it_asks_at_once_and_then_every_refresh_with_jitter() -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    directory.answer = lambda: succeed(signed(1))
    service = watch(clock, directory)
    service.startService()
    clock.advance(600)
    service.stopService()
    steps = [b - a for a, b in zip(directory.asked, directory.asked[1:], strict=False)]
    assert directory.asked[0] == 0
    assert all(48 <= step <= 72 for step in steps)
    assert len(set(steps)) == len(steps) > 7
    assert clock.getDelayedCalls() == []


def test_an_incomplete_network_is_asked_for_more_often() -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    directory.answer = lambda: succeed(signed(1, nodes=()))
    service = watch(clock, directory)
    service.startService()
    clock.advance(60)
    service.stopService()
    assert 9 <= len(directory.asked) <= 16


def test_subscribers_hear_of_each_new_one_once_and_late_ones_at_once() -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    directory.answer = lambda: succeed(signed(1 + int(clock.seconds() > 100)))
    service = watch(clock, directory)
    early: list[int] = []
    late: list[int] = []
    service.subscribe(lambda topology: early.append(topology.serial))
    service.startService()
    unsubscribe = service.subscribe(lambda topology: late.append(topology.serial))
    unsubscribe()
    clock.advance(300)
    service.stopService()
    assert early == [1, 2]
    assert late == [1]


def test_a_subscriber_that_fails_does_not_stop_the_others(expected_failures: list[str]) -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    directory.answer = lambda: succeed(signed(1))
    service = watch(clock, directory)
    heard: list[Topology] = []
    service.subscribe(lambda topology: 1 / 0)  # type: ignore[arg-type,return-value]  # it fails
    service.subscribe(heard.append)
    service.startService()
    service.stopService()
    assert len(heard) == 1
    expected_failures.append("a subscriber to the topology failed")


def test_a_directory_that_is_away_is_logged_once_and_asked_again_with_growing_jittered_waits(logged: list[str]) -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    directory.answer = lambda: succeed(signed(1))
    service = watch(clock, directory)
    service.startService()
    directory.answer = lambda: fail(DirectoryError("http://d: Connection refused"))
    clock.advance(600)
    assert logged == ["the directory is away, trying again: http://d: Connection refused"]
    steps = [b - a for a, b in zip(directory.asked, directory.asked[1:], strict=False)][1:]
    assert 0.4 <= steps[0] <= 0.6
    assert all(24 <= step <= 36 for step in steps[-5:])
    assert len(set(steps)) == len(steps)
    directory.answer = lambda: succeed(signed(1))
    clock.advance(40)
    assert logged[1:] == ["the directory is back"]
    service.stopService()


def test_who_has_no_network_yet_asks_a_directory_that_is_away_more_often() -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    service = watch(clock, directory)
    service.startService()
    clock.advance(600)
    steps = [b - a for a, b in zip(directory.asked, directory.asked[1:], strict=False)]
    assert 0.4 <= steps[0] <= 0.6
    assert all(4 <= step <= 6 for step in steps[-20:])
    service.stopService()


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (lambda: b"garbage", "not a signed topology"),
        (lambda: signed(2, key=SigningKey(bytes([1]) * 32)), "0 valid signatures"),
        (lambda: signed(2, valid=0), "expired"),
        (lambda: signed(1), "older than one already seen"),
    ],
)
def test_what_cannot_be_believed_changes_nothing(data: Callable[[], bytes], cause: str, logged: list[str]) -> None:
    clock = FakeClock(1.0)
    directory = FakeDirectory(clock)
    directory.answer = lambda: succeed(signed(2))
    service = watch(clock, directory)
    service.startService()
    directory.answer = lambda: succeed(data())
    clock.advance(200)
    service.stopService()
    assert service.usable().serial == 2
    assert len(logged) == 1
    assert cause in logged[0]


def test_a_topology_is_usable_as_long_as_nodes_have_its_keys() -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    service = watch(clock, directory)
    service.startService()
    with pytest.raises(TopologyError, match="no topology yet"):
        service.usable()
    directory.answer = lambda: succeed(signed(1, valid=int(100e9)))
    clock.advance(1)
    assert service.usable().serial == 1
    directory.answer = lambda: fail(DirectoryError("away"))
    clock.advance(2 * 86400 - 10)
    assert service.usable().serial == 1
    clock.advance(10)
    with pytest.raises(TopologyExpired):
        service.usable()
    service.stopService()


def test_a_stop_while_the_directory_is_asked_leaves_nothing(logged: list[str]) -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    directory.answer = Deferred
    service = watch(clock, directory)
    service.startService()
    service.stopService()
    assert clock.getDelayedCalls() == []
    assert logged == []


def presence(clock: FakeClock, directory: FakeDirectory, make: Callable[[], Mapping[str, Any]]) -> Presence:
    return Presence(clock, directory, make, "mixnodes", random.Random(SEED))  # type: ignore[arg-type]  # a fake


def test_a_heartbeat_every_two_seconds_each_made_anew() -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    directory.answer = lambda: succeed(None)
    made: list[int] = []
    service = presence(clock, directory, lambda: made.append(1) or {})  # type: ignore[func-returns-value]  # counts
    service.startService()
    assert service.announced
    clock.advance(100)
    service.stopService()
    assert len(made) == len(directory.asked)
    assert 46 <= len(made) <= 56
    assert clock.getDelayedCalls() == []


def test_a_refusal_is_logged_once_and_so_is_its_end(logged: list[str]) -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    directory.answer = lambda: fail(DirectoryError("400: the clock is 300 s ahead"))
    service = presence(clock, directory, dict)
    service.startService()
    clock.advance(60)
    assert logged == ["cannot announce this node, trying again: 400: the clock is 300 s ahead"]
    assert not service.announced
    directory.answer = lambda: succeed(None)
    clock.advance(20)
    assert logged[1:] == ["announced to the directory again"]
    service.stopService()


def test_one_post_at_a_time() -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    slow: Deferred[None] = Deferred()
    directory.answer = lambda: slow
    service = presence(clock, directory, dict)
    service.startService()
    clock.advance(60)
    assert len(directory.asked) == 1
    directory.answer = lambda: succeed(None)
    slow.callback(None)
    clock.advance(3)
    assert len(directory.asked) == 2
    service.stopService()


def test_a_heartbeat_that_cannot_be_made_does_not_end_the_presence(expected_failures: list[str]) -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    directory.answer = lambda: succeed(None)
    errors = [RuntimeError("no key")]

    def make() -> dict[str, Any]:
        if errors:
            raise errors.pop()
        return {}

    service = presence(clock, directory, make)
    service.startService()
    assert directory.asked == []
    clock.advance(5)
    assert directory.asked
    service.stopService()
    expected_failures.append("a post to the directory failed")


def test_metrics_are_what_has_come_and_gone_since_the_last_report() -> None:
    clock = FakeClock()
    directory = FakeDirectory(clock)
    taken: list[tuple[int, int]] = []
    counters = PacketCounters()
    counters.received(100)
    posted: list[tuple[int, int]] = []

    def make(sent: int, received: int) -> dict[str, Any]:
        posted.append((sent, received))
        return {}

    def take() -> "Deferred[None]":
        taken.append(posted[-1])
        return succeed(None)

    directory.answer = take
    service = TrafficReport(clock, directory, counters, make, random.Random(SEED))  # type: ignore[arg-type]  # a fake
    service.startService()
    counters.received(5)
    counters.forwarded(3)
    clock.advance(1.2)
    assert taken == [(0, 0), (3, 5)]
    directory.answer = lambda: fail(DirectoryError("away"))
    counters.received(7)
    clock.advance(20)
    counters.forwarded(2)
    directory.answer = take
    clock.advance(20)
    service.stopService()
    assert (sum(sent for sent, _ in taken), sum(received for _, received in taken)) == (5, 12)
