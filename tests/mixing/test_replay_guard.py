"""The replay guard: no tag is fresh twice, whatever dies and whenever; when it cannot hold a tag, it says no."""

import errno
import os
import random
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nymtw.errors import DiskError, ReplayGuardFull
from nymtw.mixing import replay_guard
from nymtw.mixing.replay_guard import MAGIC, TAG_LENGTH, ReplayGuard

pytestmark = pytest.mark.pythons

CAPACITY = 10_000  # with few tags in it the filter's errors are far below one in a million


def tags(count, seed=1):
    rng = random.Random(seed)
    return [rng.randbytes(32) for _ in range(count)]


def open_guard(folder, capacity=CAPACITY):
    return ReplayGuard(folder, capacity=capacity)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "replay"


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_tag_is_fresh_once(folder, in_memory):
    guard = open_guard(None if in_memory else folder)
    for tag in tags(100):
        assert guard.fresh(7, tag)
    for tag in tags(100):
        assert not guard.fresh(7, tag)
    assert guard.count(7) == 100
    guard.close()


def test_epochs_are_apart():
    guard = open_guard(None)
    (tag,) = tags(1)
    assert guard.fresh(1, tag)
    assert guard.fresh(2, tag)
    assert not guard.fresh(1, tag)
    assert guard.epochs == [1, 2]


def test_what_was_flushed_is_known_after_a_restart_without_close(folder):
    guard = open_guard(folder)
    for tag in tags(50):
        guard.fresh(7, tag)
    guard.flush()
    again = open_guard(folder)  # the first is never closed, as after kill -9
    assert [again.fresh(7, tag) for tag in tags(50)] == [False] * 50
    assert again.count(7) == 50
    again.close()
    guard.close()


def test_many_tags_take_one_write(folder, monkeypatch):
    guard = open_guard(folder)
    guard.fresh(7, bytes(32))
    guard.flush()
    writes = []
    monkeypatch.setattr(replay_guard.os, "pwrite", lambda file, data, at: writes.append(len(data)) or len(data))
    for tag in tags(500):
        guard.fresh(7, tag)
    guard.flush()
    guard.flush()
    assert writes == [500 * TAG_LENGTH]
    guard.close()


def test_a_file_cut_at_any_byte_keeps_every_flush_before_the_cut(folder):
    """Kill -9, or a loss of power, at every point of the file's life."""
    guard = open_guard(folder)
    batches = [tags(count, seed) for seed, count in enumerate((1, 3, 2), start=1)]
    safe_after = []  # the file's length when the flush of each batch had returned
    path = folder / "replay-7.tags"
    for batch in batches:
        for tag in batch:
            guard.fresh(7, tag)
        guard.flush()
        safe_after.append(path.stat().st_size)
    guard.close()
    whole = path.read_bytes()
    assert len(whole) == len(MAGIC) + 6 * TAG_LENGTH
    extra = tags(2, seed=9)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        guard = open_guard(folder)
        for batch, safe in zip(batches, safe_after, strict=True):
            if cut >= safe:
                assert not any(guard.fresh(7, tag) for tag in batch), cut
        # and it lives on: new tags are kept behind what is whole
        assert all(guard.fresh(7, tag) for tag in extra), cut
        guard.flush()
        guard = open_guard(folder)
        assert not any(guard.fresh(7, tag) for tag in extra), cut
        guard.close()


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("partial", [0, 1, 15, 16, 17, 40])
def test_a_process_killed_in_each_of_its_writes_lets_nothing_through_twice(folder, monkeypatch, partial):
    """A packet is forwarded after the flush; whatever was forwarded before the kill is refused after it."""
    real_pwrite = os.pwrite
    for death in range(12):
        forwarded = []
        writes = 0

        def pwrite(file, data, offset, death=death):
            nonlocal writes
            writes += 1
            if writes > death:
                real_pwrite(file, bytes(data)[:partial], offset)
                raise Killed
            return real_pwrite(file, data, offset)

        place = folder / str(death)
        monkeypatch.setattr(replay_guard.os, "pwrite", pwrite)
        try:
            guard = open_guard(place)
            for start in range(0, 30, 3):
                due = [tag for tag in tags(30)[start : start + 3] if guard.fresh(7, tag)]
                guard.flush()
                forwarded += due
        except Killed:
            pass
        monkeypatch.setattr(replay_guard.os, "pwrite", real_pwrite)
        guard = open_guard(place)
        assert not any(guard.fresh(7, tag) for tag in forwarded)
        guard.close()
    assert len(forwarded) == 30  # the last run was not killed: the deaths covered every write


