"""State, blocks and height in one SQLite file, written in one transaction for each block.

Nodes of the Merkle tree are stored under their hashes. Those that a block replaced stay for `keep_states` blocks, so
that proofs of the last heights can be made.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import cbor2
import msgspec

from nymtw.encoding import from_cbor, to_cbor
from nymtw.errors import DiskError, EncodingError, LedgerBroken
from nymtw.ledger.machine.merkle import EMPTY, Tree, Updated, checked
from nymtw.ledger.machine.transactions import transaction_id
from nymtw.ledger.storage.records import BlockRecord, TransactionPlace

VERSION: Final = 1
_CACHED: Final = 100_000  # nodes
_LARGEST_BLOCK: Final = 64 * 2**20  # bytes, as it is stored
_SCHEMA: Final = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE nodes(hash BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE stale(hash BLOB PRIMARY KEY, height INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX stale_by_height ON stale(height);
CREATE TABLE roots(height INTEGER PRIMARY KEY, root BLOB NOT NULL);
CREATE TABLE blocks(height INTEGER PRIMARY KEY, block BLOB NOT NULL);
CREATE TABLE transactions(id BLOB PRIMARY KEY, height INTEGER NOT NULL, position INTEGER NOT NULL,
    code INTEGER NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX transactions_by_height ON transactions(height);
CREATE TABLE snapshots(height INTEGER NOT NULL, chunk INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY(height, chunk));
"""


class Keep(NamedTuple):
    """How much of the past is kept: blocks (0: all of them), and heights whose state can be proved."""

    blocks: int = 0
    states: int = 100


