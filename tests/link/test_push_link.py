"""Mail that is pushed: nothing on the line tells mail from none, nobody makes the edge keep much, nothing is lost."""

import random

import pytest
from edge_and_clients import HOP, LIMITS, PACKET, SlowStore, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nymtw.drop_reasons import DropReason
from nymtw.errors import RegistrationRefused
from nymtw.link import control
from nymtw.link.control import MailKind
from nymtw.link.downlink import MOST_UNANSWERED, Downlink, Push
from nymtw.link.frames import HEADER_LENGTH, FrameType
from nymtw.storage.mailbox_limits import MailboxLimits
from nymtw.storage.mailboxes import SQLiteMailboxes
from nymtw.testing.clock import FakeClock

RATE = 70.0
SLOT = control.SLOT_LENGTH


class Reader:
    """A client that takes what is pushed, and confirms it after `delay` seconds, or never for None."""

    def __init__(self, world, connection, delay=0.0):
        self.world, self.connection, self.delay = world, connection, delay
        self.items = []
        connection.pushed = self.take

    def take(self, items):
        self.items += items
        if self.delay is not None:
            self.world.clock.callLater(self.delay, self.connection.confirm, [item.number for item in items])

    @property
    def contents(self):
        return [item.content for item in self.items]


class Listener:
    """A session that notes what it is to send."""

    blocked = ended = False

    def __init__(self):
        self.frames = []

    def send(self, data):
        self.frames.append(data)


def pushing(tls=False, rate=RATE, slow=None, **limits):
    clock = FakeClock()
    store = SQLiteMailboxes(":memory:", clock, limits=MailboxLimits(mailboxes=3))
    return World(tls, store if slow is None else SlowStore(store, clock, slow), rate, clock=clock, **limits)


@pytest.fixture(params=["memory", "tls", "slow store", "at once"])
def world(request):
    kind = request.param
    made = pushing(kind == "tls", 0.0 if kind == "at once" else RATE, 0.05 if kind == "slow store" else None)
    yield made
    made.close()


def left(world, name):
    """What the store still holds for a client."""
    inner = getattr(world.store, "inner", world.store)
    return [item.content for item in inner.pull(world.mailbox(name), 1000, 0)]


@pytest.mark.parametrize(
    ("rate", "slots", "interval"),
    [(70, 2, 2 / 70), (50, 1, 0.02), (7, 1, 1 / 7), (0.5, 1, 2.0), (300, 6, 0.02), (51, 2, 2 / 51), (0, 1, 0.0)],
)
def test_a_rate_becomes_frames_at_least_20_ms_apart(rate, slots, interval):
    downlink = Downlink(FakeClock(), rate)
    assert (downlink.slots, downlink.interval) == (slots, pytest.approx(interval))
    assert len(downlink.dummies) == HEADER_LENGTH + slots * SLOT


@pytest.mark.parametrize("late", [0.5, 0.9, 10.0])
def test_a_late_reactor_skips_frames_and_sends_no_burst(late):
    clock, store = Clock(), SQLiteMailboxes(":memory:", FakeClock())
    downlink = Downlink(clock, RATE)
    session = Listener()
    push = Push(downlink, session, store, bytes(32))
    push.start()
    clock.advance(late)  # one jump, in which no timer fires before its end
    assert session.frames == [downlink.dummies]
    before = len(session.frames)
    for _ in range(300):
        clock.advance(downlink.interval / 100)
    assert len(session.frames) - before == 3
    push.stop()
    assert clock.getDelayedCalls() == []


def test_what_was_there_and_what_comes_is_pushed_in_order_and_deleted_once_confirmed(world):
    connection, token = world.logged_in("alice")
    connection.abort()
    world.clock.advance(1)
    sent = [b"%d" % number for number in range(100)]
    for content in sent[:50]:
        world.mail("alice", MailKind.MESSAGE, content)
    connection, _ = world.logged_in("alice", token)
    assert connection.push
    with pytest.raises(RuntimeError, match="push"):
        connection.pull()
    reader = Reader(world, connection)
    for content in sent[50:]:
        world.mail("alice", MailKind.MESSAGE, content)
    world.clock.advance(10)
    assert reader.contents == sent
    assert left(world, "alice") == []
    connection.close()
    world.clock.advance(1)
    assert world.links.sessions == {}


