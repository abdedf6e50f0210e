"""The core of a client: what leaves it and when, what becomes of what comes."""

import itertools
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from client_and_edge import Net, Person, run_until

from nymtw.client.config import DebugSection
from nymtw.client.parts import Limits, LinkControl
from nymtw.client.sending import packet_sender
from nymtw.client.sending.messages import State
from nymtw.client.store import ClientStore
from nymtw.errors import MessageTooLong, NymtwError, TopologyExpired, TopologySignatureError
from nymtw.link.control import MailKind
from nymtw.message.packets import Outgoing
from nymtw.topology.address import Address
from nymtw.topology.document import Topology

pytestmark = pytest.mark.long

FULL = bool(os.environ.get("NYMTW_FULL"))
COUNTED = 60.0 if FULL else 16.0  # seconds


@pytest.mark.parametrize("push", [False, True])
@pytest.mark.parametrize("size", [0, 1, 1536, 1537, 100_000])
def test_a_message_arrives_once_and_is_acknowledged(size: int, push: bool) -> None:
    net = Net()
    alice, bob = Person(net, "alice", push=push), Person(net, "bob", push=push)
    bob.listen()
    data = random.Random(size).randbytes(size)
    accepted = alice.send(data, bob)
    run_until(net, lambda: alice.state(accepted) is State.DONE)
    net.clock.advance(5)
    assert [message.data for message in bob.received] == [data]
    assert net.mail[bob.mailbox] == [] or all(item.number > 0 for item in net.mail[bob.mailbox])
    alice.stop()
    bob.stop()


def test_a_message_to_oneself_arrives() -> None:
    net = Net()
    alice = Person(net, "alice")
    alice.listen()
    alice.send(b"note", alice)
    run_until(net, lambda: len(alice.received) == 1)
    assert alice.received[0].data == b"note"
    alice.stop()


def test_cover_flows_from_the_start_and_is_counted() -> None:
    net = Net()
    alice = Person(net, "alice", debug=DebugSection(drop_cover_traffic_rate=2.0))
    net.clock.advance(20)
    status = alice.core.status()
    assert status["loopsSent"] == pytest.approx(5 * 20, rel=0.3)
    assert status["dropsSent"] == pytest.approx(22 * 20, rel=0.2)
    assert len(alice.connection.pulls) == pytest.approx(10 * 20, rel=0.3)
    assert status["loopsReturned"] > 0.95 * status["loopsSent"]
    assert status["coverAcks"] > 0.95 * (status["loopsSent"] + status["dropsSent"])
    assert status["loopsLost"] == 0
    alice.core.disconnected()
    sent = len(alice.connection.sent)
    net.clock.advance(100)
    assert len(alice.connection.sent) == sent
    alice.stop()


def test_loops_that_do_not_come_back_are_counted() -> None:
    net = Net()
    alice = Person(net, "alice")
    net.loss = 1.0
    net.clock.advance(15)
    sent = alice.core.status()["loopsSent"]
    net.loss = 0.0
    alice.core.streams.stop()
    net.clock.advance(120)
    assert alice.core.status()["loopsLost"] == sent > 50
    alice.stop()


def distance(one: list[float], other: list[float]) -> float:
    """The two-sample Kolmogorov-Smirnov statistic."""
    one, other = sorted(one), sorted(other)
    at = worst = i = j = 0.0
    i = j = 0
    while i < len(one) and j < len(other):
        at = min(one[i], other[j])
        while i < len(one) and one[i] <= at:
            i += 1
        while j < len(other) and other[j] <= at:
            j += 1
        worst = max(worst, abs(i / len(one) - j / len(other)))
    return worst


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def blank_packet(*arguments: Any, more_acks: int = 0) -> Outgoing:
    """Instead of a packet: when one leaves does not depend on what is in it, and making it costs time here."""
    ends = ((b"p" * 32,), (10**8,) * 3, (b"p" * 32,), (10**8,) * 4)
    (source,) = (each for each in arguments if isinstance(each, random.Random))
    return Outgoing(7, b"h" * 32, bytes(2413), source.randbytes(21), b"", *ends)


def emission_gaps(seed: int, sends: bool, broken: bool = False) -> list[float]:
    """The gaps between what a client emits, none of it acknowledged. A `broken` one sends at once what waits."""
    net = Net(seed)
    net.loss = 1.0
    alice = Person(net, f"alice {seed} {sends}")
    bob = Address(b"b" * 32, alice.public, alice.core.address.provider)
    net.clock.advance(5)
    if sends:
        alice.wait(alice.core.send(bytes(1 << 20), bob))
        if broken:
            for step in range(100):
                net.clock.callLater(0.002 * step, alice.core.packet_sender.send_next)
    net.clock.advance(25)
    times = [at for at, _ in alice.connection.sent]
    alice.stop()
    return gaps(times)


