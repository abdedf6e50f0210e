"""The durable state of a client, in SQLite: settings, the outbox, partial and received messages, reply blocks.

Writes are collected and committed together, a few milliseconds later, in one transaction: after a kill -9 either all
of a commit is there or nothing. Reads see what is committed.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from nymtw.errors import NymtwError

# 256 KiB take about a millisecond to write: a large message does not hold up the streams.
CHUNK = 256 * 1024
SWEEP = 2000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, message_id BLOB NOT NULL, recipient BLOB NOT NULL, kind INTEGER NOT NULL,
    length INTEGER NOT NULL, acked BLOB NOT NULL, accepted INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox_data (
    message INTEGER NOT NULL, chunk INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (message, chunk));
CREATE TABLE IF NOT EXISTS fragments (
    message_id BLOB NOT NULL, position INTEGER NOT NULL, fragment BLOB NOT NULL, PRIMARY KEY (message_id, position));
CREATE TABLE IF NOT EXISTS delivered (
    message_id BLOB PRIMARY KEY, at REAL NOT NULL, whole INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS delivered_at ON delivered (whole, at);
CREATE TABLE IF NOT EXISTS inbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, message_id BLOB NOT NULL UNIQUE, length INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS surb_records (alpha BLOB PRIMARY KEY, epoch INTEGER NOT NULL, tag BLOB NOT NULL,
    record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS surbs (number INTEGER PRIMARY KEY, tag BLOB NOT NULL, block BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS correspondents (recipient BLOB PRIMARY KEY, tag BLOB NOT NULL UNIQUE) WITHOUT ROWID;
"""


