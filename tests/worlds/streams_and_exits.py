"""Streams on a fake clock: the client's own, circuits of a few lines of Python, and exits that do as they are told.

A circuit loses nothing for good, as the client's own circuits do not; it doubles and delays, so that messages overtake.
"""

import random
from collections.abc import Callable
from typing import Any

from nymtw.client.proxies.exit_streams import ExitStreams
from nymtw.client.sending.messages import State
from nymtw.errors import QueueFull
from nymtw.message.stream import ReceiveWindow, SendWindow, StreamFailure, StreamMessage
from nymtw.testing.clock import FakeClock
from nymtw.topology.address import Address

NETWORK = bytes(16)


class User:
    """A `StreamUser` that keeps everything. `lazy` ones read nothing until `read` is called."""

    def __init__(self, lazy: bool = False) -> None:
        self.lazy = lazy
        self.got = bytearray()
        self.opened = self.ended = self.full = False
        self.over: list[StreamFailure | None] = []
        self.stream: Any = None

    def stream_opened(self) -> None:
        assert not self.opened
        self.opened = True
        if self.lazy:
            self.stream.pause()

    def stream_data(self, data: bytes) -> None:
        assert self.opened
        assert not self.over
        assert not self.ended
        self.got += data

    def stream_ended(self) -> None:
        assert not self.ended
        self.ended = True

    def stream_full(self, full: bool) -> None:
        assert full is not self.full
        self.full = full

    def stream_over(self, failure: StreamFailure | None) -> None:
        assert not self.over
        self.over.append(failure)


class Far:
    """The exit's end of one stream, and the host behind it."""

    def __init__(self, exit: "FakeExit", stream: bytes, back: Callable[[bytes], None]) -> None:
        self._exit, self._id, self._back = exit, stream, back
        self.sending, self.receiving = SendWindow(), ReceiveWindow()
        self.got, self.to_send = bytearray(), bytearray()
        self.ending = self.ended = self.got_end = self.was_reset = self.opened = False
        self.reads = True
        self.host = ""
        self.payments: list[bytes] = []

    def take(self, message: StreamMessage) -> None:
        if message.reset:
            self.was_reset = True
            return
        self.payments += [message.payment] if message.payment else []
        self.sending.allow(message.credit)
        ready = self.receiving.take(message)
        for one in ready:
            self.got += one.data
            self.got_end = self.got_end or one.end
            if self.reads:
                self.receiving.consumed(len(one.data))
        if ready and ready[0].open is not None:
            self.host = ready[0].open.host
            self._exit.connected(self)
        self.pump()

    def pump(self) -> None:
        while self.opened and self.sending.may_send():
            data = bytes(self.to_send[: min(self.sending.room(), self._exit.part)])
            end = self.ending and not self.ended and len(data) == len(self.to_send)
            credit = self.receiving.credit()
            first = not self.sending.sent and not self.said_opened
            if not (data or end or credit or first):
                return
            number = self.sending.take(len(data))
            del self.to_send[: len(data)]
            self.ended = self.ended or end
            self.said_opened = True
            self.send_message(
                StreamMessage(stream=self._id, number=number, opened=first, data=data, end=end, credit=credit)
            )
            self._exit.clock.callLater(0.5, self._arrived, number)

    said_opened = False

    def _arrived(self, number: int) -> None:
        self.sending.arrived(number)
        self.pump()

    def send_message(self, message: StreamMessage) -> None:
        self._back(message.encode())

    def fail(self, failure: StreamFailure) -> None:
        self.send_message(StreamMessage(stream=self._id, failed=failure))

    def reset(self) -> None:
        self.send_message(StreamMessage(stream=self._id, reset=True))


