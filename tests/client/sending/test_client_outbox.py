"""The outbox: fair, bounded, patient, and still there after a kill."""

from pathlib import Path
from typing import Any

import pytest

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nymtw.client.sending.messages import Progress, State
from nymtw.client.sending.outbox import Outbox, OutboxLimits
from nymtw.client.store import CHUNK, ClientStore, StoreError, open_database
from nymtw.errors import QueueFull
from nymtw.message.arq import MAX_ATTEMPTS
from nymtw.message.fragments import FRAGMENT_CAPACITY, Fragment

TO = b"r" * 96


class World:
    def __init__(self, path: Path | str = ":memory:", limits: OutboxLimits | None = None) -> None:
        self.clock: Any = Clock()
        self.path, self.limits = path, limits
        self.events: list[Progress] = []
        self.database = open_database(path)
        self.store = ClientStore(path, self.clock, connect=lambda path: self.database)
        self.outbox = Outbox(self.store, self.clock, changed=self.events.append, limits=limits)
        self.outbox.resume()
        self.ids = iter(range(1, 1000))

    def one(self, sql: str) -> Any:
        """The first column of the first row; None if there is none."""
        row = self.database.execute(sql).fetchone()
        return None if row is None else row[0]

    def send(self, data: bytes, lane: object = "a") -> bytes:
        message_id = next(self.ids).to_bytes(16, "big")
        sent = Deferred.fromCoroutine(self.outbox.send(data, message_id, TO, lane))
        failures: list[Any] = []
        sent.addErrback(failures.append)
        for _ in range(1000):
            if sent.called:
                break
            self.clock.advance(0.001)
        if failures:
            failures[0].raiseException()
        return message_id

    def kill(self) -> None:
        self.outbox.pause()
        self.store.abandon()

    def close(self) -> None:
        self.outbox.stop()
        self.store.close()
        assert self.clock.getDelayedCalls() == []


def test_a_message_leaves_when_every_fragment_is_acknowledged() -> None:
    world = World()
    data = bytes(range(256)) * 20
    message_id = world.send(data)
    taken = []
    while (waiting := world.outbox.take()) is not None:
        world.outbox.sent(waiting, bytes([len(taken)]) * 21, 1.0)
        taken.append(waiting.message.fragments[waiting.number])
    assert b"".join(fragment.content for fragment in taken) == data
    assert world.outbox.progress(message_id) == Progress(message_id, State.SENDING, 0, len(taken))
    for number in range(len(taken)):
        assert world.outbox.acknowledged(bytes([number]) * 21)
        assert not world.outbox.acknowledged(bytes([number]) * 21)
    assert world.events[-1] == Progress(message_id, State.DONE, len(taken), len(taken))
    assert world.outbox.progress(message_id) == world.events[-1]
    assert (len(world.outbox), world.outbox.size, world.outbox.in_flight) == (0, 0, 0)
    world.clock.advance(100)
    assert world.store.outbox() == []
    world.close()


def test_an_unacknowledged_fragment_waits_again_and_is_given_up_in_the_end() -> None:
    world = World()
    message_id = world.send(b"hello")
    times = []
    for _ in range(MAX_ATTEMPTS):
        while (waiting := world.outbox.take()) is None:
            world.clock.advance(0.1)
        times.append(world.clock.seconds())
        world.outbox.sent(waiting, bytes([len(times)]) * 21, 1.0)
    assert times[1] - times[0] == pytest.approx(3.0, abs=0.11)
    assert world.outbox.retransmissions == MAX_ATTEMPTS - 1
    world.clock.advance(40)
    assert world.events == [Progress(message_id, State.FAILED, 0, 1)]
    assert not world.outbox.acknowledged(bytes([1]) * 21)
    world.close()


def test_what_was_lost_before_it_left_goes_out_when_it_can() -> None:
    world = World()
    world.send(bytes(4 * FRAGMENT_CAPACITY))
    for lost in (True, True, True, False):
        waiting = world.outbox.take()
        assert waiting is not None
        world.outbox.sent(waiting, None, 1.0, lost=lost)
    assert world.outbox.take() is None
    world.outbox.retry(b"somebody else", 10)
    assert world.outbox.take() is None
    world.outbox.retry(TO, 2)
    again = [world.outbox.take(), world.outbox.take()]
    assert [waiting.number for waiting in again if waiting] == [0, 1]
    assert world.outbox.take() is None
    for waiting in again:
        assert waiting is not None
        world.outbox.sent(waiting, None, 1.0)
    assert world.outbox.retransmissions == 0
    world.clock.advance(3.0)  # the two that were left have waited long enough
    assert [waiting.number for waiting in iter(world.outbox.take, None)] == [2, 3]
    world.clock.advance(0.75)  # a second attempt is waited for a quarter longer
    assert [waiting.number for waiting in iter(world.outbox.take, None)] == [0, 1]
    world.close()


def test_the_ack_of_an_earlier_copy_counts() -> None:
    world = World()
    world.send(b"hello")
    for number in (1, 2):
        waiting = world.outbox.take()
        assert waiting is not None
        world.outbox.sent(waiting, bytes([number]) * 21, 1.0)
        world.clock.advance(3.1)
    assert world.outbox.acknowledged(bytes([1]) * 21)
    assert world.outbox.take() is None
    assert world.events[-1].state is State.DONE
    world.close()


def test_nothing_is_late_while_the_link_is_down() -> None:
    world = World()
    world.send(b"hello")
    waiting = world.outbox.take()
    assert waiting is not None
    world.outbox.sent(waiting, b"k" * 21, 1.0)
    world.outbox.pause()
    world.clock.advance(1000)
    assert world.outbox.take() is None
    world.outbox.resume()
    world.clock.advance(2)
    assert world.outbox.take() is None
    assert world.outbox.acknowledged(b"k" * 21)
    world.close()