class StoreError(NymtwError):
    """The client's database cannot be written: the disk may be full."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message that `send` accepted. `acked` is a bitmap, bit i of byte i // 8 for fragment i."""

    number: int
    message_id: bytes
    recipient: bytes
    kind: int
    length: int
    acked: bytes


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A message received whole, waiting for an application."""

    number: int
    message_id: bytes
    length: int


class StoredBytes:
    """The bytes of a message in the outbox, read a chunk at a time: supports `len` and slices."""

    def __init__(self, store: "ClientStore", number: int, length: int) -> None:
        self._store, self._number, self._length = store, number, length
        self._chunk, self._data = -1, b""

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: slice) -> bytes:
        start, stop, _ = key.indices(self._length)
        pieces = []
        while start < stop:
            chunk, offset = divmod(start, CHUNK)
            if chunk != self._chunk:
                self._data = self._store.outbox_chunk(self._number, chunk)
                self._chunk = chunk
            piece = self._data[offset : offset + stop - start]
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def open_database(path: Path | str) -> sqlite3.Connection:
    """A connection in autocommit mode. Raises `sqlite3.Error`."""
    return sqlite3.connect(path, isolation_level=None)


class ClientStore:
    """The database of one client. `path` is a file (created with mode 0600) or ":memory:"."""

    log = Logger()

    def __init__(
        self,
        path: Path | str,
        clock: Any,
        commit_interval: float = 0.005,
        connect: Callable[[Path | str], sqlite3.Connection] = open_database,
    ) -> None:
        """`connect` opens the database in autocommit mode. Raises `StoreError`."""
        if isinstance(path, Path):
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._clock, self._interval = clock, commit_interval
        try:
            self._db = connect(path)
            self._db.execute("PRAGMA journal_mode = WAL")
            # A commit has been handed to the system when it returns: it survives the process, and costs no fsync.
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA journal_size_limit = 4194304")
            self._db.executescript(_SCHEMA)
            self._clean()
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}") from None
        self._pending: list[tuple[str, tuple[Any, ...]]] = []
        self._waiting: list[Deferred[None]] = []
        self._call: Any = None
        self._closed = False
        self._doomed: list[bytes] = []
        self._next = 1 + (self._one("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'") or 0)
        self._next_surb = 1 + (self._one("SELECT max(number) FROM surbs") or 0)
        self._failed: list[Callable[[], None]] = []

    def _clean(self) -> None:
        """Take away what a kill left half done."""
        self._db.executescript(
            """BEGIN;
            DELETE FROM outbox WHERE NOT accepted;
            DELETE FROM outbox_data WHERE message NOT IN (SELECT number FROM outbox);
            DELETE FROM fragments WHERE message_id IN (SELECT message_id FROM delivered)
                AND message_id NOT IN (SELECT message_id FROM inbox);
            COMMIT;"""
        )

    def _one(self, sql: str, *arguments: Any) -> Any:
        row = self._db.execute(sql, arguments).fetchone()
        return None if row is None else row[0]

    def _write(self, sql: str, *arguments: Any) -> None:
        if self._closed:
            return  # too late to be kept: as after a kill
        self._pending.append((sql, arguments))
        if self._call is None:
            self._call = self._clock.callLater(self._interval, self.commit)

    # -- committing

    def committed(self) -> "Deferred[None]":
        """Fires when everything written so far is durable. Fails with `StoreError` where it could not be written."""
        if self._closed:
            return fail(StoreError("the client has stopped"))
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if self._call is None:
            self._call = self._clock.callLater(0, self.commit)
        return waiting

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Call `callback` each time that what was pending is lost."""
        self._failed.append(callback)

    def commit(self) -> None:
        """Write what is pending, in one transaction. A failure loses all of it, is logged, and told to `on_failure`."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        pending, self._pending = self._pending, []
        waiting, self._waiting = self._waiting, []
        try:
            if pending:
                self._db.execute("BEGIN")
                for sql, arguments in pending:
                    self._db.execute(sql, arguments)
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            failure = StoreError(f"the client's database cannot be written: {error}")
            self.log.error("{failure}", failure=str(failure))
            for deferred in waiting:
                deferred.errback(failure)
            for callback in self._failed:
                callback()
            return
        for deferred in waiting:
            deferred.callback(None)
        if self._doomed:
            self._sweep()

    def close(self) -> None:
        """Write what is pending, then close."""
        self.commit()
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        self._closed = True
        self._db.close()

    def abandon(self) -> None:
        """Close without writing what is pending: what a kill -9 does. For tests."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._closed = True
        self._pending.clear()
        self._waiting.clear()
        self._db.close()

    # -- settings

    def setting(self, name: str) -> bytes | None:
        """The value kept under `name`, or None."""
        value: bytes | None = self._one("SELECT value FROM settings WHERE name = ?", name)
        return value

    def set_setting(self, name: str, value: bytes) -> None:
        self._write("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value)

    # -- outbox

    def outbox(self) -> list[OutboxRow]:
        """Every accepted message that is neither done nor failed, oldest first."""
        rows = self._db.execute(
            "SELECT number, message_id, recipient, kind, length, acked FROM outbox WHERE accepted ORDER BY number"
        )
        return [OutboxRow(*row) for row in rows]

    def outbox_chunk(self, number: int, chunk: int) -> bytes:
        data: bytes | None = self._one("SELECT data FROM outbox_data WHERE message = ? AND chunk = ?", number, chunk)
        if data is None:
            raise StoreError("a message is missing from the outbox")
        return data

    def begin_message(self, message_id: bytes, recipient: bytes, kind: int, length: int) -> OutboxRow:
        """A new row in the outbox. It counts once `accept_message` is committed."""
        number, self._next = self._next, self._next + 1
        self._write("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, x'', 0)", number, message_id, recipient, kind, length)
        return OutboxRow(number, message_id, recipient, kind, length, b"")

    def add_chunk(self, number: int, chunk: int, data: bytes) -> None:
        """Part `chunk` of a message: `CHUNK` bytes, the last one shorter."""
        self._write("INSERT INTO outbox_data VALUES (?, ?, ?)", number, chunk, data)

    def accept_message(self, number: int) -> None:
        self._write("UPDATE outbox SET accepted = 1 WHERE number = ?", number)

    def set_acked(self, number: int, acked: bytes) -> None:
        self._write("UPDATE outbox SET acked = ? WHERE number = ?", acked, number)

    def remove_message(self, number: int) -> None:
        """The message is acknowledged or given up."""
        self._write("DELETE FROM outbox WHERE number = ?", number)
        self._write("DELETE FROM outbox_data WHERE message = ?", number)

    # -- partial messages and inbox

    def fragments(self) -> Iterator[tuple[bytes, bytes]]:
        """(message id, fragment) of every message that is not whole, in the order in which they came."""
        return iter(
            self._db.execute(
                "SELECT message_id, fragment FROM fragments WHERE message_id NOT IN (SELECT message_id FROM delivered)"
                " ORDER BY rowid"
            )
        )

    def add_fragment(self, message_id: bytes, position: int, fragment: bytes) -> None:
        self._write("INSERT OR IGNORE INTO fragments VALUES (?, ?, ?)", message_id, position, fragment)

    def pieces(self, message_id: bytes) -> Iterator[tuple[int, bytes]]:
        """(number, fragment) of what is written of a message, in order."""
        return iter(
            self._db.execute(
                "SELECT position, fragment FROM fragments WHERE message_id = ? ORDER BY position", (message_id,)
            )
        )

    def message_complete(self, message_id: bytes, length: int, now: float) -> None:
        """The last fragment has come: it goes to the inbox, once."""
        self._write("INSERT OR IGNORE INTO inbox (message_id, length) VALUES (?, ?)", message_id, length)
        self._write("INSERT OR REPLACE INTO delivered VALUES (?, ?, 1)", message_id, now)

    def consumed(self, message_id: bytes, now: float, whole: bool = True) -> None:
        """The message was for the client itself, or (not `whole`) is given up: remember it and keep nothing."""
        self._write("INSERT OR REPLACE INTO delivered VALUES (?, ?, ?)", message_id, now, whole)
        self._drop_fragments(message_id)

    def inbox(self) -> list[InboxRow]:
        """The messages that wait for an application, oldest first."""
        rows = self._db.execute("SELECT number, message_id, length FROM inbox ORDER BY number")
        return [InboxRow(*row) for row in rows]

    def remove_received(self, message_id: bytes) -> None:
        """The application has the message."""
        self._write("DELETE FROM inbox WHERE message_id = ?", message_id)
        self._drop_fragments(message_id)

    def _drop_fragments(self, message_id: bytes) -> None:
        self._doomed.append(message_id)
        self._write(
            "DELETE FROM fragments WHERE rowid IN (SELECT rowid FROM fragments WHERE message_id = ? LIMIT ?)",
            message_id,
            SWEEP,
        )

    def _sweep(self) -> None:
        """Delete a long message's fragments in steps, so that no step holds up the streams."""
        doomed, self._doomed = self._doomed, []
        for message_id in doomed:
            if self._one("SELECT 1 FROM fragments WHERE message_id = ? LIMIT 1", message_id) is not None:
                self._drop_fragments(message_id)

    def delivered(self) -> list[tuple[bytes, bool]]:
        """(message id, whether it was whole) of what was delivered or given up, oldest first."""
        rows = self._db.execute("SELECT message_id, whole FROM delivered ORDER BY at")
        return [(message_id, bool(whole)) for message_id, whole in rows]

    def forget_delivered(self, before: float, most: int) -> None:
        """Forget what is older than `before`, and all but the newest `most`, of whole and given up messages each."""
        for whole in (True, False):
            oldest = self._one(
                "SELECT at FROM delivered WHERE whole = ? ORDER BY at DESC LIMIT 1 OFFSET ?", whole, most
            )
            limit = before if oldest is None else max(before, oldest)
            self._write("DELETE FROM delivered WHERE whole = ? AND at <= ?", whole, limit)

    # -- reply blocks

    def add_surb_record(self, alpha: bytes, epoch: int, tag: bytes, record: bytes) -> None:
        """What a reply is opened with whose packet starts with `alpha` (32 bytes)."""
        self._write("INSERT OR REPLACE INTO surb_records VALUES (?, ?, ?, ?)", alpha, epoch, tag, record)

    def surb_record(self, alpha: bytes) -> tuple[bytes, bytes] | None:
        """The (tag, record) of a SURB that this client gave out, or None."""
        row = self._db.execute("SELECT tag, record FROM surb_records WHERE alpha = ?", (alpha,)).fetchone()
        return None if row is None else (row[0], row[1])

    def remove_surb_record(self, alpha: bytes) -> None:
        self._write("DELETE FROM surb_records WHERE alpha = ?", alpha)

    def add_surb(self, tag: bytes, block: bytes) -> int:
        """Keep a reply block of a correspondent; returns the number of its row."""
        number, self._next_surb = self._next_surb, self._next_surb + 1
        self._write("INSERT INTO surbs VALUES (?, ?, ?)", number, tag, block)
        return number

    def surbs(self) -> list[tuple[int, bytes, bytes]]:
        """Every (number, tag, block) that correspondents gave us, oldest first."""
        return list(self._db.execute("SELECT number, tag, block FROM surbs ORDER BY number"))

    def remove_surb(self, number: int) -> None:
        self._write("DELETE FROM surbs WHERE number = ?", number)

    def forget_records(self, before: int) -> None:
        """The keys of epochs before this one are dead, and so is every SURB built with them."""
        self._write("DELETE FROM surb_records WHERE epoch < ?", before)

    def tags_with_records(self, since: int) -> set[bytes]:
        """The tags under which SURBs of this epoch or later were given out and have not come back."""
        self.commit()
        return {tag for (tag,) in self._db.execute("SELECT DISTINCT tag FROM surb_records WHERE epoch >= ?", (since,))}

    def remove_correspondent(self, recipient: bytes) -> None:
        self._write("DELETE FROM correspondents WHERE recipient = ?", recipient)

    def correspondents(self) -> list[tuple[bytes, bytes]]:
        """(recipient, tag) of everyone who was given reply blocks."""
        return list(self._db.execute("SELECT recipient, tag FROM correspondents"))

    def add_correspondent(self, recipient: bytes, tag: bytes) -> None:
        self._write("INSERT OR REPLACE INTO correspondents VALUES (?, ?)", recipient, tag)
