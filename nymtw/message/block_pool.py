"""The reply blocks that correspondents gave to a replier, in bounded memory, whoever gives how many under what tags.

Tags cost nothing: a stranger may give blocks under thousands of them. So
* the limit of one tag shrinks as the pool fills: a quarter of what is left, and `LEAST` in any case;
* where there is no room, the tag that holds most loses its oldest block, of several such tags the one silent longest;
* tags that were never answered hold half of the pool at most, where others want the rest.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Final, Generic, TypeVar

from nymtw.message.envelope import ReplyBlock

OUTSTANDING: Final = 1000  # blocks that one correspondent may have
LEAST: Final = 20  # blocks that a tag may have as long as it does not hold most

H = TypeVar("H", bound=Hashable)
R = TypeVar("R")


def is_alive(block_epoch: int, epoch: int) -> bool:
    """Whether a block can still be used: nodes have the keys of the previous, the current and the next epoch."""
    return epoch - 1 <= block_epoch <= epoch + 1


class _Shelf:
    """Tags by how many blocks they hold; among equals, the one silent for longest is first."""

    def __init__(self) -> None:
        self.size = 0  # blocks of all tags here
        self._rows: dict[int, OrderedDict[bytes, None]] = {}
        self._most = 0

    def put(self, tag: bytes, count: int) -> None:
        if count:
            self._rows.setdefault(count, OrderedDict())[tag] = None
            self.size += count
            self._most = max(self._most, count)

    def remove(self, tag: bytes, count: int) -> None:
        if count:
            row = self._rows[count]
            del row[tag]
            self.size -= count
            if not row:
                del self._rows[count]

    def fullest(self) -> tuple[bytes, int] | None:
        while self._most and self._most not in self._rows:
            self._most -= 1
        return (next(iter(self._rows[self._most])), self._most) if self._most else None


class BlockPool(Generic[H]):
    """The replier's blocks, by tag. Each is taken once, oldest first.

    `handle`: the caller's reference to a block, such as its row in a database. `per_tag`: the most of one
    correspondent, less when the pool fills. `total`: of all.
    """

    def __init__(self, per_tag: int = OUTSTANDING, total: int = 20_000) -> None:
        self._per_tag, self._total = per_tag, total
        self._by_tag: dict[bytes, deque[tuple[ReplyBlock, H]]] = {}
        self._answered: OrderedDict[bytes, None] = OrderedDict()
        self._strangers, self._regulars = _Shelf(), _Shelf()

    def __len__(self) -> int:
        return self._strangers.size + self._regulars.size

    def count(self, tag: bytes) -> int:
        """The number of blocks for `tag`."""
        return len(self._by_tag.get(tag, ()))

    def add(self, tag: bytes, block: ReplyBlock, handle: H) -> list[H]:
        """Keep a block. Returns the handles of blocks that are not kept: this one, or one removed for it."""
        count = self.count(tag)
        if count >= min(self._per_tag, max(LEAST, (self._total - len(self)) // 4)):
            return [handle]
        lost: list[H] = []
        if len(self) >= self._total:
            loser = self._loser(tag)
            if loser is None or loser[1] <= count:
                return [handle]
            lost.append(self._pop(loser[0])[1])
        self._change(tag, lambda blocks: blocks.append((block, handle)))
        return lost

    def take(self, tag: bytes, epoch: int, keep: int = 0) -> tuple[ReplyBlock, H] | None:
        """The oldest usable block for `tag` in key epoch `epoch`, None if there are no more than `keep`.

        A replier keeps one block, to ask for more.
        """
        blocks = enumerate(self._by_tag.get(tag, ()))
        usable = list(islice((at for at, (block, _) in blocks if is_alive(block.epoch, epoch)), keep + 1))
        if len(usable) <= keep:
            return None
        self._answer(tag)
        return self._pop(tag, usable[0])

    def drop_dead(self, epoch: int) -> list[H]:
        """Forget all blocks that cannot be used any more in key epoch `epoch`. Returns their handles."""
        dead: list[H] = []
        for tag, blocks in list(self._by_tag.items()):
            living = [one for one in blocks if one[0].epoch >= epoch - 1]
            if len(living) < len(blocks):
                dead.extend(handle for block, handle in blocks if block.epoch < epoch - 1)
                self._shelf(tag).remove(tag, len(blocks))
                blocks.clear()
                blocks.extend(living)
                self._shelf(tag).put(tag, len(living))
            if not living:
                del self._by_tag[tag]
        return dead

    def _loser(self, newcomer: bytes) -> tuple[bytes, int] | None:
        half, strangers = self._total // 2, self._strangers.size
        of_strangers = strangers > half or (newcomer not in self._answered and strangers >= half)
        first, second = self._strangers, self._regulars
        if not of_strangers:
            first, second = second, first
        return first.fullest() or second.fullest()

    def _shelf(self, tag: bytes) -> _Shelf:
        return self._regulars if tag in self._answered else self._strangers

    def _answer(self, tag: bytes) -> None:
        """A block of this tag is used: it is a correspondent from now on."""
        count = self.count(tag)
        self._shelf(tag).remove(tag, count)
        self._answered[tag] = None
        self._answered.move_to_end(tag)
        self._regulars.put(tag, count)
        if len(self._answered) > self._total:
            oldest = next(iter(self._answered))
            count = self.count(oldest)
            self._regulars.remove(oldest, count)
            del self._answered[oldest]
            self._strangers.put(oldest, count)

    def _change(self, tag: bytes, change: Callable[[deque[tuple[ReplyBlock, H]]], R]) -> R:
        blocks = self._by_tag.setdefault(tag, deque())
        shelf = self._shelf(tag)
        shelf.remove(tag, len(blocks))
        result = change(blocks)
        shelf.put(tag, len(blocks))
        if not blocks:
            del self._by_tag[tag]
        return result

    def _pop(self, tag: bytes, at: int = 0) -> tuple[ReplyBlock, H]:
        def pop(blocks: deque[tuple[ReplyBlock, H]]) -> tuple[ReplyBlock, H]:
            one = blocks[at]
            del blocks[at]
            return one

        return self._change(tag, pop)
