"""An application's end of a client's TCP socket, and mail over two of them."""

import json
from typing import Any

import pytest

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from nymtw.errors import DeliveryFailed, NymtwError
from nymtw.localnet.client_socket import ClientSocket, ClientSocketError, to_base64
from nymtw.localnet.mail import Delivered, Mail
from nymtw.testing.clock import FakeClock


class Ends:
    """A socket, and the client at its other end."""

    def __init__(self, pushed: Any) -> None:
        self.socket = ClientSocket(pushed)
        self.transport = StringTransport()
        self.socket.makeConnection(self.transport)

    def asked(self) -> list[Any]:
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]

    def answers(self, **message: Any) -> None:
        self.socket.dataReceived(json.dumps(message).encode() + b"\n")

    def closes(self) -> None:
        self.socket.connectionLost(Failure(ConnectionDone()))


def test_answers_come_in_order_and_pushes_in_between() -> None:
    pushed: list[Any] = []
    ends = Ends(lambda kind, body: pushed.append((kind, body)))
    answers: list[Any] = []
    ends.socket.request("details").addCallback(answers.append)
    ends.socket.request("send", {"message": "AA=="}).addCallback(answers.append)
    assert ends.asked() == [{"details": {}}, {"send": {"message": "AA=="}}]
    text = b'{"received": {"id": "1"}}\n{"details": {"details": 1}}\n{"send": {"id": "2"}}\n'
    for start in range(len(text)):
        ends.socket.dataReceived(text[start : start + 1])
    assert pushed == [("received", {"id": "1"})]
    assert answers == [{"details": 1}, {"id": "2"}]


def test_progress_is_an_answer_where_it_was_asked_for() -> None:
    pushed: list[Any] = []
    ends = Ends(lambda kind, body: pushed.append(body))
    answers: list[Any] = []
    ends.answers(progress={"id": "1"})
    ends.socket.request("progress", {"id": "1"}).addCallback(answers.append)
    ends.answers(progress={"id": "1", "state": "done"})
    assert pushed == [{"id": "1"}]
    assert answers == [{"id": "1", "state": "done"}]


def test_an_exception_fails_the_request_and_so_does_the_end() -> None:
    ends = Ends(lambda kind, body: None)
    errors: list[Any] = []
    ends.socket.request("details").addErrback(errors.append)
    ends.answers(exception={"error": "no such thing"})
    ends.socket.request("details").addErrback(errors.append)
    ends.closes()
    ends.socket.connected = 0
    ends.socket.request("details").addErrback(errors.append)
    assert [error.type for error in errors] == [ClientSocketError] * 3
    assert errors[0].getErrorMessage() == "no such thing"


class Clients:
    """A localnet of nothing but the sockets of alice and bob."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ends: dict[str, Ends] = {}
        self.kept: list[bytes] = []
        self.mail: Mail[bytes] = Mail(self.clock, self, self.keep)  # type: ignore[arg-type]  # stands in for Localnet
        opened = Deferred.fromCoroutine(self.mail.open())
        assert self.ends["bob"].asked() == [{"details": {}}]
        self.ends["bob"].answers(details={"details": {"address": "bob's address"}})
        assert self.ends["alice"].asked() == [{"subscribe": {"progress": True, "confirm": True}}]
        self.ends["alice"].answers(subscribe={})
        assert self.ends["bob"].asked() == [{"subscribe": {"confirm": True}}]
        self.ends["bob"].answers(subscribe={})
        self.clock.wait_for(opened, 0)

    async def client(self, name: str, pushed: Any) -> ClientSocket:
        self.ends[name] = Ends(pushed)
        return self.ends[name].socket

    def keep(self, message: bytes) -> bytes:
        self.kept.append(message)
        return message.upper()

    def deliver(self, message: bytes) -> "tuple[list[Any], list[tuple[int, int]]]":
        outcome: list[Any] = []
        progress: list[tuple[int, int]] = []
        sent = self.mail.deliver(message, lambda done, total: progress.append((done, total)))
        Deferred.fromCoroutine(sent).addBoth(outcome.append)
        assert self.ends["alice"].asked() == [{"send": {"message": to_base64(message), "recipient": "bob's address"}}]
        self.ends["alice"].answers(send={"id": "m1", "fragments": 2, "laneQueueLength": 2})
        return outcome, progress

    def progress(self, state: str, acknowledged: int) -> None:
        body = {"id": "m1", "state": state, "acknowledged": acknowledged, "fragments": 2}
        self.ends["alice"].answers(progress=body)


def test_a_message_is_delivered_when_bob_has_it_and_alice_knows() -> None:
    clients = Clients()
    outcome, progress = clients.deliver(b"hello")
    clients.progress("sending", 1)
    clients.clock.advance(0.5)
    clients.ends["bob"].answers(received={"id": "m1", "message": to_base64(b"hello")})
    assert clients.ends["bob"].asked() == [{"confirm": {"ids": ["m1"]}}]
    clients.ends["bob"].answers(confirm={"ids": ["m1"]})
    clients.clock.advance(0.5)
    assert outcome == []
    clients.progress("done", 2)
    assert outcome == [Delivered(b"HELLO", 0.5, 2)]
    assert progress == [(0, 2), (1, 2), (2, 2)]


def test_mail_from_an_earlier_run_is_kept_and_waited_for_by_nobody() -> None:
    clients = Clients()
    clients.ends["bob"].answers(received={"id": "old", "message": to_base64(b"old")})
    clients.ends["bob"].answers(confirm={"ids": ["old"]})
    assert clients.kept == [b"old"]


def test_a_message_that_is_given_up() -> None:
    clients = Clients()
    outcome, _ = clients.deliver(b"hello")
    clients.progress("failed", 1)
    assert outcome[0].type is DeliveryFailed


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_a_client_that_dies_while_a_message_is_on_its_way(name: str) -> None:
    clients = Clients()
    outcome, _ = clients.deliver(b"hello")
    clients.ends[name].closes()
    assert outcome[0].check(NymtwError)
    assert outcome[0].getErrorMessage() == f"{name} has closed its socket"
    clients.ends["bob" if name == "alice" else "alice"].closes()


def test_bob_dies_after_everything_was_stored() -> None:
    clients = Clients()
    outcome, _ = clients.deliver(b"hello")
    clients.progress("done", 2)
    clients.ends["bob"].closes()
    assert outcome[0].check(NymtwError)


def test_closing_is_no_fault() -> None:
    clients = Clients()
    clients.mail.close()
    assert clients.ends["alice"].transport.disconnecting
    for ends in clients.ends.values():
        ends.closes()
