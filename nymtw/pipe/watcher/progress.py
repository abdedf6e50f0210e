"""How far a watcher is, in a file: blocks that are done, with their hashes, and what was found in the last of them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from nymtw.errors import ConfigError, DiskError
from nymtw.ethereum.node import Header
from nymtw.node.home import write_file

KEPT: Final = 512  # blocks: how deep a reorganisation can be found out without beginning anew
_LIMIT: Final = 16 * 2**20


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """A deposit that was notarised: the number of its block, its transaction's hash (hex), its place there."""

    number: int
    transaction: str
    log_index: int


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    start: int
    last: int
    blocks: list[tuple[int, str]] = []  # number and hash, the lowest first
    seen: list[Seen] = []
    doubtful: list[Seen] = []


class Progress:
    """Each change is durable before the method returns. Raises `DiskError`."""

    def __init__(self, path: Path, start: int) -> None:
        """`start`: the first block that is looked at, where the file does not know better. Raises `ConfigError`."""
        self._path = path
        self._kept = _Kept(start=start, last=start - 1)
        if path.exists():
            try:
                content = path.read_bytes()
                if len(content) > _LIMIT:
                    raise ValueError("too long")
                self._kept = msgspec.json.decode(content, type=_Kept)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"{path}: {error}: without it, all blocks from the first one are read again"
                ) from None

    @property
    def start(self) -> int:
        return self._kept.start

    @property
    def last(self) -> int:
        """The last block that is done."""
        return self._kept.last

    @property
    def doubtful(self) -> Sequence[Seen]:
        """Deposits that a reorganisation took away and that were not found again yet."""
        return tuple(self._kept.doubtful)

    def blocks(self) -> list[tuple[int, bytes]]:
        """Number and hash of the last blocks that are done, the highest first."""
        return [(number, bytes.fromhex(digits)) for number, digits in reversed(self._kept.blocks)]

    def hash(self) -> bytes | None:
        """Of the last block that is done; None before the first."""
        blocks = self._kept.blocks
        return bytes.fromhex(blocks[-1][1]) if blocks and blocks[-1][0] == self._kept.last else None

    def advance(self, headers: Sequence[Header], found: Iterable[Seen]) -> None:
        """These blocks are done, and these deposits were in them."""
        kept, found = self._kept, list(found)
        kept.last = headers[-1].number
        kept.blocks = (kept.blocks + [(each.number, each.hash.hex()) for each in headers])[-KEPT:]
        oldest = kept.blocks[0][0]
        kept.seen = [each for each in kept.seen if each.number >= oldest] + found
        again = {(each.transaction, each.log_index) for each in found}
        kept.doubtful = [each for each in kept.doubtful if (each.transaction, each.log_index) not in again]
        self._save()

    def rewind(self, number: int) -> None:
        """The chain has other blocks above this one: they are read again."""
        kept = self._kept
        kept.last = number
        kept.blocks = [each for each in kept.blocks if each[0] <= number]
        kept.doubtful += [each for each in kept.seen if each.number > number]
        kept.seen = [each for each in kept.seen if each.number <= number]
        self._save()

    def settle(self, doubtful: Iterable[Seen]) -> None:
        """These alone are still doubtful."""
        left = list(doubtful)
        if left != self._kept.doubtful:
            self._kept.doubtful = left
            self._save()

    def _save(self) -> None:
        try:
            write_file(self._path, json.dumps(msgspec.to_builtins(self._kept)).encode())
        except OSError as error:
            raise DiskError(f"{self._path}: {error.strerror}") from None