def test_what_comes_between_the_login_and_the_reader_waits_for_it(world):
    connection, _ = world.logged_in("alice")
    world.mail("alice", MailKind.ACK, b"early")
    world.clock.advance(1)
    reader = Reader(world, connection)
    world.clock.advance(1)
    assert reader.contents == [b"early"]
    assert left(world, "alice") == []


def trace(world, mail, tls):
    """When and how many bytes went each way over the line of a client that got `mail(second)` in each second."""
    connection, _ = world.logged_in("alice")
    reader = Reader(world, connection, delay=0.13)
    began = world.clock.seconds()
    seen = []
    world.network.observer = lambda when, near, far, data: seen.append((round(when - began, 6), near, len(data)))
    world.clock.advance(0.5)
    for second in range(40):
        for number in range(mail(second)):
            content = b"%d %d" % (second, number)
            world.store.store(world.mailbox("alice"), MailKind.MESSAGE, content)
        if second % 7 == 0:
            assert connection.submit(HOP, 7, PACKET)
        world.clock.advance(1.0)
    world.network.observer = None
    return seen, len(reader.items)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("slow", [None, 0.03])
def test_an_observer_of_the_line_cannot_tell_receiving_from_idle(tls, slow):
    print("seed", 11)
    rng = random.Random(11)
    traces, received = [], []
    for mail in (lambda second: 0, lambda second: rng.randrange(60), lambda second: 200 if second == 20 else 0):
        world = pushing(tls, slow=slow)
        seen, items = trace(world, mail, tls)
        world.close()
        traces.append(seen)
        received.append(items)
    assert received[0] == 0
    assert received[1] > 1000
    assert received[2] == 200
    assert traces[0] == traces[1] == traces[2]
    down = [entry for entry in traces[0] if entry[1] == "provider"]
    up = [entry for entry in traces[0] if entry[1] != "provider"]
    assert len({size for _, _, size in down}) <= 2  # TLS over a stream: a frame may arrive in two reads
    assert len(up) > 1000
    bytes_a_second = sum(size for _, _, size in down) / 40.5
    assert bytes_a_second == pytest.approx(RATE * SLOT, rel=0.03)


def test_at_once_is_at_once_and_costs_nothing_while_there_is_no_mail():
    world = pushing(rate=0.0)
    connection, _ = world.logged_in("alice")
    reader = Reader(world, connection)
    seen = []
    world.network.observer = lambda when, near, far, data: seen.append((when, near, len(data)))
    world.clock.advance(10)
    assert seen == []
    stored = world.store.store(world.mailbox("alice"), MailKind.MESSAGE, b"now")
    world.wait(stored)
    durable = world.clock.seconds()
    world.clock.advance(0.1)
    assert reader.contents == [b"now"]
    assert seen[0] == (pytest.approx(durable + world.network.latency), "provider", HEADER_LENGTH + SLOT)
    assert left(world, "alice") == []
    world.close()


@pytest.mark.parametrize("rate", [RATE, 0.0])
def test_a_client_that_never_reads_costs_little_and_loses_nothing(rate):
    world = pushing(rate=rate)
    connection, token = world.logged_in("alice")
    (session,) = world.links.sessions.values()
    sent = [b"%d" % number for number in range(300)]
    for content in sent:
        world.mail("alice", MailKind.MESSAGE, content)
    connection.transport.pauseProducing()
    written = []
    real = session.send
    session.send = lambda data: written.append(len(data)) or real(data)
    world.clock.advance(LIMITS.stalled / 2)
    assert sum(written) <= 65536 + 2 * SLOT
    world.clock.advance(LIMITS.silence)
    assert session.ended
    assert world.links.sessions == {}
    connection.abort()
    reader = Reader(world, world.logged_in("alice", token)[0])
    world.clock.advance(20)
    assert reader.contents == sent
    world.close()


@pytest.mark.parametrize("rate", [RATE, 0.0])
def test_a_client_that_reads_and_never_answers_is_sent_no_more_than_64_frames(rate):
    world = pushing(rate=rate)
    connection, _ = world.logged_in("alice")
    frames = []
    connection.frames_received = lambda read: frames.extend(frame for frame in read if frame.type is FrameType.MAIL)
    for number in range(MOST_UNANSWERED * 3):
        world.mail("alice", MailKind.MESSAGE, b"%d" % number)
    world.clock.advance(LIMITS.keepalive * 2)
    assert len(frames) == MOST_UNANSWERED
    connection.transport.write(control.encode_pull([], world.links.downlink.slots) * 3)
    world.clock.advance(1)
    assert len(frames) == MOST_UNANSWERED + 3
    connection.abort()
    world.close()


