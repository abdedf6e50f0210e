"""Bad configurations, stepped clocks, and requests that are broken off: each with a clear end."""

import base64
import json
import random
from collections.abc import Iterator
from typing import Any

import cbor2
import pytest
from client_and_edge import Net, Person, run_until
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Request, TextMessage

from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from nymtw.client.config import ClientConfig, DebugSection, check
from nymtw.client.sending.messages import State
from nymtw.client.sockets.tcp import RequestSocketFactory
from nymtw.client.sockets.websocket import MixSocketFactory
from nymtw.errors import ConfigError, NymtwError
from nymtw.node.config import parse_config
from nymtw.topology.document import Recommended

pytestmark = pytest.mark.long

RATES = ("loop_cover_traffic_rate", "fetch_message_rate", "message_sending_rate", "drop_cover_traffic_rate")


def configured(line: str) -> ClientConfig:
    config = parse_config(f'[client]\nid = "alice"\n\n[debug]\n{line}\n'.encode(), ClientConfig, "FILE")
    check(config)
    return config


# -- rates


@pytest.mark.parametrize("name", [*RATES, "average_packet_delay"])
@pytest.mark.parametrize("value", ["1e9", "inf", "nan", "'fast'", "true", "10001"])
def test_an_absurd_rate_is_an_error_that_names_it(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        configured(f"{name} = {value}")


@pytest.mark.parametrize("name", RATES)
def test_an_error_in_a_rate_names_file_and_line(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^FILE:5: '{name}' in \[debug\]"):
        configured(f"{name} = 10000.5")


@pytest.mark.parametrize("value", ["-1", "-0.001", "3601"])
def test_a_delay_that_is_none_is_an_error(value: str) -> None:
    with pytest.raises(ConfigError, match="average_packet_delay"):
        configured(f"average_packet_delay = {value}")


def test_zero_is_what_the_directory_recommends() -> None:
    net = Net()
    zero = DebugSection(**dict.fromkeys((*RATES, "average_packet_delay"), 0.0))
    alice = Person(net, "alice", debug=zero)
    net.clock.advance(20)
    recommended = Recommended()
    rate = recommended.message_sending_rate + recommended.loop_cover_traffic_rate
    assert len(alice.connection.sent) == pytest.approx(20 * rate, rel=0.2)
    assert len(alice.connection.pulls) == pytest.approx(20 * recommended.fetch_message_rate, rel=0.3)
    assert alice.core.status()["rates"]["meanDelay"] == recommended.average_packet_delay
    alice.stop()


@pytest.mark.parametrize(
    ("name", "sent", "pulled"),
    [
        ("loop_cover_traffic_rate", 20 * 20, 20 * 10),
        ("message_sending_rate", 20 * 5, 20 * 10),
        ("drop_cover_traffic_rate", 20 * 25, 20 * 10),
        ("fetch_message_rate", 20 * 25, 0),
    ],
)
def test_negative_turns_one_stream_off(name: str, sent: int, pulled: int) -> None:
    net = Net()
    alice = Person(net, "alice", debug=DebugSection(**{name: -1.0}))
    net.clock.advance(20)
    assert len(alice.connection.sent) == pytest.approx(sent, rel=0.25)
    assert len(alice.connection.pulls) == pytest.approx(pulled, rel=0.3)
    alice.stop()


def test_a_client_that_sends_nothing_accepts_nothing() -> None:
    net = Net()
    alice = Person(net, "alice", debug=DebugSection(message_sending_rate=-1.0))
    with pytest.raises(NymtwError, match="message_sending_rate is negative"):
        alice.send(b"hello", alice)
    with pytest.raises(NymtwError, match="message_sending_rate is negative"):
        alice.wait(alice.core.reply(b"t" * 16, b"hello"))
    assert len(alice.core.outbox) == 0
    alice.stop()


def test_the_highest_rate_and_the_lowest() -> None:
    net = Net()
    alice = Person(net, "alice", debug=configured("message_sending_rate = 10000").debug)
    bob = Person(net, "bob", debug=configured("message_sending_rate = 0.001\nloop_cover_traffic_rate = 0.001").debug)
    net.loss = 1.0
    net.clock.advance(0.1)
    assert len(alice.connection.sent) == pytest.approx(1000, rel=0.2)
    assert len(bob.connection.sent) <= 1
    alice.stop()
    bob.stop()


# -- a wall clock that is stepped


@pytest.mark.parametrize("step", [-30 * 86400.0, 30 * 86400.0])
def test_a_stepped_wall_clock_neither_stops_nor_releases_anything(step: float) -> None:
    net = Net()
    offset = [0.0]

    def wall_clock() -> float:
        return float(net.clock.wall_clock()) + offset[0]

    alice, bob = (Person(net, name, wall_clock=wall_clock) for name in ("alice", "bob"))
    bob.listen()
    data = random.Random(1).randbytes(40_000)
    accepted = alice.send(data, bob)
    net.clock.advance(1)
    before = len(alice.connection.sent)
    offset[0] = step
    net.clock.advance(1)
    assert len(alice.connection.sent) - before < 60  # 25 are expected
    run_until(net, lambda: alice.state(accepted) is State.DONE)
    for one in (alice, bob):
        one.core.streams.stop()
    net.clock.advance(65)  # by then what is old has been looked through
    assert [message.data for message in bob.received] == [data]
    assert alice.core.status()["retransmissions"] == 0
    alice.stop()
    bob.stop()


# -- requests that are broken off


class Transport(StringTransport):
    def abortConnection(self) -> None:
        self.disconnecting = True


class World:
    def __init__(self) -> None:
        self.net = Net()
        self.alice = Person(self.net, "alice")
        self.address = self.alice.core.own_address()
        message = base64.b64encode(bytes(3000)).decode()
        self.request = {"send": {"message": message, "recipient": self.address}}

    def open(self, factory: Any) -> Any:
        factory.client = self.alice.core
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(Transport())
        return protocol


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    assert len(world.alice.core.outbox) == 0
    world.alice.stop()


LOST = Failure(ConnectionLost())


def shake_hands(protocol: Any) -> WSConnection:
    wire = WSConnection(ConnectionType.CLIENT)
    protocol.dataReceived(wire.send(Request(host="127.0.0.1", target="/mix")))
    wire.receive_data(protocol.transport.value())
    assert [type(event) for event in wire.events()] == [AcceptConnection]
    protocol.transport.clear()
    return wire


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_half_a_request_over_tcp_is_none(world: World, binary: bool, share: float) -> None:
    if binary:
        body = cbor2.dumps(world.request)
        data = len(body).to_bytes(8, "big") + body
    else:
        data = json.dumps(world.request).encode()
    factory = RequestSocketFactory()
    protocol = world.open(factory)
    protocol.dataReceived(data[: int(len(data) * share)])
    protocol.readConnectionLost()
    assert protocol.transport.value() == b""
    assert protocol.transport.disconnecting
    protocol.connectionLost(LOST)
    assert not factory.open


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_half_a_request_at_the_websocket_is_none(world: World, share: float) -> None:
    factory = MixSocketFactory()
    protocol = world.open(factory)
    wire = shake_hands(protocol)
    frame = wire.send(TextMessage(json.dumps(world.request)))
    protocol.dataReceived(frame[: int(len(frame) * share)])
    protocol.connectionLost(LOST)
    assert not factory.open


@pytest.mark.parametrize("data", [b'{"send": ' + b"x" * 2000, (1001).to_bytes(8, "big"), (2**48).to_bytes(8, "big")])
def test_a_huge_request_over_tcp_is_refused_before_it_is_held(world: World, data: bytes) -> None:
    protocol = world.open(RequestSocketFactory(limit=1000))
    protocol.dataReceived(data)
    assert b"exception" in protocol.transport.value()
    assert protocol.transport.disconnecting
    assert protocol.parser.waiting <= len(data)
    protocol.dataReceived(data)
    protocol.connectionLost(LOST)


@pytest.mark.parametrize("text", ["not base64!", "aGk", "aGk=\n", "aGk-", "é"])
def test_what_is_not_base64_is_told_and_not_sent(world: World, text: str) -> None:
    factory = MixSocketFactory()
    protocol = world.open(factory)
    wire = shake_hands(protocol)
    request = json.dumps({"send": {"message": text, "recipient": world.address}})
    protocol.dataReceived(wire.send(TextMessage(request)))
    assert b"this is not base64" in protocol.transport.value()
    assert not protocol.transport.disconnecting
    protocol.dataReceived(wire.send(BytesMessage(b"\xff" * 50)))
    assert b"not CBOR" in protocol.transport.value()
    protocol.connectionLost(LOST)
