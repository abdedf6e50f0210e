"""An exit on its bench, servers for it to go to, names that lead there, and clients with streams."""

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from nymtw.message.envelope import Envelope
from nymtw.message.fragments import fragment
from nymtw.message.opening import bits_of, work
from nymtw.message.sealing import seal
from nymtw.message.stream import (
    STREAM_PART,
    WINDOW,
    ReceiveWindow,
    SendWindow,
    StreamFailure,
    StreamMessage,
    StreamOpen,
)
from nymtw.testing.service_bench import Asker, ServiceBench

PUBLIC = "93.184.215.14"
OTHER = "1.1.1.1"


class Names:
    """A resolver whose names have the answers given, one after the other; the last one for ever. `hold` keeps quiet."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self.held: list[Any] = []
        self.hold = False

    def resolveHostName(self, receiver: Any, name: str, port: int = 0, *args: Any) -> None:
        self.asked.append(name)
        if self.hold:
            self.held.append((receiver, name))
        else:
            self.answer(receiver, name)

    def answer(self, receiver: Any, name: str) -> None:
        answers = self.answers.get(name, [[]])
        for address in answers.pop(0) if len(answers) > 1 else answers[0]:
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, 0))
        receiver.resolutionComplete()


@implementer(IHalfCloseableProtocol)
class Server(Protocol):
    """Keeps what comes, echoes it if `echo`, sends `answer` once the client has ended, and notes how it ended."""

    def __init__(self, service: "Serving") -> None:
        self.service = service
        self.got = bytearray()
        self.ended = False
        self.lost: Any = None

    def connectionMade(self) -> None:
        self.service.connections.append(self)
        if self.service.holds:
            self.transport.pauseProducing()
        if self.service.greeting:
            self.transport.write(self.service.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self.service.echo:
            self.transport.write(data)

    def readConnectionLost(self) -> None:
        self.ended = True
        if self.service.answer is not None:
            self.transport.write(self.service.answer)
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason.value


class Serving(Factory):
    """`holds`: never reads. `greeting` is sent at once."""

    noisy = False

    def __init__(self, *, echo: bool = False, answer: bytes | None = None, greeting: bytes = b"", holds: bool = False):
        self.echo, self.answer, self.greeting, self.holds = echo, answer, greeting, holds
        self.connections: list[Server] = []

    def buildProtocol(self, addr: Any) -> Server:
        return Server(self)


class Flood:
    """Writes for as long as the other end takes it."""

    def __init__(self, transport: Any) -> None:
        self.transport, self.sent = transport, 0
        transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.sent += 16384
        self.transport.write(bytes(16384))

    def stopProducing(self) -> None:
        pass


class World(ServiceBench):
    """The bench of an exit. `names.answers["a.example"] = [["1.1.1.1"]]` is a name."""

    def __init__(self, *argv: str, seed: int, loss: float = 0.0, rate: float = 300.0) -> None:
        super().__init__("exit", argv, seed=seed, loss=loss, rate=rate)
        self.names = Names()
        self.host.installNameResolver(self.names)

    @property
    def exit(self) -> Any:
        return self.service_host.provider.service

    def serve(self, address: str = PUBLIC, port: int = 80, **how: Any) -> Serving:
        serving = Serving(**how)
        self.network.host(address, address).listenTCP(port, serving, interface=address)
        return serving

    def caller(self, **how: Any) -> "Caller":
        return Caller(self, **how)

    def until(self, condition: Any, limit: float = 300.0) -> None:
        self.clock.advance_until(condition, limit)


class Caller:
    """A client. If `rough`, its packets overtake each other, a tenth are lost and come later, a tenth come twice."""

    def __init__(self, world: World, *, rough: bool = False, blocks: int = 50) -> None:
        self.world, self.rough, self.blocks, self.pays = world, rough, blocks, True
        self.person: Asker = world.asker()
        self.person.answers = _Told(self._received)
        self.streams: dict[bytes, Stream] = {}
        self.unknown: list[StreamMessage] = []

    def open(self, host: str, port: int = 80, data: bytes = b"", **how: Any) -> "Stream":
        stream = Stream(self, StreamOpen(host=host, port=port), data, **how)
        self.streams[stream.id] = stream
        stream.pump()
        return stream

    def send_message(self, message: StreamMessage) -> None:
        """Send one message, as a client does: each packet counts as arrived once it is there."""
        self.send_raw(message.encode(), lambda: self._arrived(message))

    def send_raw(self, data: bytes, arrived: Any = lambda: None) -> None:
        world = self.world
        blocks = self.person.blocks(self.blocks if self.person.given < 2000 else 1)
        pieces = list(
            fragment(Envelope(data=data, tag=self.person.tag, blocks=blocks).encode(), world.random.randbytes(16))
        )
        left = set(range(len(pieces)))

        def come(number: int) -> None:
            if self.rough and world.random.random() < 0.1:
                world.clock.callLater(2.5, come, number)
                return
            world.deliver(seal(pieces[number].encode(), world.service_host.address.encryption_key, world.random))
            if self.rough and world.random.random() < 0.1:
                world.deliver(seal(pieces[number].encode(), world.service_host.address.encryption_key, world.random))
            if number in left:
                left.remove(number)
                if not left:
                    arrived()

        for number in range(len(pieces)):
            if self.rough:
                world.clock.callLater(world.random.expovariate(5), come, number)
            else:
                come(number)

    def pay(self, stream: "Stream", price: str) -> None:
        if not self.pays:
            return
        bits = bits_of(price)
        assert bits is not None
        payment = next(filter(None, work(bits, self.person.tag, stream.id)))
        self.send_raw(StreamMessage(stream=stream.id, payment=payment).encode())

    def _arrived(self, message: StreamMessage) -> None:
        stream = self.streams.get(message.stream)
        if stream is not None and not message.reset:
            stream.sending.arrived(message.number)
            stream.pump()

    def _received(self, data: bytes) -> None:
        message = StreamMessage.parse(data)
        stream = self.streams.get(message.stream)
        if stream is None:
            self.unknown.append(message)
        else:
            stream.take(message)


class Stream:
    """A client's end of a stream: `write`, `end`, `reset`; `got`, `ended`, `opened`, `failed`, `was_reset`.

    Without `reads` it gives no credit beyond the first.
    """

    def __init__(
        self, caller: Caller, where: StreamOpen | None, data: bytes = b"", *, reads: bool = True, window: int = WINDOW
    ) -> None:
        self.caller, self.where, self.reads = caller, where, reads
        self.id = caller.world.random.randbytes(16)
        self.sending, self.receiving = SendWindow(), ReceiveWindow(window)
        self.left, self.got = bytearray(data), bytearray()
        self.ending = self.end_sent = self.ended = self.opened = self.was_reset = False
        self.failed: StreamFailure | None = None

    @property
    def over(self) -> bool:
        return self.was_reset or self.failed is not None or (self.ended and self.end_sent)

    def write(self, data: bytes) -> None:
        self.left += data
        self.pump()

    def end(self) -> None:
        self.ending = True
        self.pump()

    def reset(self) -> None:
        self.was_reset = True
        self.caller.send_message(StreamMessage(stream=self.id, reset=True))

    def take(self, message: StreamMessage) -> None:
        assert not self.failed
        assert not (message.failed and self.opened)
        self.opened = self.opened or message.opened
        self.failed = message.failed
        self.was_reset = self.was_reset or message.reset
        if message.price:
            self.caller.pay(self, message.price)
            return
        self.sending.allow(message.credit)
        if message.failed or message.reset:
            return
        for one in self.receiving.take(message):
            self.got += one.data
            self.ended = self.ended or one.end
            if self.reads:
                self.receiving.consumed(len(one.data))
        self.pump()

    def pump(self) -> None:
        while self.sending.may_send() and not (self.failed or self.was_reset):
            length = min(self.sending.room(), len(self.left), STREAM_PART)
            data = bytes(self.left[:length])
            del self.left[:length]
            end = self.ending and not self.left and not self.end_sent
            credit = self.receiving.credit() if self.reads else 0
            where, self.where = self.where, None
            if not (data or end or credit or where):
                return
            self.end_sent = self.end_sent or end
            number = self.sending.take(length)
            self.caller.send_message(
                StreamMessage(
                    stream=self.id, number=number, open=where, opened=self.opened, data=data, end=end, credit=credit
                )
            )


class _Told(list[bytes]):
    def __init__(self, told: Any) -> None:
        super().__init__()
        self._told = told

    def append(self, data: bytes) -> None:
        self._told(data)
