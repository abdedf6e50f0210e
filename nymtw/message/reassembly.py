"""Reassembles fragments into messages: in any order, with repeats and gaps, each message once, with bounded memory.

Policy:
* A message of one fragment needs no memory, and always arrives.
* Memory is counted by received bytes, not by claimed ones. An eighth is kept for short messages (at most
  `SHORT` fragments): long ones never take it. Short ones may use more while there is more, and give it back.
* Where there is no memory, the message goes that has needed longest to double what has arrived of it. Whoever holds
  much for long has to send much: with a hundredth of the rate nobody keeps a hundred times the memory.
* Nobody goes within `grace` of doubling. If everybody has just doubled, or the new fragment's own message is the
  slowest, the fragment is refused instead. It must not be confirmed to whoever brought it: it may come again later.
* A message that was given up stays given up: fragments of it were confirmed, and are gone.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from nymtw.errors import MailboxFull
from nymtw.message.fragments import MESSAGE_ID_LENGTH, Fragment, FragmentKind, full_bitmap

SHORT: Final = 16  # fragments of a message for which memory is kept
_KEPT_SHARE: Final = 8
_FRAGMENT_OVERHEAD: Final = 128  # bytes that Python needs for one fragment besides its content
_MESSAGE_OVERHEAD: Final = 1024


@dataclass(frozen=True, slots=True)
class ReassemblyLimits:
    """`size`: bytes for incomplete messages, including bookkeeping. Times are in seconds.

    A message is given up after `idle` without a new fragment, and after `age` in any case. Within `grace` of doubling
    it makes room for nobody. The ids of finished messages are remembered for `remember`, at most the newest
    `remembered` of them, and as many of those that were given up.
    """

    size: int = 160 * 1024 * 1024
    idle: float = 30 * 60.0
    grace: float = 30.0
    age: float = 24 * 3600.0
    remember: float = 7 * 24 * 3600.0
    remembered: int = 2**17

    @property
    def kept(self) -> int:
        """The bytes of `size` that are kept for short messages."""
        return self.size // _KEPT_SHARE


class Arrival(Enum):
    """The result for a fragment."""

    NEW = "new"  # keep its content
    COMPLETE = "complete"  # the last missing fragment: with its content the message is complete
    DUPLICATE = "duplicate"  # seen before, or its message is complete
    CONTRADICTION = "contradiction"  # it contradicts the message's other fragments: it will never be of use
    REFUSED = "refused"  # no memory: do not confirm it, there may be some later
    GIVEN_UP = "given up"  # its message was given up, or is larger than the memory: it will never be complete


@dataclass(slots=True, eq=False)
class _Partial:
    kind: FragmentKind
    total: int
    count: int
    since: float
    progress: float
    doubled: float
    bitmap: bytearray
    received: int = 0
    size: int = 0

    @property
    def short(self) -> bool:
        return self.count <= SHORT

    @property
    def doublings(self) -> int:
        return self.received.bit_length()


class _Row:
    """Incomplete messages of one kind (short or long), by how often they have doubled, the slowest first in each."""

    def __init__(self) -> None:
        self.size = 0
        self._rows: dict[int, OrderedDict[bytes, _Partial]] = {}

    def put(self, key: bytes, partial: _Partial) -> None:
        self._rows.setdefault(partial.doublings, OrderedDict())[key] = partial

    def remove(self, key: bytes, partial: _Partial) -> None:
        row = self._rows[partial.doublings]
        del row[key]
        if not row:
            del self._rows[partial.doublings]

    def slowest(self) -> tuple[bytes, _Partial] | None:
        heads = [next(iter(row.items())) for row in self._rows.values()]
        return min(heads, key=lambda head: head[1].doubled, default=None)


class Ledger:
    """The decisions of a reassembly, without the contents: which fragments have arrived, and which may arrive.

    For a caller that keeps the contents elsewhere; `Reassembler` keeps them in memory. `now` is any clock in seconds.
    A `scope` separates messages that must not mix: for replies, it is the sender tag.
    """

    def __init__(self, limits: ReassemblyLimits | None = None) -> None:
        self.limits = limits or ReassemblyLimits()
        self._partial: dict[bytes, _Partial] = {}  # in the order of their first fragments
        self._by_progress: OrderedDict[bytes, _Partial] = OrderedDict()
        self._rows = {True: _Row(), False: _Row()}
        self._complete: OrderedDict[bytes, float] = OrderedDict()
        self._given_up: OrderedDict[bytes, float] = OrderedDict()
        self._dropped: list[bytes] = []

    def __len__(self) -> int:
        """The number of incomplete messages."""
        return len(self._partial)

    @property
    def size(self) -> int:
        """Bytes that incomplete messages take."""
        return self._rows[True].size + self._rows[False].size

    def completes(self, fragment: Fragment, scope: bytes = b"") -> bool:
        """Whether `add` would return COMPLETE. Nothing changes."""
        key = scope + fragment.message_id
        if key in self._complete or key in self._given_up:
            return False
        partial = self._partial.get(key)
        if partial is None:
            return fragment.count == 1
        same = (partial.kind, partial.total) == (fragment.kind, fragment.total)
        return same and partial.received + 1 == partial.count and not _has(partial.bitmap, fragment.number)

    @property
    def incomplete(self) -> frozenset[bytes]:
        """The keys (scope + message id) of incomplete messages."""
        return frozenset(self._partial)

    def add(self, fragment: Fragment, now: float, scope: bytes = b"") -> Arrival:
        """Register a fragment, and return what to do with it."""
        key = scope + fragment.message_id
        if key in self._complete:
            return Arrival.DUPLICATE
        if key in self._given_up:
            return Arrival.GIVEN_UP
        if self.completes(fragment, scope):
            if key in self._partial:
                self._remove(key)
            self.finish(key, now)
            return Arrival.COMPLETE
        partial = self._partial.get(key)
        if partial is None:
            if _whole_cost(fragment) > self.limits.size - (0 if fragment.count <= SHORT else self.limits.kept):
                return Arrival.GIVEN_UP
            partial = _Partial(fragment.kind, fragment.total, fragment.count, now, now, now, _bitmap(fragment.count))
        elif (partial.kind, partial.total) != (fragment.kind, fragment.total):
            return Arrival.CONTRADICTION
        elif _has(partial.bitmap, fragment.number):
            return Arrival.DUPLICATE
        cost = _cost(fragment) + (0 if partial.received else _MESSAGE_OVERHEAD + len(partial.bitmap))
        if not self._make_room(key, partial.short, cost, now):
            return Arrival.REFUSED
        self._keep(key, partial, fragment.number, cost, now)
        return Arrival.NEW

    def finish(self, key: bytes, now: float, whole: bool = True) -> None:
        """Remember that a message (`key`: scope + message id) is finished since `now`: complete, or given up.

        After a restart, a caller uses it to restore remembered messages, oldest first.
        """
        # Apart from each other: what strangers never finish must not make us forget what was delivered.
        finished = self._complete if whole else self._given_up
        finished[key] = now
        if len(finished) > self.limits.remembered:
            finished.popitem(last=False)

    def received(self, key: bytes, count: int) -> bytes:
        """A bitmap of the received fragments of a message: bit i of byte i // 8, lowest first. Empty if given up."""
        partial = self._partial.get(key)
        if partial is not None:
            return bytes(partial.bitmap)
        return full_bitmap(count) if key in self._complete else bytes((count + 7) // 8)

    def give_up(self, key: bytes, now: float) -> None:
        """Give up an incomplete message; `take_dropped` returns it like others."""
        if key in self._partial:
            self._drop(key, now)

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
        for finished in (self._complete, self._given_up):
            while finished and now - next(iter(finished.values())) >= limits.remember:
                finished.popitem(last=False)
        return self.take_dropped()

    def take_dropped(self) -> list[bytes]:
        """The keys given up since the last call. `expire` returns them too."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def _keep(self, key: bytes, partial: _Partial, number: int, cost: int, now: float) -> None:
        row = self._rows[partial.short]
        doubles = (partial.received + 1).bit_length() != partial.doublings
        if doubles and partial.received:
            row.remove(key, partial)
        partial.bitmap[number >> 3] |= 1 << (number & 7)
        partial.received += 1
        partial.progress = now
        partial.size += cost
        row.size += cost
        self._partial[key] = self._by_progress[key] = partial
        self._by_progress.move_to_end(key)
        if doubles:
            partial.doubled = now
            row.put(key, partial)

    def _make_room(self, key: bytes, short: bool, cost: int, now: float) -> bool:
        """Free memory for `cost` bytes of the message `key`, by the policy above."""
        limits, long = self.limits, self._rows[False]
        while True:
            too_long = not short and long.size + cost > limits.size - limits.kept
            if not too_long and self.size + cost <= limits.size:
                return True
            # Long messages give way to long ones alone; short ones give back what they took of theirs.
            slowest = self._rows[not too_long].slowest()
            if slowest is None or slowest[0] == key or now - slowest[1].doubled < limits.grace:
                return False
            self._drop(slowest[0], now)

    def _drop(self, key: bytes, now: float) -> None:
        self._remove(key)
        self.finish(key, now, whole=False)
        self._dropped.append(key)

    def _remove(self, key: bytes) -> None:
        partial = self._partial.pop(key)
        del self._by_progress[key]
        row = self._rows[partial.short]
        row.remove(key, partial)
        row.size -= partial.size


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
        """The complete message if this was the last missing fragment, otherwise None. `now` is in seconds.

        Raises `MailboxFull` for a fragment that is not kept: there is no memory, or its message was given up. Whoever
        brought it must not be told that it has arrived.
        """
        key = scope + fragment.message_id
        arrival = self.ledger.add(fragment, now, scope)
        self._forget_dropped()
        if arrival is Arrival.NEW:
            self._contents.setdefault(key, {})[fragment.number] = fragment.content
        if arrival in (Arrival.REFUSED, Arrival.GIVEN_UP):
            raise MailboxFull
        if arrival is not Arrival.COMPLETE:
            return None
        whole = self._joined(key, fragment)
        self._contents.pop(key, None)
        return whole

    def whole_with(self, fragment: Fragment, scope: bytes = b"") -> bytes | None:
        """The message that `fragment` would complete, None if it would not. Nothing changes: `add` is still to come."""
        return self._joined(scope + fragment.message_id, fragment) if self.ledger.completes(fragment, scope) else None

    @property
    def held(self) -> dict[bytes, int]:
        """Bytes of content in memory of each incomplete message, by its key (scope + message id)."""
        return {key: sum(map(len, contents.values())) for key, contents in self._contents.items()}

    def expire(self, now: float) -> list[bytes]:
        """Give up messages that are too old. Returns the keys (scope + message id) given up since the last call."""
        self._forget_dropped(now)
        dropped, self._dropped = self._dropped, []
        return dropped

    def _joined(self, key: bytes, last: Fragment) -> bytes:
        contents = {**self._contents.get(key, {}), last.number: last.content}
        return b"".join(contents[number] for number in range(last.count))

    def _forget_dropped(self, now: float | None = None) -> None:
        for key in self.ledger.take_dropped() if now is None else self.ledger.expire(now):
            self._contents.pop(key, None)
            self._dropped.append(key)


def message_id_of(key: bytes) -> bytes:
    """The message id in a key (scope + message id)."""
    return key[-MESSAGE_ID_LENGTH:]


def _has(bitmap: bytearray, number: int) -> bool:
    return bool(bitmap[number >> 3] & 1 << (number & 7))


def _bitmap(count: int) -> bytearray:
    return bytearray((count + 7) // 8)


def _cost(fragment: Fragment) -> int:
    return len(fragment.content) + _FRAGMENT_OVERHEAD


def _whole_cost(fragment: Fragment) -> int:
    return fragment.total + fragment.count * _FRAGMENT_OVERHEAD + (fragment.count + 7) // 8 + _MESSAGE_OVERHEAD
