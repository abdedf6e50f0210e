"""The client's link: only the owner of a mailbox opens it, and no client makes the provider keep much for it."""

import hashlib
from contextlib import suppress

import pytest
from edge_and_clients import HOP, LIMITS, PACKET, SLOTS, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twisted.internet.error import ConnectError

from nymtw.errors import DiskError, RegistrationRefused
from nymtw.link import control
from nymtw.link.control import MailItem, MailKind, token_hash
from nymtw.link.frames import KEEPALIVE_FRAME, FrameParser, FrameType, encode_packet, encode_submit
from nymtw.storage.mailbox_limits import MailboxLimits
from nymtw.storage.mailboxes import SQLiteMailboxes
from nymtw.testing.clock import FakeClock
from nymtw.testing.security import HELLO_LENGTH
from nymtw.topology.address import mailbox_id


@pytest.fixture(params=["memory", "tls"])
def world(request):
    world = World(tls=request.param == "tls")
    yield world
    world.close()


@pytest.fixture
def memory():
    world = World()
    yield world
    world.close()


def test_register_log_in_submit_and_pull(world):
    connection, token = world.logged_in("alice")
    assert len(token) == 32
    assert connection.submit(HOP, 7, PACKET)
    world.mail("alice", MailKind.ACK, b"a" * 21)
    (item,) = world.wait(connection.pull())
    assert (item.kind, item.content) == (MailKind.ACK, b"a" * 21)
    assert world.submitted == [(HOP, 1, 7, PACKET)]
    assert world.wait(connection.pull([item.number])) == []
    world.clock.advance(0.1)
    assert world.store.pull(mailbox_id(bytes(world.key("alice").verify_key)), 10, 0) == []
    connection.close()
    world.clock.advance(1)
    assert world.lost == ["alice"]
    assert world.links.sessions == {}


def test_the_provider_keeps_a_hash_of_the_token_alone(world):
    _, token = world.logged_in("alice")
    record = world.store.find(mailbox_id(bytes(world.key("alice").verify_key)))
    assert (
        record.token_hash == token_hash(token) == hashlib.blake2b(token, digest_size=32, person=b"nymtw token").digest()
    )
    assert record.public_key == bytes(world.key("alice").verify_key)


def test_another_provider_at_the_address_is_not_talked_to(world):
    with pytest.raises(Exception, match=r"certificate verify failed|Connection was aborted"):
        world.wait(world.connecting("alice", identity=bytes(32)))
    assert world.lost == []


def test_nobody_at_the_address(memory):
    memory.port.stopListening()
    with pytest.raises(ConnectError):
        memory.wait(memory.connecting("alice"))


def test_giving_up_while_connecting_leaves_nothing(memory):
    for wait in (0, 0.0015):  # no answer yet; no hello yet
        attempt = memory.connecting("alice")
        attempt.addErrback(lambda failure: None)
        memory.clock.advance(wait)
        attempt.cancel()
        memory.clock.advance(5)
    assert memory.network.connections() == []


def refusal(world, connection, deferred):
    with pytest.raises(RegistrationRefused) as refused:
        world.wait(deferred)
    world.clock.advance(LIMITS.closing + 1)
    assert not connection.up
    assert world.links.sessions == {}
    return str(refused.value)


def test_a_wrong_token_an_unknown_mailbox_and_a_wrong_signature_are_told_alike(world, monkeypatch):
    connection, token = world.logged_in("alice")
    connection.close()
    world.clock.advance(1)
    reasons = set()
    connection = world.connect("alice")
    reasons.add(refusal(world, connection, connection.login(bytes(32))))
    connection = world.connect("bob")
    reasons.add(refusal(world, connection, connection.login(token)))
    connection = world.connect("alice")
    monkeypatch.setattr(connection, "signature", lambda label: bytes(64))
    reasons.add(refusal(world, connection, connection.login(token)))
    connection = world.connect("bob")
    reasons.add(refusal(world, connection, connection.login(bytes(32))))
    assert len(reasons) == 1


def test_every_login_does_the_same_work(memory, monkeypatch):
    """An unknown mailbox and a wrong token cost one hash, one comparison and one signature check each."""
    from nymtw.link import edge_link

    _, token = memory.logged_in("alice")
    work = []
    for name in ("is_signed", "token_hash"):
        real = getattr(edge_link, name)
        monkeypatch.setattr(edge_link, name, lambda *a, name=name, real=real: work.append(name) or real(*a))
    seen = []
    for who, with_token in (("alice", bytes(32)), ("nobody", bytes(32)), ("alice", token)):
        connection = memory.connect(who)
        work.clear()
        connection.login(with_token).addErrback(lambda failure: None)
        memory.clock.advance(1)
        seen.append(list(work))
    assert seen[0] == seen[1] == seen[2] == ["token_hash", "is_signed"]