class FakeExit:
    """`connected(far)` is what its host does; `streams` by (circuit, stream id)."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.clock = world, world.clock
        self.address = Address(*(world.random.randbytes(32) for _ in range(3)))
        self.name, self.part = name, 16 * 1024
        self.alive = True
        self.streams: dict[tuple[int, bytes], Far] = {}
        self.connected: Callable[[Far], None] = lambda far: setattr(far, "opened", True)
        self.unknown = 0

    def deliver(self, circuit: "FakeCircuit", data: bytes) -> None:
        message = StreamMessage.parse(data)
        key = (id(circuit), message.stream)
        if key not in self.streams and (message.opened or message.reset):
            self.unknown += 1
            circuit.back(StreamMessage(stream=message.stream, reset=True).encode())
            return
        back = circuit.back
        self.streams.setdefault(key, Far(self, message.stream, back)).take(message)

    @property
    def only(self) -> Far:
        [far] = self.streams.values()
        return far


class FakePosted:
    def __init__(self) -> None:
        self.cancelled = False


class FakeCircuit:
    def __init__(self, world: "World", exit: FakeExit, received: Callable[[bytes], None]) -> None:
        self.world, self.exit, self.received = world, exit, received
        self.tag = world.random.randbytes(16)
        self.signs: Callable[[], None] = lambda: None
        self.posted: dict[FakePosted, Any] = {}
        self.closed = False
        self.messages: list[StreamMessage] = []

    def post(self, data: bytes, lane: Any, *, blocks: int = 0, taken: Any = None, ended: Any = None) -> FakePosted:
        if self.world.full:
            raise QueueFull
        message, world = FakePosted(), self.world
        self.posted[message] = ended
        self.messages.append(StreamMessage.parse(data))
        world.clock.callLater(world.random.uniform(0.001, 0.01), self.leave, message, data, taken)
        return message

    def leave(self, message: FakePosted, data: bytes, taken: Any) -> None:
        if message not in self.posted:
            return
        if taken is not None:
            taken()
        for copy in range(1 + (self.world.random.random() < self.world.doubled)):
            self.world.clock.callLater(self.world.delay(), self._arrive, message, data, copy)

    def _arrive(self, message: FakePosted, data: bytes, copy: int) -> None:
        if self.exit.alive:
            self.exit.deliver(self, data)
            self.world.clock.callLater(self.world.delay(), self.acknowledged, message)

    def acknowledged(self, message: FakePosted) -> None:
        if message in self.posted:
            ended = self.posted.pop(message)
            self.signs()
            if ended is not None:
                ended(State.DONE)

    def give_up(self) -> None:
        for message in list(self.posted):
            ended = self.posted.pop(message, None)
            if ended is not None:
                ended(State.FAILED)

    def back(self, data: bytes) -> None:
        for _ in range(1 + (self.world.random.random() < self.world.doubled)):
            self.world.clock.callLater(self.world.delay(), self._back, data)

    def _back(self, data: bytes) -> None:
        if not self.closed and self.exit.alive:
            self.signs()
            self.received(data)

    def cancel(self, message: FakePosted) -> None:
        self.posted.pop(message, None)

    def close(self) -> None:
        self.closed = True
        self.posted.clear()


class World:
    """A core with nothing but circuits, a topology with nothing but exits."""

    def __init__(self, seed: int, exits: int = 1, only: int | None = None) -> None:
        self.clock, self.random = FakeClock(), random.Random(seed)
        self.doubled, self.longest, self.full = 0.0, 0.3, False
        self.exits = [FakeExit(self, f"exit-{number}") for number in range(exits)]
        self.circuits: list[FakeCircuit] = []
        self.network = NETWORK
        self.packet_sender: Any = type("Emitter", (), {"connection": object()})()
        text = None if only is None else self.exits[only].address.encode(NETWORK)
        core: Any = type("Core", (), {"circuits": self, "network": NETWORK, "packet_sender": self.packet_sender})()
        self.streams = ExitStreams(core, self.clock, random.Random(seed), lambda: self, text)

    def delay(self) -> float:
        return self.random.uniform(0.01, self.longest)

    # what a core's circuits have

    def open(self, recipient: bytes, received: Any) -> FakeCircuit:
        [found] = [one for one in self.exits if one.address.mailbox == recipient[:32]]
        self.circuits.append(FakeCircuit(self, found, received))
        return self.circuits[-1]

    # what a topology has

    def services(self, name: str) -> list[str]:
        assert name == "exit"
        return [one.address.encode(NETWORK) for one in self.exits if one.alive]

    def find(self, provider: bytes) -> Any:
        return next((one for one in self.exits if one.alive and one.address.provider == provider), None)

    def connect(self, host: str = "host", *, first: bytes = b"", isolation: bytes = b"", lazy: bool = False) -> User:
        user = User(lazy)
        user.stream = self.streams.open(host, 80, user, first=first, isolation=isolation)
        return user

    def until(self, condition: Callable[[], object], limit: float = 300.0) -> float:
        return self.clock.advance_until(lambda: bool(condition()), limit)

    def close(self) -> None:
        self.streams.close()
        self.clock.advance(2)
        assert self.clock.getDelayedCalls() == []