def test_kill_9_between_flush_and_forward(folder):
    """A real process, a real SIGKILL."""
    program = (
        "import os, pathlib, signal, sys; from nymtw.mixing.replay_guard import ReplayGuard\n"
        "guard = ReplayGuard(pathlib.Path(sys.argv[1]), capacity=100)\n"
        "assert guard.fresh(7, bytes(range(32))); guard.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], timeout=300)
    assert done.returncode == -signal.SIGKILL
    guard = open_guard(folder)
    assert not guard.fresh(7, bytes(range(32)))
    guard.close()


def test_short_writes_are_finished(folder, monkeypatch):
    real_pwrite = os.pwrite
    monkeypatch.setattr(replay_guard.os, "pwrite", lambda file, data, at: real_pwrite(file, bytes(data)[:7], at))
    guard = open_guard(folder)
    for tag in tags(20):
        guard.fresh(7, tag)
    guard.flush()
    assert not any(open_guard(folder).fresh(7, tag) for tag in tags(20))
    guard.close()


def test_a_full_disk_is_an_error_until_there_is_room_and_then_nothing_is_missing(folder, monkeypatch):
    real_pwrite = os.pwrite
    guard = open_guard(folder)
    for tag in tags(3):
        guard.fresh(7, tag)
    guard.flush()

    def full(file, data, offset):
        real_pwrite(file, bytes(data)[:21], offset)  # a torn record
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    late = tags(5, seed=2)
    assert all(guard.fresh(7, tag) for tag in late)
    monkeypatch.setattr(replay_guard.os, "pwrite", full)
    for _ in range(3):
        with pytest.raises(DiskError, match="No space left"):
            guard.flush()
    assert not any(guard.fresh(7, tag) for tag in late)  # still known: a replay is refused meanwhile
    later = tags(2, seed=3)
    assert all(guard.fresh(7, tag) for tag in later)
    monkeypatch.setattr(replay_guard.os, "pwrite", real_pwrite)
    guard.flush()
    again = open_guard(folder)
    assert again.count(7) == 10
    assert not any(again.fresh(7, tag) for tag in tags(3) + late + later)
    again.close()
    guard.close()


def test_tags_that_wait_for_a_full_disk_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(replay_guard, "PENDING_LIMIT", 10)
    guard = open_guard(folder)
    for tag in tags(10):
        assert guard.fresh(7, tag)
    with pytest.raises(ReplayGuardFull):
        guard.fresh(7, tags(11)[10])
    guard.flush()
    assert guard.fresh(7, tags(11)[10])
    guard.close()


def test_a_full_guard_fails_closed_and_says_so_long_before(folder):
    guard = open_guard(folder, capacity=100)
    for number, tag in enumerate(tags(100)):
        assert guard.nearly_full(7) == (number >= 75)
        assert guard.fresh(7, tag)
    with pytest.raises(ReplayGuardFull):
        guard.fresh(7, bytes(32))
    assert not guard.fresh(7, tags(1)[0])  # a replay is still told
    assert guard.fresh(8, bytes(32))  # the next epoch has room
    guard.close()
    again = open_guard(folder, capacity=100)
    with pytest.raises(ReplayGuardFull):
        again.fresh(7, bytes(32))
    again.close()


def test_a_lowered_capacity_forgets_nothing(folder):
    guard = open_guard(folder)
    for tag in tags(1000):
        guard.fresh(7, tag)
    guard.close()
    again = open_guard(folder, capacity=10)
    assert not any(again.fresh(7, tag) for tag in tags(1000))
    with pytest.raises(ReplayGuardFull):
        again.fresh(7, bytes(32))
    again.close()


def test_a_forgotten_epoch_leaves_no_file(folder):
    guard = open_guard(folder)
    for epoch in (6, 7):
        guard.fresh(epoch, bytes(32))
    guard.flush()
    guard.forget(6)
    guard.forget(5)
    assert [path.name for path in folder.iterdir()] == ["replay-7.tags"]
    assert guard.count(6) == 0
    guard.close()


def test_files_are_for_the_owner_alone(folder):
    guard = open_guard(folder)
    guard.fresh(7, bytes(32))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "replay-7.tags").stat().st_mode & 0o777 == 0o600
    guard.close()