def test_an_idle_client_and_a_sending_one_emit_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("build_data_packet", "build_drop_packet", "build_loop_packet"):
        monkeypatch.setattr(packet_sender, name, blank_packet)
    idle: list[float] = []
    sending: list[float] = []
    broken: list[float] = []
    for seed in range(20 if FULL else 12):
        idle += emission_gaps(seed, sends=False)
        sending += emission_gaps(1000 + seed, sends=True)
        broken += emission_gaps(2000 + seed, sends=True, broken=True)
    # The critical value at the 0.1 % level for two samples of these sizes.
    critical = 1.95 * ((len(idle) + len(sending)) / (len(idle) * len(sending))) ** 0.5
    assert distance(idle, sending) < critical
    assert distance(idle, broken) > critical
    assert len(idle) > 6_000


def ledger(seed: int, full: bool, send: bool) -> tuple[int, int, int]:
    """What the own edge counts in a while: packets submitted, acks and messages for the mailbox."""
    net = Net(seed)
    alice = Person(net, "alice")
    bob = Person(net, "bob")
    net.clock.advance(5)
    if full:
        net.full.add(bob.mailbox)
    if send:
        alice.wait(alice.core.send(bytes(2 << 20), bob.core.address))
    counted: Counter[int] = Counter()
    kept = net.deliver

    def deliver(mailbox: bytes, kind: int, content: bytes) -> None:
        counted[kind] += mailbox == alice.mailbox
        kept(mailbox, kind, content)

    net.deliver = deliver  # type: ignore[method-assign]
    before = len(alice.connection.sent)
    net.clock.advance(COUNTED)
    submitted = len(alice.connection.sent) - before
    refusals = alice.core.status()["refusals"]
    assert bool(refusals) == (full and send)
    alice.stop()
    bob.stop()
    return submitted, counted[MailKind.ACK], counted[MailKind.MESSAGE]


@pytest.mark.parametrize("full", [False, True])
def test_the_own_edge_counts_the_same_whether_one_sends_or_not(full: bool) -> None:
    idle, sending = ledger(1, full, False), ledger(2, full, True)
    # Poisson counts, of 25, 25 and 5 a second: five deviations of their difference.
    for quiet, busy in zip(idle, sending, strict=True):
        assert abs(quiet - busy) < 5 * (quiet + busy) ** 0.5
    under_way = 25  # a second's packets
    assert sending[1] == pytest.approx(sending[0], abs=under_way), "an ack for each packet, stored or refused"


def test_without_rate_compliant_cover_the_sending_stream_is_silent_when_idle() -> None:
    net = Net()
    alice = Person(net, "alice", debug=DebugSection(rate_compliant_cover_messages_disabled=True))
    net.clock.advance(10)
    quiet = len(alice.connection.sent)
    assert quiet == pytest.approx(5 * 10, rel=0.5)
    alice.stop()


def test_loss_costs_time_and_not_data() -> None:
    net = Net(3)
    net.loss = 0.05  # at each of five hops there, and four back
    alice, bob = Person(net, "alice"), Person(net, "bob")
    bob.listen()
    data = random.Random(3).randbytes(150_000)
    accepted = alice.send(data, bob)
    run_until(net, lambda: alice.state(accepted) is State.DONE, 3000)
    assert [message.data for message in bob.received] == [data]
    assert alice.core.status()["retransmissions"] > 20
    alice.stop()
    bob.stop()


def test_a_topology_that_cannot_be_used_stops_sending_and_says_why() -> None:
    net = Net()
    alice = Person(net, "alice")
    net.clock.advance(1)
    assert isinstance(net.good, Topology)
    without = tuple(node for node in net.good.nodes if node.layer != 2)
    for topology, cause in [
        (msgspec.structs.replace(net.good, serial=2, nodes=without), "layer 2 has no mixnode"),
        (TopologyExpired("ran out 5 seconds ago"), "ran out"),
        (TopologySignatureError("0 valid signatures"), "0 valid signatures"),
    ]:
        net.topology = topology
        sent = len(alice.connection.sent)
        net.clock.advance(10)
        assert len(alice.connection.sent) == sent
        assert cause in alice.core.status()["trouble"]
        assert not alice.core.status()["ready"]
        net.topology = net.good
        net.clock.advance(10)
        assert len(alice.connection.sent) > sent + 100
        assert alice.core.status()["trouble"] == ""
    alice.stop()


