"""Messages that arrived whole, until applications have them: each is handed over once, in order.

A subscriber has a place in the row of messages. A message leaves the row when some application has it and every
subscriber is past it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from nymtw.client.store import ClientStore, InboxRow

FETCH_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """A message. `message_id` (16 bytes) is the same whenever this message is handed over; `tag` lets one reply."""

    message_id: bytes
    data: bytes
    tag: bytes | None


@dataclass(slots=True, eq=False)
class Subscriber:
    """An application that is given messages as they come. `ready` is its back-pressure."""

    deliver: Callable[[Received], None]
    confirm: bool
    ready: bool = True
    place: int = 0
    unconfirmed: dict[bytes, int] = field(default_factory=dict)


class Inbox:
    """The row of messages in `store`. `load` makes a `Received` of a message id, or None where it cannot be read."""

    def __init__(
        self,
        store: ClientStore,
        load: Callable[[bytes], Received | None],
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_room` is called when a message has left the row."""
        self._store, self._load = store, load
        self._rows: dict[int, InboxRow] = {row.number: row for row in store.inbox()}
        self._numbers = {row.message_id: row.number for row in self._rows.values()}
        self._next = max(self._rows, default=0) + 1
        self.size = sum(row.length for row in self._rows.values())  # bytes that wait
        self._handed: set[int] = set()
        self._subscribers: list[Subscriber] = []
        self._fresh: Received | None = None
        self._pumping = False
        self._on_room = on_room

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, received: Received) -> None:
        """A message is whole, and durable."""
        number, self._next = self._next, self._next + 1
        self._rows[number] = InboxRow(number, received.message_id, len(received.data))
        self._numbers[received.message_id] = number
        self.size += len(received.data)
        self._fresh = received
        self._pump()
        self._fresh = None

    def take(self, limit: int = FETCH_LIMIT) -> list[Received]:
        """Up to `limit` bytes of waiting messages (at least one, if any waits). They are gone from the inbox."""
        taken: list[Received] = []
        total = 0
        for number, row in list(self._rows.items()):
            if number in self._handed or any(row.message_id in who.unconfirmed for who in self._subscribers):
                continue
            total += row.length
            if taken and total > limit:
                break
            received = self._load(row.message_id)
            self._remove(number)
            if received is not None:
                taken.append(received)
        return taken

    def subscribe(self, deliver: Callable[[Received], None], confirm: bool = False) -> Subscriber:
        """Hand over every message, those that wait first. Call `pump` for the first ones, `leave` at the end."""
        subscriber = Subscriber(deliver, confirm)
        self._subscribers.append(subscriber)
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """Unconfirmed messages of this subscriber wait for the next one."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)
            self._settle(list(islice(self._rows, len(self._rows))))

    def confirm(self, message_ids: Iterable[bytes]) -> None:
        """An application says that it has these messages."""
        for message_id in message_ids:
            number = self._numbers.get(message_id)
            if number is not None:
                for subscriber in self._subscribers:
                    subscriber.unconfirmed.pop(message_id, None)
                self._handed.add(number)
                self._settle([number])

    def pump(self, subscriber: Subscriber) -> None:
        """Hand over what `subscriber` has not had, as long as it is ready."""
        for number, row in list(self._rows.items()):
            if not subscriber.ready or subscriber not in self._subscribers:
                return
            if number <= subscriber.place or number not in self._rows:
                continue
            received = self._fresh if self._fresh and self._fresh.message_id == row.message_id else None
            received = received or self._load(row.message_id)
            subscriber.place = number
            if received is None:
                self._remove(number)
                continue
            if subscriber.confirm:
                subscriber.unconfirmed[row.message_id] = number
            else:
                self._handed.add(number)
            subscriber.deliver(received)
            self._settle([number])

    def _pump(self) -> None:
        for subscriber in list(self._subscribers):
            if subscriber.ready:
                self.pump(subscriber)

    def _settle(self, numbers: list[int]) -> None:
        for number in numbers:
            row = self._rows.get(number)
            if row is None or number not in self._handed:
                continue
            if all(who.place >= number and row.message_id not in who.unconfirmed for who in self._subscribers):
                self._remove(number)

    def _remove(self, number: int) -> None:
        row: Any = self._rows.pop(number)
        self._numbers.pop(row.message_id, None)
        self.size -= row.length
        self._handed.discard(number)
        self._store.remove_received(row.message_id)
        self._on_room()
