"""The history of metrics: three lengths of windows, a database that fails, a restart, clocks that are stepped."""

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from twisted.internet.defer import Deferred, maybeDeferred

from nymtw.directory.dashboard.history import NETWORK, RETENTION, History, Second, Sums, open_history
from nymtw.directory.dashboard.recorder import (
    FLUSH,
    MOST_PENDING,
    PRUNE_INTERVAL,
    STEP_GRACE,
    Recorder,
    network_sums,
)
from nymtw.directory.dashboard.recorder import (
    RETRY as RETRY_SECONDS,
)
from nymtw.errors import DirectoryError, DiskError
from nymtw.testing.clock import FakeClock

pytestmark = pytest.mark.pythons

ONE, TWO = bytes([1]) * 32, bytes([2]) * 32
START = 1_800_000_000  # the beginning of an hour


def second(at: int, **sums: int) -> Second:
    return Second(at, network_sums({ONE: Sums(up=1, **sums)}))


def fired(deferred: Any) -> Any:
    results: list[Any] = []
    Deferred.fromCoroutine(deferred).addBoth(results.append)
    assert results, "it has not fired"
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]


def test_every_length_has_its_sums() -> None:
    history = open_history(":memory:")
    seed = 3
    print("seed", seed)
    rng = random.Random(seed)
    counts = [(rng.randrange(1000), rng.randrange(1000)) for _ in range(7200)]
    for start in range(0, len(counts), 50):
        history.add([second(START + i, sent=counts[i][0], received=counts[i][1]) for i in range(start, start + 50)])
    for length in RETENTION:
        expected = [
            (
                START + begin,
                sum(sent for sent, _ in counts[begin : begin + length]),
                sum(received for _, received in counts[begin : begin + length]),
                len(counts[begin : begin + length]),
            )
            for begin in range(0, len(counts), length)
        ]
        assert history.read(ONE, length, 0) == expected
        assert history.read(NETWORK, length, 0) == expected
    assert history.read(TWO, 1, 0) == []


def test_what_is_old_goes_and_the_rest_stays() -> None:
    history = open_history(":memory:")
    history.add([second(START, sent=1), second(START + 4000, sent=2), Second(START, {TWO: Sums(1)})])
    history.prune(START + 4000)
    assert [row[0] for row in history.read(ONE, 1, 0)] == [START + 4000]
    assert [row[0] for row in history.read(ONE, 60, 0)] == [START, START + 60 * (4000 // 60)]
    history.prune(START + 86400 + 4000)
    assert history.read(ONE, 60, 0) == []
    assert [row[0] for row in history.read(ONE, 3600, 0)] == [START, START + 3600]
    history.prune(START + 367 * 86400)
    assert history.read(ONE, 3600, 0) == []
    history.add([second(START, sent=5)])  # its number in the table is a new one
    assert history.read(ONE, 3600, 0) == [(START, 5, 0, 1)]


def test_how_long_a_node_was_there() -> None:
    history = open_history(":memory:")
    for at in range(100):
        sums = {ONE: Sums(up=1, loops_sent=4, loops_returned=3)} if at >= 20 and at % 4 else {}
        history.add([Second(START + at, network_sums(sums))])
    standing = history.standing(ONE, 3600, START + 100)
    assert (standing.watched, standing.up, standing.loops_sent, standing.loops_returned) == (79, 60, 240, 180)
    assert history.standing(ONE, 86400, START + 100).watched == 79
    assert history.standing(TWO, 3600, START + 100).watched == 0


RETRY = int(RETRY_SECONDS)


class World:
    def __init__(self, place: Path | str = ":memory:") -> None:
        self.clock = FakeClock()
        self.step = 0.0
        self.place = place
        self.recorder = self.start()

    def wall(self) -> float:
        return START + self.clock.seconds() + self.step

    def start(self) -> Recorder:
        def opened() -> History:
            self.history = open_history(self.place, timeout=0.01)
            return self.history

        recorder = Recorder(self.clock, self.wall, opened, maybeDeferred)
        recorder.startService()
        return recorder

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.recorder.record(second(int(self.wall()), sent=7))

    def series(self, length: int = 1) -> list[Any]:
        return list(fired(self.recorder.series(ONE, length)))


def test_what_is_not_written_yet_is_read_too() -> None:
    world = World()
    world.run(FLUSH + 3)
    assert [row[0] - START for row in world.series()] == list(range(1, FLUSH + 4))
    assert world.series(60) == [(START, 7 * (FLUSH + 3), 0, FLUSH + 3)]


def test_a_restart_keeps_the_history(tmp_path: Path) -> None:
    world = World(tmp_path / "h")
    world.run(FLUSH + 3)
    before = world.series()
    fired(_wait(world.recorder.stopService()))
    world.recorder = world.start()
    assert world.series() == before
    assert (tmp_path / "h").stat().st_mode & 0o777 == 0o600
    world.run(10)
    assert len(world.series()) == FLUSH + 13
    fired(_wait(world.recorder.stopService()))


async def _wait(deferred: Any) -> Any:
    return await deferred


def test_a_locked_database_costs_nothing_once_it_is_free(tmp_path: Path) -> None:
    world = World(tmp_path / "h")
    world.run(FLUSH)
    other = sqlite3.connect(tmp_path / "h", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    world.run(20)
    other.execute("ROLLBACK")
    world.run(RETRY)
    assert [row[1] for row in world.series()] == [7] * (FLUSH + 20 + RETRY)
    other.close()
    fired(_wait(world.recorder.stopService()))


@pytest.mark.long
def test_a_full_disk_loses_the_oldest_and_no_memory(tmp_path: Path) -> None:
    world = World(tmp_path / "h")
    world.run(FLUSH)
    world.history.database.execute("PRAGMA max_page_count = 1")
    crowd = {number.to_bytes(32, "big"): Sums(up=1) for number in range(10)}
    for _ in range(MOST_PENDING + 50):
        world.clock.advance(1)
        world.recorder.record(Second(int(world.wall()), {**crowd, ONE: Sums(7, up=1)}))
    assert world.recorder.lost > 0
    world.history.database.execute("PRAGMA max_page_count = 1000000")
    world.run(RETRY)
    assert len(world.series()) == FLUSH + MOST_PENDING + 50 + RETRY - world.recorder.lost
    fired(_wait(world.recorder.stopService()))


def test_a_stepped_clock_deletes_nothing_for_an_hour() -> None:
    world = World()
    world.run(FLUSH)
    world.step = 10 * 366 * 86400.0
    world.run(int(PRUNE_INTERVAL) + 10)
    world.step = 0.0
    assert [row[1] for row in world.series()][:FLUSH] == [7] * FLUSH
    world.step = 10 * 366 * 86400.0
    world.run(int(STEP_GRACE + PRUNE_INTERVAL) + 10)
    world.step = 0.0
    assert [row for row in world.series(3600) if row[0] < START + 10 * 86400] == []


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "h").write_bytes(b"this is no database" * 100)
    with pytest.raises(DiskError, match="h: cannot open the history"):
        open_history(tmp_path / "h")


def test_a_history_that_is_away_is_a_reason() -> None:
    world = World()
    fired(_wait(world.recorder.stopService()))
    with pytest.raises(DirectoryError, match="not available"):
        world.series()


def test_a_broken_batch_changes_nothing() -> None:
    history: History = open_history(":memory:")
    with pytest.raises(DiskError):
        history.add([second(START, sent=1), second(START + 1, sent=2**70)])
    assert history.read(ONE, 1, 0) == []