def test_recipients_that_cannot_be_reached() -> None:
    net = Net()
    alice = Person(net, "alice")
    stranger = Address(b"m" * 32, alice.public, b"p" * 32)
    waiting = alice.wait(alice.core.send(b"hello", stranger))
    assert "recipient's provider or gateway is not in the topology" in waiting.waits
    with pytest.raises(MessageTooLong):
        alice.wait(alice.core.send(bytes(64 * 1024 * 1024 + 1), alice.core.address))
    with pytest.raises(NymtwError, match="no reply block"):
        alice.wait(alice.core.reply(b"t" * 16, b"hello"))
    alice.stop()


def test_a_provider_that_is_gone_costs_nothing_of_the_outbox() -> None:
    net = Net()
    alice, bob = Person(net, "alice"), Person(net, "bob")
    bob.listen()
    accepted = alice.send(bytes(60_000), bob)
    net.clock.advance(1)
    alice.core.disconnected()
    bob.core.disconnected()
    net.clock.advance(1000)
    assert alice.state(accepted) is State.SENDING
    alice.connect()
    bob.connect()
    run_until(net, lambda: alice.state(accepted) is State.DONE)
    assert len(bob.received) == 1
    alice.stop()
    bob.stop()


@pytest.mark.parametrize("push", [False, True])
def test_a_new_session_gives_again_what_was_not_confirmed_and_the_application_gets_it_once(push: bool) -> None:
    net = Net()
    alice, bob = Person(net, "alice", push=push), Person(net, "bob", push=push)
    bob.listen()
    accepted = alice.send(bytes(50_000), bob)
    for _ in range(200):
        net.clock.advance(0.05)
        bob.core.disconnected()
        bob.connect()
    run_until(net, lambda: alice.state(accepted) is State.DONE)
    net.clock.advance(2)
    assert len(bob.received) == 1
    alice.stop()
    bob.stop()


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_write_both_ends_finish_the_job_once(tmp_path: Path, seed: int) -> None:
    net = Net(seed)
    source = random.Random(seed)
    push = seed % 2 == 1
    people = [Person(net, name, tmp_path / f"{name}.db", push=push) for name in ("alice", "bob")]
    alice, bob = people
    data = source.randbytes(60_000)
    alice.send(data, bob)
    for _ in range(12):
        net.clock.advance(source.uniform(0.0, 0.7))
        one = source.choice(people)
        one.kill()
        one.start()
    run_until(net, lambda: len(alice.core.outbox) == 0)
    net.clock.advance(3)
    bob.kill()
    bob.start()
    bob.listen()
    net.clock.advance(3)
    assert [message.data for message in bob.received] == [data]
    alice.stop()
    bob.stop()


@pytest.mark.parametrize("push", [False, True])
def test_a_disk_that_is_full_confirms_nothing(tmp_path: Path, push: bool) -> None:
    net = Net()
    dropped: list[bool] = []

    def drop() -> None:
        dropped.append(True)
        bob.core.disconnected()

    alice = Person(net, "alice")
    bob = Person(net, "bob", tmp_path / "bob.db", push=push, link=LinkControl(drop=drop))
    limit = bob.database.execute("PRAGMA page_count").fetchone()[0] + 8
    bob.database.execute(f"PRAGMA max_page_count = {limit}")
    data = random.Random(1).randbytes(80_000)
    accepted = alice.send(data, bob)
    run_until(net, lambda: bool(dropped))
    bob.database.execute("PRAGMA max_page_count = 1000000")
    bob.connect()
    bob.listen()
    run_until(net, lambda: alice.state(accepted) is State.DONE and len(bob.received) == 1)
    assert [message.data for message in bob.received] == [data]
    alice.stop()
    bob.stop()
    assert isinstance(bob.store, ClientStore)


def test_replies_reach_a_sender_whom_nobody_learns() -> None:
    net = Net()
    alice, bob = Person(net, "alice"), Person(net, "bob")
    alice.listen()
    bob.listen()
    alice.send(b"who am I?", bob, surbs=5)
    run_until(net, lambda: len(bob.received) == 1)
    tag = bob.received[0].tag
    assert tag is not None
    data = random.Random(2).randbytes(60_000)
    short = bob.wait(bob.core.reply(tag, b"nobody knows"))
    long = bob.wait(bob.core.reply(tag, data))
    run_until(net, lambda: bob.state(short) is State.DONE and bob.state(long) is State.DONE)
    assert sorted(message.data for message in alice.received) == sorted([b"nobody knows", data])
    net.clock.advance(10)
    assert len(alice.received) == 2
    alice.stop()
    bob.stop()


