"""The exit: bytes both ways, how connections end, where it does not go, and what it says of failures."""

from pathlib import Path
from typing import Any

import pytest
from exit_bench import OTHER, PUBLIC, World

from nymtw.errors import ConfigError
from nymtw.message.stream import STREAM_PART, StreamFailure, StreamMessage, StreamOpen
from nymtw.provider.exit.service import Options, make_provider
from nymtw.testing.provider_contracts import ServiceContract
from nymtw.testing.service_bench import ServiceBench

pytestmark = pytest.mark.long

PRIVATE = "10.0.0.7"
BIG = bytes(range(256)) * 4096


@pytest.fixture
def world(seed: int) -> Any:
    with World(seed=seed) as world:
        yield world


class TestContract(ServiceContract):
    implementation = "exit"
    request = StreamMessage(
        stream=b"s" * 16, open=StreamOpen(host=PUBLIC, port=80), data=b"hello", end=True, credit=2**20
    ).encode()
    answers = 2
    reaches_out = True

    def prepare(self, bench: ServiceBench) -> None:
        from exit_bench import Serving

        bench.network.host(PUBLIC, PUBLIC).listenTCP(80, Serving(answer=b"goodbye"), interface=PUBLIC)


# -- bytes both ways


def test_data_with_the_opening_is_echoed_and_both_ends_end(world: World) -> None:
    serving = world.serve(echo=True, answer=b"!")
    stream = world.caller().open(PUBLIC, data=b"hello")
    world.until(lambda: stream.got == b"hello")
    assert stream.opened
    stream.write(b" again")
    stream.end()
    world.until(lambda: stream.over)
    assert stream.got == b"hello again!"
    assert not stream.was_reset
    world.clock.advance(10)
    assert serving.connections[0].got == b"hello again"
    assert str(serving.connections[0].lost) == "Connection was closed cleanly."
    assert len(world.exit) == 0
    assert not world.network.connections()
    assert world.metrics["streams-opened"] == world.metrics["streams-finished"] == 1


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_much_data_both_ways_at_once(seed: int, rough: bool, loss: float) -> None:
    """With `loss` 0.02 on each of the five hops a tenth of the replies are lost."""
    with World(seed=seed, loss=loss) as world:
        serving = world.serve(greeting=BIG, answer=b"bye")
        stream = world.caller(rough=rough).open(PUBLIC, data=BIG)
        stream.end()
        world.until(lambda: stream.over and stream.ended, 600)
        assert bytes(serving.connections[0].got) == BIG
        assert bytes(stream.got) == BIG + b"bye"
        assert not stream.was_reset


def test_a_server_that_ends_first_still_gets_what_the_client_sends(world: World) -> None:
    serving = world.serve(greeting=b"your turn")
    stream = world.caller().open(PUBLIC)
    world.until(lambda: stream.got == b"your turn")
    serving.connections[0].transport.loseWriteConnection()
    world.until(lambda: stream.ended)
    stream.write(BIG)
    world.until(lambda: serving.connections[0].got == BIG)
    assert not serving.connections[0].ended
    stream.end()
    world.until(lambda: serving.connections[0].lost is not None)
    world.clock.advance(10)
    assert not stream.was_reset
    assert len(world.exit) == 0


def test_a_client_that_ends_first_still_gets_what_the_server_sends(world: World) -> None:
    world.serve(answer=BIG)
    stream = world.caller().open(PUBLIC, data=b"GET")
    stream.end()
    world.until(lambda: stream.ended)
    assert stream.got == BIG


def test_what_a_server_dribbles_is_gathered(world: World) -> None:
    serving = world.serve()
    caller = world.caller()
    stream = caller.open(PUBLIC)
    world.until(lambda: stream.opened)
    before = caller.person.fragments
    for _ in range(1000):
        serving.connections[0].transport.write(b"drop")
        world.clock.advance(0.001)
    world.clock.advance(10)
    assert stream.got == b"drop" * 1000
    assert caller.person.fragments - before < 60


def test_a_key_stroke_is_echoed_at_once(world: World) -> None:
    world.serve(echo=True)
    caller = world.caller()
    stream = caller.open(PUBLIC)
    world.clock.advance(30)
    before = len(world.submitted)
    stream.write(b"k")
    world.clock.advance(0.1)
    assert len(world.submitted) > before


