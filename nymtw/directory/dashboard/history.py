"""The history of the nodes' metrics: seconds are kept for an hour, minutes for a day, hours for a year.

One table in SQLite or PostgreSQL. All calls block, so they run in the one thread of `recorder`.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nymtw.errors import DiskError

# Length of a window in seconds -> seconds for which such windows are kept.
RETENTION: Final[Mapping[int, int]] = {1: 3600, 60: 86400, 3600: 366 * 86400}
NETWORK: Final = b""  # the whole network, instead of an identity
_SCHEMA = """
CREATE TABLE IF NOT EXISTS nodes (id INTEGER PRIMARY KEY, identity BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS windows (
    length INTEGER NOT NULL, start INTEGER NOT NULL, node INTEGER NOT NULL,
    sent INTEGER NOT NULL, received INTEGER NOT NULL, up INTEGER NOT NULL,
    loops_sent INTEGER NOT NULL, loops_returned INTEGER NOT NULL,
    PRIMARY KEY (length, start, node)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS windows_by_node ON windows (node, length, start);
"""
_POSTGRESQL = (
    ("id INTEGER PRIMARY KEY", "id SERIAL PRIMARY KEY"),
    ("BLOB", "BYTEA"),
    (" WITHOUT ROWID", ""),
    ("sent INTEGER", "sent BIGINT"),
    ("received INTEGER", "received BIGINT"),
    ("start INTEGER", "start BIGINT"),
)
_ADD_NODE = "INSERT INTO nodes (identity) VALUES (?) ON CONFLICT (identity) DO NOTHING"
_ADD = (
    "INSERT INTO windows VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (length, start, node) DO UPDATE SET "
    "sent = windows.sent + excluded.sent, received = windows.received + excluded.received, "
    "up = windows.up + excluded.up, loops_sent = windows.loops_sent + excluded.loops_sent, "
    "loops_returned = windows.loops_returned + excluded.loops_returned"
)
_READ = (
    "SELECT start, sent, received, up FROM windows JOIN nodes ON node = id "
    "WHERE identity = ? AND length = ? AND start >= ? ORDER BY start"
)
_SUM = (
    "SELECT COALESCE(SUM(up), 0), COALESCE(SUM(loops_sent), 0), COALESCE(SUM(loops_returned), 0), MIN(start) "
    "FROM windows JOIN nodes ON node = id WHERE identity = ? AND length = ? AND start >= ?"
)
_WATCHED = (
    "SELECT COALESCE(SUM(up), 0) FROM windows JOIN nodes ON node = id "
    "WHERE identity = ? AND length = ? AND start >= ? AND start < ?"
)
_PRUNE = "DELETE FROM windows WHERE length = ? AND start < ?"
_PRUNE_NODES = "DELETE FROM nodes WHERE NOT EXISTS (SELECT 1 FROM windows WHERE node = id)"
_RECONNECT: Final = 2.0  # seconds between two attempts
# Limits for noticing that a server has vanished, in seconds; `tcp_user_timeout` in milliseconds.
_WITHIN: Final[Mapping[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


@dataclass(frozen=True, slots=True)
class Sums:
    """The counts of a window: packets, seconds in which the node was present, and the node's own loops."""

    sent: int = 0
    received: int = 0
    up: int = 0
    loops_sent: int = 0
    loops_returned: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.sent + other.sent,
            self.received + other.received,
            self.up + other.up,
            self.loops_sent + other.loops_sent,
            self.loops_returned + other.loops_returned,
        )


@dataclass(frozen=True, slots=True)
class Second:
    """A second of the network: `at` in whole seconds since 1970, `sums` by identity, `NETWORK` among them."""

    at: int
    sums: Mapping[bytes, Sums]


@dataclass(frozen=True, slots=True)
class Standing:
    """A node's record of the last `seconds`: it was present in `up` of the `watched` seconds; and its loops."""

    seconds: int
    watched: int
    up: int
    loops_sent: int
    loops_returned: int


class History:
    """The table. All methods raise `DiskError`; a failed call has changed nothing."""

    def __init__(
        self,
        database: Any,
        errors: tuple[type[Exception], ...],
        placeholder: str = "?",
        connect: Callable[[], Any] | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`database`: a DB-API connection in autocommit mode. `errors`: the exceptions that it raises.

        `connect` makes a new connection after the loss of this one. It is called by the next request, and at most every
        two seconds, by the clock `seconds`.
        """
        self.database = database
        self._connect, self._seconds = connect, seconds
        self._tried = float("-inf")
        self._errors = errors
        self._failures: tuple[type[Exception], ...] = (*errors, OverflowError)  # a number too large for its column
        self._placeholder = placeholder
        self._ids: dict[bytes, int] = {}

    def add(self, seconds: Sequence[Second]) -> None:
        """Add seconds to the windows of every length, in one transaction."""
        rows: dict[tuple[int, int, bytes], Sums] = {}
        for second in seconds:
            for identity, sums in second.sums.items():
                for length in RETENTION:
                    place = length, second.at - second.at % length, identity
                    rows[place] = rows[place] + sums if place in rows else sums
        self._transaction(lambda cursor: self._add(cursor, rows))

    def prune(self, now: int) -> None:
        """Delete windows that are older than their retention. `now`: seconds since 1970."""

        def prune(cursor: Any) -> None:
            for length, kept in RETENTION.items():
                cursor.execute(self._sql(_PRUNE), (length, now - kept))
            cursor.execute(self._sql(_PRUNE_NODES))

        self._transaction(prune)
        self._ids.clear()

    def read(self, identity: bytes, length: int, since: int) -> list[tuple[int, int, int, int]]:
        """(start, sent, received, up) of a node or of the `NETWORK`, from `since` on, oldest first."""
        return [tuple(row) for row in self._query(_READ, (identity, length, since))]

    def standing(self, identity: bytes, seconds: int, now: int) -> Standing:
        """The node's record of the last `seconds`, since it was first seen, from the windows that cover them."""
        length = next(length for length, kept in RETENTION.items() if kept >= seconds)
        ((up, sent, returned, first),) = self._query(_SUM, (identity, length, now - seconds))
        if first is None:
            return Standing(seconds, 0, 0, 0, 0)
        # Its first window may have begun before its first second, which is exact while seconds are kept.
        finest = min(RETENTION)
        ((_, _, _, came),) = self._query(_SUM, (identity, finest, first))
        watched = 0
        if came is not None and came - came % length == first:
            watched += self._watched(finest, came, first + length)
            first += length
        watched += self._watched(length, first, now + length)
        return Standing(seconds, watched, int(up), int(sent), int(returned))

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def _add(self, cursor: Any, rows: Mapping[tuple[int, int, bytes], Sums]) -> None:
        new = {identity for _, _, identity in rows if identity not in self._ids}
        if new:
            cursor.executemany(self._sql(_ADD_NODE), [(identity,) for identity in sorted(new)])
            cursor.execute("SELECT id, identity FROM nodes")
            self._ids = {bytes(identity): number for number, identity in cursor.fetchall()}
        cursor.executemany(
            self._sql(_ADD),
            [
                (length, start, self._ids[identity], s.sent, s.received, s.up, s.loops_sent, s.loops_returned)
                for (length, start, identity), s in rows.items()
            ],
        )

    def _watched(self, length: int, begin: int, end: int) -> int:
        """The seconds in which the directory was running, in the windows that start between `begin` and `end`."""
        ((seconds,),) = self._query(_WATCHED, (NETWORK, length, begin, end))
        return int(seconds)

    def _cursor(self) -> Any:
        """A cursor on the connection; a lost connection is replaced."""
        if self._connect is not None and self.database.closed and self._seconds() - self._tried >= _RECONNECT:
            self._tried = self._seconds()
            self._ids.clear()  # the database may be another one, or an older copy
            self.database = self._connect()
        return self.database.cursor()

    def _transaction(self, work: Any) -> None:
        cursor = None
        try:
            cursor = self._cursor()
            cursor.execute("BEGIN")
            work(cursor)
            cursor.execute("COMMIT")
        except self._failures as error:
            self._ids.clear()
            try:
                if cursor is not None:
                    cursor.execute("ROLLBACK")
            except self._errors:
                pass  # no transaction to end: BEGIN itself failed, or the connection is lost
            raise DiskError(f"the history of metrics cannot be written: {_text(error)}") from None

    def _query(self, sql: str, values: Iterable[Any]) -> list[Any]:
        try:
            cursor = self._cursor()
            cursor.execute(self._sql(sql), tuple(values))
            found: list[Any] = cursor.fetchall()
            return found
        except self._errors as error:
            raise DiskError(f"the history of metrics cannot be read: {_text(error)}") from None

    def _sql(self, sql: str) -> str:
        return sql.replace("?", self._placeholder)


def open_history(place: Path | str, timeout: float = 5.0, seconds: Callable[[], float] = time.monotonic) -> History:
    """Open the history in the SQLite file `place` (mode 0600), in memory for ":memory:", or in PostgreSQL for a
    `postgresql://` URL, which needs psycopg. `timeout`: seconds to wait for a locked file;
    `seconds`: the clock of `History`. Raises `DiskError`.
    """
    text = str(place)
    if text.startswith(("postgresql://", "postgres://")):
        return _open_postgresql(text, seconds)
    try:
        if text != ":memory:":
            os.close(os.open(text, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        # Only one thread uses it at a time, but not the thread that opens it.
        database = sqlite3.connect(text, timeout=timeout, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
    except (OSError, sqlite3.Error) as error:
        raise DiskError(f"{text}: cannot open the history of metrics: {_text(error)}") from None
    return History(database, (sqlite3.Error,))


def _open_postgresql(url: str, seconds: Callable[[], float]) -> History:
    try:
        import psycopg
    except ImportError:
        raise DiskError("--history: PostgreSQL needs psycopg: pip install 'nymtw[postgresql]'") from None
    schema = _SCHEMA
    for ours, theirs in _POSTGRESQL:
        schema = schema.replace(ours, theirs)

    def connect() -> Any:
        database = psycopg.connect(url, autocommit=True, **_WITHIN)
        for statement in filter(str.strip, schema.split(";")):
            database.execute(statement.encode())
        return database

    try:
        database = connect()
    except psycopg.Error as error:
        # The URL may contain a password, so it is not shown.
        raise DiskError(f"--history: cannot open the database: {_text(error)}") from None
    return History(database, (psycopg.Error,), "%s", connect, seconds)


def _text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
