"""Services: whole messages in, answers out, whatever the network loses and the implementation does wrong."""

import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.python import usage

from nymtw.drop_reasons import DropReason
from nymtw.errors import NymtwError, PluginError, QueueFull
from nymtw.interfaces import IProviderContext
from nymtw.message.envelope import Envelope
from nymtw.message.fragments import Fragment, fragment
from nymtw.message.sealing import seal, unseal
from nymtw.provider.api import Request, RequestOver, Service, ServiceLimits
from nymtw.provider.services.installed_plugins import find_implementations
from nymtw.provider.services.multiplexer import Multiplexer
from nymtw.provider.services.watchdog import BlockDetector, Times, Watchdog, is_the_machines
from nymtw.testing.clock import FakeClock
from nymtw.testing.service_bench import ServiceBench
from nymtw.testing.simulation import SimulatedNetwork


class Factory:
    """A plugin made of a function `(context) -> IService`."""

    name, summary, options = "rogue", "For tests.", usage.Options

    def __init__(self, make: Any) -> None:
        self._make = make

    def make_provider(self, context: IProviderContext, options: Any) -> Any:
        return self._make(context)


def handler(function: Any, limits: ServiceLimits | None = None) -> Factory:
    """A plugin whose service handles requests with `function(context, request)`."""

    def make(context: IProviderContext) -> Service:
        class Made(Service):
            def handle(self, request: Request) -> Any:
                return function(context, request)

        Made.limits = limits or Service.limits
        return Made()

    return Factory(make)


@pytest.fixture
def logged() -> Any:
    """What is said of faults."""
    faults: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if "fault" in event:
            faults.append(event["fault"])

    globalLogPublisher.addObserver(observe)
    yield faults
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_a_long_answer_arrives_whole_with_blocks_asked_for(seed: int, loss: float) -> None:
    answer = bytes(range(256)) * 1200
    with ServiceBench(handler(lambda context, request: answer), seed=seed, loss=loss) as bench:
        assert bench.ask(b"?", limit=600) == [answer]
        [person] = bench.people.values()
        assert person.given > 150


def test_an_answer_in_many_parts(seed: int) -> None:
    async def handle(context: Any, request: Request) -> bytes:
        for number in range(20):
            assert await request.reply(b"part %d" % number)
        return b"end"

    with ServiceBench(handler(handle), seed=seed) as bench:
        assert bench.ask(b"?", answers=21, limit=600) == [b"part %d" % number for number in range(20)] + [b"end"]
        assert bench.metrics == {"answered": 1, "requests": 1}


def test_a_raising_service_is_counted_and_told_once_without_what_the_request_held(seed: int, logged: list[str]) -> None:
    def handle(context: Any, request: Request) -> bytes:
        raise ValueError(f"secret {request.message!r}")

    with ServiceBench(handler(handle), seed=seed) as bench:
        for _ in range(5):
            bench.asker().ask(b"burn after reading")
        bench.clock.advance(1)
        assert bench.metrics == {"failed": 5, "requests": 5}
        assert bench.dropped == []
    [fault] = logged
    assert fault.startswith("raised ValueError (")
    assert "secret" not in fault


def test_a_service_that_never_answers_loses_its_place_when_time_is_over(seed: int, logged: list[str]) -> None:
    cancelled: list[Any] = []
    limits = ServiceLimits(concurrent=2, waiting=3, seconds=10)
    with ServiceBench(handler(lambda context, request: Deferred(cancelled.append), limits), seed=seed) as bench:
        for number in range(7):
            bench.asker().ask(b"%d" % number)
        assert len(bench.service_host.provider) == 5
        bench.clock.advance(10)
        assert (bench.metrics["timed-out"], bench.metrics["busy"], len(cancelled)) == (2, 2, 2)
        bench.clock.advance(20)
        assert (bench.metrics["timed-out"], len(bench.service_host.provider)) == (5, 0)
    assert logged == ["did not answer in time"]