def test_a_reset_of_the_client_is_one_of_the_server_and_the_other_way_round(world: World) -> None:
    serving = world.serve(greeting=b"hello")
    caller = world.caller()
    one, other = caller.open(PUBLIC), caller.open(PUBLIC)
    world.until(lambda: one.got and other.got)
    one.reset()
    world.clock.advance(1)
    assert [str(type(server.lost).__name__) for server in serving.connections] == ["ConnectionLost", "NoneType"]
    serving.connections[1].transport.write(b"and then")
    world.clock.advance(0.01)
    serving.connections[1].transport.abortConnection()
    world.until(lambda: other.was_reset)
    assert other.got == b"helloand then"
    world.clock.advance(10)
    assert len(world.exit) == 0
    assert (world.metrics["streams-reset"], world.metrics["streams-reset-by-server"]) == (1, 1)


def test_a_reset_that_overtakes_the_opening_and_one_while_it_connects(world: World) -> None:
    serving = world.serve()
    caller = world.caller()
    stream = StreamMessage(stream=b"x" * 16, open=StreamOpen(host=PUBLIC, port=80))
    caller.send_raw(StreamMessage(stream=b"x" * 16, reset=True).encode())
    caller.send_raw(stream.encode())
    world.names.hold = True
    slow = caller.open("a.example")
    slow.reset()
    world.clock.advance(1)
    assert len(world.exit) == 0
    world.names.answers["a.example"] = [[PUBLIC]]
    world.names.answer(*world.names.held.pop())
    world.clock.advance(1)
    assert serving.connections == []


# -- where it does not go


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::1",
        "10.0.0.7",
        "192.168.1.1",
        "100.64.0.1",
        "fe80::1",
        "fd00:ec2::254",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "inside.example",
        "inside6.example",
        "mapped.example",
        "metadata.example",
        "all.example",
        "127.1",
        "2130706433",
    ],
)
def test_private_addresses_and_names_that_lead_there_are_refused(world: World, host: str) -> None:
    inside = [world.serve(address) for address in ("127.0.0.1", "169.254.169.254", PRIVATE, "::1")]
    world.names.answers |= {
        "inside.example": [["127.0.0.1"]],
        "inside6.example": [["::1"]],
        "mapped.example": [["::ffff:127.0.0.1"]],
        "metadata.example": [["169.254.169.254"]],
        "all.example": [["127.0.0.1", "::1", PRIVATE, "fe80::1"]],
        # what getaddrinfo makes of these
        "127.1": [["127.0.0.1"]],
        "2130706433": [["127.0.0.1"]],
    }
    stream = world.caller().open(host, data=b"secret")
    world.until(lambda: stream.failed is not None)
    # What is said of a name inside is what is said of one that nobody has: the exit lists nothing for strangers.
    named = host in world.names.answers
    assert stream.failed is (StreamFailure.NAME_UNKNOWN if named else StreamFailure.NOT_ALLOWED)
    assert [serving.connections for serving in inside] == [[], [], [], []]
    assert world.metrics.get("streams-refused", 0) == (0 if named else 1)


def test_a_name_with_several_addresses_goes_to_one_that_is_allowed(world: World) -> None:
    inside, outside = world.serve(PRIVATE), world.serve(OTHER, greeting=b"outside")
    world.names.answers["a.example"] = [[PRIVATE, "::1", OTHER]]
    stream = world.caller().open("a.example")
    world.until(lambda: stream.got == b"outside")
    assert (len(inside.connections), len(outside.connections)) == (0, 1)


def test_a_name_with_an_address_where_nobody_answers_goes_to_the_next(world: World) -> None:
    serving = world.serve(OTHER, greeting=b"here")
    world.names.answers["a.example"] = [[PUBLIC, OTHER]]
    stream = world.caller().open("a.example")
    world.until(lambda: stream.got == b"here")
    assert len(serving.connections) == 1


def test_an_answer_that_changes_between_check_and_connect_does_not_matter(world: World) -> None:
    inside, outside = world.serve("127.0.0.1"), world.serve(PUBLIC, greeting=b"outside")
    world.names.answers["rebind.example"] = [[PUBLIC], ["127.0.0.1"]]
    stream = world.caller().open("rebind.example")
    world.until(lambda: stream.got == b"outside")
    assert (len(inside.connections), len(outside.connections)) == (0, 1)
    assert world.names.asked == ["rebind.example"], "the name was resolved once"
    again = world.caller().open("rebind.example")
    world.until(lambda: again.failed is not None)
    assert (again.failed, len(inside.connections)) == (StreamFailure.NAME_UNKNOWN, 0)


