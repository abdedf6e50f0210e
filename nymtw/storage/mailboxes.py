"""Mailboxes in SQLite. Changes within a few milliseconds are committed together: one transaction for many items.

WAL with `synchronous=NORMAL`: committed changes survive kill -9. After a power failure the file is intact, but may
lack the last moments.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from nymtw.errors import DiskError, NymtwError
from nymtw.interfaces import IMailboxStore
from nymtw.storage.mailbox_limits import MailboxLimits
from nymtw.storage.records import MailboxRecord, StoredItem
from nymtw.storage.usage import LARGEST, SWEEP, MailboxUsage, Subscribers, sweep_interval

_SCHEMA = """
CREATE TABLE IF NOT EXISTS mailboxes (
    mailbox BLOB PRIMARY KEY, public_key BLOB NOT NULL, token_hash BLOB NOT NULL, seen INTEGER NOT NULL,
    used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
    number INTEGER PRIMARY KEY AUTOINCREMENT, mailbox BLOB NOT NULL, kind INTEGER NOT NULL, content BLOB NOT NULL,
    stored INTEGER NOT NULL, size INTEGER NOT NULL
);
"""
# The index holds the size, so that counting at the start reads nothing else.
_INDEX = """
CREATE INDEX IF NOT EXISTS items_with_size ON items (mailbox, number, size);
DROP INDEX IF EXISTS items_by_mailbox;
"""
_REGISTER = (
    "INSERT INTO mailboxes (mailbox, public_key, token_hash, seen, used) VALUES (?, ?, ?, ?, 0) ON CONFLICT (mailbox) "
    "DO UPDATE SET public_key = excluded.public_key, token_hash = excluded.token_hash, seen = excluded.seen"
)
_TOUCH = "UPDATE mailboxes SET seen = ?, used = 1 WHERE mailbox = ?"
_EXPIRED = "SELECT mailbox FROM mailboxes WHERE (used = 0 AND seen < ?) OR (used = 1 AND seen < ?) LIMIT ?"
_EMPTY = (
    "DELETE FROM items WHERE number IN (SELECT number FROM items WHERE mailbox = ? ORDER BY number LIMIT ?) "
    "RETURNING mailbox, size"
)
_REMOVE = "DELETE FROM mailboxes WHERE mailbox = ?"
_FIND = "SELECT public_key, token_hash FROM mailboxes WHERE mailbox = ?"
_STORE = "INSERT INTO items (mailbox, kind, content, stored, size) VALUES (?, ?, ?, ?, ?)"
_PULL = "SELECT number, kind, content FROM items WHERE mailbox = ? AND number > ? ORDER BY number LIMIT ?"
_CONFIRM = "DELETE FROM items WHERE number = ? AND mailbox = ? RETURNING mailbox, size"
_EXPIRE = (
    "DELETE FROM items WHERE number IN (SELECT number FROM items ORDER BY number LIMIT ?) AND stored < ? "
    "RETURNING mailbox, size"
)
# mailbox, kind, content, when it was stored, length of the content
_Item = tuple[bytes, int, bytes, int, int]


def open_database(path: str) -> sqlite3.Connection:
    """A connection in autocommit mode. Raises `sqlite3.Error`."""
    return sqlite3.connect(path, isolation_level=None)


@implementer(IMailboxStore)
class SQLiteMailboxes:
    """An `IMailboxStore` in one SQLite file (mode 0600), or in memory for the path ":memory:".

    `commit_interval`: seconds from the first change to the commit that makes it durable; `wall_clock`: seconds since
    1970; `connect` opens the file in autocommit mode. `usage`: what every mailbox holds. Deferreds fail with
    `DiskError` if the disk refuses the commit; nothing of that commit is kept. Reading answers at once. Raises
    `DiskError` if the file cannot be opened.
    """

    def __init__(
        self,
        path: Path | str,
        clock: IReactorTime,
        commit_interval: float = 0.005,
        limits: MailboxLimits | None = None,
        wall_clock: Callable[[], float] = time.time,
        connect: Callable[[str], sqlite3.Connection] = open_database,
    ) -> None:
        self._clock: Any = clock
        self._wall_clock = wall_clock
        self._sweeper: IDelayedCall | None = None
        self._interval = commit_interval
        self.limits = limits or MailboxLimits()
        self.usage = MailboxUsage(self.limits)
        self._subscribers = Subscribers()
        self._path = str(path)
        self._timer: IDelayedCall | None = None
        self._registrations: dict[bytes, tuple[bytes, bytes]] = {}
        self._items: list[_Item] = []
        self._confirmed: dict[tuple[int, bytes], None] = {}
        self._touched: dict[bytes, int] = {}
        self._waiting: list[Deferred[None]] = []
        try:
            if self._path != ":memory:":
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = connect(self._path)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)
            self._bring_up_to_date()
            self._count_all()
        except (OSError, sqlite3.Error) as error:
            raise DiskError(f"{self._path}: cannot open the mailboxes: {error}") from None

    def _bring_up_to_date(self) -> None:
        """Add the columns that files of earlier versions lack: the times (the present is used) and the size."""
        columns = [row[1] for row in self._database.execute("PRAGMA table_info(mailboxes)")]
        if "seen" not in columns:
            self._database.executescript(
                f"BEGIN; ALTER TABLE mailboxes ADD COLUMN seen INTEGER NOT NULL DEFAULT {int(self._wall_clock())}; "
                "ALTER TABLE mailboxes ADD COLUMN used INTEGER NOT NULL DEFAULT 1; COMMIT"
            )
        columns = [row[1] for row in self._database.execute("PRAGMA table_info(items)")]
        if "stored" not in columns:
            self._database.execute(
                f"ALTER TABLE items ADD COLUMN stored INTEGER NOT NULL DEFAULT {int(self._wall_clock())}"
            )
        if "size" not in columns:
            self._database.executescript(
                "BEGIN; ALTER TABLE items ADD COLUMN size INTEGER NOT NULL DEFAULT 0; "
                "UPDATE items SET size = LENGTH(content); COMMIT"
            )
        self._database.executescript(_INDEX)

    def _count_all(self) -> None:
        """Count the items and bytes in the file."""
        self.usage.start_from(
            (mailbox for (mailbox,) in self._database.execute("SELECT mailbox FROM mailboxes")),
            self._database.execute("SELECT mailbox, COUNT(*), SUM(size) FROM items GROUP BY mailbox"),
        )
        self._arm_sweeper()

    # IMailboxStore

    def register(self, mailbox: bytes, public_key: bytes, token_hash: bytes) -> "Deferred[None]":
        try:
            self.usage.expect(mailbox)
        except NymtwError:
            return fail()
        self._registrations[mailbox] = (public_key, token_hash)
        self._arm_sweeper()
        return self._when_durable()

    def touch(self, mailbox: bytes) -> None:
        self._touched[mailbox] = int(self._wall_clock())
        self._arm()

    def find(self, mailbox: bytes) -> MailboxRecord | None:
        row = next(self._read(_FIND, (mailbox,)), None)
        return None if row is None else MailboxRecord(*row)

    def count(self) -> int:
        return len(self.usage.counts)

    def subscribe(self, callback: Callable[[bytes], object]) -> None:
        self._subscribers.add(callback)

    def store(self, mailbox: bytes, kind: int, content: bytes) -> "Deferred[None]":
        try:
            self.usage.take(mailbox, len(content))
        except NymtwError:
            return fail()
        self._items.append((mailbox, kind, content, int(self._wall_clock()), len(content)))
        self._arm_sweeper()
        return self._when_durable()

    def pull(self, mailbox: bytes, count: int, after: int) -> list[StoredItem]:
        gone = {number for number, owner in self._confirmed if owner == mailbox and number > after}
        rows = self._read(_PULL, (mailbox, after, count + len(gone)))
        items = [StoredItem(number, kind, content) for number, kind, content in rows if number not in gone]
        return items[:count]

    def confirm(self, mailbox: bytes, numbers: Sequence[int]) -> "Deferred[None]":
        wanted = dict.fromkeys((number, mailbox) for number in numbers if 0 < number <= LARGEST)
        if not wanted:
            return succeed(None)
        self._confirmed |= wanted
        return self._when_durable()

    def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._commit()
        self._database.close()

    def _read(self, query: str, parameters: tuple[object, ...]) -> Iterator[Any]:
        """The rows of a query. Raises `DiskError`."""
        try:
            return iter(self._database.execute(query, parameters).fetchall())
        except sqlite3.Error as error:
            raise DiskError(f"{self._path}: {error}") from None

    # the group commit

    def _when_durable(self) -> "Deferred[None]":
        deferred: Deferred[None] = Deferred()
        self._waiting.append(deferred)
        self._arm()
        return deferred

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(self._interval, self._commit)

    def _commit(self) -> None:
        if self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None
        registrations, self._registrations = self._registrations, {}
        items, self._items = self._items, []
        confirmed, self._confirmed = self._confirmed, {}
        waiting, self._waiting = self._waiting, []
        touched, self._touched = self._touched, {}
        if not (registrations or items or confirmed or touched):
            return
        error: NymtwError | None = None
        try:
            self._write(registrations, items, confirmed, touched)
        except sqlite3.Error as problem:
            error = DiskError(f"{self._path}: {problem}")
            self.usage.not_registered(registrations)
            self.usage.count_out((mailbox, size) for mailbox, _, _, _, size in items)
        for deferred in waiting:
            if error is None:
                deferred.callback(None)
            else:
                deferred.errback(error)
        if error is None:
            self._subscribers.tell(mailbox for mailbox, *_ in items)

    def _write(
        self,
        registrations: dict[bytes, tuple[bytes, bytes]],
        items: list[_Item],
        confirmed: dict[tuple[int, bytes], None],
        touched: dict[bytes, int],
    ) -> None:
        now = int(self._wall_clock())
        database = self._database
        deleted: list[tuple[bytes, int]] = []
        database.execute("BEGIN IMMEDIATE")
        try:
            database.executemany(_REGISTER, [(mailbox, *keys, now) for mailbox, keys in registrations.items()])
            database.executemany(_TOUCH, [(seen, mailbox) for mailbox, seen in touched.items()])
            database.executemany(_STORE, items)
            for key in confirmed:
                deleted += database.execute(_CONFIRM, key).fetchall()
            database.execute("COMMIT")
        except sqlite3.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self.usage.registered(registrations)
        self.usage.count_out(deleted)

    # items that are too old

    def _arm_sweeper(self, seconds: float | None = None) -> None:
        mailboxes = self.limits.expire and (self.usage.counts or self._registrations)
        if self._sweeper is None and (self.usage.bytes or mailboxes):
            interval = sweep_interval(self.usage.limits) if seconds is None else seconds
            self._sweeper = self._clock.callLater(interval, self._sweep)

    def _sweep(self) -> None:
        """Delete items and mailboxes that are too old, some at a time. The oldest items have the lowest numbers."""
        self._sweeper = None
        self._commit()
        before = int(self._wall_clock() - self.usage.limits.item_age)
        try:
            gone = self._database.execute(_EXPIRE, (SWEEP, before)).fetchall()
        except sqlite3.Error:
            gone = []  # the disk refuses: the next sweep tries again
        self.usage.count_out(gone)
        more = self._delete_expired()
        self._arm_sweeper(self._interval if more or len(gone) == SWEEP else None)

    def _delete_expired(self) -> bool:
        """Delete mailboxes that have expired, with up to `SWEEP` of their items. Whether there may be more."""
        database, left = self._database, SWEEP
        gone: list[tuple[bytes, int]] = []
        removed: list[bytes] = []
        try:
            expired = database.execute(_EXPIRED, (*self.limits.expiry(self._wall_clock()), SWEEP)).fetchall()
            if not expired:
                return False
            database.execute("BEGIN IMMEDIATE")
            for (mailbox,) in expired:
                gone += database.execute(_EMPTY, (mailbox, left)).fetchall()
                left = SWEEP - len(gone)
                if not left:
                    break
                database.execute(_REMOVE, (mailbox,))
                removed.append(mailbox)
            database.execute("COMMIT")
        except sqlite3.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            return False  # the disk refuses: the next sweep tries again
        self.usage.count_out(gone)
        self.usage.expired(removed)
        return True
