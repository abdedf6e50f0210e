"""Feeds the history from the reactor. One thread writes, so that the reactor never waits for a disk."""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from nymtw.directory.dashboard.history import NETWORK, RETENTION, History, Second, Standing, Sums
from nymtw.errors import DirectoryError, NymtwError
from nymtw.node.process.log_once import LogOnce

T = TypeVar("T")

FLUSH = 5  # seconds that are written together
PRUNE_INTERVAL = 60.0  # seconds
RETRY = 10.0  # seconds from a failure to the next attempt
MOST_PENDING = 600  # seconds that wait while the database is away; beyond that the oldest are lost
# After a step of the wall clock, which may be wrong, nothing is deleted by age for so many seconds.
STEP_GRACE = 3600.0
_STEP = 60.0


class Recorder(Service):
    """Takes a `Second` each second, writes five together, and reads.

    `work(call)` runs a blocking function and returns a Deferred. Without it, the recorder has a thread of its own.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        wall_clock: Callable[[], float],
        open_history: Callable[[], History],
        work: "Callable[[Callable[[], Any]], Deferred[Any]] | None" = None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._open = open_history
        self._work = work or self._in_thread
        self._pool: ThreadPool | None = None
        self._history: History | None = None
        self._pending: deque[Second] = deque(maxlen=MOST_PENDING)
        self._writing: Deferred[None] | None = None
        self._log_once = LogOnce()
        self._offset = wall_clock() - clock.seconds()
        self._pruned = clock.seconds()
        self._steady_since = float("-inf")
        self._retry = float("-inf")
        self.lost = 0  # seconds

    def startService(self) -> None:
        """Open the database. Raises `DiskError`."""
        super().startService()
        self._history = self._open()
        if self._work == self._in_thread:
            self._pool = ThreadPool(1, 1, name="history")
            self._pool.start()

    def stopService(self) -> "Deferred[None]":
        """Write pending seconds, then close."""
        super().stopService()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        if self._writing is not None:
            await self._writing
        if self._history is not None:
            await self._write()
            await self._work(self._history.close)
            self._history = None
        if self._pool is not None:
            self._pool.stop()
            self._pool = None

    def record(self, second: Second) -> None:
        """Take one second."""
        if len(self._pending) == MOST_PENDING:
            self.lost += 1
        self._pending.append(second)
        due = len(self._pending) >= FLUSH and self._clock.seconds() >= self._retry
        if due and self._writing is None and self._history is not None:
            self._writing = writing = Deferred.fromCoroutine(self._write())
            writing.addErrback(lambda failure: self._log.failure("the history failed", failure=failure))
            writing.addBoth(self._written)

    async def series(self, identity: bytes, length: int) -> list[tuple[int, int, int, int]]:
        """(start, sent, received, up) of all windows of this length, oldest first.

        Raises `DirectoryError` if the history cannot be read.
        """
        since = int(self._wall_clock()) - RETENTION[length]
        waiting = list(self._pending)
        rows = {row[0]: row for row in await self._read(lambda history: history.read(identity, length, since))}
        for second in waiting:
            start = second.at - second.at % length
            sums = second.sums.get(identity)
            if sums is not None and start >= since:
                before = Sums(*rows[start][1:]) if start in rows else Sums()
                after = before + sums
                rows[start] = (start, after.sent, after.received, after.up)
        return [rows[start] for start in sorted(rows)]

    async def standing(self, identity: bytes) -> list[Standing]:
        """A node's record of the last hour, day and 30 days. Raises `DirectoryError`."""
        now = int(self._wall_clock())
        spans = (3600, 86400, 30 * 86400)
        return await self._read(lambda history: [history.standing(identity, span, now) for span in spans])

    async def _read(self, read: Callable[[History], T]) -> T:
        history = self._history
        if history is None:
            raise DirectoryError("the history is not available now")
        try:
            found: T = await self._work(lambda: read(history))
        except NymtwError as error:
            raise DirectoryError(str(error)) from None
        return found

    async def _write(self) -> None:
        history = self._history
        batch = list(self._pending)
        if history is None or not batch:
            return
        now = self._may_prune()
        try:
            await self._work(lambda: history.add(batch))
            # New seconds were appended meanwhile; surplus ones were removed from the front.
            written = set(map(id, batch))
            while self._pending and id(self._pending[0]) in written:
                self._pending.popleft()
            if now is not None:
                await self._work(lambda: history.prune(now))
        except NymtwError as error:
            if self._log_once.is_new(str(error)):
                self._log.warn("{cause}; trying again", cause=str(error))
            self._retry = self._clock.seconds() + RETRY
            return
        if self._log_once.is_over():
            self._log.info("the history of metrics is written again")

    def _written(self, _: object) -> None:
        self._writing = None

    def _may_prune(self) -> int | None:
        """The wall clock in whole seconds if it is time to prune and the clock is trustworthy, otherwise None."""
        now, wall = self._clock.seconds(), self._wall_clock()
        if abs(wall - now - self._offset) > _STEP:
            self._offset, self._steady_since = wall - now, now
        if now - self._pruned < PRUNE_INTERVAL or now - self._steady_since < STEP_GRACE:
            return None
        self._pruned = now
        return int(wall)

    def _in_thread(self, call: Callable[[], T]) -> "Deferred[T]":
        if self._pool is None:
            raise DirectoryError("the history is not available now")
        return deferToThreadPool(self._clock, self._pool, call)


def network_sums(sums: dict[bytes, Sums]) -> dict[bytes, Sums]:
    """`sums` by identity, and those of the whole network. Its `up` is 1, because the directory was running."""
    total = Sums()
    for each in sums.values():
        total += each
    return {**sums, NETWORK: Sums(total.sent, total.received, 1, total.loops_sent, total.loops_returned)}
