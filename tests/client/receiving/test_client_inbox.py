"""The inbox: each message to the applications once, in order, at their pace."""

from typing import Any

from twisted.internet.task import Clock

from nymtw.client.receiving.inbox import Inbox, Received
from nymtw.client.store import ClientStore


class World:
    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.store = ClientStore(":memory:", self.clock)
        self.data: dict[bytes, Received] = {}
        self.inbox = Inbox(self.store, self.data.get)

    def add(self, text: str) -> Received:
        received = Received(text.encode().ljust(16), text.encode(), None)
        self.data[received.message_id] = received
        self.store.message_complete(received.message_id, len(received.data), 0)
        self.store.commit()
        self.inbox.add(received)
        return received

    def stored(self) -> list[bytes]:
        self.store.commit()
        return [row.message_id for row in self.store.inbox()]


def test_fetch_takes_what_waits_once() -> None:
    world = World()
    one, two = world.add("one"), world.add("two")
    assert world.inbox.take() == [one, two]
    assert world.inbox.take() == []
    assert world.stored() == []


def test_fetch_is_bounded() -> None:
    world = World()
    one, two = world.add("one"), world.add("two")
    assert world.inbox.take(limit=1) == [one]
    assert world.inbox.take(limit=1) == [two]


def test_a_subscriber_gets_what_waits_and_what_comes() -> None:
    world = World()
    got: list[Received] = []
    one = world.add("one")
    subscriber = world.inbox.subscribe(got.append)
    world.inbox.pump(subscriber)
    two = world.add("two")
    assert got == [one, two]
    assert (world.stored(), len(world.inbox)) == ([], 0)


def test_messages_wait_for_a_subscriber_that_does_not_read() -> None:
    world = World()
    got: list[Received] = []
    subscriber = world.inbox.subscribe(got.append)
    subscriber.ready = False
    one = world.add("one")
    assert got == []
    assert world.stored() == [one.message_id]
    subscriber.ready = True
    world.inbox.pump(subscriber)
    assert got == [one]
    assert world.stored() == []


def test_every_subscriber_gets_every_message() -> None:
    world = World()
    first: list[Received] = []
    second: list[Received] = []
    world.inbox.subscribe(first.append)
    slow = world.inbox.subscribe(second.append)
    slow.ready = False
    one = world.add("one")
    assert world.stored() == [one.message_id]
    slow.ready = True
    world.inbox.pump(slow)
    assert first == second == [one]
    assert world.stored() == []
    slow.ready = False
    world.add("two")
    world.inbox.leave(slow)
    assert world.stored() == []


def test_a_confirming_subscriber_that_goes_away_leaves_the_message_for_the_next() -> None:
    world = World()
    first: list[Received] = []
    second: list[Received] = []
    subscriber = world.inbox.subscribe(first.append, confirm=True)
    one, two = world.add("one"), world.add("two")
    world.inbox.confirm([one.message_id])
    assert world.inbox.take() == []
    world.inbox.leave(subscriber)
    assert world.stored() == [two.message_id]
    later = world.inbox.subscribe(second.append, confirm=True)
    world.inbox.pump(later)
    assert (first, second) == ([one, two], [two])
    world.inbox.confirm([two.message_id, b"nobody's"])
    assert world.stored() == []