def test_a_request_without_a_place_is_not_confirmed_and_finds_one_when_it_comes_again(seed: int) -> None:
    answers: list[Deferred[Any]] = []

    def handle(context: Any, request: Request) -> Deferred[Any]:
        answers.append(Deferred())
        return answers[-1]

    with ServiceBench(handler(handle, ServiceLimits(concurrent=1, waiting=1)), seed=seed) as bench:
        for _ in range(2):
            bench.deliver_message(Envelope(data=b"a").encode())
        sealed = [
            seal(piece.encode(), bench.service_host.address.encryption_key, bench.random)
            for piece in fragment(Envelope(data=b"b" * 4000).encode(), bytes(16))
        ]
        for content in sealed:
            bench.deliver(content)
        assert bench.dropped == [DropReason.MAILBOX_FULL]  # the last one, which would have made it whole
        assert (len(answers), bench.metrics["requests"]) == (1, 2)
        answers[0].callback(None)
        bench.deliver(sealed[-1])
        answers[1].callback(None)
        assert (len(answers), bench.metrics["requests"]) == (3, 3)
        assert len(bench.dropped) == 1


@pytest.mark.parametrize("tags", [4, 8])
def test_answers_that_nobody_fetches_do_not_keep_others_from_theirs(seed: int, tags: int) -> None:
    """A stranger asks for as much as a service keeps, under several tags, and gives one reply block each."""
    limits = ServiceLimits(reply_bytes=200_000, total_bytes=400_000)
    answer = {b"much": bytes(90_000), b"little": b"here"}
    with ServiceBench(handler(lambda context, request: answer[request.message], limits), seed=seed) as bench:
        for number in range(tags):
            stranger = bench.asker()
            for piece in fragment(
                Envelope(data=b"much", tag=stranger.tag, blocks=stranger.blocks(1)).encode(), bytes([number]) * 16
            ):
                bench.deliver(seal(piece.encode(), bench.service_host.address.encryption_key, bench.random))
            stranger.stop()
            del bench.people[stranger.address.mailbox]
        bench.clock.advance(11)
        assert bench.ask(b"much", limit=100) == [answer[b"much"]]
        assert bench.ask(b"little") == [b"here"]


def test_what_a_service_has_no_memory_for_is_not_confirmed(seed: int) -> None:
    """A stranger's unfinished messages, and a message that comes while they fill all there is."""
    limits = ServiceLimits(memory=60_000)
    with ServiceBench(handler(lambda context, request: b"got it", limits), seed=seed) as bench:
        key = bench.service_host.address.encryption_key

        def bring(name: int, numbers: Any) -> int:
            """How many of these fragments are refused."""
            before = len(bench.dropped)
            pieces = fragment(Envelope(data=bytes(20 * 1508 - 20)).encode(), bytes([name]) * 16)
            for number in numbers:
                bench.deliver(seal(pieces[number].encode(), key, bench.random))
            assert set(bench.dropped[before:]) <= {DropReason.MAILBOX_FULL}
            return len(bench.dropped) - before

        assert bring(1, range(19)) == 0
        assert bring(2, range(20)) == 9
        assert bench.metrics["busy"] == 9
        bench.clock.advance(31)
        # The sender has heard that they were refused, and sends them again; the stranger sends nothing new.
        assert bring(2, range(11, 20)) == 0
        assert bench.metrics["requests"] == 1
        assert bring(1, [19]) == 1  # nor does the one that was given up hear that it arrived


def test_an_answer_after_the_end_is_refused(seed: int) -> None:
    requests: list[Request] = []

    def handle(context: Any, request: Request) -> bytes:
        requests.append(request)
        return b"once"

    with ServiceBench(handler(handle), seed=seed) as bench:
        assert bench.ask(b"?") == [b"once"]
        with pytest.raises(RequestOver):
            requests[0].reply(b"twice")
        late = requests[0].sender
        assert late is not None
        bench.clock.advance(30)
        assert [len(person.answers) for person in bench.people.values()] == [1]


