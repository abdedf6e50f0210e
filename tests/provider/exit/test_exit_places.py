"""Who makes room when an exit is full, how long idle streams stay there, and what opening one costs."""

from typing import Any

import pytest
from exit_bench import PUBLIC, Caller, Stream, World

from zope.interface.verify import verifyObject

from nymtw.interfaces import IOpeningPrice
from nymtw.message.opening import PAYMENT_LENGTH, bits_of, is_worked, work, work_price
from nymtw.message.stream import StreamFailure, StreamMessage
from nymtw.provider.exit.places import GRACE, LEAST_IDLE, LEAST_WAITING, LEAST_WORK, MOST_WORK, Places, ProofOfWork
from nymtw.testing.clock import FakeClock

TAG, STREAM = b"t" * 16, b"s" * 16


class Held:
    """A stream, as places know it."""

    def __init__(self, seen: float) -> None:
        self.seen, self.has_place = seen, False


class Client:
    def __init__(self, places: Places) -> None:
        self.places = places
        self.streams: dict[bytes, Any] = {}
        self.lost: list[Held] = []

    def open(self, clock: FakeClock) -> bool:
        stream = Held(clock.seconds())
        self.streams[id(stream).to_bytes(8, "big")] = stream
        self.places.wait(stream, self)  # type: ignore[arg-type]
        if self.places.enter(stream, self):  # type: ignore[arg-type]
            return True
        self.evict(stream)
        return False

    def evict(self, stream: Any) -> None:
        self.places.leave(stream)
        del self.streams[id(stream).to_bytes(8, "big")]
        self.lost.append(stream)


class Table:
    """Places for so many streams, and clients with so many tags."""

    def __init__(self, most: int, tags: int, idle: float = 900.0) -> None:
        self.clock = FakeClock()
        self.clients: list[Client] = []
        self.places = Places(self.clock, most, idle, lambda: self.clients)
        self.clients += [Client(self.places) for _ in range(tags)]

    def one_more(self) -> Client:
        self.clients.append(Client(self.places))
        return self.clients[-1]


@pytest.mark.parametrize("tags", [10, 20])
def test_a_strangers_streams_under_many_tags_keep_nobody_out(tags: int) -> None:
    """A thousand places: 10 free tags with 100 streams each held all for a quarter of an hour."""
    table = Table(1000, tags)
    honest = table.one_more()
    for _ in range(3):
        assert honest.open(table.clock)
    for _ in range(100):
        for client in table.clients[:tags]:
            client.open(table.clock)
    assert table.places.taken == 1000
    for _ in range(60):  # they go on trying, twice as often with twice the tags
        table.clock.advance(GRACE)
        for stream in honest.streams.values():
            stream.seen = table.clock.seconds()
        for client in table.clients[:tags]:
            client.open(table.clock)
        assert honest.open(table.clock)
        honest.evict(next(iter(honest.streams.values())))
    assert len(honest.lost) == 60
    assert len(honest.streams) == 3
    assert table.places.taken <= 1000


@pytest.mark.parametrize("tags", [300, 600])
def test_a_strangers_streams_under_a_tag_each_go_when_they_are_idle(tags: int) -> None:
    table = Table(300, tags)
    for client in table.clients:
        client.open(table.clock)
    newcomer = table.one_more()
    assert not newcomer.open(table.clock)
    table.clock.advance(GRACE)
    assert newcomer.open(table.clock)
    assert sum(len(client.streams) for client in table.clients) == 300


def test_the_idlest_of_the_fullest_goes_and_nobody_who_has_no_more_than_the_newcomer() -> None:
    table = Table(6, 3)
    few, many, newcomer = table.clients
    for client, number in ((few, 2), (many, 4)):
        for _ in range(number):
            assert client.open(table.clock)
            table.clock.advance(1.0)
    assert not newcomer.open(table.clock)  # all of them were heard of a moment ago
    table.clock.advance(GRACE)
    idlest = next(iter(many.streams.values()))
    assert newcomer.open(table.clock)
    assert (many.lost, few.lost) == ([idlest], [])
    assert newcomer.open(table.clock)
    assert (len(few.streams), len(many.streams), len(newcomer.streams)) == (2, 2, 2)
    table.clock.advance(GRACE)
    assert not newcomer.open(table.clock)


def test_idle_streams_go_earlier_the_fuller_it_is() -> None:
    table = Table(10, 1)
    [client] = table.clients
    patience = []
    for _ in range(10):
        client.open(table.clock)
        patience.append(table.places.patience(next(iter(client.streams.values()))))
    assert patience[:4] == [900.0] * 4
    assert patience == sorted(patience, reverse=True)
    assert patience[-1] == LEAST_IDLE


