"""Mailboxes in PostgreSQL. The reactor never waits: one thread writes, one reads, each with a connection of its own.

While a transaction is on its way everything else gathers, and goes together in the next one. A provider has a schema
of its own and an advisory lock on it, so that no two ever write to the same tables.
"""

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.errors import DiskError, NymtwError
from nymtw.interfaces import IMailboxStore
from nymtw.storage.limits import MailboxLimits
from nymtw.storage.postgresql_tables import Batch, Server, cost_of
from nymtw.storage.usage import LARGEST, SWEEP, MailboxRecord, MailboxUsage, StoredItem, Subscribers, sweep_interval
from nymtw.storage.worker_thread import WorkerThread

MOST_WAITING: Final = 64 << 20  # bytes of mail that wait for a database that is slow
# In one transaction; what else waits goes in the next one in any case, so that no client waits behind a lot of mail.
_ITEMS_AT_ONCE: Final = 500
_PULLS_AT_ONCE: Final = 64
_FIRST_RETRY: Final = 0.5  # seconds
_LAST_RETRY: Final = 60.0
_AWAY: Final = "the database of the mailboxes is away"
# (mailbox, after, count), and who waits for the items
_Pull = tuple[tuple[bytes, int, int], "Deferred[list[StoredItem]]"]


class _Line:
    """A thread, and the connection that it alone uses."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.connection: Any = None

    @property
    def is_broken(self) -> bool:
        return self.connection is None or self.connection.closed

    def close(self) -> "Deferred[Any]":
        connection, self.connection = self.connection, None
        closed: Deferred[Any] = self.worker(connection.close if connection is not None else _nothing)
        return closed


def _nothing() -> None:
    pass


@implementer(IMailboxStore)
class PostgreSQLMailboxes:
    """An `IMailboxStore` in the schema `schema` of the database that `url` names, made where it is missing.

    `url`: as libpq takes it, `postgresql://USER@HOST/DATABASE`; what it lacks libpq takes from its environment and its
    files. Call `open` first. `commit_interval`: seconds in which what comes gathers, when nothing is on its way. While
    the database is away everything fails with `DiskError` at once, and it is connected to again, at growing intervals.
    `worker` makes a `WorkerThread` of (reactor, name), two of them from `open` to `close`.

    Raises `ConfigError` for a URL that is none, and where psycopg is not installed.
    """

    _log = Logger()

    def __init__(
        self,
        url: str,
        schema: str,
        clock: Any,
        reactor: Any = None,
        *,
        random: Random,
        commit_interval: float = 0.005,
        limits: MailboxLimits | None = None,
        wall_clock: Callable[[], float] = time.time,
        worker: Callable[[Any, str], Any] = WorkerThread,
    ) -> None:
        self.schema = schema
        self._server = Server(url, schema)
        self.has_password = self._server.has_password
        self._clock = clock
        self._random = random
        self._interval = commit_interval
        self._wall_clock = wall_clock
        self._usage = MailboxUsage(limits or MailboxLimits())
        self._subscribers = Subscribers()
        self._make_worker = worker
        self._reactor = reactor
        self._lines: tuple[_Line, _Line] | None = None  # the one that writes, and the one that reads
        self._ready = False
        self._closed = False
        self._retry = _FIRST_RETRY
        self._retrying: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._sweeper: IDelayedCall | None = None
        self._batch = Batch()
        self._doubtful: set[bytes] = set()  # whose mail was on its way when the connection broke
        self._writing: Deferred[None] | None = None
        self._pulls: list[_Pull] = []
        self._reading: Deferred[None] | None = None

    async def open(self) -> None:
        """Connect, make the tables where there are none, and count what is there.

        Raises `DiskError`: the server cannot be reached, or another provider uses this schema.
        """
        writer, reader = (_Line(self._make_worker(self._reactor, name)) for name in ("mailboxes", "mailbox reads"))
        self._lines = writer, reader
        try:
            await self._connect()
        except Exception:
            await self._close()
            raise

    # IMailboxStore

    def register(self, mailbox: bytes, public_key: bytes, token_hash: bytes) -> "Deferred[None]":
        if not self._ready:
            return fail(DiskError(_AWAY))
        try:
            self._usage.expect(mailbox)
        except NymtwError:
            return fail()
        self._batch.registrations[mailbox] = (public_key, token_hash)
        return self._when_durable(self._batch.waiting)

    def find(self, mailbox: bytes) -> "Deferred[MailboxRecord | None]":
        if self._lines is None or not self._ready:
            return fail(DiskError(_AWAY))
        _, line = self._lines
        connection = line.connection
        found: Deferred[MailboxRecord | None] = line.worker(lambda: self._server.find(connection, mailbox))
        return found.addErrback(self._not_found)

    def count(self) -> int:
        return len(self._usage.counts)

    def subscribe(self, callback: Callable[[bytes], object]) -> None:
        self._subscribers.add(callback)

    def store(self, mailbox: bytes, kind: int, content: bytes) -> "Deferred[None]":
        if not self._ready:
            return fail(DiskError(_AWAY))
        cost = cost_of(content)
        if self._batch.cost + cost > MOST_WAITING:
            return fail(DiskError("the database of the mailboxes is too slow"))
        try:
            self._usage.take(mailbox, len(content))
        except NymtwError:
            return fail()
        self._batch.cost += cost
        self._batch.items.append((mailbox, kind, content, int(self._wall_clock()), len(content)))
        self._arm_sweeper()
        return self._when_durable(self._batch.stored)

    def pull(self, mailbox: bytes, count: int, after: int) -> "Deferred[list[StoredItem]]":
        if not self._ready:
            return fail(DiskError(_AWAY))
        answer: Deferred[list[StoredItem]] = Deferred()
        self._pulls.append(((mailbox, min(after, LARGEST), count), answer))
        self._start_reading()
        return answer

    def confirm(self, mailbox: bytes, numbers: Sequence[int]) -> "Deferred[None]":
        wanted = dict.fromkeys((number, mailbox) for number in numbers if 0 < number <= LARGEST)
        if not wanted:
            return succeed(None)
        if not self._ready:
            return fail(DiskError(_AWAY))
        self._batch.confirmed |= wanted
        return self._when_durable(self._batch.waiting)

    def close(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._closed = True
        for timer in (self._timer, self._retrying, self._sweeper):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._retrying = self._sweeper = None
        while self._ready and (self._batch or self._pulls or self._writing or self._reading):
            self._write()
            self._start_reading()
            for busy in (self._writing, self._reading):
                if busy is not None:
                    await busy
        was_ready, self._ready = self._ready, False
        lines, self._lines = self._lines or (), None
        closed = [line.close() for line in lines]
        for line in lines:
            line.worker.stop()
        if was_ready:  # else a thread may be busy connecting, for a while
            await gatherResults(closed)

    # writing

    def _when_durable(self, waiting: "list[Deferred[None]]") -> "Deferred[None]":
        deferred: Deferred[None] = Deferred()
        waiting.append(deferred)
        self._arm()
        return deferred

    def _arm(self) -> None:
        if self._timer is None and self._writing is None and not self._closed:
            self._timer = self._clock.callLater(self._interval, self._write)

    def _write(self) -> None:
        self._timer = None
        if self._lines is None or not (self._ready and self._batch and self._writing is None):
            return
        line, _ = self._lines
        batch, self._batch = self._batch.split(_ITEMS_AT_ONCE)
        busy: Deferred[None] = Deferred()
        self._writing = busy
        connection = line.connection
        line.worker(lambda: self._server.write(connection, batch)).addCallbacks(
            self._written, self._not_written, callbackArgs=(batch,), errbackArgs=(batch,)
        ).addErrback(self._bug).addCallback(lambda _: self._go_on_writing(busy))

    def _written(self, gone: list[tuple[bytes, int]], batch: Batch) -> None:
        self._usage.registered(batch.registrations)
        self._usage.count_out(gone)
        if batch.expire_before is not None and self._usage.bytes:
            self._arm_sweeper(self._interval if len(gone) >= SWEEP else None)
        for deferred in batch.everybody:
            deferred.callback(None)
        self._subscribers.tell(mailbox for mailbox, *_ in batch.items)

    def _not_written(self, failure: Failure, batch: Batch) -> None:
        error = self._error(failure)
        self._undo(batch)
        for deferred in batch.everybody:
            deferred.errback(error)
        if batch.expire_before is not None and not self._closed:
            self._arm_sweeper()
        if self._look(error):
            self._doubtful.update(mailbox for mailbox, *_ in batch.items)

    def _undo(self, batch: Batch) -> None:
        """Count out what was not stored. Where that is not certain, all is counted when the database is back."""
        self._usage.not_registered(batch.registrations)
        self._usage.count_out((mailbox, size) for mailbox, _, _, _, size in batch.items)

    def _go_on_writing(self, busy: "Deferred[None]") -> None:
        self._writing = None
        self._write()
        busy.callback(None)

    # reading

    def _start_reading(self) -> None:
        if self._lines is None or not (self._ready and self._pulls and self._reading is None):
            return
        _, line = self._lines
        pulls, self._pulls = self._pulls[:_PULLS_AT_ONCE], self._pulls[_PULLS_AT_ONCE:]
        busy: Deferred[None] = Deferred()
        self._reading = busy
        asked = [place for place, _ in pulls]
        connection = line.connection
        line.worker(lambda: self._server.pull(connection, asked)).addCallbacks(
            self._pulled, self._not_pulled, callbackArgs=(pulls,), errbackArgs=(pulls,)
        ).addErrback(self._bug).addCallback(lambda _: self._go_on_reading(busy))

    def _pulled(self, found: list[list[StoredItem]], pulls: "list[_Pull]") -> None:
        for (_, answer), items in zip(pulls, found, strict=True):
            answer.callback(items)

    def _not_pulled(self, failure: Failure, pulls: "list[_Pull]") -> None:
        error = self._error(failure)
        for _, answer in pulls:
            answer.errback(error)
        self._look(error)

    def _not_found(self, failure: Failure) -> None:
        error = self._error(failure)
        self._look(error)
        raise error

    def _go_on_reading(self, busy: "Deferred[None]") -> None:
        self._reading = None
        self._start_reading()
        busy.callback(None)

    # the connections

    async def _connect(self) -> None:
        """Both connections anew; what is there is counted."""
        if self._lines is None:
            raise DiskError(_AWAY)
        writer, reader = self._lines
        await gatherResults([writer.close(), reader.close()])
        writer.connection, held = await writer.worker(self._server.open_to_write)
        reader.connection = await reader.worker(self._server.open_to_read)
        if self._closed:
            await gatherResults([writer.close(), reader.close()])
            raise DiskError(_AWAY)
        self._usage.start_from(*held)
        self._retry = _FIRST_RETRY
        self._ready = True
        if self._usage.bytes:
            self._arm_sweeper()
        doubtful, self._doubtful = self._doubtful, set()
        self._subscribers.tell(doubtful)

    def _look(self, error: DiskError) -> bool:
        """Something has failed. Where it is a connection, whoever waits is told, and it is made anew. Whether it is."""
        if self._lines is None or not any(line.is_broken for line in self._lines):
            return False
        if not self._ready:
            return True
        self._ready = False
        self._log.error("{cause}; mail is refused until it is back", cause=str(error))
        batch, self._batch = self._batch, Batch()
        pulls, self._pulls = self._pulls, []
        self._undo(batch)
        waiting: list[Deferred[Any]] = [*batch.everybody, *(answer for _, answer in pulls)]
        for deferred in waiting:
            deferred.errback(error)
        if not self._closed:
            self._try_later()
        return True

    def _try_later(self) -> None:
        self._retrying = self._clock.callLater(self._retry * self._random.uniform(0.5, 1.0), self._try_again)
        self._retry = min(2 * self._retry, _LAST_RETRY)

    def _try_again(self) -> None:
        self._retrying = None
        Deferred.fromCoroutine(self._connect()).addCallbacks(self._is_back, self._is_still_away)

    def _is_back(self, _: object) -> None:
        self._log.info("The database of the mailboxes is back")

    def _is_still_away(self, failure: Failure) -> None:
        self._error(failure)
        if not self._closed:
            self._try_later()

    def _error(self, failure: Failure) -> DiskError:
        """What callers are told. What is no error of the database is logged, where a fault of ours is to be found."""
        if isinstance(failure.value, DiskError):
            return failure.value
        self._bug(failure)
        return DiskError(_AWAY)

    def _bug(self, failure: Failure) -> None:
        self._log.failure("The mailboxes failed", failure)

    # what nobody fetches

    def _arm_sweeper(self, seconds: float | None = None) -> None:
        if self._sweeper is None and not self._closed:
            interval = sweep_interval(self._usage.limits) if seconds is None else seconds
            self._sweeper = self._clock.callLater(interval, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        if self._ready:
            self._batch.expire_before = int(self._wall_clock() - self._usage.limits.item_age)
            self._arm()