@pytest.mark.parametrize("blocks", [3, 10, 60])
def test_a_long_reply_waits_for_blocks_and_not_for_timers(blocks: int) -> None:
    net = Net(2)
    alice, bob = Person(net, "alice"), Person(net, "bob")
    alice.listen()
    bob.listen()
    alice.send(b"who am I?", bob, surbs=blocks)
    run_until(net, lambda: len(bob.received) == 1)
    data = random.Random(1).randbytes(100_000)
    accepted = bob.wait(bob.core.reply(bob.received[0].tag or b"", data))
    # 50 fragments at 20 a second, and a round trip for more blocks where there are too few.
    assert run_until(net, lambda: bool(alice.received)) < (4.0 if blocks == 60 else 7.0)
    run_until(net, lambda: bob.state(accepted) is State.DONE)
    assert alice.received[0].data == data
    assert bob.core.status()["retransmissions"] == 0
    alice.stop()
    bob.stop()


def test_reply_blocks_survive_a_kill_at_both_ends(tmp_path: Path) -> None:
    net = Net()
    alice, bob = Person(net, "alice", tmp_path / "alice.db"), Person(net, "bob", tmp_path / "bob.db")
    bob.listen()
    alice.send(b"who am I?", bob, surbs=8)
    run_until(net, lambda: len(bob.received) == 1)
    tag = bob.received[0].tag
    assert tag is not None
    net.clock.advance(2)
    for one in (alice, bob):
        one.kill()
        one.start()
    alice.listen()
    bob.wait(bob.core.reply(tag, b"still nobody"))
    bob.kill()
    bob.start()
    run_until(net, lambda: len(alice.received) == 1)
    assert alice.received[0].data == b"still nobody"
    run_until(net, lambda: len(bob.core.outbox) == 0)
    alice.stop()
    bob.stop()


def test_reply_blocks_die_with_their_keys() -> None:
    net = Net()
    alice, bob = Person(net, "alice"), Person(net, "bob")
    bob.listen()
    alice.send(b"who am I?", bob, surbs=8)
    run_until(net, lambda: len(bob.received) == 1)
    assert isinstance(net.good, Topology)
    for epoch, left in [(8, 8), (9, 0)]:
        bob.core.use_topology(msgspec.structs.replace(net.good, serial=epoch, epoch=epoch))
        assert len(bob.core.replies) == left
    with pytest.raises(NymtwError, match="no reply block"):
        bob.wait(bob.core.reply(bob.received[0].tag or b"", b"too late"))
    alice.stop()
    bob.stop()


def test_the_trace_follows_one_message() -> None:
    net = Net(5)
    net.loss = 0.1
    alice, bob = Person(net, "alice"), Person(net, "bob")
    accepted = alice.send(bytes(8_000), bob, explain=True)
    run_until(net, lambda: alice.state(accepted) is State.DONE)
    packets = alice.core.trace(accepted.message_id)
    assert {packet["fragment"] for packet in packets} == set(range(accepted.fragments))
    assert [hop["layer"] for hop in packets[0]["route"]] == [1, 2, 3, 0]
    again = [packet for packet in packets if packet["attempt"] > 1]
    assert again
    assert all(packet["why"] == f"no ack of attempt {packet['attempt'] - 1} in time" for packet in again)
    arrived = [packet for packet in packets if packet["ackArrived"] is not None]
    # The ack waits for the next pulls behind its predicted arrival, and never comes before it.
    assert all(packet["ackPredicted"] <= packet["ackArrived"] for packet in arrived)
    assert len(arrived) >= accepted.fragments
    other = alice.send(b"x", bob)
    with pytest.raises(NymtwError, match="explain"):
        alice.core.trace(other.message_id)
    alice.stop()
    bob.stop()


@pytest.mark.parametrize("push", [False, True])
def test_what_there_is_no_room_for_stays_with_the_provider(push: bool) -> None:
    net = Net()

    def begin_again() -> None:
        bob.core.disconnected()
        bob.connect()

    alice = Person(net, "alice")
    bob = Person(net, "bob", limits=Limits(inbox=1000), push=push, link=LinkControl(drop=begin_again))
    for number in range(3):
        alice.send(bytes([number]) * 1000, bob)
        net.clock.advance(3)
    assert [message.data[0] for message in bob.core.inbox.take()] == [0]
    returned = bob.core.cover.returned
    net.clock.advance(3)
    assert bob.core.cover.returned > returned
    # What comes in one answer is taken together.
    assert [message.data[0] for message in bob.core.inbox.take()] == [1, 2]
    assert bob.core.inbox.size == 0
    alice.stop()
    bob.stop()
