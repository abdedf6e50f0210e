"""What a client does with fragments for which it has no room: it leaves them where they are, and asks again."""

from random import Random
from typing import Any

from nymtw.client.receiving.receiver import EXPIRE_INTERVAL, Fate, Receiver
from nymtw.client.store import ClientStore
from nymtw.message.fragments import FRAGMENT_CAPACITY, fragment
from nymtw.message.reassembly import ReassemblyLimits
from nymtw.message.sealing import seal
from nymtw.sphinx import generate_keypair
from nymtw.testing.clock import FakeClock

COUNT = 20
ROOM = ReassemblyLimits(size=60_000)


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = ClientStore(":memory:", self.clock)
        self.random = Random(1)
        self.private, self.public = generate_keypair(self.random)
        self.whole: dict[bytes, bytes] = {}
        self.asked_again = 0
        self.receiver = self.start()

    def start(self) -> Receiver:
        keys: Any = {"private_key": self.private, "public_key": self.public}
        return Receiver(
            self.store,
            self.clock,
            self.clock.seconds,
            loop_returned=lambda loop_id: False,
            complete=self.whole.__setitem__,
            try_again=self.try_again,
            limits=ROOM,
            **keys,
        )

    def try_again(self) -> None:
        self.asked_again += 1

    def bring(self, name: int, number: int) -> Fate:
        pieces = fragment(bytes([name]) * COUNT * FRAGMENT_CAPACITY, bytes([name]) * 16)
        return self.receiver.sealed(seal(pieces[number].encode(), self.public, self.random))


def test_a_refused_fragment_stays_where_it_is_kept_and_is_asked_for_again() -> None:
    world = World()
    world.receiver.start()
    assert {world.bring(1, number) for number in range(19)} == {Fate.WHEN_WRITTEN}
    fates = [world.bring(2, number) for number in range(COUNT)]
    assert fates == [Fate.WHEN_WRITTEN] * 11 + [Fate.KEEP] * 9
    assert world.receiver.refused == 9
    assert world.asked_again == 0
    world.clock.advance(EXPIRE_INTERVAL)
    assert world.asked_again == 1
    # The first message stood still meanwhile, and makes room.
    assert {world.bring(2, number) for number in range(11, COUNT)} == {Fate.WHEN_WRITTEN}
    assert list(world.whole) == [b"\2" * 16]
    world.clock.advance(EXPIRE_INTERVAL)
    assert world.asked_again == 1
    world.receiver.stop()


def test_what_was_given_up_is_not_kept_for_ever() -> None:
    world = World()
    for number in range(19):
        world.bring(1, number)
    world.clock.advance(31)
    for number in range(COUNT):
        assert world.bring(2, number) is Fate.WHEN_WRITTEN
    assert world.bring(1, 19) is Fate.WHEN_WRITTEN
    assert list(world.whole) == [b"\2" * 16]


def test_short_messages_get_through_while_long_ones_take_all_they_may() -> None:
    world = World()
    for name in range(3):
        for number in range(COUNT - 1):
            world.bring(name, number)
    for number in range(3):
        short = fragment(b"s" * 3 * FRAGMENT_CAPACITY, b"short".ljust(16))[number]
        assert world.receiver.sealed(seal(short.encode(), world.public, world.random)) is Fate.WHEN_WRITTEN
    assert list(world.whole) == [b"short".ljust(16)]


def test_more_than_there_is_room_for_after_a_restart_is_given_up() -> None:
    world = World()
    for name in (1, 2):
        for number in range(COUNT - 1):
            piece = fragment(bytes([name]) * COUNT * FRAGMENT_CAPACITY, bytes([name]) * 16)[number]
            world.store.add_fragment(piece.message_id, number, piece.encode())
    world.store.commit()
    world.receiver = world.start()
    assert len(world.receiver) == 1
    world.store.commit()
    assert {message_id for message_id, _ in world.store.fragments()} == {b"\1" * 16}


def test_the_ids_on_disk_are_as_many_as_those_in_memory() -> None:
    world = World()
    for number in range(100):
        world.store.consumed(number.to_bytes(16, "big"), float(number), whole=number % 2 == 0)
    world.store.commit()
    world.store.forget_delivered(10.0, 20)
    world.store.commit()
    left = world.store.delivered()
    assert [whole for _, whole in left].count(True) == [whole for _, whole in left].count(False) == 20
    assert left[-1][0] == (99).to_bytes(16, "big")
