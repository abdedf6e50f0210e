"""The two ends of an in-memory connection: bytes that take time, producers and consumers, half-close, resets."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.testing.clock import FakeClock, ScheduledCall

# What lies between writer and reader before a producer is paused: the usual size of a socket buffer.
CAPACITY = 65536


class Owner(Protocol):
    """The host at one end, as far as a transport needs it."""

    asleep_until: float

    @property
    def name(self) -> str: ...
    def callLater(self, delay: float, function: Callable[..., Any], /, *args: Any) -> Any: ...


class Carrier(Protocol):
    """The network, as far as its transports need it."""

    clock: FakeClock
    latency: float

    def crossed(self, sender: Any, receiver: Any, data: bytes) -> None: ...
    def forget(self, transport: "MemoryTransport") -> None: ...


class Connector(Protocol):
    """The connector of the connecting end."""

    def lost(self, reason: Failure) -> None: ...


class Pipe:
    """One direction of a connection. What is written arrives after the latency, in order."""

    __slots__ = ("_chunks", "_network", "_timer", "paused", "reader", "size", "writer")

    def __init__(self, network: Carrier, writer: "MemoryTransport", reader: "MemoryTransport") -> None:
        self._network = network
        self.writer = writer
        self.reader = reader
        self._chunks: deque[tuple[float, bytes | None]] = deque()  # None: the writer has finished
        self._timer: ScheduledCall | None = None
        self.paused = False
        self.size = 0

    def push(self, data: bytes | None) -> None:
        latency = self._network.latency
        self._chunks.append((self._network.clock.seconds() + latency, data))
        if data is not None:
            self.size += len(data)
        self._arm()

    def clear(self) -> None:
        """Lose what is on the way."""
        self._chunks.clear()
        self.size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        self.paused = False
        self._arm()

    def _arm(self) -> None:
        if self._timer is None and self._chunks and not self.paused:
            clock = self._network.clock
            self._timer = clock.callLater(max(0.0, self._chunks[0][0] - clock.seconds()), self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now = self._network.clock.seconds()
        asleep = self.reader.owner.asleep_until - now
        if asleep > 0:
            self._timer = self._network.clock.callLater(asleep, self._deliver)
            return
        arrived: list[bytes] = []
        finished = False
        while self._chunks and self._chunks[0][0] <= now and not finished:
            data = self._chunks.popleft()[1]
            if data is None:
                finished = True
            else:
                arrived.append(data)
        if arrived:
            joined = arrived[0] if len(arrived) == 1 else b"".join(arrived)
            self.size -= len(joined)
            self._network.crossed(self.writer, self.reader, joined)
            self.reader.arrived(joined)
        if finished:
            self.reader.end_of_stream()
        self._arm()
        self.writer.drained()


@implementer(ITCPTransport)
class MemoryTransport:
    """One end of a connection on a `MemoryNetwork`, the transport of a protocol."""

    disconnecting = False

    def __init__(
        self,
        network: Carrier,
        owner: Owner,
        host: IPv4Address,
        peer: IPv4Address,
        connector: Connector | None = None,
    ) -> None:
        self._network = network
        self.connector = connector  # of the end that connected
        self.owner = owner
        self._host = host
        self._peer = peer
        self.connected = False
        self.protocol: IProtocol | None = None
        self.other: MemoryTransport = self
        self._out: Pipe = cast(Pipe, None)  # set by `join`
        self._in: Pipe = cast(Pipe, None)
        self._write_closed = False
        self._producer: Any = None
        self._producer_is_streaming = False
        self._producer_paused = False

    def join(self, other: "MemoryTransport") -> None:
        """Make this and `other` the two ends of one connection."""
        self.other, other.other = other, self
        self._out = other._in = Pipe(self._network, self, other)
        self._in = other._out = Pipe(self._network, other, self)
        self.connected = other.connected = True

    @property
    def unread(self) -> int:
        """Bytes that were written here and that the other end has not read."""
        return self._out.size

    # ITransport

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"only bytes can be written, not {type(data).__name__}")
        if not self.connected or self._write_closed or self.disconnecting or not data:
            return
        self._out.push(bytes(data))
        if self._producer is not None and self._out.size > CAPACITY and not self._producer_paused:
            self._producer_paused = True
            if self._producer_is_streaming:
                self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once what was written is on its way and no producer is left."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self._producer is None:
                self._close()

    def abortConnection(self) -> None:
        """Close at once; what is on the way is lost."""
        if self.connected:
            self._reset()
            self.owner.callLater(0, self._lost, ConnectionAborted())

    def getHost(self) -> IPv4Address:
        return self._host

    def getPeer(self) -> IPv4Address:
        return self._peer

    # ITCPTransport

    def loseWriteConnection(self) -> None:
        if self.connected and not self._write_closed:
            self._finish_writing()
            protocol = IHalfCloseableProtocol(self.protocol, None)
            if protocol is not None:
                self.owner.callLater(0, protocol.writeConnectionLost)

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is ever held back here."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing: both ends learn of a cut link at once."""

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if not self.connected:
            producer.stopProducing()
            return
        self._producer, self._producer_is_streaming = producer, streaming
        self._producer_paused = False
        if not streaming:
            self.owner.callLater(0, self._pull)

    def unregisterProducer(self) -> None:
        self._producer = None
        if self.disconnecting and self.connected:
            self._close()

    # IPushProducer

    def pauseProducing(self) -> None:
        self._in.paused = True

    def resumeProducing(self) -> None:
        if self.connected:
            self._in.resume()

    def stopProducing(self) -> None:
        self.loseConnection()

    # what the pipes and the network call

    def arrived(self, data: bytes) -> None:
        if self.connected and not self.disconnecting and self.protocol is not None:
            self.protocol.dataReceived(data)

    def end_of_stream(self) -> None:
        """The other end writes no more."""
        if not self.connected:
            return
        protocol = IHalfCloseableProtocol(self.protocol, None)
        if protocol is not None and not self._write_closed and not self.disconnecting:
            protocol.readConnectionLost()
        else:
            self._finish_writing()
            self._lost(ConnectionDone())

    def drained(self) -> None:
        """Some of what was written has arrived."""
        if self._producer is None or self._out.size > CAPACITY // 2:
            return
        if not self._producer_is_streaming:
            self._pull()
        elif self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()

    def cut(self) -> None:
        """The network has lost this connection: call `connectionLost` at both ends."""
        if self.connected:
            self._reset()
            self.owner.callLater(0, self._lost, ConnectionLost())

    def vanish(self) -> None:
        """The process at this end is gone: call `connectionLost` at the other end only."""
        if self.connected:
            self._reset()
            self.connected = False
            self.protocol = self._producer = None
            self._network.forget(self)

    def _pull(self) -> None:
        if self._producer is not None and self._out.size <= CAPACITY // 2:
            self._producer.resumeProducing()

    def _close(self) -> None:
        self._finish_writing()
        self.owner.callLater(0, self._lost, ConnectionDone())

    def _finish_writing(self) -> None:
        if not self._write_closed:
            self._write_closed = True
            self._out.push(None)

    def _reset(self) -> None:
        self._write_closed = True
        self._out.clear()
        self._in.clear()
        other = self.other
        if other.connected:
            other.owner.callLater(self._network.latency, other._lost, ConnectionLost())

    def _lost(self, reason: Exception) -> None:
        if not self.connected:
            return
        self.connected = False
        self.disconnecting = False
        self._in.clear()
        self._network.forget(self)
        protocol, self.protocol = self.protocol, None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if protocol is not None:
            protocol.connectionLost(Failure(reason))
        if self.connector is not None:
            self.connector.lost(Failure(reason))
