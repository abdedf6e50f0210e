"""Streams through exits: order, flow, ends, faults, and which exit under which tag."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs
from streams_and_exits import Far, World

from nymtw.client.proxies.exit_streams import (
    LIFETIME,
    MAX_CIRCUITS,
    MAX_STREAMS,
    OPEN_PATIENCE,
    PATIENCE,
    PROBE_INTERVAL,
    StreamRefused,
)
from nymtw.message.opening import MOST_WORK, is_worked, work_price
from nymtw.message.stream import INITIAL_CREDIT, WINDOW, StreamFailure, StreamMessage

DATA = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture
def world(seed: int) -> Iterator[World]:
    world = World(seed)
    yield world
    world.close()


def echo(far: Far) -> None:
    """The host sends back what it gets."""
    far.opened = True
    take = far.take

    def taken(message: StreamMessage) -> None:
        before = len(far.got)
        take(message)
        far.to_send += far.got[before:]
        far.ending = far.ending or far.got_end
        far.pump()

    far.take = taken  # type: ignore[method-assign]
    far.to_send += far.got


def serve(data: bytes) -> Any:
    """The host sends this, and ends."""

    def connected(far: Far) -> None:
        far.opened = far.ending = True
        far.to_send += data

    return connected


@pytest.mark.parametrize("doubled", [0.0, 0.5])
def test_both_ways_in_order_whatever_overtakes(world: World, doubled: float) -> None:
    world.doubled, world.longest = doubled, 1.0
    world.exits[0].connected = echo
    user = world.connect("example.org", first=DATA[:100])
    user.stream.write(DATA[100:])
    world.until(lambda: len(user.got) == len(DATA))
    user.stream.end()
    world.until(lambda: user.over)
    assert (bytes(user.got), bytes(world.exits[0].only.got), world.exits[0].only.host) == (DATA, DATA, "example.org")
    assert (user.over, user.ended, len(world.streams)) == ([None], True, 0)


def test_the_first_data_goes_with_the_opening(world: World) -> None:
    world.connect(first=b"GET / HTTP/1.0\r\n\r\n")
    [message] = world.circuits[0].messages
    assert message.open is not None
    assert (message.number, message.data, message.opened, message.credit) == (
        0,
        b"GET / HTTP/1.0\r\n\r\n",
        False,
        WINDOW,
    )


def test_what_is_written_in_pieces_goes_together(world: World) -> None:
    user = world.connect()
    world.until(lambda: user.opened)
    before = len(world.circuits[0].messages)
    for number in range(100):
        user.stream.write(b"%02d" % number)
    world.clock.advance(5)
    pieces = [message.data for message in world.circuits[0].messages[before:]]
    assert b"".join(pieces) == b"".join(b"%02d" % number for number in range(100))
    assert len(pieces) == 2, "the first at once, the others when it has left"


def test_a_long_upload_fills_its_packets(world: World) -> None:
    from nymtw.message.envelope import ENVELOPE_OVERHEAD
    from nymtw.message.fragments import FRAGMENT_CAPACITY

    user = world.connect()
    user.stream.write(DATA)
    world.until(lambda: user.opened and len(world.exits[0].only.got) == len(DATA))
    lengths = [len(message.encode()) + ENVELOPE_OVERHEAD for message in world.circuits[0].messages if message.data]
    packets = sum(-(-length // FRAGMENT_CAPACITY) for length in lengths)
    assert len(DATA) > 0.97 * packets * FRAGMENT_CAPACITY


@pytest.mark.parametrize("failure", list(StreamFailure))
def test_what_cannot_be_opened(world: World, failure: StreamFailure) -> None:
    world.exits[0].connected = lambda far: far.fail(failure)
    user = world.connect()
    world.until(lambda: user.over)
    assert (user.over, user.opened, len(world.streams)) == ([failure], False, 0)


@pytest.mark.parametrize("doubled", [0.0, 1.0])
def test_what_a_full_exit_asks_for_is_paid_once(world: World, doubled: float) -> None:
    world.doubled = doubled
    price = StreamMessage(stream=bytes(16), price=work_price(12))

    def asks(far: Far) -> None:
        far.send_message(structs.replace(price, stream=user.stream.id))

    world.exits[0].connected = asks
    user = world.connect(first=b"waits")
    world.until(lambda: world.exits[0].streams and world.exits[0].only.payments)
    far = world.exits[0].only
    world.clock.advance(2)
    assert len(set(far.payments)) == 1
    assert is_worked(12, world.circuits[0].tag, user.stream.id, far.payments[0])
    assert not user.opened
    far.opened = True
    far.to_send += b"served"
    far.pump()
    world.until(lambda: user.got == b"served")
    assert (bytes(far.got), user.over) == (b"waits", [])
    asks(far)  # once it is open nothing is paid any more
    world.clock.advance(2)
    assert len(set(far.payments)) == 1


@pytest.mark.parametrize("price", [work_price(MOST_WORK + 1), "a ticket", "work 0"])
def test_a_price_that_nobody_pays_is_a_refusal(world: World, price: str) -> None:
    def asks(far: Far) -> None:
        far.send_message(StreamMessage(stream=user.stream.id, price=price))

    world.exits[0].connected = asks
    user = world.connect()
    world.until(lambda: user.over)
    assert user.over == [StreamFailure.BUSY]


def test_half_closed_either_way(world: World) -> None:
    def finger(far: Far) -> None:
        echo(far)

    world.exits[0].connected = finger
    asks = world.connect(first=b"who is there?")
    asks.stream.end()
    world.until(lambda: asks.over)
    assert (bytes(asks.got), asks.over) == (b"who is there?", [None])
    world.exits[0].streams.clear()
    world.exits[0].connected = serve(b"good day")
    listens = world.connect()
    world.until(lambda: listens.ended)
    assert (bytes(listens.got), listens.over) == (b"good day", [])
    listens.stream.write(b"still speaking")
    world.until(lambda: world.exits[0].only.got == b"still speaking")
    listens.stream.end()
    world.until(lambda: listens.over)
    assert listens.over == [None]
    world.until(lambda: world.exits[0].only.got_end)


def test_a_reset_of_the_exit_breaks_it(world: World) -> None:
    user = world.connect()
    user.stream.write(DATA)
    world.until(lambda: user.opened)
    world.exits[0].only.reset()
    world.until(lambda: user.over)
    assert user.over == [StreamFailure.GENERAL]
    assert not world.circuits[0].posted, "what was on its way is not sent again"


def test_a_reset_of_the_program_is_told(world: World) -> None:
    user = world.connect()
    user.stream.write(DATA)
    world.until(lambda: user.opened)
    user.stream.reset()
    user.stream.write(b"into the void")
    world.until(lambda: world.exits[0].only.was_reset)
    assert (user.over, len(world.streams)) == ([], 0)


def test_a_slow_reader_stalls_only_itself(world: World) -> None:
    """The exit may send what the window has room for, and no more; others go on."""
    data = bytes(range(256)) * (WINDOW // 128)
    world.exits[0].connected = serve(data)
    lazy, quick = world.connect(lazy=True), world.connect()
    world.until(lambda: quick.over == [] and len(quick.got) == len(data))
    world.clock.advance(60)
    slow = next(far for far in world.exits[0].streams.values() if far.to_send)
    assert slow.sending.sent <= WINDOW
    assert not lazy.got
    lazy.stream.resume()
    world.until(lambda: len(lazy.got) == len(data))
    assert bytes(lazy.got) == bytes(quick.got) == data


def test_a_host_that_does_not_read_stalls_its_program(world: World) -> None:
    def stuck(far: Far) -> None:
        far.opened, far.reads = True, False

    world.exits[0].connected = stuck
    user = world.connect()
    world.until(lambda: user.opened)
    written = 0
    while not user.full:
        user.stream.write(bytes(16 * 1024))
        written += 16 * 1024
        world.clock.advance(1)
        assert written < 2 * WINDOW
    world.clock.advance(60)
    assert user.full
    far = world.exits[0].only
    far.reads = True
    far.receiving.consumed(len(far.got))
    far.pump()
    world.until(lambda: len(far.got) == written)
    assert not user.full


def test_credentials_that_differ_have_tags_that_differ(world: World) -> None:
    one, other, again, none = (world.connect(isolation=name) for name in (b"a", b"b", b"a", b""))
    circuits = [user.stream.circuit for user in (one, other, again, none)]
    assert circuits[0] is circuits[2]
    assert len(set(map(id, circuits))) == 3


def test_a_circuit_takes_new_streams_for_some_minutes(world: World) -> None:
    user = world.connect()
    world.clock.advance(LIFETIME - 1)
    assert world.connect().stream.circuit is user.stream.circuit
    world.clock.advance(2)
    other = world.connect()
    assert other.stream.circuit is not user.stream.circuit
    world.until(lambda: other.opened)
    assert not user.over, "what is on the old one stays there"
    for far in world.exits[0].streams.values():
        far.reset()
    world.clock.advance(LIFETIME + 60)
    assert [circuit.closed for circuit in world.circuits] == [True, True]
    assert world.clock.getDelayedCalls() == []


def test_an_exit_that_is_killed_breaks_its_streams_and_another_takes_new_ones(seed: int) -> None:
    world = World(seed, exits=2)
    for one in world.exits:
        one.connected = serve(bytes(100 * 2**20))
    user = world.connect()
    idle = world.connect()
    world.until(lambda: len(user.got) > 2**20)
    first = user.stream.circuit.exit
    first.alive = False
    took = world.until(lambda: user.over and idle.over)
    assert (user.over, idle.over) == ([StreamFailure.GENERAL], [StreamFailure.GENERAL])
    assert took < PATIENCE
    after = [world.connect(isolation=bytes([number])) for number in range(10)]
    world.until(lambda: all(each.opened for each in after))
    assert {each.stream.circuit.exit for each in after} == {next(one for one in world.exits if one is not first)}
    world.close()


def test_a_silent_exit_that_is_in_the_topology_has_more_time(seed: int) -> None:
    world = World(seed, exits=2)
    user = world.connect()
    world.until(lambda: user.opened)
    silent = user.stream.circuit.exit
    silent.deliver = lambda circuit, data: None
    for circuit in world.circuits:
        circuit.acknowledged = lambda message: None  # type: ignore[method-assign]
    user.stream.write(b"?")
    world.clock.advance(PATIENCE - 2)
    assert not user.over
    world.until(lambda: user.over, 10)
    other = world.connect()
    assert other.stream.circuit.exit is not silent
    world.close()


def test_time_without_a_connection_to_the_provider_does_not_count(world: World) -> None:
    user = world.connect()
    world.until(lambda: user.opened)
    world.packet_sender.connection = None
    world.circuits[0].leave = lambda *arguments: None  # type: ignore[method-assign]
    user.stream.write(b"?")
    world.clock.advance(10 * PATIENCE)
    assert not user.over


def test_a_pinned_exit_stays(seed: int) -> None:
    world = World(seed, exits=3, only=1)
    users = [world.connect(isolation=bytes([number])) for number in range(20)]
    assert {user.stream.circuit.exit for user in users} == {world.exits[1]}
    world.exits[1].alive = False
    world.until(lambda: all(user.over for user in users))
    with pytest.raises(StreamRefused, match="not in the topology"):
        world.connect()
    world.exits[1].alive = True
    assert world.connect().stream.circuit.exit is world.exits[1]
    world.close()


def test_an_exit_that_was_restarted_resets_what_it_does_not_know(world: World) -> None:
    user = world.connect()
    world.until(lambda: user.opened)
    world.exits[0].streams.clear()
    took = world.until(lambda: user.over, 2 * PROBE_INTERVAL)
    assert (user.over, world.exits[0].unknown) == ([StreamFailure.GENERAL], 1)
    assert took > PROBE_INTERVAL / 2


def test_an_opening_that_is_not_answered(seed: int) -> None:
    """An application that answers neither yes nor no is told that it is over, and is not asked again."""
    world = World(seed, exits=2)
    user = world.connect()
    mute = user.stream.circuit.exit
    mute.connected = lambda far: None
    took = world.until(lambda: user.over)
    assert (user.over, mute.only.was_reset) == ([StreamFailure.TIMED_OUT], False)
    assert took == pytest.approx(OPEN_PATIENCE, abs=2)
    world.until(lambda: mute.only.was_reset)
    other = world.connect()
    assert other.stream.circuit.exit is not mute
    world.until(lambda: other.opened)
    world.close()


def test_what_is_given_up_by_the_client_breaks_the_stream(world: World) -> None:
    user = world.connect()
    world.until(lambda: user.opened)
    user.stream.write(DATA)
    world.circuits[0].give_up()
    assert user.over == [StreamFailure.GENERAL]


def test_a_node_that_lists_nonsense_keeps_nobody_from_the_others(world: World) -> None:
    good = world.services("exit")
    world.services = lambda name: ["nonsense", *good, ""]  # type: ignore[method-assign]
    assert {world.connect(isolation=bytes([number])).stream.circuit.exit for number in range(20)} == {world.exits[0]}
    world.services = lambda name: ["nonsense"]  # type: ignore[method-assign]
    with pytest.raises(StreamRefused, match="no exit"):
        world.connect(isolation=b"another")


def test_a_full_outbox_is_an_error(world: World) -> None:
    user = world.connect()
    world.until(lambda: user.opened)
    world.full = True
    with pytest.raises(StreamRefused):
        world.connect()
    user.stream.write(b"no room")
    assert user.over == [StreamFailure.GENERAL]
    assert len(world.streams) == 0


def test_ceilings(world: World) -> None:
    for number in range(MAX_CIRCUITS):
        world.connect(isolation=b"%d" % number)
    with pytest.raises(StreamRefused, match="circuits"):
        world.connect(isolation=b"one more")
    for _ in range(MAX_STREAMS - MAX_CIRCUITS):
        user = world.connect(isolation=b"0")
    with pytest.raises(StreamRefused) as refused:
        world.connect(isolation=b"0")
    assert refused.value.failure is StreamFailure.BUSY
    user.stream.reset()
    world.connect(isolation=b"0")
    assert sum(way.streams and 1 for way in world.streams.paths) <= MAX_CIRCUITS


def test_an_idle_circuit_makes_room(world: World) -> None:
    users = [world.connect(isolation=b"%d" % number) for number in range(MAX_CIRCUITS)]
    users[5].stream.reset()
    world.connect(isolation=b"one more")
    assert [circuit.closed for circuit in world.circuits].index(True) == 5


def test_without_an_exit_there_is_no_stream(world: World) -> None:
    world.exits[0].alive = False
    with pytest.raises(StreamRefused) as refused:
        world.connect()
    assert refused.value.failure is StreamFailure.NETWORK_UNREACHABLE
    with pytest.raises(StreamRefused, match="host"):
        world.streams.open("a host", 80, None)  # type: ignore[arg-type]
    with pytest.raises(StreamRefused, match="host"):
        world.streams.open("host", 0, None)  # type: ignore[arg-type]


def test_what_an_exit_may_not_do(world: World) -> None:
    """Each breaks its stream at the worst, and nothing is kept beyond the window."""
    user = world.connect()
    far_id = user.stream.id
    received = world.circuits[0].received

    def send(**fields: Any) -> None:
        received(StreamMessage(stream=far_id, **fields).encode())

    received(b"nonsense")
    received(StreamMessage(stream=bytes(16), data=b"of no stream").encode())
    assert (user.over, world.streams.malformed) == ([], 1)
    world.clock.advance(1)
    user = world.connect()
    far_id = user.stream.id
    for number in range(1, 400):
        send(number=number, data=bytes(INITIAL_CREDIT))
    assert user.over == [StreamFailure.GENERAL]
    user = world.connect()
    far_id = user.stream.id
    send(number=10_000)
    assert user.over == [StreamFailure.GENERAL]
    send(number=0, data=b"late")
    assert not user.got


def test_stopping_while_streams_run(seed: int) -> None:
    world = World(seed)
    world.exits[0].connected = echo
    users = [world.connect() for _ in range(20)]
    for user in users:
        user.stream.write(DATA)
    world.clock.advance(0.7)
    world.streams.close()
    assert [user.over for user in users] == [[StreamFailure.GENERAL]] * 20
    with pytest.raises(StreamRefused):
        world.connect()
    world.clock.advance(10)
    assert world.clock.getDelayedCalls() == []
