"""Mailboxes in a SQLite file: what was acknowledged survives, one commit serves many, and a bad disk is an error."""

import random
import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from twisted.python.failure import Failure

from nymtw.errors import DiskError, MailboxFull, UnknownDestination
from nymtw.storage.mailbox_limits import MailboxLimits
from nymtw.storage.mailboxes import SQLiteMailboxes, open_database
from nymtw.testing.clock import FakeClock
from nymtw.testing.contracts import MailboxStoreContract

pytestmark = pytest.mark.pythons

ALICE, BOB = b"a" * 32, b"b" * 32


class TestSQLiteFile(MailboxStoreContract):
    """The suite that every mailbox store passes, on a file."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.path = tmp_path / "mail.sqlite"

    def make_store(self, clock, limits):
        return SQLiteMailboxes(self.path, clock, limits=limits, wall_clock=clock.wall_clock)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mail.sqlite"


class Opened:
    """Opens the database of a store, and keeps the connection."""

    def __call__(self, path):
        self.connection = open_database(path)
        return self.connection


def registered(path, clock, connect=open_database, limits=None):
    store = SQLiteMailboxes(path, clock, connect=connect, limits=limits)
    clock.wait_for(store.register(ALICE, b"k" * 32, b"t" * 32), 1)
    return store


def contents(store, mailbox=ALICE):
    return [item.content for item in store.pull(mailbox, 10_000, 0)]


def result(deferred):
    results = []
    deferred.addBoth(results.append)
    return results


def test_what_comes_together_is_committed_together(path, clock):
    opened = Opened()
    store = registered(path, clock, opened)
    statements = []
    opened.connection.set_trace_callback(statements.append)
    done = [result(store.store(ALICE, 1, b"%d" % number)) for number in range(100)]
    commits = [call for call in clock.getDelayedCalls() if call.getTime() < 60]
    assert len(commits) == 1
    clock.advance(0.0049)
    assert done == [[]] * 100
    clock.advance(0.0002)
    assert done == [[None]] * 100
    assert statements.count("COMMIT") == 1
    assert [call for call in clock.getDelayedCalls() if call.getTime() < 60] == []
    store.close()
    assert clock.getDelayedCalls() == []


def test_an_idle_store_holds_no_timer(path, clock):
    store = registered(path, clock, limits=MailboxLimits(unused_age=0, abandoned_age=0))
    clock.advance(10)
    assert clock.getDelayedCalls() == []
    store.close()


def test_mailboxes_of_a_file_without_times_count_as_used_now(path, clock):
    database = sqlite3.connect(path)
    database.execute(
        "CREATE TABLE mailboxes (mailbox BLOB PRIMARY KEY, public_key BLOB NOT NULL, token_hash BLOB NOT NULL) "
        "WITHOUT ROWID"
    )
    database.execute("INSERT INTO mailboxes VALUES (?, ?, ?)", (ALICE, b"k" * 32, b"t" * 32))
    database.commit()
    database.close()
    clock.advance(5000)
    limits = MailboxLimits(unused_age=10, abandoned_age=1000)
    store = SQLiteMailboxes(path, clock, limits=limits, wall_clock=clock.wall_clock)
    clock.advance(900)
    assert store.find(ALICE)
    clock.advance(400)
    assert (store.find(ALICE), store.count()) == (None, 0)
    store.close()


def test_a_large_mailbox_that_expired_goes_in_steps(path, clock):
    limits = MailboxLimits(abandoned_age=1000)
    store = SQLiteMailboxes(path, clock, limits=limits, wall_clock=clock.wall_clock)
    for mailbox in (ALICE, BOB):
        clock.wait_for(store.register(mailbox, b"k" * 32, b"t" * 32), 1)
        store.touch(mailbox)
    for _ in range(2500):
        store.store(ALICE, 1, b"x")
    clock.advance(1300)
    assert (store.find(ALICE), store.find(BOB), store.count()) == (None, None, 0)
    assert contents(store) == []
    clock.wait_for(store.register(ALICE, b"k" * 32, b"t" * 32), 1)
    clock.wait_for(store.store(ALICE, 1, b"fresh"), 1)
    assert contents(store) == [b"fresh"]
    store.close()


def test_close_writes_what_is_pending_and_it_is_there_again(path, clock):
    store = registered(path, clock)
    done = result(store.store(ALICE, 3, b"kept"))
    store.close()
    assert done == [None]
    assert clock.getDelayedCalls() == []
    again = SQLiteMailboxes(path, clock)
    assert [(item.kind, item.content) for item in again.pull(ALICE, 10, 0)] == [(3, b"kept")]
    assert again.find(ALICE).token_hash == b"t" * 32
    assert again.count() == 1
    again.close()


def test_numbers_are_not_used_again_after_a_restart(path, clock):
    store = registered(path, clock)
    clock.wait_for(store.store(ALICE, 1, b"x"), 1)
    [item] = store.pull(ALICE, 1, 0)
    store.confirm(ALICE, [item.number])
    store.close()
    again = SQLiteMailboxes(path, clock)
    clock.wait_for(again.store(ALICE, 1, b"y"), 1)
    assert again.pull(ALICE, 1, 0)[0].number > item.number
    again.close()


def test_limits_count_what_was_there_before_a_restart(path, clock):
    registered(path, clock).close()
    for _ in range(2):
        store = SQLiteMailboxes(path, clock, limits=MailboxLimits(items_per_mailbox=2, mailboxes=1))
        clock.wait_for(store.store(ALICE, 1, b"x"), 1)
        store.close()
    store = SQLiteMailboxes(path, clock, limits=MailboxLimits(items_per_mailbox=2, mailboxes=1))
    with pytest.raises(MailboxFull):
        clock.wait_for(store.store(ALICE, 1, b"x"), 1)
    with pytest.raises(MailboxFull):
        clock.wait_for(store.register(BOB, b"k" * 32, b"t" * 32), 1)
    store.close()


def test_registrations_that_wait_for_one_commit_count_against_the_limit(path, clock):
    store = SQLiteMailboxes(path, clock, limits=MailboxLimits(mailboxes=2))
    done = [result(store.register(bytes([number]) * 32, b"k" * 32, b"t" * 32)) for number in (1, 2, 2, 3)]
    clock.advance(1)
    assert done[:3] == [[None]] * 3
    assert isinstance(done[3][0], Failure)
    assert done[3][0].check(MailboxFull)
    assert store.count() == 2
    store.close()


def test_a_file_is_for_its_owner_alone(path, clock):
    store = registered(path, clock)
    clock.wait_for(store.store(ALICE, 1, b"x"), 1)
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    store.close()


def test_a_path_that_cannot_be_opened_is_an_error_that_names_it(tmp_path, clock):
    with pytest.raises(DiskError, match="nowhere/mail"):
        SQLiteMailboxes(tmp_path / "nowhere" / "mail.sqlite", clock)
    (tmp_path / "text").write_text("this is not a database, " * 100)
    with pytest.raises(DiskError, match="text: cannot open the mailboxes"):
        SQLiteMailboxes(tmp_path / "text", clock)


def test_a_full_disk_refuses_the_whole_commit_and_the_store_lives_on(path, clock):
    opened = Opened()
    store = registered(path, clock, opened)
    clock.wait_for(store.store(ALICE, 1, b"before"), 1)
    pages = opened.connection.execute("PRAGMA page_count").fetchone()[0]
    opened.connection.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite makes of a full disk: SQLITE_FULL
    done = [result(store.store(ALICE, 1, random.Random(1).randbytes(2000))) for _ in range(20)]
    clock.advance(1)
    assert all(outcome[0].check(DiskError) for outcome in done)
    assert contents(store) == [b"before"]
    opened.connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    clock.wait_for(store.store(ALICE, 1, b"after"), 1)
    assert contents(store) == [b"before", b"after"]
    assert store.usage.counts == {ALICE: 2}
    assert store.usage.bytes == len(b"before") + len(b"after")
    store.close()


def test_a_file_system_that_takes_no_more_refuses_the_whole_commit_and_loses_nothing(path, clock):
    """A real write that the operating system refuses: the file may not grow beyond a limit."""
    store = registered(path, clock)
    clock.wait_for(store.store(ALICE, 1, b"before"), 1)
    log = path.with_name(path.name + "-wal").stat().st_size
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    done = [result(store.store(ALICE, 1, random.Random(1).randbytes(2000))) for _ in range(100)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (log + 50_000, usual[1]))  # Python ignores SIGXFSZ
    try:
        clock.advance(0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert all(outcome[0].check(DiskError) for outcome in done)
    assert contents(store) == [b"before"]
    clock.wait_for(store.store(ALICE, 1, b"after"), 1)
    store.close()
    again = SQLiteMailboxes(path, clock)
    assert contents(again) == [b"before", b"after"]
    assert again.usage.counts == {ALICE: 2}
    again.close()


def test_a_database_that_cannot_be_read_is_an_error(path, clock):
    store = registered(path, clock)
    other = sqlite3.connect(path)
    other.executescript("DROP TABLE items; DROP TABLE mailboxes")
    other.close()
    with pytest.raises(DiskError):
        store.pull(ALICE, 1, 0)
    with pytest.raises(DiskError):
        store.find(ALICE)
    store.close()


def test_what_was_acknowledged_survives_kill_9(path):
    """A real process, a real SIGKILL, right after the acknowledgement."""
    program = (
        "import os, signal, sys; from twisted.internet.task import Clock\n"
        "from nymtw.storage.mailboxes import SQLiteMailboxes\n"
        "clock = Clock(); store = SQLiteMailboxes(sys.argv[1], clock)\n"
        "store.register(b'a' * 32, b'k' * 32, b't' * 32); clock.advance(1)\n"
        "store.store(b'a' * 32, 1, b'acknowledged').addCallback(lambda _: os.kill(os.getpid(), signal.SIGKILL))\n"
        "clock.advance(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], timeout=300)
    assert done.returncode == -signal.SIGKILL
    store = SQLiteMailboxes(path, FakeClock())
    assert contents(store) == [b"acknowledged"]
    store.close()


def test_a_deferred_that_stores_more_joins_the_next_commit(path, clock):
    store = registered(path, clock)
    more = []
    store.store(ALICE, 1, b"first").addCallback(lambda _: more.append(result(store.store(ALICE, 1, b"second"))))
    clock.advance(0.005)
    assert more == [[]]
    clock.advance(0.005)
    assert more == [[None]]
    assert contents(store) == [b"first", b"second"]
    store.close()


def test_counts_agree_with_the_file_after_anything(path, clock):
    seed = 7
    print(f"seed {seed}")
    rng = random.Random(seed)
    store = registered(path, clock)
    clock.wait_for(store.register(BOB, b"k" * 32, b"t" * 32), 1)
    for _ in range(300):
        mailbox = rng.choice((ALICE, BOB, b"c" * 32))
        if rng.random() < 0.6:
            store.store(mailbox, 1, rng.randbytes(rng.randrange(50))).addErrback(lambda f: f.trap(UnknownDestination))
        else:
            items = store.pull(mailbox, 5, 0)
            store.confirm(mailbox, [item.number for item in items] * 2)
        clock.advance(rng.choice((0, 0, 0.005)))
    clock.advance(1)
    usage = store.usage
    counts, sizes, size = dict(usage.counts), dict(usage.sizes), usage.bytes
    store.close()
    again = SQLiteMailboxes(path, clock)  # it counts what is in the file
    assert (counts, sizes, size) == (again.usage.counts, again.usage.sizes, again.usage.bytes)
    again.close()


def test_the_file_is_sqlite_in_wal_mode(path, clock):
    store = registered(path, clock)
    reader = sqlite3.connect(path)
    assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    reader.close()
    store.close()


def test_a_file_of_the_first_version_keeps_its_mail_for_the_whole_time(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "mail.sqlite"
    database = sqlite3.connect(path)
    database.executescript(
        """CREATE TABLE mailboxes (mailbox BLOB PRIMARY KEY, public_key BLOB NOT NULL, token_hash BLOB NOT NULL)
            WITHOUT ROWID;
        CREATE TABLE items (number INTEGER PRIMARY KEY AUTOINCREMENT, mailbox BLOB NOT NULL, kind INTEGER NOT NULL,
            content BLOB NOT NULL);
        INSERT INTO mailboxes VALUES (x'61', x'', x'');
        INSERT INTO items (mailbox, kind, content) VALUES (x'61', 1, x'6b657074');"""
    )
    database.close()
    store = SQLiteMailboxes(path, clock, limits=MailboxLimits(item_age=1000), wall_clock=clock.wall_clock)
    assert store.usage.sizes == {b"a": 4}
    clock.advance(900)
    assert [item.content for item in store.pull(b"a", 10, 0)] == [b"kept"]
    clock.advance(600)
    assert store.pull(b"a", 10, 0) == []
    store.close()


def test_many_old_items_go_in_steps_and_all_are_counted_out(clock: FakeClock) -> None:
    limits = MailboxLimits(item_age=1000, items_per_mailbox=2500)
    store = SQLiteMailboxes(":memory:", clock, limits=limits, wall_clock=clock.wall_clock)
    clock.wait_for(store.register(b"a" * 32, b"k" * 32, b"t" * 32), 1)
    for _ in range(2500):
        store.store(b"a" * 32, 1, b"x")
    clock.advance(1300)
    assert store.pull(b"a" * 32, 10, 0) == []
    for _ in range(2500):
        clock.wait_for(store.store(b"a" * 32, 1, b"x"), 1)
    store.close()


def test_a_subscriber_is_told_once_for_what_one_commit_has_stored(path, clock):
    store = registered(path, clock)
    clock.wait_for(store.register(BOB, b"k" * 32, b"t" * 32), 1)
    told = []
    store.subscribe(told.append)
    for mailbox in (ALICE, BOB, ALICE, ALICE):
        store.store(mailbox, 1, b"x")
    clock.advance(0.0049)
    assert told == []
    clock.advance(0.0002)
    assert told == [ALICE, BOB]
    store.close()


def test_confirming_has_finished_once_it_is_committed(path, clock):
    store = registered(path, clock)
    clock.wait_for(store.store(ALICE, 1, b"x"), 1)
    done = result(store.confirm(ALICE, [store.pull(ALICE, 1, 0)[0].number]))
    assert done == []
    clock.advance(0.0051)
    assert done == [None]
    store.close()