def test_applications_take_turns() -> None:
    world = World()
    long = world.send(bytes(100 * FRAGMENT_CAPACITY), "long")
    short = world.send(b"short", "short")
    order = []
    for _ in range(4):
        waiting = world.outbox.take()
        assert waiting is not None
        order.append(waiting.message.message_id)
        world.outbox.sent(waiting, None, 1.0)
    assert order == [long, short, long, long]
    assert world.outbox.queue_length("long") == 97
    world.close()


def test_limits_are_errors_not_growth() -> None:
    world = World(limits=OutboxLimits(size=10_000, messages=3, lane=5))
    world.send(bytes(4000))
    with pytest.raises(QueueFull):
        world.send(bytes(4000))
    world.send(bytes(4000), "b")
    with pytest.raises(QueueFull):
        world.send(bytes(4000), "c")
    world.send(b"", "c")
    with pytest.raises(QueueFull):
        world.send(b"", "d")
    assert len(world.outbox) == 3
    world.close()


def test_what_was_accepted_is_finished_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "client.db"
    world = World(path)
    data = bytes(range(256)) * (3 * CHUNK // 256) + b"end"
    message_id = world.send(data)
    for number in range(200):
        waiting = world.outbox.take()
        assert waiting is not None
        world.outbox.sent(waiting, number.to_bytes(21, "big"), 1.0)
        if number % 2:
            world.outbox.acknowledged(number.to_bytes(21, "big"))
    world.clock.pump([0.3, 0.3])
    world.kill()
    world = World(path)
    [message] = world.store.outbox()
    assert message.message_id == message_id
    numbers = set()
    pieces: dict[int, Fragment] = {}
    while (waiting := world.outbox.take()) is not None:
        numbers.add(waiting.number)
        pieces[waiting.number] = waiting.message.fragments[waiting.number]
        world.outbox.sent(waiting, waiting.number.to_bytes(21, "big"), 1.0)
    assert numbers.isdisjoint(range(1, 200, 2))
    assert numbers | set(range(1, 200, 2)) == set(range(-(-len(data) // FRAGMENT_CAPACITY)))
    assert all(
        piece.content == data[number * FRAGMENT_CAPACITY : (number + 1) * FRAGMENT_CAPACITY]
        for number, piece in pieces.items()
    )
    for number in numbers:
        world.outbox.acknowledged(number.to_bytes(21, "big"))
    assert world.events[-1].state is State.DONE
    world.close()


def test_a_message_that_was_not_accepted_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "client.db"
    world = World(path)
    Deferred.fromCoroutine(world.outbox.send(bytes(3 * CHUNK), bytes(16), TO, "a"))
    world.clock.advance(0.001)
    world.clock.advance(0.001)
    world.kill()
    world = World(path)
    assert len(world.outbox) == 0
    assert world.one("SELECT count(*) FROM outbox_data") == 0
    world.close()


def test_a_full_disk_is_an_error_and_takes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "client.db")
    world.database.execute(f"PRAGMA max_page_count = {world.one('PRAGMA page_count') + 20}")
    with pytest.raises(StoreError, match="full"):
        world.send(bytes(500_000))
    assert (len(world.outbox), world.outbox.size) == (0, 0)
    world.send(b"small")
    assert len(world.outbox) == 1
    world.close()


def test_what_is_posted_is_sent_and_repeated_but_not_stored() -> None:
    """It says when its last fragment was given out, which may post the next, and how it ended."""
    world = World()
    events: list[object] = []

    def post(length: int, number: int) -> Any:
        message = world.outbox.post(bytes(length), bytes([number]) * 16, TO, "a")
        message.taken = lambda: events.append(number)
        message.ended = lambda state: events.append((number, state))
        return message

    first = post(FRAGMENT_CAPACITY + 1, 1)
    first.taken = lambda: post(1, 2)
    numbers = []
    while (waiting := world.outbox.take()) is not None:
        numbers.append((waiting.message.message_id[0], waiting.number))
        world.outbox.sent(waiting, bytes(numbers[-1]), 1.0)
    assert (numbers, events) == ([(1, 0), (1, 1), (2, 0)], [2])
    world.outbox.acknowledged(bytes((1, 1)))
    world.outbox.acknowledged(bytes((2, 0)))
    assert events == [2, (2, State.DONE)]
    world.clock.advance(3.1)
    again = world.outbox.take()
    assert again is not None
    assert (again.message, again.number) == (first, 0)
    world.outbox.sent(again, b"again", 1.0)
    world.outbox.cancel(first)
    assert events == [2, (2, State.DONE)]
    assert not world.outbox.acknowledged(b"again")
    assert (len(world.outbox), world.outbox.size, world.outbox.queued) == (0, 0, 0)
    assert world.one("SELECT seq FROM sqlite_sequence") is None, "something was written"
    world.close()


def test_a_posted_message_that_is_cancelled_before_its_turn() -> None:
    world = World()
    kept, gone = (world.outbox.post(bytes(4000), bytes([number]) * 16, TO, "a") for number in (1, 2))
    world.outbox.take()
    world.outbox.cancel(gone)
    world.outbox.cancel(gone)
    assert [waiting.number for waiting in iter(world.outbox.take, None)] == [1, 2]
    assert world.outbox.queue_length("a") == 0
    world.outbox.cancel(kept)
    assert (len(world.outbox), world.outbox.size) == (0, 0)
    world.close()