def test_the_exits_own_machine_is_not_reached_by_its_public_address(seed: int) -> None:
    with World(seed=seed) as world:
        world.host.address = OTHER
        serving = world.serve(OTHER)
        world.names.answers["own.example"] = [[OTHER]]
        caller = world.caller()
        streams = [caller.open(OTHER, data=b"secret"), caller.open("own.example", data=b"secret")]
        world.until(lambda: all(stream.failed for stream in streams))
        assert {stream.failed for stream in streams} == {StreamFailure.NOT_ALLOWED}
        world.clock.advance(1)
        assert all(not server.got for server in serving.connections)


def test_private_addresses_where_the_operator_allows_them(seed: int) -> None:
    with World("--exit-private", seed=seed) as world:
        serving = world.serve(PRIVATE, greeting=b"inside")
        world.names.answers["inside.example"] = [[PRIVATE]]
        caller = world.caller()
        for host in (PRIVATE, "inside.example"):
            stream = caller.open(host)
            world.until(lambda stream=stream: stream.got == b"inside")
        assert len(serving.connections) == 2


def test_ports_that_the_policy_refuses_are_not_even_resolved(world: World) -> None:
    stream = world.caller().open("mail.example", 25)
    world.until(lambda: stream.failed is not None)
    assert stream.failed is StreamFailure.NOT_ALLOWED
    assert world.names.asked == []