def test_a_login_cannot_be_replayed_on_another_connection(world):
    connection, token = world.logged_in("alice")
    other = world.connect("alice")
    signature = connection.signature(control.LOGIN_LABEL)  # of the other connection's exporter
    other.signature = lambda label: signature
    with pytest.raises(RegistrationRefused):
        world.wait(other.login(token))


def test_only_the_owner_of_a_mailbox_gets_a_new_token_for_it(world):
    _, token = world.logged_in("alice")
    thief = world.connect("mallory")
    thief.factory.mailbox_key = Stolen(world.key("alice"), world.key("mallory"))
    with pytest.raises(RegistrationRefused, match="signature"):
        world.wait(thief.register())
    world.logged_in("alice", token)  # the old one still opens it
    _, again = world.logged_in("alice")
    assert again != token
    connection = world.connect("alice")
    with pytest.raises(RegistrationRefused):
        world.wait(connection.login(token))


class Stolen:
    """Shows one public key and signs with another's private one."""

    def __init__(self, shown, held):
        self.verify_key = shown.verify_key
        self.sign = held.sign


def test_a_signature_for_a_login_is_none_for_a_registration(memory):
    connection, _ = memory.logged_in("alice")
    assert connection.signature(control.LOGIN_LABEL) != connection.signature(control.REGISTER_LABEL)


def test_a_provider_that_is_full_says_so(memory):
    for name in ("alice", "bob", "carol"):
        memory.logged_in(name)
    connection = memory.connect("dave")
    with pytest.raises(RegistrationRefused, match="no more mailboxes"):
        memory.wait(connection.register())


def test_one_address_cannot_take_all_mailboxes():
    world = World(registrations_per_address=2)
    connection = world.connect("alice")
    for _ in range(2):
        world.wait(connection.register())
    with pytest.raises(RegistrationRefused, match="one address"):
        world.wait(connection.register())
    elsewhere = world.connect("bob")  # another client, another address
    world.wait(elsewhere.register())
    world.close()


def test_all_addresses_together_cannot_register_without_end_and_the_limit_empties_by_itself():
    clock = FakeClock()
    store = SQLiteMailboxes(":memory:", clock, limits=MailboxLimits(mailboxes=1000))
    world = World(store=store, clock=clock, registrations=6, registrations_per_address=2)

    def registered(round_):
        """How many of twelve clients with an address each may register."""
        made = 0
        for number in range(12):
            connection = world.connect(f"{round_} {number}")
            with suppress(RegistrationRefused):
                world.wait(connection.register())
                made += 1
            connection.close()
        return made

    assert registered(1) == 6
    assert world.links.refused_registrations == 6
    world.clock.advance(1801)
    assert registered(2) == 3
    world.close()


def test_a_client_is_told_for_how_long_its_mailbox_is_kept_and_one_that_stays_keeps_it():
    clock = FakeClock()
    limits = MailboxLimits(mailboxes=3, unused_age=86400.0, abandoned_age=3 * 86400.0)
    store = SQLiteMailboxes(":memory:", clock, limits=limits, wall_clock=clock.wall_clock)
    world = World(store=store, clock=clock)
    connection = world.connect("alice")
    token = world.wait(connection.register())
    assert connection.kept == 86400
    world.wait(connection.login(token))
    assert connection.kept == 3 * 86400
    gone = world.connect("bob")
    lost = world.wait(gone.register())
    gone.close()
    world.clock.advance(5 * 86400)
    assert connection.up
    assert store.count() == 1
    assert store.find(world.mailbox("alice"))
    again = world.connect("bob")
    with pytest.raises(RegistrationRefused, match=control.WRONG_LOGIN):
        world.wait(again.login(lost))
    connection.close()
    world.clock.advance(2 * 86400)
    assert store.count() == 1
    world.clock.advance(2 * 86400)
    assert store.count() == 0
    world.close()


def test_a_provider_with_as_many_sessions_as_it_can_serve_says_so():
    world = World(sessions=1)
    _, token = world.logged_in("alice")
    connection = world.connect("bob")
    bobs = world.wait(connection.register())
    with pytest.raises(RegistrationRefused, match="as many clients"):
        world.wait(connection.login(bobs))
    world.logged_in("alice", token)  # in place of herself
    world.close()