def test_an_answer_to_mail_that_was_not_sent_ends_the_connection():
    world = pushing(rate=1.0)
    connection, _ = world.logged_in("alice")
    connection.transport.write(control.encode_pull([], 1))
    world.clock.advance(0.1)
    assert world.lost == ["alice"]
    world.close()


def test_an_edge_that_sends_more_than_may_be_unanswered_is_hung_up_on():
    world = pushing(rate=1.0)
    connection, _ = world.logged_in("alice")  # and nobody takes what is pushed
    (session,) = world.links.sessions.values()
    for _ in range(MOST_UNANSWERED + 1):
        session.transport.write(world.links.downlink.dummies)
        world.clock.advance(0.01)
    world.clock.advance(0.1)
    assert world.lost == ["alice"]
    assert connection.ended
    world.close()


def test_a_second_login_takes_over_nothing_lost_and_nothing_twice_after_its_confirmation(world):
    """The second session begins at every moment of the first one's life, in steps of a millisecond."""
    _, token = world.logged_in("alice")
    for step in range(60):
        world.logged_in("alice", token)
        old, _ = world.logged_in("alice", token)
        first = Reader(world, old)
        sent = [b"%d %d" % (step, number) for number in range(5)]
        for content in sent:
            world.mail("alice", MailKind.MESSAGE, content)
        world.clock.advance(0.02)
        new = world.connect("alice")
        world.clock.advance(step / 1000)
        answered = []
        inner = getattr(world.store, "inner", world.store)
        real = inner.confirm
        inner.confirm = lambda mailbox, numbers, real=real, answered=answered: (
            answered.extend(numbers) or real(mailbox, numbers)
        )
        world.wait(new.login(token))
        second = Reader(world, new)
        confirmed = set(answered)  # by the first session: before the second was let in
        world.clock.advance(3)
        inner.confirm = real
        assert len(world.links.sessions) == 1
        assert sorted({*first.contents, *second.contents}) == sent
        assert not confirmed & {item.number for item in second.items}
        assert left(world, "alice") == []


def test_a_session_that_ends_while_the_store_takes_its_time_is_no_error():
    for moment in range(0, 200, 7):
        world = pushing(slow=0.1)
        connection, token = world.logged_in("alice")
        world.mail("alice", MailKind.MESSAGE, b"kept")
        connecting = world.connect("alice")
        connecting.login(token).addErrback(lambda failure: None)
        world.clock.advance(moment / 1000)
        connecting.abort()
        connection.abort()
        world.clock.advance(1)
        assert world.links.sessions == {}
        reader = Reader(world, world.logged_in("alice", token)[0])
        world.clock.advance(2)
        assert reader.contents == [b"kept"]
        world.close()


def test_a_verifier_decides_who_may_send_and_how_much():
    class Three:
        left = 3

        def take(self):
            self.left -= 1
            return None if self.left >= 0 else DropReason.OVER_ALLOWANCE

    class Verifier:
        def verify(self, mailbox, credential):
            assert mailbox == world.mailbox("alice")
            if credential != b"good":
                raise RegistrationRefused("no valid credential")
            answer = Deferred()
            world.clock.callLater(0.5, answer.callback, Three())
            return answer

    world = World(verifier=Verifier())
    connection = world.connect("alice")
    token = world.wait(connection.register())
    with pytest.raises(RegistrationRefused, match="no valid credential"):
        world.wait(connection.login(token))
    connection = world.connect("alice")
    world.wait(connection.login(token, credential=b"good"))
    for _ in range(5):
        assert connection.submit(HOP, 7, PACKET)
    world.clock.advance(1)
    assert len(world.submitted) == 3
    assert world.dropped == [DropReason.OVER_ALLOWANCE] * 2
    assert connection.up
    world.close()