def test_a_policy_from_a_file(seed: int, tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text(f"reject {OTHER}/24:*\naccept *:80\nreject *:*\n")
    with World(f"--exit-policy={policy}", seed=seed) as world:
        for address in (PUBLIC, OTHER):
            world.serve(address, greeting=b"hello")
        caller = world.caller()
        world.names.answers["both.example"] = [[OTHER, PUBLIC]]
        good = [caller.open(PUBLIC), caller.open("both.example")]
        bad = [caller.open(OTHER), caller.open(PUBLIC, 443), caller.open(f"::ffff:{OTHER}")]
        world.until(lambda: all(one.got for one in good) and all(one.failed for one in bad))
        assert {one.failed for one in bad} == {StreamFailure.NOT_ALLOWED}


def test_a_wrong_policy_is_an_error_that_names_file_and_line(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text("accept *:80\nreject nowhere:*\n")
    options = Options()
    options.parseOptions([f"--exit-policy={policy}"])
    with pytest.raises(ConfigError, match=f"{policy}, line 2"):
        make_provider(None, options)  # type: ignore[arg-type]


# -- failures


def test_a_server_that_refuses_and_a_name_that_nobody_knows(world: World) -> None:
    caller = world.caller()
    refused, unknown = caller.open(PUBLIC, 81), caller.open("nobody.example")
    none = [caller.open(name) for name in ("a..b", "a" * 64, ".", "a:b", ".".join(["a" * 63] * 4))]
    world.until(lambda: all(one.failed for one in [refused, unknown, *none]))
    assert refused.failed is StreamFailure.REFUSED
    assert {one.failed for one in [unknown, *none]} == {StreamFailure.NAME_UNKNOWN}
    assert world.names.asked == ["nobody.example"], "what is no name is not asked for"


def test_a_server_that_does_not_answer_and_a_name_server_that_does_not(world: World) -> None:
    world.serve()
    world.network.cut("provider", PUBLIC)
    caller = world.caller()
    silent = caller.open(PUBLIC)
    world.names.hold = True
    slow = caller.open("slow.example")
    world.until(lambda: silent.failed is not None and slow.failed is not None, 60)
    assert {silent.failed, slow.failed} == {StreamFailure.TIMED_OUT}
    assert len(world.exit) == 0
    world.names.answer(*world.names.held.pop())
    world.clock.advance(5)
    assert not world.network.connections()


# -- what nobody should send


def test_streams_that_break_the_rules_are_reset(world: World) -> None:
    serving = world.serve()
    caller = world.caller()
    streams = [caller.open(PUBLIC) for _ in range(5)]
    world.until(lambda: all(stream.opened for stream in streams))
    far, behind, much, twice, first = streams
    caller.send_message(StreamMessage(stream=far.id, number=10_000))
    behind.end()
    caller.send_message(StreamMessage(stream=behind.id, number=behind.sending.take(), data=b"x"))
    for number in range(far.sending.take(), 50):
        caller.send_message(StreamMessage(stream=much.id, number=number + 1, data=bytes(STREAM_PART)))
    caller.send_message(StreamMessage(stream=twice.id, number=0, open=StreamOpen(host=OTHER, port=80)))
    caller.send_message(StreamMessage(stream=b"n" * 16, number=0, data=b"no opening"))
    world.clock.advance(10)
    assert [stream.was_reset for stream in streams] == [True, True, True, False, False]
    assert [message.reset for message in caller.unknown] == [True]
    assert not first.was_reset
    assert len(serving.connections) == 5
    assert world.metrics["streams-broken"] == 4


def test_messages_that_overtake_their_opening_wait_for_it(world: World) -> None:
    serving = world.serve()
    caller = world.caller()
    stream = b"o" * 16
    caller.send_raw(StreamMessage(stream=stream, number=2, end=True).encode())
    caller.send_raw(StreamMessage(stream=stream, number=1, data=b"world").encode())
    world.clock.advance(10)
    assert serving.connections == []
    caller.send_raw(StreamMessage(stream=stream, open=StreamOpen(host=PUBLIC, port=80), data=b"hello ").encode())
    world.clock.advance(1)
    assert (serving.connections[0].got, serving.connections[0].ended) == (b"hello world", True)


def test_an_opening_that_never_comes(world: World) -> None:
    caller = world.caller()
    caller.send_raw(StreamMessage(stream=b"o" * 16, number=1, data=b"x").encode())
    world.clock.advance(30)
    assert len(world.exit) == 1
    world.clock.advance(60)
    assert len(world.exit) == 0
    assert caller.unknown == [StreamMessage(stream=b"o" * 16, reset=True)]


def test_a_stream_of_before_a_restart_is_reset_when_the_client_sends_on_it(world: World) -> None:
    caller = world.caller()
    message = StreamMessage(stream=b"b" * 16, number=7, opened=True, data=b"still there?")
    for _ in range(3):
        caller.send_raw(message.encode())
    world.clock.advance(10)
    assert caller.unknown == [StreamMessage(stream=b"b" * 16, reset=True)], "one answer is enough"
    assert world.metrics["streams-unknown"] == 1
    assert len(world.exit) == 0


def test_when_it_stops_it_hangs_up_and_says_so(seed: int) -> None:
    with World(seed=seed) as world:
        serving = world.serve(greeting=b"hello")
        caller = world.caller()
        streams = [caller.open(PUBLIC) for _ in range(10)]
        world.until(lambda: all(stream.got for stream in streams))
        world.names.hold = True
        caller.open("slow.example")
        world.clock.wait_for(world.multiplexer.leave(), 60)
        assert all(stream.was_reset for stream in streams)
        assert all(server.lost for server in serving.connections)
        assert not world.network.connections()


def test_when_it_is_stopped_without_a_word_it_hangs_up_too(seed: int) -> None:
    with World(seed=seed) as world:
        serving = world.serve(greeting=b"hello")
        stream = world.caller().open(PUBLIC)
        world.until(lambda: bool(stream.got))
        world.clock.wait_for(world.multiplexer.stop(), 60)
        world.clock.advance(5)
        assert serving.connections[0].lost
        assert not world.network.connections()
        assert world.metrics.get("timers-left", 0) == 0


def test_nothing_that_it_logs_or_counts_names_a_host(seed: int) -> None:
    from twisted.logger import LogEvent, formatEvent, globalLogPublisher

    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event) + str(event.get("log_failure", "")))

    globalLogPublisher.addObserver(observe)
    try:
        with World(seed=seed) as world:
            world.serve(greeting=b"hello")
            world.names.answers |= {"secret.example": [[PUBLIC]], "inner.example": [["10.0.0.1"]]}
            caller = world.caller()
            for host, port in (("secret.example", 80), ("secret.example", 4711), ("inner.example", 80), (OTHER, 80)):
                caller.open(host, port)
            caller.send_raw(b"secret.example")
            world.clock.advance(700)
            lines += list(world.metrics)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert any("streams-opened" in line for line in lines)
    for secret in ("secret.example", "inner.example", PUBLIC, OTHER, "4711", caller.person.tag.hex()):
        assert not [line for line in lines if secret in line]


def test_a_connection_that_says_nothing_for_half_an_hour_is_still_there(world: World) -> None:
    """A terminal, or a mail program that waits for mail: it says something every 29 minutes (RFC 2177)."""
    world.serve(echo=True)
    stream = world.caller().open(PUBLIC, data=b"before")
    world.until(lambda: stream.got == b"before")
    world.clock.advance(1800)
    assert not stream.failed
    stream.write(b"after")
    world.until(lambda: stream.got == b"beforeafter")