def test_sync_reaches_the_disk_once_for_what_is_new(folder, monkeypatch):
    synced = []
    monkeypatch.setattr(replay_guard.os, "fdatasync", lambda file: synced.append("file"))
    monkeypatch.setattr(replay_guard, "sync_folder", lambda path: synced.append(path))
    guard = open_guard(folder)
    guard.fresh(7, bytes(32))
    guard.flush()
    guard.sync()
    guard.sync()
    assert synced == ["file", folder]
    guard.fresh(7, tags(1)[0])
    guard.flush()
    guard.sync()
    assert synced == ["file", folder, "file"]
    guard.close()


def test_a_disk_that_refuses_a_sync_is_an_error(folder, monkeypatch):
    guard = open_guard(folder)
    guard.fresh(7, bytes(32))
    guard.flush()

    def broken(file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(replay_guard.os, "fdatasync", broken)
        with pytest.raises(DiskError, match="cannot sync"):
            guard.sync()
    guard.sync()
    guard.close()


def test_a_strange_file_is_an_error_and_not_a_fresh_start(folder):
    folder.mkdir()
    (folder / "replay-7.tags").write_bytes(b"something else entirely, longer than a header")
    with pytest.raises(DiskError, match=r"replay-7\.tags: not a file of replay tags"):
        open_guard(folder)


def test_a_folder_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match="file/replay"):
        open_guard(tmp_path / "file" / "replay")


def test_other_files_in_the_folder_do_no_harm(folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("x")
    (folder / "replay-abc.tags").write_text("x")
    guard = open_guard(folder)
    assert guard.fresh(7, bytes(32))
    assert not guard.fresh(7, bytes(32))
    guard.close()
    assert (folder / "notes.txt").read_text() == (folder / "replay-abc.tags").read_text() == "x"


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["fresh", "flush", "kill"]), st.integers(0, 30)), max_size=60))
def test_nothing_forwarded_is_ever_forwarded_again(tmp_path_factory, steps):
    """Packets (by number) arrive, are forwarded by a flush, and the process is killed: in any order."""
    folder = tmp_path_factory.mktemp("replay")
    guard = open_guard(folder)
    waiting, forwarded = [], []
    for step, number in steps:
        if step == "fresh":
            if guard.fresh(7, number.to_bytes(32, "little")):
                waiting.append(number)
        elif step == "flush":
            guard.flush()
            forwarded += waiting
            waiting = []
        else:
            waiting = []
            guard.abandon()
            guard = open_guard(folder)
    guard.close()
    assert len(forwarded) == len(set(forwarded))


def test_false_positives_of_a_full_guard_are_as_rare_as_promised():
    """One in a hundred thousand of 200,000: 2 expected; more than 20 would be a one in 10**13 chance."""
    capacity = 20_000
    guard = ReplayGuard(None, capacity=capacity, false_positive=1e-5)
    for tag in tags(capacity + 10):
        if guard.count(7) < capacity:
            guard.fresh(7, tag)
    mistaken = 0
    for tag in tags(200_000, seed=2):
        try:
            mistaken += not guard.fresh(7, tag)
        except ReplayGuardFull:
            pass
    assert mistaken <= 20


def test_a_filter_that_grew_errs_no_more_often_and_forgets_nothing():
    """Two parts. One in a thousand of 50,000 at most: 50 expected; more than 120 would be a one in 10**15 chance."""
    guard = ReplayGuard(None, capacity=100_000, false_positive=1e-3)
    known = list(tags(100_000))
    for tag in known:
        guard.fresh(7, tag)
    assert not any(guard.fresh(7, tag) for tag in known[::100])
    mistaken = 0
    for tag in tags(50_000, seed=2):
        try:
            mistaken += not guard.fresh(7, tag)
        except ReplayGuardFull:
            pass
    assert mistaken <= 120