def test_failed_logins_are_limited_for_one_address_and_one_only():
    world = World(failed_logins_per_address=3)
    _, token = world.logged_in("alice")
    host = world.clients

    def from_one_address(with_token):
        world.clients = host
        connection = world.connect("alice")
        return connection, connection.login(with_token)

    for _ in range(3):
        with pytest.raises(RegistrationRefused, match="is wrong"):
            world.wait(from_one_address(bytes(32))[1])
    looked = []
    real, world.store.find = world.store.find, lambda mailbox: looked.append(mailbox)
    with pytest.raises(RegistrationRefused, match="too many failed logins"):
        world.wait(from_one_address(token)[1])
    assert looked == []
    world.store.find = real
    world.logged_in("alice", token)  # from elsewhere
    assert world.links.failed_logins == 3
    world.clock.advance(600)
    assert world.wait(from_one_address(token)[1])
    world.close()


def test_a_stolen_login_is_worth_nothing_on_another_connection(world):
    """Every byte that the client wrote in its own connection, said again in another one."""
    connection = world.connect("alice")
    token = world.wait(connection.register())
    written = []
    real = connection.send
    connection.send = lambda data: written.append(data) or real(data)
    world.wait(connection.login(token))
    assert len(written) == 1
    thief = world.connect("alice")
    thief.send(control.encode_control(control.Register(bytes(32), bytes(64))))
    before = dict(world.links.sessions)
    other = world.connect("alice")
    other.transport.write(written[0])
    world.clock.advance(1)
    assert world.links.failed_logins == 1
    assert world.links.sessions == before
    assert connection.up


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=300),
            st.lists(st.integers(0, 2**64 - 1), max_size=2).map(lambda numbers: control.encode_pull(numbers, 2)),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([RATE, 0.0]),
    st.sampled_from([None, 0.004]),
)
def test_hostile_bytes_never_raise_where_mail_is_pushed(chunks, rate, slow):
    world = pushing(rate=rate, slow=slow)
    connection, _ = world.logged_in("alice")
    Reader(world, connection)
    (session,) = world.links.sessions.values()
    for chunk in chunks:
        world.store.store(world.mailbox("alice"), MailKind.MESSAGE, b"mail")
        connection.transport.write(chunk)
        session.transport.write(chunk)
        world.clock.advance(0.007)
    connection.abort()
    assert not world.logged_in("bob")[0].ended, "others are served all the same"
    world.close()


def test_clients_have_their_turns_one_after_the_other_and_a_late_reactor_makes_up_for_nothing():
    clock = FakeClock()

    class Session:
        blocked = ended = False

        def __init__(self):
            self.sent = []

        def send(self, data):
            self.sent.append(round(clock.seconds(), 4))

    class Empty:
        def pull(self, mailbox, count, after):
            return []

    downlink = Downlink(clock, 10.0)
    sessions = [Session() for _ in range(40)]
    pushes = [Push(downlink, session, Empty(), b"m" * 32) for session in sessions]
    for push in pushes:
        push.start()
    clock.advance(1.0)
    for session in sessions:
        assert 9 <= len(session.sent) <= 10
        assert {round(later - sooner, 4) for sooner, later in zip(session.sent, session.sent[1:], strict=False)} == {
            0.1
        }
    assert len({session.sent[0] for session in sessions}) == 20  # turns, 5 ms apart
    for push in pushes[1:]:
        push.stop()
    assert len(clock.getDelayedCalls()) == 1
    before = len(sessions[0].sent)
    clock.stall(5.0)
    clock.advance(0.0)
    assert len(sessions[0].sent) <= before + 2
    clock.advance(1.0)
    assert before + 9 <= len(sessions[0].sent) <= before + 12
    pushes[0].stop()
    assert clock.getDelayedCalls() == []


def test_a_verifier_that_fails_costs_its_client_the_connection_and_nobody_else(expected_failures):
    class Broken:
        def verify(self, mailbox, credential):
            raise RuntimeError("broken")

    expected_failures.append("A client's request failed")
    world = World(verifier=Broken())
    connection = world.connect("alice")
    token = world.wait(connection.register())
    with pytest.raises(Exception, match="Connection"):
        world.wait(connection.login(token))
    world.links.verifier = None
    world.logged_in("bob")
    assert len(world.links.sessions) == 1
    world.close()


def test_a_verifier_that_never_answers_holds_nobody_longer_than_the_handshake():
    class Silent:
        def verify(self, mailbox, credential):
            return Deferred()

    world = World(verifier=Silent())
    connection = world.connect("alice")
    token = world.wait(connection.register())
    failed = []
    connection.login(token).addErrback(failed.append)
    world.clock.advance(LIMITS.handshake + LIMITS.half_frame)
    assert len(failed) == 1
    assert world.links.sessions == {}
    world.close()
