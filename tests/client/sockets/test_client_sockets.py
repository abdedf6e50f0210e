"""The sockets for applications, TCP lines and the websocket, over in-memory transports."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import cbor2
import pytest
from client_and_edge import Net, Person, run_until
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)

from twisted.internet.testing import StringTransport

from nymtw.client.receiving.inbox import Received
from nymtw.client.sockets.tcp import MOST_APPLICATIONS, RequestSocketFactory
from nymtw.client.sockets.websocket import FRAME, MixSocketFactory, is_local

pytestmark = pytest.mark.pythons


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True


class Line:
    """An application at the TCP socket."""

    def __init__(self, factory: RequestSocketFactory) -> None:
        self.protocol: Any = factory.buildProtocol(None)
        self.transport = Transport()
        self.protocol.makeConnection(self.transport)

    def push(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def ask(self, value: object) -> None:
        self.push(json.dumps(value).encode() + b"\n")

    def answers(self) -> list[Any]:
        text = self.transport.value()
        self.transport.clear()
        return [json.loads(line) for line in text.splitlines()]

    def close(self) -> None:
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        self.protocol.connectionLost(Failure(ConnectionDone()))


class Web(Line):
    """An application at the websocket."""

    def __init__(self, factory: Any, target: str = "/mix", headers: list[tuple[bytes, bytes]] | None = None) -> None:
        super().__init__(factory)
        self.wire = WSConnection(ConnectionType.CLIENT)
        self.push(self.wire.send(Request(host="127.0.0.1", target=target, extra_headers=headers or [])))
        [self.welcome] = self.events()[:1]

    def events(self) -> list[Any]:
        data = self.transport.value()
        self.transport.clear()
        self.wire.receive_data(data)
        return list(self.wire.events())

    def ask(self, value: object) -> None:
        self.push(self.wire.send(TextMessage(json.dumps(value))))

    def answers(self) -> list[Any]:
        return [json.loads(event.data) for event in self.events() if isinstance(event, TextMessage)]


class World:
    def __init__(self) -> None:
        self.net = Net()
        self.alice, self.bob = Person(self.net, "alice"), Person(self.net, "bob")
        self.bob.listen()
        self.tcp, self.web = RequestSocketFactory(), MixSocketFactory()
        self.tcp.client = self.web.client = self.alice.core
        self.to_bob = self.bob.core.own_address()
        self.to_alice = self.alice.core.own_address()

    def wait(self, application: Line, condition: Callable[[list[Any]], bool] = bool) -> list[Any]:
        found: list[Any] = []

        def arrived() -> bool:
            found.extend(application.answers())
            return condition(found)

        run_until(self.net, arrived, 60)
        return found


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.alice.stop()
    world.bob.stop()
    world.net.clock.advance(15)  # what is on its way arrives, and who has not been let in is disconnected
    assert world.net.clock.getDelayedCalls() == []


BOTH = pytest.mark.parametrize("kind", ["tcp", "web"])


def connect(world: World, kind: str) -> Line:
    return Line(world.tcp) if kind == "tcp" else Web(world.web)


def send(recipient: str, data: bytes = b"hello", **fields: Any) -> dict[str, Any]:
    return {"send": {"message": base64.b64encode(data).decode(), "recipient": recipient, **fields}}


@BOTH
def test_send_tells_id_fragments_and_queue_then_progress(world: World, kind: str) -> None:
    app = connect(world, kind)
    app.ask({"subscribe": {"progress": True}})
    app.ask(send(world.to_bob, bytes(5000)))
    found = world.wait(app, lambda found: any(a.get("progress", {}).get("state") == "done" for a in found))
    assert found[0] == {"subscribe": {"confirm": False, "progress": True}}
    sent = found[1]["send"]
    assert (sent["fragments"], sent["laneQueueLength"]) == (4, 4)
    steps = [answer["progress"] for answer in found[2:]]
    assert [step["acknowledged"] for step in steps] == [1, 2, 3, 4]
    assert {step["id"] for step in steps} == {sent["id"]}
    app.ask({"progress": {"id": sent["id"]}})
    assert app.answers() == [{"progress": {**steps[-1]}}]
    assert [message.data for message in world.bob.received] == [bytes(5000)]
    app.close()


@BOTH
def test_fetch_subscribe_confirm_and_reply(world: World, kind: str) -> None:
    world.bob.send(b"one", world.alice)
    world.net.clock.advance(5)
    app = connect(world, kind)
    app.ask({"fetch": {}})
    [answer] = app.answers()
    assert [base64.b64decode(message["message"]) for message in answer["fetch"]["messages"]] == [b"one"]
    app.ask({"subscribe": {"confirm": True}})
    world.bob.send(b"two", world.alice, surbs=2)
    found = world.wait(app, lambda found: any("received" in answer for answer in found))
    received = found[-1]["received"]
    assert base64.b64decode(received["message"]) == b"two"
    assert len(world.alice.core.inbox) == 1
    app.ask({"confirm": {"ids": [received["id"]]}})
    assert len(world.alice.core.inbox) == 0
    app.ask({"reply": {"senderTag": received["senderTag"], "message": base64.b64encode(b"three").decode()}})
    run_until(world.net, lambda: len(world.bob.received) == 1)
    assert world.bob.received[0].data == b"three"
    app.close()


@BOTH
def test_details_clients_and_status(world: World, kind: str) -> None:
    app = connect(world, kind)
    app.ask({"details": {}})
    app.ask({"clients": {}})
    app.ask({"status": {}})
    details, clients, status = app.answers()
    assert details["details"]["details"]["address"] == world.to_alice
    assert clients == {"clients": {"clients": []}}
    assert status["status"]["ready"] is True
    # What `details` says can be used as a recipient.
    app.ask({"send": {"message": "aGk=", "recipient": details["details"]["details"]}})
    assert "send" in world.wait(app)[0]
    app.close()


@BOTH
def test_the_type_form(world: World, kind: str) -> None:
    app = connect(world, kind)
    app.ask({"type": "selfAddress"})
    assert app.answers() == [{"type": "selfAddress", "address": world.to_alice}]
    app.ask({"type": "send", "message": "grüße", "recipient": world.to_bob, "connectionId": 3})
    assert world.wait(app) == [{"type": "laneQueueLength", "lane": 3, "queueLength": 1}]
    run_until(world.net, lambda: len(world.bob.received) == 1)
    assert world.bob.received[0].data == "grüße".encode()
    world.bob.send("zurück".encode(), world.alice)
    assert world.wait(app) == [{"type": "received", "message": "zurück", "senderTag": None}]
    world.bob.send(b"\xff", world.alice)
    [binary] = world.wait(app)
    assert binary["base64"] == "/w=="
    app.ask({"type": "reply", "message": "x", "senderTag": "11111111111111111"})
    [error] = app.answers()
    assert error.get("type") == "error" or "exception" in error
    app.close()


@pytest.mark.parametrize(
    "data", [b"POST / HTTP/1.1\r\n", b"{}\n", b'{"send": {"message": "*"}}\n', b"\x00" * 8, b"\xff\xfe\n", b"[]\n"]
)
def test_the_first_malformed_line_closes_the_tcp_socket(world: World, data: bytes) -> None:
    app = Line(world.tcp)
    app.push(data)
    [answer] = app.answers() or [cbor2.loads(app.transport.value()[8:])]
    assert "exception" in answer
    assert app.transport.disconnecting
    app.push(b'{"details": {}}\n')
    assert app.answers() == []
    app.close()


def test_the_websocket_lives_on_after_a_malformed_request(world: World) -> None:
    app = Web(world.web)
    for text in ("{", "{}", "[]", '{"send": {}}'):
        app.push(app.wire.send(TextMessage(text)))
        assert "exception" in app.answers()[0]
    app.ask({"details": {}})
    assert "details" in app.answers()[0]
    app.close()


@BOTH
def test_a_wrong_address_is_an_exception_and_no_more(world: World, kind: str) -> None:
    app = connect(world, kind)
    wrong = world.to_bob[:-1] + ("1" if world.to_bob[-1] != "1" else "2")
    app.ask(send(wrong))
    [answer] = app.answers()
    assert "it has a typing error" in answer["exception"]["error"]
    app.ask(send(world.to_bob))
    assert "send" in world.wait(app)[0]
    app.close()


def test_binary_requests_on_both(world: World) -> None:
    request = cbor2.dumps({"send": {"message": b"\0raw", "recipient": world.to_bob}})
    tcp = Line(world.tcp)
    tcp.push(len(request).to_bytes(8, "big") + request)
    run_until(world.net, lambda: bool(tcp.transport.value()), 10)
    assert "send" in cbor2.loads(tcp.transport.value()[8:])
    web = Web(world.web)
    web.push(web.wire.send(BytesMessage(request)))
    run_until(world.net, lambda: bool(web.transport.value()), 10)
    [event] = web.events()
    assert isinstance(event, BytesMessage)
    assert "send" in cbor2.loads(bytes(event.data))
    run_until(world.net, lambda: len(world.bob.received) == 2)
    assert {message.data for message in world.bob.received} == {b"\0raw"}
    tcp.close()
    web.close()


@pytest.mark.parametrize(
    ("origin", "local"),
    [
        ("http://localhost:8000", True),
        ("https://127.0.0.1", True),
        ("http://[::1]:3000", True),
        ("http://evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("null", False),
        ("file://", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_only_pages_of_this_machine_are_let_in(world: World, origin: str, local: bool) -> None:
    assert is_local(origin) is local
    app = Web(world.web, headers=[(b"Origin", origin.encode())])
    assert isinstance(app.welcome, AcceptConnection if local else RejectConnection)
    if not local:
        assert app.welcome.status_code == 403
        assert app.transport.disconnecting
    app.close()


def test_another_path_and_a_wrong_recipient_are_refused(world: World) -> None:
    assert Web(world.web, "/other").welcome.status_code == 404
    assert Web(world.web, "/mix?recipient=nobody").welcome.status_code == 400


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 50, b'{"details": {}}\n', b"x" * 20_000]
)
def test_garbage_at_the_websocket_raises_nothing(world: World, data: bytes) -> None:
    app = Line(world.web)  # type: ignore[arg-type]  # its bytes are not those of a websocket
    app.push(data)
    app.push(b"\r\n\r\n")
    assert app.transport.disconnecting
    app.push(data)
    app.close()


def test_bad_frames_close_the_websocket(world: World) -> None:
    app = Web(world.web)
    app.push(b"\xff\xff\xff\xff")
    assert app.transport.disconnecting
    app.close()


def test_a_message_past_the_limit_closes_the_websocket(world: World) -> None:
    small = MixSocketFactory(limit=1000)
    small.client = world.alice.core
    app = Web(small)
    app.push(app.wire.send(BytesMessage(bytes(900), message_finished=False)))
    assert not app.transport.disconnecting
    app.push(app.wire.send(BytesMessage(bytes(900), message_finished=False)))
    assert [event.code for event in app.events() if isinstance(event, CloseConnection)] == [1009]
    app.close()


@pytest.mark.parametrize("binary", [False, True])
def test_a_long_answer_comes_in_frames_that_are_one_message(world: World, binary: bool) -> None:
    app = Web(world.web)
    subscribe = {"subscribe": {}}
    app.push(app.wire.send(BytesMessage(cbor2.dumps(subscribe)) if binary else TextMessage(json.dumps(subscribe))))
    app.events()
    data = bytes(range(256)) * (FRAME // 128)
    world.alice.core.inbox.add(Received(b"i" * 16, data, None))
    events = app.events()
    assert [event.message_finished for event in events] == [False] * (len(events) - 1) + [True]
    assert len(events) >= 2
    whole = (b"" if binary else "").join(event.data for event in events)
    found = cbor2.loads(whole) if binary else json.loads(whole)
    message = found["received"]["message"]
    assert (message if binary else base64.b64decode(message)) == data
    app.close()


def test_ping_and_goodbye(world: World) -> None:
    app = Web(world.web)
    app.push(app.wire.send(Ping(b"there?")))
    assert [event.payload for event in app.events() if isinstance(event, Pong)] == [b"there?"]
    app.push(app.wire.send(CloseConnection(1000)))
    assert app.transport.disconnecting
    app.close()


def test_a_socket_with_a_recipient_sends_what_it_is_given(world: World) -> None:
    web = Web(world.web, f"/mix?recipient={world.to_bob}")
    web.push(web.wire.send(TextMessage('{"fetch": {}}')))
    web.push(web.wire.send(BytesMessage(b"\xff")))
    factory = RequestSocketFactory(world.bob.core.address)
    factory.client = world.alice.core
    raw = Line(factory)
    raw.push(b"a line\nand ")
    raw.push(b"another")
    raw.protocol.readConnectionLost()
    run_until(world.net, lambda: len(world.bob.received) == 3)
    assert {message.data for message in world.bob.received} == {b'{"fetch": {}}', b"\xff", b"a line\nand another"}
    assert raw.transport.disconnecting
    web.close()
    raw.close()


def test_half_closed_what_was_asked_is_answered(world: World) -> None:
    app = Line(world.tcp)
    app.ask(send(world.to_bob))
    app.protocol.readConnectionLost()
    assert not app.transport.disconnecting
    assert "send" in world.wait(app)[0]
    assert app.transport.disconnecting
    app.close()


def test_an_application_that_does_not_read_is_given_nothing(world: World) -> None:
    app = Line(world.tcp)
    app.ask({"subscribe": {}})
    assert len(app.answers()) == 1
    app.transport.producer.pauseProducing()
    world.bob.send(b"one", world.alice)
    world.net.clock.advance(5)
    assert app.answers() == []
    assert len(world.alice.core.inbox) == 1
    app.transport.producer.resumeProducing()
    assert "received" in app.answers()[0]
    app.close()


def test_a_closed_socket_loses_nothing_and_room_is_bounded(world: World) -> None:
    app = Line(world.tcp)
    app.ask(send(world.to_bob))
    app.close()
    run_until(world.net, lambda: len(world.bob.received) == 1)
    many = [Line(world.tcp) for _ in range(MOST_APPLICATIONS + 1)]
    assert [one.transport.aborted for one in many].count(True) == 1
    for one in many:
        one.close()
    assert not world.tcp.open


def test_a_browser_that_offers_subprotocols_gets_one(world: World) -> None:
    wire = WSConnection(ConnectionType.CLIENT)
    app = Line(world.web)  # type: ignore[arg-type]  # a websocket is a line until it has shaken hands
    app.push(wire.send(Request(host="127.0.0.1", target="/mix", subprotocols=["mix", "other"])))
    wire.receive_data(app.transport.value())
    [accepted] = wire.events()
    assert isinstance(accepted, AcceptConnection)
    assert accepted.subprotocol == "mix"
    app.close()


@BOTH
@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (r'{"progress": {"id": "\ud800"}}', "id: this is not the id of a message"),
        (r'{"send": {"message": "", "recipient": "\udfff"}}', ""),
        (r'{"\ud800": {}}', "there is no request"),
        (r'{"send": {"message": "\ud83d", "recipient": 1}}', "this is not base64"),
        (r'{"type": "\ud800"}', "there is no request of type"),
        (r'{"progress": {"id": "\ud800', "the request is not JSON"),
        (r'{"progress": {"id": NaN, "x": "\ud800"}}', "NaN is not JSON"),
    ],
)
def test_half_a_character_is_answered_by_what_is_wrong_with_it(
    world: World, kind: str, request_: str, error: str
) -> None:
    app = connect(world, kind)
    app.push(request_.encode() + b"\n" if kind == "tcp" else app.wire.send(TextMessage(request_)))  # type: ignore[attr-defined]
    [answer] = app.answers()
    said = answer["exception"]["error"]
    assert error in said
    assert "truncated" not in said
    app.close()


def test_half_a_character_in_a_text_is_sent_as_it_is(world: World) -> None:
    app = Web(world.web)
    app.push(app.wire.send(TextMessage(json.dumps({"type": "send", "recipient": world.to_bob, "message": "\ud83d!"}))))
    world.wait(app, lambda found: any(each.get("type") == "laneQueueLength" for each in found))
    run_until(world.net, lambda: bool(world.bob.received), 60)
    assert world.bob.received[0].data == b"\xed\xa0\xbd!"
    app.close()
