"""Reassembles fragments into messages: in any order, with repeats and gaps, each message once, with bounded memory.

Policy:
* A message of one fragment needs no memory, and always arrives.
* Memory is counted by received bytes, not by claimed ones.
* If memory is full, messages without progress for `idle_when_full` are given up first, the longest idle first. After
  that the newest message is given up for older ones. So the fragments of an unknown sender cannot push out a message
  that was under way before them.
* A message that was given up stays given up: the provider has acknowledged its fragments long ago.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from nymtw.message.fragments import MESSAGE_ID_LENGTH, Fragment, FragmentKind, full_bitmap

_FRAGMENT_OVERHEAD: Final = 128  # bytes that Python needs for one fragment besides its content
_MESSAGE_OVERHEAD: Final = 1024


@dataclass(frozen=True, slots=True)
class ReassemblyLimits:
    """`size`: bytes for incomplete messages, including bookkeeping. Times are in seconds.

    A message is given up after `idle` without a new fragment, and after `age` in any case. The ids of finished messages
    are remembered for `remember`, at most the newest `remembered` of them.
    """

    size: int = 160 * 1024 * 1024
    idle: float = 30 * 60.0
    idle_when_full: float = 120.0
    age: float = 24 * 3600.0
    remember: float = 7 * 24 * 3600.0
    remembered: int = 2**17


class Arrival(Enum):
    """The result for a fragment."""

    NEW = "new"  # keep its content
    COMPLETE = "complete"  # the last missing fragment: with its content the message is complete
    DUPLICATE = "duplicate"  # seen before, or its message is finished
    REFUSED = "refused"  # no memory, or it contradicts the message's other fragments


@dataclass(slots=True, eq=False)
class _Partial:
    kind: FragmentKind
    total: int
    count: int
    since: float
    progress: float
    bitmap: bytearray
    received: int = 0
    size: int = _MESSAGE_OVERHEAD


class Ledger:
    """The decisions of a reassembly, without the contents: which fragments have arrived, and which may arrive.

    For a caller that keeps the contents elsewhere; `Reassembler` keeps them in memory. `now` is any clock in seconds.
    A `scope` separates messages that must not mix: for replies, it is the sender tag.
    """

    def __init__(self, limits: ReassemblyLimits | None = None) -> None:
        self.limits = limits or ReassemblyLimits()
        self.size = 0
        self._partial: dict[bytes, _Partial] = {}  # in the order of their first fragments
        self._by_progress: OrderedDict[bytes, _Partial] = OrderedDict()
        self._finished: OrderedDict[bytes, tuple[float, bool]] = OrderedDict()
        self._dropped: list[bytes] = []

    def __len__(self) -> int:
        """The number of incomplete messages."""
        return len(self._partial)

    @property
    def incomplete(self) -> frozenset[bytes]:
        """The keys (scope + message id) of incomplete messages."""
        return frozenset(self._partial)

    def add(self, fragment: Fragment, now: float, scope: bytes = b"") -> Arrival:
        """Register a fragment, and return what to do with it."""
        key = scope + fragment.message_id
        if key in self._finished:
            return Arrival.DUPLICATE
        partial = self._partial.get(key)
        if partial is None:
            if fragment.count == 1:
                self.finish(key, now)
                return Arrival.COMPLETE
            partial = _Partial(fragment.kind, fragment.total, fragment.count, now, now, bytearray())
            bitmap_length = (fragment.count + 7) // 8
            if not self._make_room(None, _cost(fragment) + _MESSAGE_OVERHEAD + bitmap_length, now):
                self.finish(key, now, whole=False)
                return Arrival.REFUSED
            partial.bitmap = bytearray(bitmap_length)
            partial.size += bitmap_length
            self.size += partial.size
            self._partial[key] = self._by_progress[key] = partial
        elif (partial.kind, partial.total) != (fragment.kind, fragment.total):
            return Arrival.REFUSED
        at, bit = fragment.number >> 3, 1 << (fragment.number & 7)
        if partial.bitmap[at] & bit:
            return Arrival.DUPLICATE
        if partial.received + 1 == partial.count:
            self._remove(key)
            self.finish(key, now)
            return Arrival.COMPLETE
        cost = _cost(fragment)
        if self.size + cost > self.limits.size and not self._make_room(key, cost, now):
            self._drop(key, now)
            return Arrival.REFUSED
        partial.bitmap[at] |= bit
        partial.received += 1
        partial.size += cost
        self.size += cost
        partial.progress = now
        self._by_progress.move_to_end(key)
        return Arrival.NEW

    def finish(self, key: bytes, now: float, whole: bool = True) -> None:
        """Remember that a message (`key`: scope + message id) is finished since `now`: complete, or given up.

        After a restart, a caller uses it to restore remembered messages, oldest first.
        """
        self._finished[key] = (now, whole)
        while len(self._finished) > self.limits.remembered:
            self._finished.popitem(last=False)

    def received(self, key: bytes, count: int) -> bytes:
        """A bitmap of the received fragments of a message: bit i of byte i // 8, lowest first. Empty if given up."""
        partial = self._partial.get(key)
        if partial is not None:
            return bytes(partial.bitmap)
        _, whole = self._finished.get(key, (0.0, False))
        return full_bitmap(count) if whole else bytes((count + 7) // 8)

    def expire(self, now: float) -> list[bytes]:
        """Give up messages that are too old. Returns the keys (scope + message id) given up since the last call."""
        limits = self.limits
        while self._by_progress:
            key, partial = next(iter(self._by_progress.items()))
            if now - partial.progress < limits.idle:
                break
            self._drop(key, now)
        while self._partial:
            key, partial = next(iter(self._partial.items()))
            if now - partial.since < limits.age:
                break
            self._drop(key, now)
        while self._finished and now - next(iter(self._finished.values()))[0] >= limits.remember:
            self._finished.popitem(last=False)
        return self.take_dropped()

    def take_dropped(self) -> list[bytes]:
        """The keys given up since the last call. `expire` returns them too."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def _make_room(self, key: bytes | None, cost: int, now: float) -> bool:
        """Free memory for `cost` bytes of the message `key` (None: a new one), by the policy above."""
        while self.size + cost > self.limits.size:
            stalest = next(((k, p) for k, p in self._by_progress.items() if k != key), None)
            if stalest is not None and now - stalest[1].progress >= self.limits.idle_when_full:
                self._drop(stalest[0], now)
                continue
            youngest = next(reversed(self._partial), None)
            if key is None or youngest is None or youngest == key:
                return False
            self._drop(youngest, now)
        return True

    def _drop(self, key: bytes, now: float) -> None:
        self._remove(key)
        self.finish(key, now, whole=False)
        self._dropped.append(key)

    def _remove(self, key: bytes) -> None:
        self.size -= self._partial.pop(key).size
        del self._by_progress[key]


@dataclass(slots=True, eq=False)
class Reassembler:
    """Reassembles messages in memory, within `limits`, each message once."""

    limits: ReassemblyLimits = field(default_factory=ReassemblyLimits)
    ledger: Ledger = field(init=False)
    _contents: dict[bytes, dict[int, bytes]] = field(init=False, default_factory=dict)
    _dropped: list[bytes] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.limits)

    def add(self, fragment: Fragment, now: float, scope: bytes = b"") -> bytes | None:
        """The complete message if this was the last missing fragment, otherwise None. `now` is in seconds."""
        key = scope + fragment.message_id
        arrival = self.ledger.add(fragment, now, scope)
        self._forget_dropped()
        if arrival is Arrival.NEW:
            self._contents.setdefault(key, {})[fragment.number] = fragment.content
        if arrival is not Arrival.COMPLETE:
            return None
        contents = self._contents.pop(key, {})
        contents[fragment.number] = fragment.content
        return b"".join(contents[number] for number in range(fragment.count))

    @property
    def held(self) -> dict[bytes, int]:
        """Bytes of content in memory of each incomplete message, by its key (scope + message id)."""
        return {key: sum(map(len, contents.values())) for key, contents in self._contents.items()}

    def expire(self, now: float) -> list[bytes]:
        """Give up messages that are too old. Returns the keys (scope + message id) given up since the last call."""
        self._forget_dropped(now)
        dropped, self._dropped = self._dropped, []
        return dropped

    def _forget_dropped(self, now: float | None = None) -> None:
        for key in self.ledger.take_dropped() if now is None else self.ledger.expire(now):
            self._contents.pop(key, None)
            self._dropped.append(key)


def message_id_of(key: bytes) -> bytes:
    """The message id in a key (scope + message id)."""
    return key[-MESSAGE_ID_LENGTH:]


def _cost(fragment: Fragment) -> int:
    return len(fragment.content) + _FRAGMENT_OVERHEAD
