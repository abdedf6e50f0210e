"""Who is let in at a client's socket: whoever has the token, in time; and who waits locks out nobody."""

import json
from typing import Any

import pytest
from client_and_edge import Net, Person
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, RejectConnection, Request, TextMessage

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from nymtw.client.sockets.door import HANDSHAKE, MOST_APPLICATIONS, MOST_HANDSHAKES, Door
from nymtw.client.sockets.tcp import RequestSocketFactory
from nymtw.client.sockets.tokens import presented, read_token, remove_token, token_file, write_token
from nymtw.client.sockets.websocket import MixSocketFactory
from nymtw.topology.address import Address

TOKEN = "the-token-of-this-socket"
KNOCK = json.dumps({"authenticate": {"token": TOKEN}}).encode() + b"\n"


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Program:
    """A program at a socket, with what it was answered."""

    def __init__(self, door: Door, *data: bytes) -> None:
        self.protocol: Any = door.buildProtocol(None)
        self.transport = Transport()
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)
        for piece in data:
            self.push(piece)

    def push(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def answers(self) -> list[Any]:
        text = self.transport.value()
        self.transport.clear()
        return [json.loads(line) for line in text.splitlines()]

    @property
    def gone(self) -> bool:
        return self.transport.disconnecting


@pytest.fixture
def alice() -> Any:
    net = Net()
    alice = Person(net, "alice")
    yield alice
    alice.stop()
    net.clock.advance(HANDSHAKE + 5)
    assert net.clock.getDelayedCalls() == []


def door(kind: Any, alice: Any, recipient: Address | None = None, token: str | None = TOKEN) -> Any:
    found = kind(recipient)
    found.client, found.token = alice.core, token
    return found


def test_without_the_token_nothing_is_answered(alice: Any) -> None:
    tcp = door(RequestSocketFactory, alice)
    for first in (
        b'{"fetch": {}}',
        b'{"authenticate": {"token": "another"}}',
        b'{"authenticate": {}}',
        b"[]",
        b"GET / x",
    ):
        program = Program(tcp, first + b'\n{"details": {}}\n')
        [answer] = program.answers()
        assert "exception" in answer
        assert TOKEN not in str(answer)
        assert program.gone
    assert tcp.open == set()


def test_with_the_token_it_is_as_ever(alice: Any) -> None:
    tcp = door(RequestSocketFactory, alice)
    program = Program(tcp, KNOCK + b'{"details": {}}\n{"fet', b'ch": {}}\n')
    assert [next(iter(answer)) for answer in program.answers()] == ["authenticate", "details", "fetch"]
    typed = Program(tcp, json.dumps({"type": "authenticate", "token": TOKEN}).encode() + b"\n")
    assert typed.answers() == [{"type": "authenticate"}]
    assert len(tcp.open) == 2
    slow = Program(tcp, *(bytes([byte]) for byte in KNOCK))
    assert slow.answers() == [{"authenticate": {}}]


def test_an_open_socket_asks_for_none(alice: Any) -> None:
    program = Program(door(RequestSocketFactory, alice, token=None), b'{"details": {}}\n')
    assert "details" in program.answers()[0]


def test_a_stranger_cannot_fill_memory(alice: Any) -> None:
    program = Program(door(RequestSocketFactory, alice))
    for _ in range(40):
        if not program.gone:
            program.push(b"x" * 10_000)
    assert program.gone
    assert "exception" in program.answers()[0]


@pytest.mark.parametrize("token", [TOKEN, None])
def test_who_says_nothing_is_disconnected_in_time(alice: Any, token: str | None) -> None:
    tcp, web = door(RequestSocketFactory, alice, token=token), door(MixSocketFactory, alice, token=token)
    silent = [Program(tcp), Program(web), Program(tcp, b'{"det'), Program(web, b"GET /mix HTTP/1.1\r\n")]
    talks = Program(tcp, (KNOCK if token else b"") + b'{"details": {}}\n')
    alice.net.clock.advance(HANDSHAKE + 1)
    assert [program.transport.aborted for program in silent] == [True] * 4
    assert not talks.gone


@pytest.mark.parametrize("kind", [RequestSocketFactory, MixSocketFactory])
def test_idle_connections_lock_out_nobody(alice: Any, kind: Any) -> None:
    factory = door(kind, alice)
    idle = [Program(factory) for _ in range(3 * MOST_HANDSHAKES)]
    assert [program.transport.aborted for program in idle] == [True] * 2 * MOST_HANDSHAKES + [False] * MOST_HANDSHAKES
    if kind is RequestSocketFactory:
        assert "details" in Program(factory, KNOCK + b'{"details": {}}\n').answers()[-1]


def test_there_is_room_for_so_many_applications_and_no_more(alice: Any) -> None:
    tcp = door(RequestSocketFactory, alice)
    programs = [Program(tcp, KNOCK) for _ in range(MOST_APPLICATIONS + 1)]
    assert [program.transport.aborted for program in programs] == [False] * MOST_APPLICATIONS + [True]
    programs[0].transport.abortConnection()
    assert not Program(tcp, KNOCK).gone


class Web:
    """A websocket at the door."""

    def __init__(self, factory: Any, target: str) -> None:
        self.wire = WSConnection(ConnectionType.CLIENT)
        self.program = Program(factory, self.wire.send(Request(host="127.0.0.1", target=target)))
        [self.welcome, *_] = self.events()

    def events(self) -> list[Any]:
        data = self.program.transport.value()
        self.program.transport.clear()
        self.wire.receive_data(data)
        return list(self.wire.events())

    def ask(self, text: str) -> list[Any]:
        self.program.push(self.wire.send(TextMessage(text)))
        return [json.loads(event.data) if isinstance(event, TextMessage) else event for event in self.events()]


def test_a_websocket_has_the_token_in_its_url_or_first_message(alice: Any) -> None:
    web = door(MixSocketFactory, alice)
    in_url = Web(web, f"/mix?token={TOKEN}")
    assert isinstance(in_url.welcome, AcceptConnection)
    assert "details" in in_url.ask('{"details": {}}')[0]
    first = Web(web, "/mix")
    assert first.ask(KNOCK.decode()) == [{"authenticate": {}}]
    assert "details" in first.ask('{"details": {}}')[0]


def test_a_websocket_without_it_is_refused(alice: Any) -> None:
    web = door(MixSocketFactory, alice)
    refused = Web(web, "/mix?token=another").welcome
    assert isinstance(refused, RejectConnection)
    assert refused.status_code == 403
    answer, closed = Web(web, "/mix").ask('{"fetch": {}}')
    assert "needs its token" in answer["exception"]["error"]
    assert isinstance(closed, CloseConnection)
    large = Web(web, "/mix")
    large.program.push(large.wire.send(BytesMessage(bytes(200_000))))
    assert isinstance(large.events()[-1], CloseConnection)


def test_raw_messages_follow_a_line_with_the_token(alice: Any) -> None:
    recipient = alice.core.address
    raw = door(RequestSocketFactory, alice, recipient)
    good = Program(raw, KNOCK[:10], KNOCK[10:] + b"all ", b"of it")
    good.protocol.readConnectionLost()
    alice.net.clock.advance(1)
    assert "send" in good.answers()[0]
    for wrong in (b"all of it\n", b"x" * 5000, KNOCK.replace(b"the", b"my")):
        bad = Program(raw, wrong, b"more")
        bad.protocol.readConnectionLost()
        alice.net.clock.advance(1)
        [answer] = bad.answers()
        assert "needs its token" in answer["exception"]["error"]


def test_the_file_is_for_its_owner_and_goes_with_its_token(tmp_path: Any) -> None:
    file = token_file(1863, tmp_path)
    assert read_token(file) is None
    write_token(file, TOKEN)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert read_token(file) == TOKEN
    remove_token(file, "another")
    assert file.exists()
    remove_token(file, TOKEN)
    assert not file.exists()


@pytest.mark.parametrize("value", [None, [], {}, {"authenticate": 1}, {"authenticate": {"token": 1}}, {"type": "send"}])
def test_what_presents_no_token(value: Any) -> None:
    assert presented(value) is None
