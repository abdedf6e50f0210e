"""Snapshots of a state for nodes that join: chunks of keys and values, each named by its hash.

chunk    = CBOR of [[key, value], ...] by the order of the keys' SHA-256
metadata = the SHA-256 of each chunk, one after the other; a snapshot's hash is the SHA-256 of its metadata
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

import cbor2

from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator

from nymtw.errors import LedgerBroken
from nymtw.ledger.abci.messages import Snapshot
from nymtw.ledger.machine.merkle import EMPTY, Tree
from nymtw.ledger.machine.state import audit
from nymtw.ledger.storage.store import LedgerStore

FORMAT: Final = 1
KEPT: Final = 2  # snapshots
MOST_CHUNKS: Final = 100_000
_CHUNK: Final = 512 * 2**10  # bytes of keys and values
_SLICE: Final = 500  # keys between two looks at whether others wait


class SnapshotWriter:
    """Makes one snapshot at a time, a little at a time, while blocks go on."""

    def __init__(self, store: LedgerStore, cooperator: Cooperator) -> None:
        self._store = store
        self._cooperator = cooperator
        self.busy = False

    def available(self) -> list[Snapshot]:
        """Those that are whole, the newest first."""
        found = self._store.meta("snapshots") or []
        return [Snapshot(height, FORMAT, len(names) // 32, sha256(names).digest(), names) for height, names in found]

    def write(self, height: int) -> "Deferred[Any] | None":
        """Begin a snapshot of the state of this height; None where one is being made."""
        if self.busy:
            return None
        self.busy = True
        self._store.hold(height)
        return self._cooperator.coiterate(self._steps(height)).addBoth(self._over)

    def _steps(self, height: int) -> Iterator[None]:
        root = self._store.root_at(height)
        if root is None:
            raise LedgerBroken(f"the state of height {height} is not kept")
        names, chunk, size, number = bytearray(), [], 0, 0
        for place, (key, value) in enumerate(self._store.items(root), 1):
            chunk.append([key, value])
            size += len(key) + len(value)
            if size >= _CHUNK:
                names += self._write_chunk(height, number, chunk)
                chunk, size, number = [], 0, number + 1
            if place % _SLICE == 0:
                yield
        if chunk:
            names += self._write_chunk(height, number, chunk)
        known = [[height, bytes(names)], *(self._store.meta("snapshots") or [])][:KEPT]
        self._store.set_meta("snapshots", known)
        self._store.drop_snapshots([each[0] for each in known])

    def _write_chunk(self, height: int, number: int, chunk: list[list[bytes]]) -> bytes:
        body = cbor2.dumps(chunk)
        self._store.write_chunk(height, number, body)
        return sha256(body).digest()

    def _over(self, result: Any) -> Any:
        self.busy = False
        self._store.hold(None)
        return result


class Restore:
    """Takes the chunks of one snapshot, in order. Nothing is written before all of it fits the application hash."""

    def __init__(self, snapshot: Snapshot, app_hash: bytes) -> None:
        self.snapshot = snapshot
        self._app_hash = app_hash
        self._items: dict[bytes, bytes | None] = {}
        self._next = 0

    def take(self, index: int, chunk: bytes) -> bool:
        """Whether this is the next chunk, as it was promised."""
        promised = self.snapshot.metadata[32 * index : 32 * index + 32]
        if index != self._next or sha256(chunk).digest() != promised:
            return False
        try:
            for key, value in cbor2.loads(chunk):
                if not isinstance(key, bytes) or not isinstance(value, bytes):
                    return False
                self._items[key] = value
        except Exception:  # cbor2 raises many kinds of error on hostile bytes
            return False
        self._next += 1
        return True

    @property
    def complete(self) -> bool:
        """Whether all chunks are there."""
        return self._next == self.snapshot.chunks

    def write(self, store: LedgerStore) -> bool:
        """Put the state into `store` in place of what is there, if its root is the application hash, and money is
        conserved in it.
        """
        update = Tree(lambda node: None, EMPTY).update(self._items)
        if update.root != self._app_hash:
            return False
        try:
            audit(Tree(update.added.get, update.root).items())
        except LedgerBroken:
            return False
        store.clear()
        store.begin(update, self.snapshot.height)
        return True


def acceptable(snapshot: Snapshot) -> bool:
    """Whether what is said of a snapshot fits together."""
    return (
        snapshot.height > 0
        and 0 < snapshot.chunks <= MOST_CHUNKS
        and len(snapshot.metadata) == 32 * snapshot.chunks
        and sha256(snapshot.metadata).digest() == snapshot.hash
    )
