"""Mailboxes in a real PostgreSQL server, which the tests start: the suite that every store passes, and what only this
one does: it is away and comes back.
"""

import itertools
import queue
import random

import pytest
from postgresql_server import AtOnce, postgresql_server

from twisted.internet.defer import Deferred, maybeDeferred

from nymtw.errors import ConfigError, DiskError, MailboxFull, UnknownDestination
from nymtw.storage.mailbox_limits import MailboxLimits
from nymtw.storage.postgresql import MOST_WAITING, PostgreSQLMailboxes
from nymtw.storage.postgresql_tables import Server
from nymtw.storage.worker_thread import WorkerThread
from nymtw.testing.clock import FakeClock
from nymtw.testing.contracts import MailboxStoreContract

pytestmark = pytest.mark.integration
ALICE, BOB, KEY, TOKEN = b"a" * 32, b"b" * 32, b"k" * 32, b"t" * 32
_schemas = (f"nymtw_test_{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server():
    with postgresql_server() as server:
        yield server


class Held(AtOnce):
    """In place of a thread: work is done when the test says so. `of` has those of the newest store: writer, reader."""

    of = []

    def __init__(self, reactor, name):
        super().__init__(reactor, name)
        self.jobs = None
        Held.of = [*Held.of[-1:], self]

    def __call__(self, call):
        if self.jobs is None:
            return super().__call__(call)
        answer = Deferred()
        self.jobs.append((call, answer))
        return answer

    def let_go(self):
        jobs, self.jobs = self.jobs, None
        for call, answer in jobs:
            maybeDeferred(call).chainDeferred(answer)


class ThreadsClock(FakeClock):
    """A clock that is also what threads need of a reactor: time stands still until they have done their work."""

    def __init__(self):
        super().__init__()
        self._calls = queue.SimpleQueue()
        self.busy = 0

    def callFromThread(self, call, *arguments):
        self._calls.put((call, arguments))

    def advance(self, seconds):
        self._let_threads_work()
        super().advance(seconds)

    def advance_until(self, condition, limit):
        self._let_threads_work()
        return super().advance_until(condition, limit)

    def _make_next(self):
        super()._make_next()
        self._let_threads_work()

    def _let_threads_work(self):
        while self.busy:
            call, arguments = self._calls.get(timeout=300)
            self.busy -= 1
            call(*arguments)


class Counted(WorkerThread):
    def __init__(self, clock, name):
        super().__init__(clock, name)
        self._clock = clock

    def __call__(self, call):
        self._clock.busy += 1
        return super().__call__(call)


def opened(server, clock, *, schema=None, limits=None, worker=AtOnce, **more):
    store = PostgreSQLMailboxes(
        server.url,
        schema or next(_schemas),
        clock,
        limits=limits,
        wall_clock=clock.wall_clock,
        random=random.Random(1),
        worker=worker,
        **more,
    )
    clock.wait_for(maybeDeferred(store.open), 1)
    return store


class TestPostgreSQL(MailboxStoreContract):
    @pytest.fixture(autouse=True)
    def there(self, server):
        self.server = server

    def make_store(self, clock, limits):
        return opened(self.server, clock, limits=limits)


class TestPostgreSQLInThreads(TestPostgreSQL):
    """As it really runs, with its two threads."""

    @pytest.fixture
    def clock(self):
        return ThreadsClock()

    def make_store(self, clock, limits):
        return opened(self.server, clock, limits=limits, reactor=clock, worker=Counted)


@pytest.fixture
def clock():
    return FakeClock()


def result(deferred):
    results = []
    deferred.addBoth(results.append)
    return results


def registered(server, clock, **more):
    store = opened(server, clock, **more)
    clock.wait_for(store.register(ALICE, KEY, TOKEN), 1)
    return store


def put(store, clock, content, mailbox=ALICE):
    clock.wait_for(store.store(mailbox, 1, content), 1)


def contents(store, clock, mailbox=ALICE):
    return [item.content for item in clock.wait_for(store.pull(mailbox, 10_000, 0), 1)]


def closed(store, clock):
    clock.wait_for(store.close(), 1)
    assert clock.getDelayedCalls() == []


def break_connections(server):
    """What a server does to its clients when it is told to end them."""
    import psycopg

    with psycopg.connect(server.url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'nym-provider'"
        )


def test_what_was_stored_is_there_again_and_counts(server, clock):
    limits = MailboxLimits(mailboxes=1, items_per_mailbox=2)
    store = registered(server, clock, schema="nymtw_again", limits=limits)
    put(store, clock, b"0")
    closed(store, clock)
    store = opened(server, clock, schema="nymtw_again", limits=limits)
    assert (contents(store, clock), store.count()) == ([b"0"], 1)
    assert clock.wait_for(store.find(ALICE), 1).token_hash == TOKEN
    put(store, clock, b"1")
    assert result(store.store(ALICE, 1, b"2"))[0].check(MailboxFull)
    assert result(store.register(BOB, KEY, TOKEN))[0].check(MailboxFull)
    closed(store, clock)


def test_numbers_are_not_used_again_after_a_restart(server, clock):
    store = registered(server, clock, schema="nymtw_numbers")
    put(store, clock, b"x")
    [item] = clock.wait_for(store.pull(ALICE, 1, 0), 1)
    clock.wait_for(store.confirm(ALICE, [item.number]), 1)
    closed(store, clock)
    store = opened(server, clock, schema="nymtw_numbers")
    put(store, clock, b"y")
    assert clock.wait_for(store.pull(ALICE, 1, 0), 1)[0].number > item.number
    closed(store, clock)


def test_close_writes_what_is_pending(server, clock):
    store = registered(server, clock, schema="nymtw_pending")
    done = [result(store.store(ALICE, 3, b"%d" % number)) for number in range(3)]
    closed(store, clock)
    assert done == [[None]] * 3
    store = opened(server, clock, schema="nymtw_pending")
    assert contents(store, clock) == [b"0", b"1", b"2"]
    closed(store, clock)
    assert result(store.store(ALICE, 1, b"x"))[0].check(DiskError)
    assert result(store.pull(ALICE, 1, 0))[0].check(DiskError)


def test_whole_packets_and_the_largest_frames_come_back_as_they_were(server, clock, seed):
    rng = random.Random(seed)
    store = registered(server, clock)
    mail = [rng.randbytes(length) for length in (0, 21, 1618, 2413, 30_000)]
    for content in mail:
        put(store, clock, content)
    assert contents(store, clock) == mail
    closed(store, clock)


def test_a_second_provider_cannot_use_the_same_tables(server, clock, monkeypatch):
    monkeypatch.setattr("nymtw.storage.postgresql_tables.LOCK_TIMEOUT", "100ms")
    store = registered(server, clock, schema="nymtw_taken")
    with pytest.raises(DiskError, match="schema nymtw_taken are in use by another process"):
        opened(server, clock, schema="nymtw_taken")
    put(store, clock, b"x")
    closed(store, clock)
    opened(server, clock, schema="nymtw_taken").close()


def test_two_providers_share_a_database_and_no_mail(server, clock):
    one, other = registered(server, clock), opened(server, clock)
    put(one, clock, b"x")
    assert other.count() == 0
    assert contents(other, clock) == []
    closed(one, clock)
    closed(other, clock)


def test_while_the_database_is_away_mail_is_refused_and_then_taken_again(server, clock):
    store = registered(server, clock)
    put(store, clock, b"before")
    break_connections(server)
    lost = [result(store.store(ALICE, 1, b"lost")), result(store.confirm(ALICE, [1])), result(store.pull(ALICE, 1, 0))]
    clock.advance(0.006)  # the commit finds out
    assert [outcome[0].check(DiskError) for outcome in lost] == [DiskError] * 3
    for refused in (
        store.store(ALICE, 1, b"lost"),
        store.pull(ALICE, 1, 0),
        store.find(ALICE),
        store.confirm(ALICE, [1]),
    ):
        assert result(refused)[0].check(DiskError)
    assert result(store.register(BOB, KEY, TOKEN))[0].check(DiskError)
    clock.advance(1)
    assert contents(store, clock) == [b"before"]
    put(store, clock, b"after")
    assert contents(store, clock) == [b"before", b"after"]
    assert store.usage.counts == {ALICE: 2}
    closed(store, clock)


def test_a_connection_that_only_reads_is_made_again_too(server, clock):
    store = registered(server, clock)
    put(store, clock, b"x")
    break_connections(server)
    assert result(store.pull(ALICE, 1, 0))[0].check(DiskError)
    clock.advance(1)
    assert contents(store, clock) == [b"x"]
    closed(store, clock)


def test_attempts_come_at_growing_intervals_until_the_server_is_back(clock):
    with postgresql_server() as server:
        store = registered(server, clock)
        put(store, clock, b"x")
        server.stop()
        result(store.store(ALICE, 1, b"y"))
        clock.advance(0.006)
        waits = []
        while len(waits) < 10:
            [call] = [call for call in clock.getDelayedCalls() if call.getTime() < clock.seconds() + 100]
            waits.append(call.getTime() - clock.seconds())
            clock.advance(waits[-1])
        assert 0.25 <= waits[0] <= 0.5
        assert 30 <= waits[-1] <= 60
        server.start()
        clock.advance(60)
        assert contents(store, clock) == [b"x"]
        put(store, clock, b"y")
        closed(store, clock)


def test_closing_while_the_server_is_away_waits_for_nobody(clock):
    with postgresql_server() as server:
        store = registered(server, clock)
        server.stop()
        lost = result(store.store(ALICE, 1, b"y"))
        closed(store, clock)
        assert lost[0].check(DiskError)


def test_a_transaction_of_unknown_outcome_is_counted_when_the_database_is_back(server, clock, monkeypatch):
    """The server has committed, and the connection breaks before it could say so."""
    store = registered(server, clock)
    told = []
    store.subscribe(told.append)
    write = Server.write

    def commit_and_break(server, connection, batch):
        write(server, connection, batch)
        connection.close()
        raise DiskError("the connection is lost")

    monkeypatch.setattr(Server, "write", commit_and_break)
    unsure = result(store.store(ALICE, 1, b"there all the same"))
    clock.advance(0.006)
    monkeypatch.undo()
    assert unsure[0].check(DiskError)
    assert told == []
    clock.advance(1)
    assert told == [ALICE]
    assert store.usage.counts == {ALICE: 1}
    assert contents(store, clock) == [b"there all the same"]
    closed(store, clock)


def test_a_slow_database_costs_bounded_memory(server, clock):
    store = registered(server, clock, worker=Held)
    writer, _ = Held.of
    writer.jobs = []
    first = result(store.store(ALICE, 1, bytes(1 << 20)))
    clock.advance(1)  # on its way, and it does not return
    waiting = [result(store.store(ALICE, 1, bytes(1 << 20))) for _ in range(100)]
    refused = [outcome for outcome in waiting if outcome]
    assert len(waiting) - len(refused) == MOST_WAITING // ((1 << 20) + 500)
    assert all(outcome[0].check(DiskError) for outcome in refused)
    assert len(writer.jobs) == 1
    writer.let_go()
    clock.advance(1)
    assert first == [None]
    assert waiting[0] == [None]
    assert store.usage.counts[ALICE] == 1 + len(waiting) - len(refused)
    closed(store, clock)


def test_a_confirmation_does_not_wait_behind_a_lot_of_mail(server, clock):
    store = registered(server, clock, worker=Held)
    put(store, clock, b"x")
    [item] = clock.wait_for(store.pull(ALICE, 1, 0), 1)
    writer, _ = Held.of
    writer.jobs = []
    done = [result(store.store(ALICE, 1, b"%d" % number)) for number in range(1200)]
    confirmed = result(store.confirm(ALICE, [item.number]))
    clock.advance(1)
    [(call, answer)] = writer.jobs
    writer.jobs = []
    answer.callback(call())
    assert [len(outcome) for outcome in (*done[:500], confirmed, *done[500:])] == [1] * 501 + [0] * 700
    writer.let_go()
    clock.advance(1)
    assert done == [[None]] * 1200
    assert contents(store, clock) == [b"%d" % number for number in range(1200)]
    assert store.usage.counts == {ALICE: 1200}
    assert store.waiting_bytes == 0
    closed(store, clock)


def test_a_refused_transaction_loses_nothing_and_the_store_lives_on(server, clock):
    """What a full disk is: the server refuses the transaction, and keeps the connection."""
    import psycopg

    store = registered(server, clock, schema="nymtw_full")
    put(store, clock, b"before")
    with psycopg.connect(server.url, autocommit=True) as other:
        other.execute(
            "CREATE FUNCTION nymtw_full.refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$;"
            "CREATE TRIGGER full_disk BEFORE INSERT ON nymtw_full.items FOR EACH ROW "
            "EXECUTE FUNCTION nymtw_full.refuse()"
        )
        refused = [result(store.store(ALICE, 1, b"x")) for _ in range(3)]
        clock.advance(1)
        assert all(outcome[0].check(DiskError) for outcome in refused)
        assert contents(store, clock) == [b"before"]
        [item] = clock.wait_for(store.pull(ALICE, 1, 0), 1)
        clock.wait_for(store.confirm(ALICE, [item.number]), 1)
        other.execute("DROP TRIGGER full_disk ON nymtw_full.items")
    put(store, clock, b"after")
    assert contents(store, clock) == [b"after"]
    assert store.usage.counts == {ALICE: 1}
    closed(store, clock)


def test_counts_agree_with_the_tables_after_anything(server, clock, seed):
    rng = random.Random(seed)
    store = registered(server, clock)
    clock.wait_for(store.register(BOB, KEY, TOKEN), 1)
    for _ in range(300):
        mailbox = rng.choice((ALICE, BOB, b"c" * 32))
        if rng.random() < 0.6:
            store.store(mailbox, 1, rng.randbytes(rng.randrange(50))).addErrback(lambda f: f.trap(UnknownDestination))
        else:
            items = clock.wait_for(store.pull(mailbox, 5, 0), 1)
            store.confirm(mailbox, [item.number for item in items] * 2)
        clock.advance(rng.choice((0, 0, 0.005)))
    clock.advance(1)
    usage = store.usage
    counted = dict(usage.counts), dict(usage.sizes), usage.bytes
    break_connections(server)
    result(store.pull(ALICE, 1, 0))
    clock.advance(1)
    assert counted == (usage.counts, usage.sizes, usage.bytes)
    closed(store, clock)


def test_many_that_pull_at_once_are_all_answered(server, clock):
    store = registered(server, clock, worker=Held)
    put(store, clock, b"x")
    _, reader = Held.of
    reader.jobs = []
    answers = [result(store.pull(ALICE, 1, 0)) for _ in range(200)]
    reader.let_go()
    assert [[item.content for item in answer[0]] for answer in answers] == [[b"x"]] * 200
    closed(store, clock)


def test_a_commit_survives_a_crash_of_the_server_even_where_it_is_set_to_forget(server, clock, monkeypatch):
    import psycopg

    write, settings = Server.write, []

    def look_and_write(server, connection, batch):
        settings.append(connection.execute("SHOW synchronous_commit").fetchone())
        return write(server, connection, batch)

    monkeypatch.setattr(Server, "write", look_and_write)

    with psycopg.connect(server.url, autocommit=True) as other:
        other.execute("ALTER ROLE nymtw SET synchronous_commit = off")
        store = registered(server, clock)
        other.execute("ALTER ROLE nymtw RESET synchronous_commit")
    put(store, clock, b"x")
    assert set(settings) == {("on",)}
    closed(store, clock)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:geheim@h:port/db",
        "postgresql://u:gehe%zzim@h/db",
        "mysql://h/geheim",
        "postgresql://u:a/geheim@h/db",
        "postgresql://u:a@geheim@h/db",
        "password=geheim host=h",
    ],
)
def test_a_url_that_is_none_is_an_error_without_its_password(url):
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError, match="--store") as caught:
        PostgreSQLMailboxes(url, "s", FakeClock(), random=random.Random(1))
    assert "geheim" not in str(caught.value)


def test_a_server_that_cannot_be_reached_is_an_error_without_the_password(clock):
    pytest.importorskip("psycopg")
    url = "postgresql://nymtw:geheim@127.0.0.1:1/postgres"
    store = PostgreSQLMailboxes(url, "s", clock, random=random.Random(1), worker=AtOnce)
    with pytest.raises(DiskError, match=r"the mailboxes in PostgreSQL.*127\.0\.0\.1") as caught:
        clock.wait_for(maybeDeferred(store.open), 1)
    assert "geheim" not in str(caught.value)
    assert clock.getDelayedCalls() == []
