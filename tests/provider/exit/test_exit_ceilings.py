"""What an exit holds at most, whatever clients and servers do: connections, bytes in both directions, time."""

import gc
import tracemalloc
from typing import Any

import msgspec
import pytest
from exit_bench import PUBLIC, Caller, Flood, Stream, World

from nymtw.message.stream import INITIAL_CREDIT, STREAM_PART, WINDOW, StreamFailure, StreamMessage, StreamOpen
from nymtw.provider.api import Request
from nymtw.provider.exit.client import Ceilings, Gone
from nymtw.provider.exit.stream import PIECE
from nymtw.testing.transport import CAPACITY

pytestmark = pytest.mark.long

SMALL = ("--exit-streams=20", "--exit-client-streams=10", "--exit-size=2", "--exit-client-size=1")


@pytest.fixture
def world(seed: int) -> Any:
    with World(seed=seed) as world:
        yield world


def opened(world: World, caller: Caller, number: int, **how: Any) -> list[Stream]:
    streams = [caller.open(PUBLIC, **how) for _ in range(number)]
    world.until(lambda: all(stream.opened or stream.failed for stream in streams))
    return streams


def held(world: World) -> int:
    """Bytes that the exit holds for its streams, besides what is under way to clients."""
    streams = [stream for client in world.exit.clients.values() for stream in client.streams.values()]
    waiting = sum(one.for_server + one.for_client + one.out_of_order for one in streams)
    return waiting + sum(one.transport.unread for one in streams if one.transport)


def test_ten_thousand_openings_of_one_client(world: World) -> None:
    serving = world.serve()
    caller = world.caller()
    opened(world, caller, 1)
    opening = StreamOpen(host=PUBLIC, port=80)

    def ask(number: int) -> None:
        for _ in range(number):
            message = StreamMessage(stream=world.random.randbytes(16), open=opening, data=bytes(1000))
            world.exit.handle(Request(message.encode(), caller.person.tag, world.service_host.dispatch.reply))

    ask(5000)
    world.clock.advance(1)
    gc.collect()
    tracemalloc.start()
    try:
        ask(5000)
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 8 * 2**20
    world.clock.advance(10)
    assert any(message.failed is StreamFailure.BUSY for message in caller.unknown)
    assert (len(world.exit), len(serving.connections)) == (100, 100)
    assert world.metrics["streams-busy"] == 9901
    other = world.caller().open(PUBLIC, data=b"others are served")
    world.until(lambda: other.opened, 60)


def test_all_together_have_so_many_connections_and_places_come_free(seed: int) -> None:
    with World(*SMALL, seed=seed) as world:
        world.serve()
        callers = [world.caller() for _ in range(3)]
        streams = [opened(world, caller, 15) for caller in callers]
        assert [sum(stream.opened for stream in some) for some in streams] == [10, 10, 0]
        assert {stream.failed for some in streams for stream in some} == {None, StreamFailure.BUSY}
        for stream in streams[0]:
            stream.reset()
        assert len(world.exit) == 10
        assert sum(stream.opened for stream in opened(world, callers[2], 15)) == 10


def test_a_server_that_floods_a_client_who_gives_no_credit(seed: int) -> None:
    with World("--exit-idle-time=60", seed=seed) as world:
        serving = world.serve()
        [stream] = opened(world, world.caller(), 1, reads=False)
        flood = Flood(serving.connections[0].transport)
        world.clock.advance(30)
        assert len(stream.got) == INITIAL_CREDIT
        sent = flood.sent
        assert sent < INITIAL_CREDIT + 6 * STREAM_PART
        world.clock.advance(20)
        assert flood.sent == sent, "the server waits"
        assert held(world) <= 2 * STREAM_PART
        world.clock.advance(60)
        assert (len(world.exit), world.metrics["streams-idle"]) == (0, 1)
        assert serving.connections[0].lost is not None
        assert stream.was_reset


def test_a_server_that_never_reads(seed: int) -> None:
    with World("--exit-idle-time=60", "--exit-client-size=1", seed=seed) as world:
        serving = world.serve(holds=True)
        caller = world.caller()
        stream = opened(world, caller, 1)[0]
        stream.write(bytes(4 * WINDOW))
        world.clock.advance(30)
        assert stream.sending.sent <= WINDOW
        assert held(world) <= WINDOW
        assert len(stream.left) >= 3 * WINDOW
        world.clock.advance(60)
        assert (len(world.exit), world.metrics["streams-idle"], stream.was_reset) == (0, 1, True)
        assert serving.connections[0].lost is not None


def test_a_server_that_reads_slowly_gets_everything(world: World) -> None:
    serving = world.serve(holds=True)
    stream = opened(world, world.caller(), 1)[0]
    data = world.random.randbytes(WINDOW)
    stream.write(data)
    stream.end()
    server = serving.connections[0]
    for _ in range(100):
        server.transport.resumeProducing()
        world.clock.advance(0.01)
        server.transport.pauseProducing()
        world.clock.advance(1)
    assert bytes(server.got) == data
    assert server.ended