def test_of_those_that_wait_for_a_place_the_oldest_makes_room() -> None:
    table = Table(8, 1)
    [client] = table.clients
    streams = [Held(0.0) for _ in range(LEAST_WAITING + 5)]
    for stream in streams:
        client.streams[id(stream).to_bytes(8, "big")] = stream
        table.places.wait(stream, client)  # type: ignore[arg-type]
    assert client.lost == streams[:5]
    assert table.places.taken == 0


def test_opening_costs_the_more_the_fuller_it_is() -> None:
    price = ProofOfWork()
    assert verifyObject(IOpeningPrice, price)
    prices = [price.ask(load / 10) for load in range(11)]
    assert prices[:5] == [""] * 5
    bits = [bits_of(each) for each in prices[5:]]
    assert (bits[0], bits[-1]) == (LEAST_WORK, MOST_WORK)
    assert bits == sorted(bits, key=lambda each: each or 0)
    *_, payment = work(LEAST_WORK, TAG, STREAM)
    assert payment is not None
    assert price.accepts(prices[5], TAG, STREAM, payment)
    for tag, stream, other in ((b"u" * 16, STREAM, payment), (TAG, b"u" * 16, payment), (TAG, STREAM, payment + b"x")):
        assert not price.accepts(work_price(40), tag, stream, other)
    assert not price.accepts("a token", TAG, STREAM, payment)


def test_work_takes_as_many_attempts_as_it_says_a_few_at_a_time() -> None:
    steps = list(work(13, TAG, STREAM))
    assert set(steps[:-1]) <= {None}
    payment = steps[-1]
    assert payment is not None
    assert is_worked(13, TAG, STREAM, payment)
    assert not is_worked(60, TAG, STREAM, payment)
    assert not is_worked(1, TAG, STREAM, b"x" * (PAYMENT_LENGTH - 1))
    assert int.from_bytes(payment, "big") >= 2000 * (len(steps) - 1)
    assert [bits_of(text) for text in ("work 8", "work 0", "work 100", "work", "wallet", "")] == [8, *[None] * 5]


SMALL = ("--exit-streams=8", "--exit-client-streams=4")


@pytest.mark.parametrize("tags", [3, 6])
def test_who_does_not_pay_takes_half_and_who_pays_comes_in(seed: int, tags: int) -> None:
    with World(*SMALL, seed=seed) as world:
        world.serve()
        for _ in range(tags):
            stranger = world.caller()
            stranger.pays = False
            for _ in range(4):
                stranger.open(PUBLIC)
        world.clock.advance(2)
        assert world.exit.connections == 4
        assert world.metrics["streams-priced"] == 4 * tags - 4
        honest = world.caller()
        stream = honest.open(PUBLIC)
        world.until(lambda: stream.opened, 20)
        world.clock.advance(65)
        assert world.metrics["streams-idle"] == 4 * tags - 4


def test_a_full_exit_takes_the_idlest_of_the_fullest_client_and_tells_it(seed: int) -> None:
    with World(*SMALL, seed=seed) as world:
        world.serve()
        strangers = [world.caller() for _ in range(2)]
        held = [opened(world, stranger) for stranger in strangers for _ in range(4)]
        assert world.exit.connections == 8
        honest = world.caller()
        early = honest.open(PUBLIC)
        world.until(lambda: bool(early.failed), 20)
        assert early.failed is StreamFailure.BUSY
        world.clock.advance(GRACE)
        opened(world, honest)
        world.clock.advance(2)
        assert sum(stream.was_reset for stream in held) == 1
        assert (world.metrics["streams-evicted"], world.exit.connections) == (1, 8)


def test_a_payment_that_is_worth_nothing_ends_the_stream(seed: int) -> None:
    class Cheat(Caller):
        def pay(self, stream: Stream, price: str) -> None:
            self.send_raw(StreamMessage(stream=stream.id, payment=b"cheap").encode())

    with World(*SMALL, seed=seed) as world:
        world.serve()
        honest = world.caller()
        for _ in range(4):
            opened(world, honest)
        stream = Cheat(world).open(PUBLIC)
        world.until(lambda: bool(stream.failed), 20)
        assert stream.failed is StreamFailure.NOT_ALLOWED
        assert (world.metrics["streams-unpaid"], world.exit.connections) == (1, 4)


def opened(world: World, caller: Caller) -> Stream:
    stream = caller.open(PUBLIC)
    world.until(lambda: stream.opened, 20)
    return stream