def test_within_a_session_nothing_comes_twice_and_a_new_one_starts_from_the_oldest_unconfirmed(world):
    connection, token = world.logged_in("alice")
    for number in range(6):
        world.mail("alice", MailKind.MESSAGE, bytes([number]))
    first, second = world.wait(connection.pull()), world.wait(connection.pull())
    assert [item.content[0] for item in first] == [0, 1, 2, 3]
    assert [item.content[0] for item in second] == [4, 5]
    assert world.wait(connection.pull([item.number for item in first[:3]])) == []
    again, _ = world.logged_in("alice", token)
    assert [item.content[0] for item in world.wait(again.pull())] == [3, 4, 5]


def test_a_new_session_takes_the_place_of_the_old_one(memory):
    _, token = memory.logged_in("alice")
    again, _ = memory.logged_in("alice", token)
    memory.clock.advance(1)
    assert memory.lost == ["alice"]
    assert len(memory.links.sessions) == 1
    assert memory.wait(again.pull()) == []


def test_one_mailbox_cannot_confirm_anothers_mail(memory):
    alice, _ = memory.logged_in("alice")
    bob, _ = memory.logged_in("bob")
    memory.mail("alice", MailKind.MESSAGE, b"hers")
    memory.wait(bob.pull([1, 2, 2**63, 2**64 - 1]))
    memory.clock.advance(1)
    assert [item.content for item in memory.wait(alice.pull())] == [b"hers"]


def test_every_answer_to_a_pull_is_of_one_length(memory):
    sizes = []
    connection, _ = memory.logged_in("alice")
    memory.network.observer = lambda when, near, far, data: sizes.append((near, len(data)))
    for count in range(SLOTS + 1):
        for _ in range(count):
            memory.mail("alice", MailKind.REPLY, bytes(2413))
        memory.wait(connection.pull())
    assert {size for near, size in sizes if near == "provider"} == {6 + SLOTS * 2424}
    assert {size for near, size in sizes if near != "provider"} == {6 + SLOTS * 8}


def test_a_pull_that_is_lost_with_its_connection_fails(memory):
    connection, _ = memory.logged_in("alice")
    with pytest.raises(ValueError, match="at most 4"):
        connection.pull([1, 2, 3, 4, 5])
    pull = connection.pull()
    assert connection.pulling
    with pytest.raises(RuntimeError):
        connection.pull()
    memory.network.cut(f"client {memory.clients}", "provider")
    with pytest.raises(Exception, match="Connection"):
        memory.wait(pull)
    assert memory.lost == ["alice"]
    assert not connection.submit(HOP, 7, PACKET)
    with pytest.raises(RuntimeError):
        connection.pull()


def test_nothing_works_before_login(memory):
    connection = memory.connect("alice")
    assert not connection.submit(HOP, 7, PACKET)
    with pytest.raises(RuntimeError):
        connection.pull()
    waiting = connection.register()
    with pytest.raises(RuntimeError):
        connection.register()
    memory.wait(waiting)


def test_a_client_that_does_not_log_in_is_hung_up_on(memory):
    silent, connected = memory.raw(), memory.raw()
    connected.transport.write(bytes(HELLO_LENGTH))
    memory.clock.advance(LIMITS.handshake - 1)
    assert [silent.lost, connected.lost] == [False, False]
    memory.clock.advance(6)
    assert silent.lost
    assert connected.lost


def test_an_idle_session_is_kept_alive(memory):
    connection, _ = memory.logged_in("alice")
    memory.clock.advance(3600)
    assert memory.wait(connection.pull()) == []


@pytest.mark.parametrize(
    "frames",
    [
        [KEEPALIVE_FRAME],
        [encode_submit(HOP, 7, PACKET)],
        [control.encode_pull([], SLOTS)],
        [encode_packet(7, PACKET)],
        [control.encode_mail([], SLOTS)],
        [control.encode_control(control.LoggedIn(1))],
        [b"\x03\x00\x00\x00\x00\x03abc"],
    ],
)
def test_what_may_not_be_sent_before_login_ends_the_connection(memory, frames):
    raw = memory.raw()
    raw.transport.write(bytes(HELLO_LENGTH))
    for frame in frames:
        raw.transport.write(frame)
    memory.clock.advance(0.1)
    assert raw.lost
    assert memory.submitted == []