def test_windows_of_many_streams_stay_within_what_the_exit_holds(seed: int) -> None:
    with World("--exit-client-size=1", "--exit-size=2", seed=seed) as world:
        world.serve(holds=True)
        callers = [world.caller() for _ in range(3)]
        streams = [stream for caller in callers for stream in opened(world, caller, 50)]
        for stream in streams:
            stream.write(bytes(WINDOW))
        world.clock.advance(10)
        assert all(stream.sending.sent >= INITIAL_CREDIT for stream in streams)
        assert sum(stream.sending.sent for stream in streams) <= 2 * 2**20 + 150 * (INITIAL_CREDIT + CAPACITY + PIECE)


def test_what_is_under_way_to_clients_stays_within_bounds_and_everybody_gets_some(seed: int) -> None:
    with World(*SMALL, seed=seed) as world:
        serving = world.serve()
        callers = [world.caller() for _ in range(5)]
        streams = [opened(world, caller, 4) for caller in callers]
        for server in serving.connections:
            Flood(server.transport)
        most = 0
        for _ in range(150):
            world.clock.advance(0.1)
            most = max(most, world.service_host.dispatch.size)
            assert held(world) <= 20 * 2 * STREAM_PART
        assert most <= 2 * 2**20
        got = sorted(len(stream.got) for some in streams for stream in some)
        assert got[0] > 0.5 * got[10], got


def test_a_slow_reader_stalls_only_itself(world: World) -> None:
    serving = world.serve()
    caller = world.caller()
    slow, *quick = opened(world, caller, 1, reads=False) + opened(world, caller, 3)
    for server in serving.connections:
        Flood(server.transport)
    world.clock.advance(10)
    assert len(slow.got) == INITIAL_CREDIT
    assert all(len(stream.got) > 10 * INITIAL_CREDIT for stream in quick)


def test_keystrokes_pass_a_download(world: World) -> None:
    serving = world.serve(echo=True)
    caller = world.caller()
    download, shell = opened(world, caller, 2)
    Flood(serving.connections[0].transport)
    world.clock.advance(5)
    waits = []
    for number in range(1, 8):
        began = world.clock.seconds()
        shell.write(b"k")
        world.until(lambda number=number: len(shell.got) == number)
        waits.append(world.clock.seconds() - began)
        world.clock.advance(0.5)
    assert sorted(waits)[3] < 0.6, waits
    assert len(download.got) > 20 * STREAM_PART


def test_many_streams_share_fairly(world: World) -> None:
    serving = world.serve()
    streams = opened(world, world.caller(), 20)
    for server in serving.connections:
        Flood(server.transport)
    world.clock.advance(12)
    got = sorted(len(stream.got) for stream in streams)
    assert got[0] > 0.5 * got[10], got


def test_a_client_that_vanishes_leaves_nothing(world: World) -> None:
    serving = world.serve()
    caller = world.caller()
    opened(world, caller, 5)
    for server in serving.connections:
        Flood(server.transport)
    world.clock.advance(5)
    del world.people[caller.person.address.mailbox]
    world.clock.advance(300)
    assert (len(world.exit), world.service_host.dispatch.size, len(world.exit.clients)) == (0, 0, 0)
    assert all(server.lost for server in serving.connections)
    assert not world.network.connections()
    assert world.exit.ceilings.under_way == world.exit.ceilings.windows == 0


def test_a_client_who_gives_no_more_reply_blocks_is_told_when_it_does(world: World) -> None:
    serving = world.serve()
    caller = world.caller(blocks=3)
    stream = opened(world, caller, 1)[0]
    later = msgspec.structs.replace(world.topology, epoch=world.topology.epoch + 2)
    world.service_host.dispatch.use_topology(later)  # the blocks that are held are dead then
    serving.connections[0].transport.write(b"who hears this?")
    world.clock.advance(10)
    assert not stream.got
    stream.write(b"x")
    world.until(lambda: stream.got == b"who hears this?")


def test_a_client_that_comes_back_is_told_of_what_ended_meanwhile(seed: int) -> None:
    with World("--exit-idle-time=30", seed=seed) as world:
        serving = world.serve()
        caller = world.caller()
        idle, busy = opened(world, caller, 2)
        mailbox = caller.person.address.mailbox
        del world.people[mailbox]
        Flood(serving.connections[1].transport)
        world.clock.advance(300)
        assert len(world.exit) == 0
        world.people[mailbox] = caller.person
        for stream in (idle, busy):
            caller.send_message(StreamMessage(stream=stream.id, number=1, opened=True))
        world.until(lambda: idle.was_reset and busy.was_reset, 30)


