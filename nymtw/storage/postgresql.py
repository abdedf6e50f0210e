"""Mailboxes in PostgreSQL. The reactor never waits: one thread writes, one reads, each with a connection of its own.

Changes that arrive during a transaction wait, and go together into the next one. Each provider has a schema of its own
and an advisory lock on it, so that two providers never write to the same tables.
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
from nymtw.storage.mailbox_limits import MailboxLimits
from nymtw.storage.postgresql_tables import Batch, Server, cost_of
from nymtw.storage.records import MailboxRecord, StoredItem
from nymtw.storage.usage import LARGEST, SWEEP, MailboxUsage, Subscribers, sweep_interval
from nymtw.storage.worker_thread import WorkerThread

MOST_WAITING: Final = 64 << 20  # bytes of mail that may wait for a slow database
# The limit of one transaction. Other changes are not limited, so that no client waits behind a lot of mail.
_ITEMS_AT_ONCE: Final = 500
_PULLS_AT_ONCE: Final = 64
_FIRST_RETRY: Final = 0.5  # seconds
_LAST_RETRY: Final = 60.0
_AWAY: Final = "the mailbox database is not reachable"
# (mailbox, after, count), and the Deferred for the items
_Pull = tuple[tuple[bytes, int, int], "Deferred[list[StoredItem]]"]


class _Channel:
    """A thread, and the connection that only this thread uses."""

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
    """An `IMailboxStore` in the schema `schema` of the database at `url`. A missing schema is created.

    `url`: a libpq URL, `postgresql://USER@HOST/DATABASE`; libpq takes missing parts from its environment and its files.
    `commit_interval`: seconds for which changes are collected before a commit, if none is under way. `worker` makes a
    `WorkerThread` of (reactor, name); there are two of them from `open` to `close`.

    Call `open` first. While the database is not reachable, every call fails with `DiskError` at once, and the store
    tries to reconnect at growing intervals. Raises `ConfigError` for an invalid URL, and if psycopg is not installed.
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
        self.limits = limits or MailboxLimits()
        self.usage = MailboxUsage(self.limits)
        self._subscribers = Subscribers()
        self._make_worker = worker
        self._reactor = reactor
        self._channels: tuple[_Channel, _Channel] | None = None  # one for writing, one for reading
        self._ready = False
        self._closed = False
        self._retry = _FIRST_RETRY
        self._retrying: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._sweeper: IDelayedCall | None = None
        self._batch = Batch()
        self._doubtful: set[bytes] = set()  # mailboxes whose mail was being stored when the connection broke
        self._writing: Deferred[None] | None = None
        self._pulls: list[_Pull] = []
        self._reading: Deferred[None] | None = None

    async def open(self) -> None:
        """Connect, create missing tables, and count the mail.

        Raises `DiskError` if the server cannot be reached, or if another provider uses this schema.
        """
        writer, reader = (_Channel(self._make_worker(self._reactor, name)) for name in ("mailboxes", "mailbox reads"))
        self._channels = writer, reader
        try:
            await self._connect()
        except Exception:
            await self._close()
            raise

    @property
    def waiting_bytes(self) -> int:
        """Memory, in bytes, of the items that wait for a transaction."""
        return self._batch.cost

    # IMailboxStore

    def register(self, mailbox: bytes, public_key: bytes, token_hash: bytes) -> "Deferred[None]":
        if not self._ready:
            return fail(DiskError(_AWAY))
        try:
            self.usage.expect(mailbox)
        except NymtwError:
            return fail()
        self._batch.registrations[mailbox] = (public_key, token_hash, int(self._wall_clock()))
        self._arm_sweeper()
        return self._when_durable(self._batch.waiting)

    def touch(self, mailbox: bytes) -> None:
        if self._ready:
            self._batch.touched[mailbox] = int(self._wall_clock())
            self._arm()

    def find(self, mailbox: bytes) -> "Deferred[MailboxRecord | None]":
        if self._channels is None or not self._ready:
            return fail(DiskError(_AWAY))
        _, channel = self._channels
        connection = channel.connection
        found: Deferred[MailboxRecord | None] = channel.worker(lambda: self._server.find(connection, mailbox))
        return found.addErrback(self._not_found)

    def count(self) -> int:
        return len(self.usage.counts)

    def subscribe(self, callback: Callable[[bytes], object]) -> None:
        self._subscribers.add(callback)

    def store(self, mailbox: bytes, kind: int, content: bytes) -> "Deferred[None]":
        if not self._ready:
            return fail(DiskError(_AWAY))
        cost = cost_of(content)
        if self._batch.cost + cost > MOST_WAITING:
            return fail(DiskError("the mailbox database is too slow"))
        try:
            self.usage.take(mailbox, len(content))
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
        channels, self._channels = self._channels or (), None
        closed = [channel.close() for channel in channels]
        for channel in channels:
            channel.worker.stop()
        if was_ready:  # otherwise a thread may still be trying to connect
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
        if self._channels is None or not (self._ready and self._batch and self._writing is None):
            return
        channel, _ = self._channels
        batch, self._batch = self._batch.split(_ITEMS_AT_ONCE)
        busy: Deferred[None] = Deferred()
        self._writing = busy
        connection = channel.connection
        channel.worker(lambda: self._server.write(connection, batch)).addCallbacks(
            self._written, self._not_written, callbackArgs=(batch,), errbackArgs=(batch,)
        ).addErrback(self._bug).addCallback(lambda _: self._go_on_writing(busy))

    def _written(self, written: tuple[list[tuple[bytes, int]], list[bytes]], batch: Batch) -> None:
        gone, removed = written
        self.usage.registered(batch.registrations)
        self.usage.count_out(gone)
        self.usage.expired(removed)
        if batch.expire_before is not None:
            self._arm_sweeper(self._interval if len(gone) >= SWEEP or len(removed) >= SWEEP else None)
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
        if self._check_connections(error):
            self._doubtful.update(mailbox for mailbox, *_ in batch.items)

    def _undo(self, batch: Batch) -> None:
        """Subtract what was not stored. If that is uncertain, everything is counted again after reconnecting."""
        self.usage.not_registered(batch.registrations)
        self.usage.count_out((mailbox, size) for mailbox, _, _, _, size in batch.items)

    def _go_on_writing(self, busy: "Deferred[None]") -> None:
        self._writing = None
        self._write()
        busy.callback(None)

    # reading

    def _start_reading(self) -> None:
        if self._channels is None or not (self._ready and self._pulls and self._reading is None):
            return
        _, channel = self._channels
        pulls, self._pulls = self._pulls[:_PULLS_AT_ONCE], self._pulls[_PULLS_AT_ONCE:]
        busy: Deferred[None] = Deferred()
        self._reading = busy
        asked = [place for place, _ in pulls]
        connection = channel.connection
        channel.worker(lambda: self._server.pull(connection, asked)).addCallbacks(
            self._pulled, self._not_pulled, callbackArgs=(pulls,), errbackArgs=(pulls,)
        ).addErrback(self._bug).addCallback(lambda _: self._go_on_reading(busy))

    def _pulled(self, found: list[list[StoredItem]], pulls: "list[_Pull]") -> None:
        for (_, answer), items in zip(pulls, found, strict=True):
            answer.callback(items)

    def _not_pulled(self, failure: Failure, pulls: "list[_Pull]") -> None:
        error = self._error(failure)
        for _, answer in pulls:
            answer.errback(error)
        self._check_connections(error)

    def _not_found(self, failure: Failure) -> None:
        error = self._error(failure)
        self._check_connections(error)
        raise error

    def _go_on_reading(self, busy: "Deferred[None]") -> None:
        self._reading = None
        self._start_reading()
        busy.callback(None)

    # the connections

    async def _connect(self) -> None:
        """Replace both connections, and count the mail."""
        if self._channels is None:
            raise DiskError(_AWAY)
        writer, reader = self._channels
        await gatherResults([writer.close(), reader.close()])
        writer.connection, held = await writer.worker(self._server.open_to_write)
        reader.connection = await reader.worker(self._server.open_to_read)
        if self._closed:
            await gatherResults([writer.close(), reader.close()])
            raise DiskError(_AWAY)
        self.usage.start_from(*held)
        self._retry = _FIRST_RETRY
        self._ready = True
        self._arm_sweeper()
        doubtful, self._doubtful = self._doubtful, set()
        self._subscribers.tell(doubtful)

    def _check_connections(self, error: DiskError) -> bool:
        """After an error: whether a connection is broken. If so, fail everything that waits, and reconnect later."""
        if self._channels is None or not any(channel.is_broken for channel in self._channels):
            return False
        if not self._ready:
            return True
        self._ready = False
        self._log.error("{cause}; mail is refused until the database is back", cause=str(error))
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
        self._log.info("The mailbox database is back")

    def _is_still_away(self, failure: Failure) -> None:
        self._error(failure)
        if not self._closed:
            self._try_later()

    def _error(self, failure: Failure) -> DiskError:
        """The error for callers. An error that did not come from the database is a bug of ours, and is logged."""
        if isinstance(failure.value, DiskError):
            return failure.value
        self._bug(failure)
        return DiskError(_AWAY)

    def _bug(self, failure: Failure) -> None:
        self._log.failure("The mailboxes failed", failure)

    # items that are too old

    def _arm_sweeper(self, seconds: float | None = None) -> None:
        mailboxes = self.limits.expire and (self.usage.counts or self._batch.registrations)
        if self._sweeper is None and not self._closed and (self.usage.bytes or mailboxes):
            interval = sweep_interval(self.usage.limits) if seconds is None else seconds
            self._sweeper = self._clock.callLater(interval, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        if self._ready:
            self._batch.expire_before = int(self._wall_clock() - self.limits.item_age)
            self._batch.expiry = self.limits.expiry(self._wall_clock())
            self._arm()