class LedgerStore:
    """One node's file. Whatever SQLite refuses is a `DiskError`; what something else has changed `LedgerBroken`."""

    def __init__(self, path: Path | str, keep: Keep = Keep()) -> None:
        """Open or make the file; ":memory:" is for tests. Raises `DiskError`, `LedgerBroken` for another version's."""
        self._keep = keep
        self._cache: dict[bytes, bytes] = {}
        self._held: int | None = None
        with _disk_errors():
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            if not self._database.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone():
                self._database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
                self.set_meta("version", VERSION)
        if self.meta("version") != VERSION:
            raise LedgerBroken(f"the ledger's file is of version {self.meta('version')}, not {VERSION}")
        # Of the last block, and of the state after it; None before genesis.
        self.height: int | None = self.meta("height")
        self.root: bytes = self.meta("root") or EMPTY

    def meta(self, name: str) -> Any:
        """What was kept under `name`, or None."""
        row = self._one("SELECT value FROM meta WHERE name=?", name)
        try:
            return None if row is None else cbor2.loads(row[0])
        except Exception as error:  # cbor2 raises many kinds of error
            raise LedgerBroken(f"the ledger's file cannot be read: {error}") from None

    def set_meta(self, name: str, value: Any) -> None:
        """Keep a plain `value` under `name`."""
        with _disk_errors():
            self._database.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (name, cbor2.dumps(value)))

    def tree(self, root: bytes | None = None) -> Tree:
        """The state, or an older one."""
        return Tree(self._node, self.root if root is None else root)

    def root_at(self, height: int) -> bytes | None:
        """The root after the block of this height, if its state is still kept."""
        row = self._one("SELECT root FROM roots WHERE height=?", height)
        return None if row is None else bytes(row[0])

    def begin(self, root_update: Updated, height: int) -> None:
        """Write the first state, or one that was restored, before any block."""
        with self._transaction():
            self._write_state(root_update, height)
        self.height, self.root = height, root_update.root

    def commit(self, update: Updated, block: BlockRecord, more: Mapping[str, Any] | None = None) -> None:
        """Make one block durable: its state, itself, its height and what else is to be kept, or nothing of it."""
        with self._transaction():
            self._write_state(update, block.height)
            self._database.execute("INSERT INTO blocks VALUES(?, ?)", (block.height, to_cbor(block)))
            self._database.executemany(
                "INSERT OR REPLACE INTO transactions VALUES(?, ?, ?, ?, ?)",
                [
                    (transaction_id(data), block.height, place, code, text)
                    for place, (data, (code, text)) in enumerate(zip(block.transactions, block.outcomes, strict=True))
                ],
            )
            for name, value in (more or {}).items():
                self.set_meta(name, value)
            self._prune(block.height)
        self.height, self.root = block.height, update.root

    def block(self, height: int) -> BlockRecord | None:
        """The block of this height, if it is kept."""
        row = self._one("SELECT block FROM blocks WHERE height=?", height)
        return None if row is None else _block(row[0])

    def blocks(self, after: int, count: int) -> list[BlockRecord]:
        """The first `count` blocks above the height `after` that are kept."""
        with _disk_errors():
            rows = self._database.execute(
                "SELECT block FROM blocks WHERE height>? ORDER BY height LIMIT ?", (after, count)
            ).fetchall()
        return [_block(row[0]) for row in rows]

    def place(self, identity: bytes) -> TransactionPlace | None:
        """Where the transaction of this id is, if its block is kept."""
        row = self._one("SELECT height, position, code, text FROM transactions WHERE id=?", identity)
        return None if row is None else TransactionPlace(*row)

    def items(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value of a state, past the cache."""
        return Tree(self._stored, root).items()

    def write_chunk(self, height: int, chunk: int, body: bytes) -> None:
        """One part of a snapshot of the state at this height."""
        with _disk_errors():
            self._database.execute("INSERT OR REPLACE INTO snapshots VALUES(?, ?, ?)", (height, chunk, body))

    def chunk(self, height: int, chunk: int) -> bytes | None:
        row = self._one("SELECT body FROM snapshots WHERE height=? AND chunk=?", height, chunk)
        return None if row is None else bytes(row[0])

    def drop_snapshots(self, keep: Iterable[int]) -> None:
        """Delete the chunks of all snapshots but those of these heights."""
        heights = list(keep)
        marks = ",".join("?" * len(heights))
        with _disk_errors():
            self._database.execute(f"DELETE FROM snapshots WHERE height NOT IN ({marks})", heights)

    def hold(self, height: int | None) -> None:
        """Keep the state of this height until this is called again, however old it gets."""
        self._held = height

    def clear(self) -> None:
        """Forget everything but the version: a snapshot is to be restored in its place."""
        with self._transaction():
            for table in ("nodes", "stale", "roots", "blocks", "transactions", "snapshots"):
                self._database.execute(f"DELETE FROM {table}")
            self._database.execute("DELETE FROM meta WHERE name<>'version'")
        self._cache.clear()
        self.height, self.root = None, EMPTY

    def close(self) -> None:
        """Close the file."""
        with _disk_errors():
            self._database.close()

    def _write_state(self, update: Updated, height: int) -> None:
        self._database.executemany("INSERT OR REPLACE INTO nodes VALUES(?, ?)", update.added.items())
        self._database.executemany("DELETE FROM stale WHERE hash=?", [(node,) for node in update.added])
        self._database.executemany("INSERT INTO stale VALUES(?, ?)", [(node, height) for node in update.removed])
        self._database.execute("INSERT INTO roots VALUES(?, ?)", (height, update.root))
        self.set_meta("height", height)
        self.set_meta("root", update.root)
        self._remember(update.added)

    def _prune(self, height: int) -> None:
        oldest = height - self._keep.states
        if self._held is not None:
            oldest = min(oldest, self._held)
        # A node that a block replaced is part of every state before that block.
        self._database.execute("DELETE FROM nodes WHERE hash IN (SELECT hash FROM stale WHERE height<=?)", (oldest,))
        self._database.execute("DELETE FROM stale WHERE height<=?", (oldest,))
        self._database.execute("DELETE FROM roots WHERE height<?", (oldest,))
        if self._keep.blocks:
            last = height - self._keep.blocks
            self._database.execute("DELETE FROM blocks WHERE height<=?", (last,))
            self._database.execute("DELETE FROM transactions WHERE height<=?", (last,))

    def _node(self, node: bytes) -> bytes | None:
        body = self._cache.get(node)
        if body is None and (body := self._stored(node)) is not None:
            self._remember({node: body})
        return body

    def _stored(self, node: bytes) -> bytes | None:
        row = self._one("SELECT body FROM nodes WHERE hash=?", node)
        return checked(node, None if row is None else bytes(row[0]))

    def _remember(self, nodes: Mapping[bytes, bytes]) -> None:
        self._cache.update(nodes)
        excess = len(self._cache) - _CACHED
        if excess > 0:
            for node in [node for node, _ in zip(self._cache, range(excess), strict=False)]:
                del self._cache[node]

    def _one(self, query: str, *values: Any) -> Any:
        with _disk_errors():
            return self._database.execute(query, values).fetchone()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _disk_errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise LedgerBroken(f"the ledger's file was changed: {error}") from None
    except sqlite3.DatabaseError as error:
        raise DiskError(f"the ledger's file: {error}") from None


def _block(body: bytes) -> BlockRecord:
    try:
        return from_cbor(body, BlockRecord, _LARGEST_BLOCK)
    except (EncodingError, msgspec.ValidationError) as error:
        raise LedgerBroken(f"a block in the ledger's file was changed: {error}") from None