def test_a_deferred_that_fires_after_its_time_changes_nothing(seed: int) -> None:
    class Stubborn(Deferred[bytes]):
        def cancel(self) -> None:
            raise RuntimeError("never")

    made: list[Stubborn] = []

    def handle(context: Any, request: Request) -> Deferred[bytes]:
        made.append(Stubborn())
        return made[-1]

    with ServiceBench(handler(handle, ServiceLimits(seconds=5)), seed=seed) as bench:
        bench.asker().ask(b"?")
        bench.clock.advance(6)
        made[0].callback(b"too late")
        bench.clock.advance(30)
        assert bench.submitted == []
        assert bench.metrics == {"requests": 1, "timed-out": 1}


def test_leaked_timers_are_bounded_contained_and_cancelled_at_the_end(seed: int, logged: list[str]) -> None:
    def handle(context: IProviderContext, request: Request) -> bytes:
        context.clock.callLater(1.0, lambda: 1 / 0)
        for _ in range(200):
            context.clock.callLater(3600, print)
        return b"done"

    with ServiceBench(handler(handle, ServiceLimits(timers=500)), seed=seed) as bench:
        for _ in range(5):
            bench.asker().ask(b"?")
        bench.clock.advance(5)
        assert (bench.metrics["failed"], bench.metrics["answered"]) == (3, 2)
        assert bench.metrics["failed-timers"] == 3
    assert bench.metrics["timers-left"] == 497
    assert not [call for call in bench.clock.getDelayedCalls() if call.owner is bench.host]
    assert any("ZeroDivisionError" in fault for fault in logged)


def test_a_flood_of_answers_is_bounded(seed: int) -> None:
    refused: list[int] = []

    def handle(context: Any, request: Request) -> None:
        for number in range(1000):
            try:
                request.reply(bytes(10_000))
            except QueueFull:
                refused.append(number)

    with ServiceBench(handler(handle, ServiceLimits(reply_bytes=100_000)), seed=seed) as bench:
        person = bench.asker()
        person.ask(b"?", 50)
        assert bench.service_host.dispatch.size <= 100_000
        assert len(refused) == bench.metrics["refused-replies"] == 1000 - 100_000 // (10_000 + 1024)
        bench.clock.advance(1.0)
        assert len(bench.submitted) < 400, "it sends faster than its stream"


def test_the_wrong_kind_of_answer_is_a_fault(seed: int) -> None:
    with ServiceBench(handler(lambda context, request: "text"), seed=seed) as bench:
        bench.asker().ask(b"?")
        assert bench.metrics == {"failed": 1, "requests": 1}


def test_who_is_silent_is_given_up_and_told_so(seed: int) -> None:
    outcomes: list[bool] = []

    def handle(context: Any, request: Request) -> None:
        request.reply(bytes(100_000)).addCallback(outcomes.append)

    with ServiceBench(handler(handle), seed=seed) as bench:
        person = bench.asker()
        person.ask(b"?", 3)
        del bench.people[person.address.mailbox]
        bench.clock.advance(200)
        assert outcomes == [False]
        assert bench.service_host.dispatch.size == 0
        with pytest.raises(NymtwError, match="no reply block"):
            bench.service_host.dispatch.reply(person.tag, b"more")


def test_a_service_sends_to_an_address_and_learns_that_it_is_stored(seed: int) -> None:
    contexts: list[IProviderContext] = []
    outcomes: list[bool] = []
    with ServiceBench(Factory(lambda context: contexts.append(context) or Service()), seed=seed, loss=0.1) as bench:
        person = bench.asker()
        contexts[0].send(b"news" * 1000, person.address).addCallback(outcomes.append)
        bench.clock.advance_until(lambda: bool(outcomes), 120)
        assert outcomes == [True]
        pieces = {}
        for sealed in person.mail:
            piece = Fragment.parse(unseal(sealed, person.private))
            pieces[piece.number] = piece.content
        assert Envelope.parse(b"".join(pieces[number] for number in sorted(pieces))).data == b"news" * 1000