@pytest.mark.parametrize(
    "data",
    [
        control.encode_pull([], SLOTS) * 2,  # the second before the first is answered
        control.encode_pull([], SLOTS + 1),
        control.encode_control(control.Register(bytes(32), bytes(64))),
        encode_packet(7, PACKET),
        b"\xff" * 100,
    ],
)
def test_what_may_not_be_sent_after_login_ends_the_connection(memory, data):
    connection, _ = memory.logged_in("alice")
    connection.transport.write(data)
    memory.clock.advance(0.1)
    assert memory.lost == ["alice"]


def test_a_client_that_never_reads_makes_the_provider_keep_little(memory):
    connection, _ = memory.logged_in("alice")
    (session,) = memory.links.sessions.values()
    connection.transport.pauseProducing()
    answered = []
    real = memory.store.pull
    memory.store.pull = lambda *arguments: answered.append(1) or real(*arguments)
    for _ in range(1000):
        connection.transport.write(control.encode_pull([], SLOTS))
        memory.clock.advance(0.01)
    assert len(answered) * SLOTS * 2424 < 65536 + 2 * SLOTS * 2424
    memory.clock.advance(LIMITS.stalled + 10)
    assert memory.links.sessions == {}
    assert session.ended
    connection.abort()


def test_a_client_whose_provider_does_not_read_keeps_its_packets(memory):
    connection, _ = memory.logged_in("alice")
    (session,) = memory.links.sessions.values()
    session.transport.pauseProducing()
    taken = 0
    for _ in range(1000):
        taken += connection.submit(HOP, 7, PACKET)
    assert 100 < taken < 200
    session.transport.resumeProducing()
    memory.clock.advance(1)
    assert connection.submit(HOP, 7, PACKET)
    memory.clock.advance(1)
    assert len(memory.submitted) == taken + 1


def test_a_disk_that_fails_is_no_exception():
    class Broken:
        def __getattr__(self, name):
            def fail(*arguments):
                raise DiskError("broken")

            return fail

        def close(self):
            pass

    world = World()
    alice, token = world.logged_in("alice")
    world.links.store, good = Broken(), world.store
    other = world.connect("alice")
    with pytest.raises(RegistrationRefused, match="cannot be read"):
        world.wait(other.login(token))
    with pytest.raises(Exception, match="Connection"):
        world.wait(alice.pull())
    world.links.store = good
    world.close()


@pytest.mark.parametrize(
    "answer",
    [
        control.encode_control(control.Registered(bytes(32))),
        control.encode_control(control.Refused("no")),
        control.encode_mail([MailItem(1, 1, b"x")], SLOTS),
        encode_packet(1, PACKET),
        b"garbage",
    ],
)
def test_a_provider_that_says_what_it_was_not_asked_is_hung_up_on(memory, answer):
    connection, _ = memory.logged_in("alice")
    (session,) = memory.links.sessions.values()
    session.transport.write(answer)
    memory.clock.advance(0.1)
    assert memory.lost == ["alice"]
    assert connection.ended


def test_the_answer_to_another_question_is_none(memory):
    connection = memory.connect("alice")
    (session,) = memory.links.housekeeper.connections
    waiting = connection.register()
    session.transport.write(control.encode_control(control.LoggedIn(4)))
    with pytest.raises(Exception, match="Connection"):
        memory.wait(waiting)


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=100)
@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6), st.booleans())
def test_hostile_bytes_never_raise_at_either_end(chunks, logged_in):
    world = World()
    connection, _ = world.logged_in("alice")
    raw = world.raw()
    if logged_in:
        near, far = connection.transport, next(iter(world.links.sessions.values())).transport
    else:
        raw.transport.write(bytes(HELLO_LENGTH))
        near = far = raw.transport
    for chunk in chunks:
        near.write(chunk)
        far.write(chunk)
        world.clock.advance(0.01)
    raw.transport.abortConnection()
    connection.abort()
    assert not world.logged_in("bob")[0].ended, "others are served all the same"
    world.close()


def test_frames_of_the_client_are_what_the_provider_reads():
    """The client may send nothing that the provider does not allow, and the other way round."""
    parser = FrameParser({FrameType.KEEPALIVE, FrameType.SUBMIT, FrameType.PULL}, control.CONTROL_LIMIT)
    frames = parser.feed(encode_submit(HOP, 7, PACKET) + control.encode_pull([1], SLOTS) + KEEPALIVE_FRAME)
    assert [frame.type for frame in frames] == [FrameType.SUBMIT, FrameType.PULL, FrameType.KEEPALIVE]
