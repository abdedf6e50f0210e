"""A compact sparse Merkle tree over keys and values, content-addressed: a node is stored under its own hash.

The place of a key is its SHA-256, read bit by bit from the root. A subtree of one key is its leaf, a subtree of none
is 32 zero bytes. Old trees stay readable as long as their nodes are kept, and a reader of a node can see whether it
was changed.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from nymtw.errors import LedgerBroken, ProofError

EMPTY: Final = bytes(32)
_LEAF, _BRANCH = b"\x00", b"\x01"
_DEPTH: Final = 256

Change = tuple[bytes, bytes, bytes | None]  # path, key, value; None deletes


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The siblings on the way from the root (first) to where a key is or would be, each 32 bytes.

    `other`: for a key that is not there, the path and the value's hash of the leaf that is in its place, if one is.
    """

    siblings: tuple[bytes, ...]
    other: tuple[bytes, bytes] | None = None


class Updated(NamedTuple):
    """A new root, the nodes (hash -> body) that it has and the old tree has not, and the hashes of those it lost."""

    root: bytes
    added: dict[bytes, bytes]
    removed: set[bytes]


class Tree:
    """The tree under `root`. `load(hash)` returns a node's stored body (see `checked`), None where it is not there."""

    def __init__(self, load: Callable[[bytes], bytes | None], root: bytes = EMPTY) -> None:
        self._load = load
        self.root = root

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`. Raises `LedgerBroken` where a stored node is missing or was changed."""
        path = sha256(key).digest()
        body, _ = self._descend(path)
        if body is None:
            return None
        found, value = _leaf_parts(body)
        return value if found == key else None

    def prove(self, key: bytes) -> Proof:
        """What shows that `key` has its value, or that it has none. Raises `LedgerBroken`."""
        body, siblings = self._descend(sha256(key).digest())
        other = None
        if body is not None:
            found, value = _leaf_parts(body)
            if found != key:
                other = (sha256(found).digest(), sha256(value).digest())
        return Proof(tuple(siblings), other)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value, by the order of the keys' SHA-256. Raises `LedgerBroken`."""
        pending = [self.root]
        while pending:
            node = pending.pop()
            if node == EMPTY:
                continue
            body = self._node(node)
            if body[:1] == _LEAF:
                yield _leaf_parts(body)
            else:
                pending += (body[33:], body[1:33])

    def update(self, changes: Mapping[bytes, bytes | None]) -> Updated:
        """The tree with `changes` (key -> value; None deletes) in place. This one stays as it is."""
        update = _Update(self._node)
        listed = sorted((sha256(key).digest(), key, value) for key, value in changes.items())
        root = update.apply(self.root, 0, listed)
        kept = update.added.keys() & update.removed
        for node in kept:
            del update.added[node]
        return Updated(root, update.added, update.removed - kept)

    def _descend(self, path: bytes) -> tuple[bytes | None, list[bytes]]:
        """The body of the leaf on the way of `path`, if there is one, and the siblings on the way."""
        node = self.root
        siblings: list[bytes] = []
        for depth in range(_DEPTH + 1):
            if node == EMPTY:
                return None, siblings
            body = self._node(node)
            if body[:1] == _LEAF:
                return body, siblings
            left, right = body[1:33], body[33:]
            if _bit(path, depth):
                siblings.append(left)
                node = right
            else:
                siblings.append(right)
                node = left
        raise LedgerBroken("a branch of the state is deeper than it can be")

    def _node(self, node: bytes) -> bytes:
        body = self._load(node)
        if body is None:
            raise LedgerBroken(f"node {node.hex()[:16]} of the state is missing")
        return body


class _Update:
    def __init__(self, node: Callable[[bytes], bytes]) -> None:
        self._node = node
        self.added: dict[bytes, bytes] = {}
        self.removed: set[bytes] = set()

    def apply(self, node: bytes, depth: int, changes: list[Change]) -> bytes:
        if not changes:
            return node
        if node == EMPTY:
            return self._build([change for change in changes if change[2] is not None], depth)
        body = self._node(node)
        self.removed.add(node)
        if body[:1] == _LEAF:
            key, value = _leaf_parts(body)
            leaves: dict[bytes, Change] = {change[0]: change for change in changes}
            path = sha256(key).digest()
            leaves.setdefault(path, (path, key, value))
            return self._build(sorted(leaf for leaf in leaves.values() if leaf[2] is not None), depth)
        middle = _middle(changes, depth)
        left = self.apply(body[1:33], depth + 1, changes[:middle])
        right = self.apply(body[33:], depth + 1, changes[middle:])
        return self._join(left, right)

    def _build(self, leaves: list[Change], depth: int) -> bytes:
        if not leaves:
            return EMPTY
        if len(leaves) == 1:
            _, key, value = leaves[0]
            assert value is not None
            return self._add(_LEAF + len(key).to_bytes(2) + key + value)
        middle = _middle(leaves, depth)
        return self._join(self._build(leaves[:middle], depth + 1), self._build(leaves[middle:], depth + 1))

    def _join(self, left: bytes, right: bytes) -> bytes:
        """A branch; or, of a leaf and nothing, the leaf."""
        for one, other in ((left, right), (right, left)):
            if other == EMPTY and (one == EMPTY or self._body(one)[:1] == _LEAF):
                return one
        return self._add(_BRANCH + left + right)

    def _body(self, node: bytes) -> bytes:
        return self.added[node] if node in self.added else self._node(node)

    def _add(self, body: bytes) -> bytes:
        node = node_hash(body)
        self.added[node] = body
        return node


def checked(node: bytes, body: bytes | None) -> bytes | None:
    """`body` as it was stored under the hash `node`. Raises `LedgerBroken` where it is another."""
    if body is not None and node_hash(body) != node:
        raise LedgerBroken(f"node {node.hex()[:16]} of the state was changed")
    return body


def node_hash(body: bytes) -> bytes:
    """A node's hash: of a leaf sha256(0x00, sha256(key), sha256(value)), of a branch sha256(0x01, left, right)."""
    if body[:1] == _BRANCH:
        return sha256(body).digest()
    key, value = _leaf_parts(body)
    return _leaf_hash(sha256(key).digest(), sha256(value).digest())


def verify(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> None:
    """Raises `ProofError` unless `proof` shows that `key` has `value` in the tree under `root`; None: that it has none.

    The proof may come from anybody.
    """
    path = sha256(key).digest()
    siblings = proof.siblings
    if len(siblings) > _DEPTH or any(len(sibling) != 32 for sibling in siblings):
        raise ProofError("a proof has up to 256 siblings of 32 bytes")
    if value is not None:
        node = _leaf_hash(path, sha256(value).digest())
    elif proof.other is None:
        node = EMPTY
    else:
        other, content = proof.other
        if len(other) != 32 or len(content) != 32 or other == path or _shared(other, path) < len(siblings):
            raise ProofError("the leaf that was shown is not in the key's place")
        node = _leaf_hash(other, content)
    for depth in range(len(siblings) - 1, -1, -1):
        pair = siblings[depth] + node if _bit(path, depth) else node + siblings[depth]
        node = sha256(_BRANCH + pair).digest()
    if node != root:
        raise ProofError("the value does not follow from the state's root")


def _leaf_hash(path: bytes, content: bytes) -> bytes:
    return sha256(_LEAF + path + content).digest()


def _leaf_parts(body: bytes) -> tuple[bytes, bytes]:
    end = 3 + int.from_bytes(body[1:3])
    return body[3:end], body[end:]


def _bit(path: bytes, depth: int) -> int:
    return path[depth >> 3] >> (7 - (depth & 7)) & 1


def _shared(one: bytes, other: bytes) -> int:
    """How many leading bits are the same."""
    return _DEPTH - (int.from_bytes(one) ^ int.from_bytes(other)).bit_length()


def _middle(changes: list[Change], depth: int) -> int:
    """Where the first path with a one at `depth` is; all share the bits before."""
    return bisect_left(changes, 1, key=lambda change: _bit(change[0], depth))