def test_what_a_service_sends_in_a_gap_of_the_topology_waits_for_its_end(seed: int) -> None:
    contexts: list[IProviderContext] = []
    outcomes: list[bool] = []
    with ServiceBench(Factory(lambda context: contexts.append(context) or Service()), seed=seed) as bench:
        person, whole = bench.asker(), bench.topology
        edges = tuple(node for node in whole.nodes if node.layer)
        bench.topology = msgspec.structs.replace(whole, nodes=edges)
        contexts[0].send(b"news", person.address).addCallback(outcomes.append)
        bench.clock.advance(20)
        assert (outcomes, person.mail) == ([], [])
        bench.topology = whole
        bench.clock.advance_until(lambda: bool(outcomes), 60)
        assert outcomes == [True]


def test_to_a_slow_edge_nothing_goes_out_twice_once_that_is_known(seed: int) -> None:
    contexts: list[IProviderContext] = []
    factory = Factory(lambda context: contexts.append(context) or Service())
    with ServiceBench(factory, seed=seed, slowness=1.0) as bench:
        person, dispatch, repeats = bench.asker(), bench.service_host.dispatch, []
        for _ in range(8):
            before = dispatch.again
            bench.clock.wait_for(contexts[0].send(b"news", person.address), 60)
            repeats.append(dispatch.again - before)
        assert repeats[0] > 0
        assert repeats[3:] == [0] * 5


def test_answers_to_a_slow_asker_go_out_once_when_receipts_were_found_to_be_late(seed: int) -> None:
    with ServiceBench(handler(lambda context, request: bytes(20_000)), seed=seed, slowness=0.7) as bench:
        dispatch = bench.service_host.dispatch
        person = bench.asker()
        for number in range(1, 5):
            person.ask(b"?", 60)
            bench.clock.advance_until(lambda number=number: len(person.answers) == number, 60)
            bench.clock.advance(10)
        assert dispatch.again == 0
        bench.slowness = 1.2  # 1.5 s more, all in all: too late for who has learned nothing
        person.ask(b"?", 60)
        bench.clock.advance_until(lambda: len(person.answers) == 5, 60)
        bench.clock.advance(10)
        assert dispatch.again == 0


def test_a_message_comes_once_however_often_its_fragments_do(seed: int) -> None:
    seen: list[bytes] = []
    with ServiceBench(handler(lambda context, request: seen.append(request.message)), seed=seed) as bench:
        deliveries: list[Any] = []
        hand = bench.deliveries.hand
        bench.deliveries.hand = lambda delivery, done: (deliveries.append(delivery), hand(delivery, done))  # type: ignore[method-assign,func-returns-value]
        bench.asker().ask(bytes(5000), 0)
        for delivery in list(deliveries):
            hand(delivery, lambda reason: None)
        assert seen == [bytes(5000)]


def test_two_with_mailboxes_do_not_fit_one_node(seed: int) -> None:
    with (
        ServiceBench("store", seed=seed) as one,
        ServiceBench("store", seed=seed + 1) as other,
        pytest.raises(PluginError, match="store and store both have mailboxes"),
    ):
        Multiplexer([one.service_host, other.service_host])


def test_a_block_is_told_once_with_how_long_it_has_lasted() -> None:
    now, told = [0.0], []
    detector = BlockDetector(lambda: now[0], lambda: Times(0.9 * now[0], 0.0), lambda *each: told.append(each))
    for moment in (0.5, 0.9, 1.1, 1.5, 3.0):
        now[0] = moment
        detector.look()
    assert [late for late, _ in told] == [1.1]
    assert told[0][1].used == pytest.approx(0.99)
    detector.beat()
    now[0] = 3.9
    detector.look()
    now[0] = 4.0
    detector.look()
    assert [late for late, _ in told] == [1.1, 1.0]
    assert told[1][1].used == pytest.approx(0.9)  # since the last beat