def test_idle_connections_end_and_others_do_not(seed: int) -> None:
    with World("--exit-idle-time=30", seed=seed) as world:
        world.serve(echo=True)
        caller = world.caller()
        idle, busy = opened(world, caller, 2)
        for _ in range(10):
            busy.write(b"x")
            world.clock.advance(10)
        assert (idle.was_reset, busy.was_reset) == (True, False)
        assert busy.got == b"x" * 10
        assert len(world.exit) == 1


def test_slow_names_of_one_client_hold_up_nobody_else(world: World) -> None:
    world.serve()
    world.names.answers["good.example"] = [[PUBLIC]]
    caller, other = world.caller(), world.caller()
    world.names.hold = True
    slow = [caller.open(f"slow{number}.example") for number in range(60)]
    same = [caller.open("slow0.example") for _ in range(20)]
    world.clock.advance(1)
    assert len(world.names.held) == 32
    world.until(lambda: all(stream.failed for stream in slow + same), 60)
    assert [stream.failed for stream in slow].count(StreamFailure.BUSY) == 28
    assert {stream.failed for stream in same} == {StreamFailure.TIMED_OUT}
    # The name servers still owe the answers: as many as may be are still asked.
    again = caller.open("slow99.example")
    world.until(lambda: again.failed is not None, 60)
    assert again.failed is StreamFailure.BUSY
    world.names.hold = False
    assert opened_name(world, other, "good.example")
    for question in world.names.held:
        world.names.answer(*question)
    assert len(world.exit.dialer.lookups) == 0
    assert opened_name(world, caller, "good.example")


def opened_name(world: World, caller: Caller, name: str) -> bool:
    stream = caller.open(name)
    world.until(lambda: stream.opened or stream.failed is not None)
    return stream.opened


def test_windows_leave_something_for_those_who_come_later() -> None:
    ceilings = Ceilings(1000, 2**20)
    windows = []
    for _ in range(1000):
        windows.append(INITIAL_CREDIT + ceilings.window())
        ceilings.open(windows[-1])
    assert windows == sorted(windows, reverse=True)
    assert windows[-1] >= INITIAL_CREDIT
    assert ceilings.windows <= 2**20
    assert not ceilings.admits()
    for window in windows:
        ceilings.close(window)
    assert (ceilings.streams, ceilings.windows) == (0, 0)


def test_the_streams_that_were_are_remembered_within_bounds() -> None:
    gone = Gone(10)
    for number in range(100):
        gone.add(b"client", b"%d" % number)
    assert [(b"client", b"%d" % number) in gone for number in (0, 89, 90, 99)] == [False, False, True, True]


@pytest.mark.parametrize("more", range(5))
def test_whatever_a_client_says_nothing_fails_and_nothing_is_left(seed: int, more: int) -> None:
    with World("--exit-idle-time=20", "--exit-connect-time=5", *SMALL[2:], seed=seed * 100 + more) as world:
        random = world.random
        world.serve(echo=True, answer=b"bye")
        world.serve(port=81, greeting=bytes(200_000))
        world.serve(port=82, holds=True)
        world.names.answers |= {"a.example": [["10.0.0.1", PUBLIC]], "b.example": [["127.0.0.1"]]}
        caller = world.caller()
        opened(world, caller, 1)
        ids = [random.randbytes(16) for _ in range(30)]
        hosts = [PUBLIC, PUBLIC, "a.example", "b.example", "c.example", "::1", "..", "10.0.0.1"]
        reply = world.service_host.dispatch.reply
        for _ in range(1500):
            number = random.choice([0, 0, 0, 1, 2, 3, 4, 5, 600])
            where = StreamOpen(host=random.choice(hosts), port=random.choice([25, 80, 80, 81, 82, 83]))
            message = StreamMessage(
                stream=random.choice(ids),
                number=number,
                open=where if number == 0 and random.random() < 0.9 else None,
                opened=random.random() < 0.02,
                data=bytes(random.choice([0, 0, 1, 1000, STREAM_PART])),
                end=random.random() < 0.1,
                credit=random.choice([0, 1, 10**6, 2**61]),
                reset=random.random() < 0.05,
            )
            world.exit.handle(Request(message.encode(), random.choice([caller.person.tag] * 9 + [None]), reply))
            if random.random() < 0.1:
                world.clock.advance(random.choice([0.001, 0.1, 0.5]))
            if random.random() < 0.3:
                ids[random.randrange(len(ids))] = random.randbytes(16)
        world.clock.advance(200)
        counts = world.metrics
        assert not counts.keys() & {"failed", "failed-timers", "bad-requests", "blocked"}
        assert counts["streams-opened"] > 5, "this has tried nothing"
        assert (len(world.exit), len(world.exit.clients), world.service_host.dispatch.size) == (0, 0, 0)
        ceilings = world.exit.ceilings
        assert (ceilings.streams, ceilings.windows, ceilings.under_way) == (0, 0, 0)
        assert not world.network.connections()
