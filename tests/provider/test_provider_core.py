"""A provider's core: what ends here is delivered, then acknowledged; an implementation that misbehaves is contained."""

from pathlib import Path
from typing import Any

import pytest
from packet_chain import EPOCH, LATENCY, MILLISECOND, Chain, frame, never

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher

from nymtw.drop_reasons import DropReason
from nymtw.errors import DiskError, MailboxFull, UnknownDestination
from nymtw.message.payload import DROP_DESTINATION, split_payload
from nymtw.provider.delivery import Delivery, MailKind
from nymtw.sphinx import (
    FinalHop,
    Hop,
    SizeClass,
    build_packet,
    generate_keypair,
    process_packet,
    recover_message,
)

MAILBOX = b"b" * 32


@pytest.fixture
def log() -> Any:
    """The formatted errors that are logged."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def errors(log: list[LogEvent]) -> list[str]:
    return [str(event.get("fault")) for event in log if "fault" in event]


def test_a_message_is_delivered_and_its_ack_comes_back_after_the_delay_drawn_for_it() -> None:
    chain = Chain(1)
    ack, text = chain.ack(delay=70 * MILLISECOND)
    packet = chain.data_packet(MAILBOX, delays=[10 * MILLISECOND, 0, 0], ack=ack)
    chain.enter(packet)
    chain.run(1.0)
    (arrived, message), (acked, back) = chain.implementation.deliveries
    assert (message.destination, message.kind, len(message.content)) == (MAILBOX, MailKind.MESSAGE, 1580)
    assert arrived == pytest.approx(0.010 + 3 * LATENCY)
    assert back == Delivery(b"a" * 32, MailKind.ACK, text)
    assert acked == pytest.approx(arrived + 0.070 + 4 * LATENCY)
    counters = chain.provider.counters.snapshot()
    # received: the message, the ack taken out of it, the ack that came back
    assert (counters.received, counters.forwarded, counters.delivered, counters.queued) == (3, 1, 2, 0)


def test_the_ack_waits_until_the_implementation_has_the_message() -> None:
    chain = Chain(2)
    stored: Deferred[None] = Deferred()
    chain.implementation.answer = lambda delivery: stored
    chain.enter(chain.data_packet())
    chain.run(5.0)
    assert chain.provider.links.sent == []
    assert chain.provider.core.queued == chain.provider.counters.queued == 1
    chain.implementation.answer = lambda delivery: None
    stored.callback(None)
    chain.run(1.0)
    assert len(chain.provider.links.sent) == 1
    chain.provider.core.stop()
    assert chain.clock.getDelayedCalls() == []


def test_a_coroutine_is_an_answer_too() -> None:
    chain = Chain(3)
    gate: Deferred[None] = Deferred()

    async def answer() -> None:
        await gate

    chain.implementation.answer = lambda delivery: answer() if delivery.kind is MailKind.MESSAGE else None
    chain.enter(chain.data_packet())
    chain.run(1.0)
    assert chain.provider.links.sent == []
    gate.callback(None)
    chain.run(1.0)
    assert len(chain.provider.links.sent) == 1


def never_but_acks(delivery: Delivery) -> "Deferred[None] | None":
    return None if delivery.kind is MailKind.ACK else Deferred()


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnknownDestination(), DropReason.UNKNOWN_DESTINATION),
        (MailboxFull(), DropReason.MAILBOX_FULL),
        (DiskError("disk full"), DropReason.DISK_ERROR),
        (KeyError("a secret"), DropReason.PROVIDER_ERROR),
        (SystemError(), DropReason.PROVIDER_ERROR),
    ],
)
def test_a_refusal_is_counted_for_its_reason_and_its_sender_alone_learns_of_it(
    error: Exception, reason: DropReason, later: bool
) -> None:
    chain = Chain(4)
    refused: Deferred[None] = Deferred()

    def answer(delivery: Delivery) -> Any:
        if delivery.kind is MailKind.ACK:
            return None
        if later:
            return refused
        raise error

    chain.implementation.answer = answer
    chain.enter(chain.data_packet())
    chain.run(1.0)
    if later:
        refused.errback(error)
        chain.run(1.0)
    assert chain.provider.drops() == {reason: 1}
    assert [delivery.content for delivery in chain.delivered(MailKind.ACK)] == [chain.refusal]


def test_the_log_says_once_what_is_wrong_and_nothing_of_the_packet(log: list[LogEvent]) -> None:
    chain = Chain(5)

    def answer(delivery: Delivery) -> None:
        if delivery.kind is MailKind.ACK:
            return
        raise ValueError(f"cannot store {delivery.content!r} for {delivery.destination!r}")

    chain.implementation.answer = answer
    for _ in range(3):
        chain.enter(chain.data_packet())
    chain.run(1.0)
    assert chain.provider.drops() == {DropReason.PROVIDER_ERROR: 3}
    (logged,) = errors(log)
    assert logged.startswith("raised ValueError (")
    assert "test_provider_core.py" in logged
    assert "bbbb" not in logged


def test_an_implementation_that_never_answers_loses_its_packets_in_time_and_the_node_lives_on(
    log: list[LogEvent],
) -> None:
    chain = Chain(6, timeout=10.0)
    chain.implementation.answer = never_but_acks
    chain.enter(chain.data_packet(delays=[0, 0, 0]))
    chain.enter(chain.data_packet(delays=[4_000 * MILLISECOND, 0, 0]))
    chain.run(10.0)
    assert chain.provider.drops() == {}
    chain.run(0.1)
    assert chain.provider.drops() == {DropReason.PROVIDER_ERROR: 1}
    chain.run(4.0)
    assert chain.provider.drops() == {DropReason.PROVIDER_ERROR: 2}
    assert errors(log) == ["did not answer in time"]
    chain.implementation.answer = lambda delivery: None
    told = len(chain.provider.links.sent)
    chain.enter(chain.data_packet())
    chain.run(1.0)
    assert len(chain.provider.links.sent) == told + 1


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    chain = Chain(7, timeout=1.0)
    # A Deferred that does not let itself be cancelled: its answer arrives afterwards.
    late: Deferred[None] = Deferred(lambda deferred: None)
    late.errback = lambda failure=None: None  # type: ignore[method-assign, assignment]
    chain.implementation.answer = lambda delivery: None if delivery.kind is MailKind.ACK else late
    chain.enter(chain.data_packet())
    chain.run(2.0)
    assert chain.provider.drops() == {DropReason.PROVIDER_ERROR: 1}
    late.callback(None)
    chain.run(1.0)
    assert chain.provider.drops() == {DropReason.PROVIDER_ERROR: 1}
    assert [delivery.content for delivery in chain.delivered(MailKind.ACK)] == [chain.refusal]


def test_a_canceller_that_raises_is_contained() -> None:
    chain = Chain(8, timeout=1.0)

    def canceller(deferred: "Deferred[None]") -> None:
        raise RuntimeError("no")

    chain.implementation.answer = lambda delivery: Deferred(canceller)
    chain.enter(chain.data_packet())
    chain.enter(chain.data_packet())
    chain.run(2.0)
    assert chain.provider.drops() == {DropReason.PROVIDER_ERROR: 2}


def test_only_so_many_wait_for_the_implementation_at_once() -> None:
    chain = Chain(9, limit=2)
    chain.implementation.answer = never
    for _ in range(5):
        chain.enter(chain.data_packet())
    chain.run(1.0)
    # Three packets, and the acks that say so to somebody with a mailbox here.
    assert chain.provider.drops() == {DropReason.PROVIDER_BUSY: 6}
    assert chain.provider.core.queued == 2
    chain.provider.core.stop()
    assert chain.provider.drops() == {DropReason.PROVIDER_BUSY: 6, DropReason.SHUTDOWN: 2}
    assert chain.provider.counters.queued == 0


def test_drop_cover_is_discarded_and_acknowledged_like_everything_else() -> None:
    chain = Chain(10)
    ack, text = chain.ack()
    chain.enter(chain.drop_cover(ack))
    chain.run(1.0)
    assert chain.delivered() == []
    assert [delivery.content for delivery in chain.delivered(MailKind.ACK)] == [text]


def test_a_message_is_not_delivered_twice_after_a_restart(tmp_path: Path) -> None:
    chain = Chain(11, folder=tmp_path)
    chain.enter(chain.data_packet())
    chain.run(1.0)
    packet = chain.mixnodes[2].links.sent[0][3]
    chain.provider.core.replays.guard = chain.guard_of(chain.provider.record)  # what a killed process finds again
    chain.enter(packet, chain.provider)
    chain.run(1.0)
    assert chain.provider.drops() == {DropReason.REPLAYED: 1}
    assert len(chain.delivered()) == 1


def test_a_tag_is_on_disk_before_the_message_is_delivered(tmp_path: Path) -> None:
    chain = Chain(12, folder=tmp_path)
    sizes: list[int] = []

    def answer(delivery: Delivery) -> None:
        (path,) = (tmp_path / chain.provider.record.identity.hex()[:8]).glob("*.tags")
        sizes.append(path.stat().st_size)

    chain.implementation.answer = answer
    chain.enter(chain.data_packet())
    chain.run(1.0)
    assert sizes == [32, 48]


def test_a_reply_is_kept_whole_for_its_mailbox_after_its_delay() -> None:
    chain = Chain(13)
    private, public = generate_keypair(chain.random)
    route = [*chain.route(), Hop(MAILBOX, public)]
    chain.enter(build_packet(b"hello", route, [0, 0, 0, 200 * MILLISECOND], b"c" * 32, b"i" * 16, random=chain.random))
    chain.run(1.0)
    ((when, reply),) = chain.implementation.deliveries
    assert when == pytest.approx(0.200 + 3 * LATENCY)
    assert (reply.destination, reply.kind, len(reply.content)) == (MAILBOX, MailKind.REPLY, 2413)
    hop = process_packet(reply.content, private)
    assert isinstance(hop, FinalHop)
    assert (hop.identifier, recover_message(hop.payload)) == (b"i" * 16, b"hello")
    assert chain.provider.links.sent == []  # the provider acknowledges no reply


def test_a_loop_of_a_mixnode_goes_on_to_layer_1_and_to_no_other_node() -> None:
    chain = Chain(14)
    first, second = chain.mixnodes[:2]
    for target in (first, second):
        packet = build_packet(b"loop", [chain.provider.hop, target.hop], [0], b"c" * 32, random=chain.random)
        chain.enter(packet, chain.provider)
    chain.run(1.0)
    assert [peer for _, peer, _, _ in chain.provider.links.sent] == [first.record.identity]
    assert chain.provider.drops() == {DropReason.UNKNOWN_NEXT_HOP: 1}
    assert chain.delivered(MailKind.REPLY) == []


def test_an_ack_sized_packet_for_a_mailbox_is_no_reply() -> None:
    chain = Chain(15)
    route = [chain.provider.hop, Hop(MAILBOX, generate_keypair(chain.random)[1])]
    chain.enter(build_packet(b"", route, [0], b"c" * 32, size_class=SizeClass.ACK, random=chain.random), chain.provider)
    chain.run(1.0)
    assert chain.provider.drops() == {DropReason.UNKNOWN_NEXT_HOP: 1}


@pytest.mark.parametrize(
    ("message", "size_class"),
    [
        (b"", SizeClass.REGULAR),
        (bytes(21), SizeClass.REGULAR),
        (bytes(2047), SizeClass.REGULAR),
        (bytes(20), SizeClass.ACK),
        (bytes(8192), SizeClass.EXTENDED_8),
    ],
)
def test_a_payload_that_no_client_makes_is_dropped(message: bytes, size_class: SizeClass) -> None:
    chain = Chain(16)
    packet = build_packet(message, [chain.provider.hop], [], MAILBOX, size_class=size_class, random=chain.random)
    chain.enter(packet, chain.provider)
    chain.run(1.0)
    assert chain.provider.drops() == {DropReason.MALFORMED_PAYLOAD: 1}


def test_a_tagged_payload_is_dropped() -> None:
    chain = Chain(17)
    packet = bytearray(chain.data_packet())
    packet[1000] ^= 1
    chain.enter(bytes(packet))
    chain.run(1.0)
    assert chain.provider.drops() == {DropReason.MALFORMED_PAYLOAD: 1}


def test_an_ack_for_a_stranger_or_with_too_long_a_delay_is_dropped_alone() -> None:
    chain = Chain(18, max_delay=1.0)
    for ack, _ in (chain.ack(first=chain.mixnodes[1]), chain.ack(delay=1_000 * MILLISECOND + 1)):
        chain.enter(chain.data_packet(ack=ack))
    chain.run(1.0)
    assert len(chain.delivered()) == 2
    assert chain.provider.drops() == {DropReason.UNKNOWN_NEXT_HOP: 1, DropReason.DELAY_TOO_LONG: 1}


def test_what_a_client_submits_goes_to_the_mixnode_of_layer_1_that_it_named_and_nowhere_else() -> None:
    chain = Chain(19)
    first, second = chain.mixnodes[:2]
    core: Any = chain.provider.core
    core.submit(first.record.identity, 0, EPOCH, chain.data_packet())
    core.submit(second.record.identity, 0, EPOCH, chain.data_packet())
    core.submit(b"?" * 32, 0, EPOCH, chain.data_packet())
    assert chain.provider.drops() == {DropReason.UNKNOWN_NEXT_HOP: 2}
    chain.run(1.0)
    assert len(chain.delivered()) == 1


def test_the_content_that_is_delivered_is_what_was_sealed() -> None:
    chain = Chain(20)
    packet = chain.data_packet(route=[chain.provider.hop], delays=[])
    hop = process_packet(packet, chain.provider.private_key)
    assert isinstance(hop, FinalHop)
    _, sealed = split_payload(recover_message(hop.payload))
    chain.provider.core.receive(b"layer 3", [frame(packet)])
    chain.run(1.0)
    assert chain.delivered()[0].content == sealed
    assert hop.destination != DROP_DESTINATION


def test_a_hundred_messages_and_their_acks_are_accounted_for_at_every_moment() -> None:
    chain = Chain(21, limit=5)
    waiting: list[Deferred[None]] = []

    def answer(delivery: Delivery) -> Any:
        kind = chain.random.randrange(4)
        if kind == 0:
            raise UnknownDestination
        if kind == 1:
            raise ValueError
        if kind == 2:
            waiting.append(Deferred())
            chain.clock.callLater(chain.random.uniform(0, 0.2), waiting[-1].callback, None)
            return waiting[-1]
        return None

    chain.implementation.answer = answer
    for index in range(100):
        delays = [int(chain.random.expovariate(1 / (50 * MILLISECOND))) for _ in range(3)]
        packet = chain.data_packet(delays=delays, ack=chain.ack(delay=delays[0])[0])
        chain.clock.callLater(index * 0.005, chain.enter, packet)
    chain.run(20.0)
    counters = chain.provider.counters.snapshot()
    assert counters.queued == 0
    assert set(counters.dropped) >= {DropReason.UNKNOWN_DESTINATION, DropReason.PROVIDER_ERROR}
    # 100 messages; each ack is received when it is taken out of its message, and once more when it has come round
    assert counters.received == 100 + 2 * counters.forwarded
    assert counters.forwarded > 20