@pytest.mark.parametrize(
    ("late", "times", "innermost", "machine"),
    [
        (2.0, Times(1.9, 0.1), "a_service", False),  # it computed
        (2.0, Times(0.6, 1.4), "a_service", True),  # it was computing, and others had the core
        (2.0, Times(0.0, 0.0), "a_service", False),  # it slept in a call of its own
        (2.0, Times(0.0, 0.0), "doPoll", True),  # stopped, or not scheduled where nobody counts that
        (2.0, Times(0.1, 1.8), "doPoll", True),
        (2.0, Times(1.9, 0.0), "doPoll", False),  # it computed, and has just come back
    ],
)
def test_whose_doing_it_was(late: float, times: Times, innermost: str, machine: bool) -> None:
    assert is_the_machines(late, times, innermost) is machine


def test_a_thread_that_is_blocked_is_told_with_its_stack_and_counted(seed: int) -> None:
    counted: list[frozenset[str]] = []
    told = threading.Event()
    events: list[dict[str, Any]] = []

    def blocked(files: frozenset[str]) -> None:
        counted.append(files)

    def a_service_that_waits() -> bool:
        return told.wait(30)

    def hear(event: dict[str, Any]) -> None:
        events.append(event)
        if "places" in event:
            told.set()

    globalLogPublisher.addObserver(hear)
    clock = FakeClock()
    dog = Watchdog(clock, blocked, limit=0.05, times=lambda: lambda: Times(0.0, 0.0))
    dog.startService()
    try:
        assert a_service_that_waits()  # nobody turns the clock meanwhile: the reactor is blocked
    finally:
        dog.stopService()
        globalLogPublisher.removeObserver(hear)
    assert __file__ in counted[0]
    [line] = [event for event in events if "places" in event]
    assert "a_service_that_waits" in line["places"]
    assert clock.getDelayedCalls() == []


def test_lines_about_blockages_come_once_a_minute_with_their_number(seed: int) -> None:
    now, used = [0.0], [0.0]
    events: list[dict[str, Any]] = []

    def hear(event: dict[str, Any]) -> None:
        if "had" in event:
            events.append(event)

    counts: list[frozenset[str]] = []
    globalLogPublisher.addObserver(hear)
    dog = Watchdog(FakeClock(), counts.append, times=lambda: lambda: Times(used[0], 0.0), seconds=lambda: now[0])
    dog.watch()
    try:
        for moment in (2.0, 10.0, 30.0, 70.0):
            now[0] = used[0] = moment
            dog.look()
            dog.beat()
    finally:
        globalLogPublisher.removeObserver(hear)
    assert len(counts) == 4
    assert [event["late"] for event in events] == [2.0, 40.0]
    assert "more times" not in events[0]["more"]
    assert events[1]["more"].startswith("; 2 more times")


def test_a_blockage_is_counted_against_the_implementation_whose_code_it_is(seed: int) -> None:
    with ServiceBench(handler(lambda context, request: None), seed=seed) as bench:
        assert __file__ in bench.service_host.files
    with ServiceBench("echo", seed=seed) as bench:
        assert [Path(file).name for file in bench.service_host.files] == ["echo.py"]


def test_a_client_asks_an_echo_service_beside_a_store_at_one_provider(seed: int) -> None:
    both = {"provider-1": ["--impl=store", "--impl=echo"]}
    with SimulatedNetwork(seed, mixnodes_per_layer=1, refresh=5.0, implementations=both) as network:
        alice = network.clients["alice"]
        topology = alice.service.watch.current
        assert topology is not None
        [address] = topology.services("echo")
        provider = network.nodes["provider-1"]
        assert address == provider.service_hosts[1].address.encode(network.trust.network)
        alice.send(provider.service_hosts[1].address, b"anybody there?", surbs=5)
        network.run_until(lambda: bool(alice.received), 120)
        assert alice.received == [b"anybody there?"]
        network.deliver("bob", "alice", b"and mail still comes")
        network.run(5)
        for counters in network.counters().values():
            assert counters.queued >= 0


def test_the_bundled_ones_are_found() -> None:
    assert {"echo", "store"} <= set(find_implementations().names())
