"""A worker process: does a part of a mixnode's cryptography, TLS included, and holds its packets and links.

The node starts it as `python -m nymtw.mixnode.workers.process NUMBER`, and controls it over a pipe. The worker ends
when the pipe ends. Descriptor 3 is the pipe, 4 the socket for accepted connections, 5 the memory of its counts.
"""

import gc
import os
import signal
import socket
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Any, Final

from nacl.signing import SigningKey

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.errors import EncodingError
from nymtw.link.limits import LinkLimits
from nymtw.link.node_link import NodeLinks
from nymtw.link.padding import PaddingCounts
from nymtw.link.security import ILinkSecurity, TLSSecurity
from nymtw.mixnode.workers.core import WorkerCore
from nymtw.mixnode.workers.counts import WorkerCounts, shared_memory
from nymtw.mixnode.workers.reactor import install
from nymtw.mixnode.workers.wire import (
    ChannelParser,
    CloseLink,
    Command,
    Drain,
    End,
    Event,
    Keys,
    Kind,
    Linked,
    MaxDelay,
    Neighbours,
    Settings,
    control_frame,
    read_control,
)
from nymtw.node.process.clock import use_monotonic

CHANNEL, CONNECTIONS, COUNTS = 3, 4, 5  # descriptors
BEAT: Final = 1.0  # seconds
_LONGEST_LINE: Final = 2000
_AT_ONCE: Final = 64  # connections received in one turn of the reactor


class WorkerLinks(NodeLinks):
    """A worker's share of the node's links. Packets for other workers' links go through the node."""

    def __init__(self, *arguments: Any, counts: WorkerCounts, linked: Callable[[Linked], None], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._counts = counts
        self._linked = linked
        self._numbers: dict[bytes, int] = {}
        self._accepted = 0
        self.pass_on: Callable[[bytes, int, bytes], bool] = lambda next_hop, epoch, packet: False

    def send(self, peer: bytes, epoch: int, packet: bytes) -> None:
        if peer in self.outgoing or not self.pass_on(peer, epoch, packet):
            super().send(peer, epoch, packet)

    def accept(self, peer: bytes, receiver: Any) -> bool:
        if not super().accept(peer, receiver):
            return False
        self._accepted += 1
        self._numbers[peer] = self._accepted
        self._linked(Linked(peer, self._accepted))
        return True

    def is_gone(self, receiver: Any) -> None:
        super().is_gone(receiver)
        if receiver.peer not in self.incoming:
            self._numbers.pop(receiver.peer, None)
        self._counts.connection_ended()

    def hang_up(self, peer: bytes, number: int) -> None:
        """End this connection of `peer` unless it was replaced: the peer has a newer one with another worker."""
        if self._numbers.get(peer) == number:
            self.incoming[peer].abort()


class Worker(Protocol):
    """The worker's end of the pipe. It makes the engine and the links when the settings arrive."""

    transport: Any

    def __init__(
        self,
        reactor: Any,
        counts: WorkerCounts,
        *,
        security: Callable[[SigningKey], ILinkSecurity],
        random: Random,
        serve: Callable[[Any], Any],
        ended: Callable[[], None],
    ) -> None:
        """`serve(factory)` begins to take connections. `ended()` is called when the pipe has ended."""
        self._reactor = reactor
        self._counts = counts
        self._security = security
        self._random = random
        self._serve = serve
        self._ended = ended
        self._parser = ChannelParser()
        self._beating: Any = None
        self.core: Any = None
        self.links: Any = None

    # the pipe

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        self._beat()

    def dataReceived(self, data: bytes) -> None:
        try:
            for kind, body in self._parser.feed(data):
                if kind is Kind.VERDICTS:
                    self.core.answered(body)
                elif kind is Kind.HOLD:
                    self.core.hold_records(body)
                else:
                    self._control(read_control(body))
        except EncodingError:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        self._ended()

    def pauseProducing(self) -> None:
        """The node does not read at present."""
        if self.core is not None:
            self.core.block(True)

    def resumeProducing(self) -> None:
        if self.core is not None:
            self.core.block(False)

    def stopProducing(self) -> None:
        """The pipe has ended; `connectionLost` follows."""

    def tell(self, message: Any) -> None:
        """Send a control message to the node."""
        if self.transport is not None:
            self.transport.write(control_frame(message))

    # messages from the node

    def _control(self, message: object) -> None:
        if isinstance(message, Settings):
            self._begin(message)
        elif isinstance(message, Keys):
            self.core.use_keys(message.private)
        elif isinstance(message, Neighbours):
            self.core.use_neighbours(message)
            self.links.set_lines(message.lines)
            self.links.set_peers(message.own)
        elif isinstance(message, MaxDelay):
            self.core.set_max_delay(message.seconds)
        elif isinstance(message, Command):
            self.core.act(message.action)
        elif isinstance(message, CloseLink):
            self.links.hang_up(message.peer, message.number)
        elif isinstance(message, Drain):
            self.core.drain()
        elif isinstance(message, End):
            self.core.stop()
            self.links.stop().addBoth(self._finish)
        else:
            raise EncodingError("this control message is not one for a worker")

    def _begin(self, settings: Settings) -> None:
        self.core = core = WorkerCore(
            clock=self._reactor,
            random=self._random,
            counts=self._counts,
            capacity=settings.capacity,
            max_delay=settings.max_delay,
            own=settings.own,
            send_up=lambda data: self.transport.write(data),
        )
        self.links = WorkerLinks(
            self._reactor,
            self._security(SigningKey(settings.identity)),
            receive=core.receive,
            admit=core.admits,
            sent=self._counts.forwarded,
            dropped=self._counts.dropped,
            random=self._random,
            limits=LinkLimits(
                unauthenticated=settings.unauthenticated,
                unauthenticated_per_address=settings.unauthenticated_per_address,
                queue_bytes=settings.queue_bytes,
                queue_bytes_per_peer=settings.queue_bytes_per_peer,
            ),
            counts=self._counts,
            linked=self.tell,
        )
        self.links.pass_on = core.pass_on
        core.use_links(self.links)
        self._serve(self.links.factory)

    def _finish(self, result: object) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _beat(self) -> None:
        if self.links is None:
            self._counts.beat(0, (0, 0), PaddingCounts())
        else:
            self._counts.beat(self.links.pending, self.links.up(), self.links.padding)
        self._beating = self._reactor.callLater(BEAT, self._beat)


@implementer(IReadDescriptor)
class ConnectionSource:
    """Receives the connections that the node has accepted: a descriptor comes with each byte of `connections`."""

    def __init__(self, reactor: Any, connections: socket.socket, counts: WorkerCounts, factory: Any) -> None:
        self._reactor = reactor
        self._connections = connections
        self._counts = counts
        self._factory = factory
        reactor.addReader(self)

    def fileno(self) -> int:
        """For the reactor."""
        return self._connections.fileno()

    def logPrefix(self) -> str:
        """For the reactor's own log lines."""
        return "connections"

    def doRead(self) -> None:
        """Receive waiting connections."""
        for _ in range(_AT_ONCE):
            try:
                data, descriptors, _, _ = socket.recv_fds(self._connections, 1, 1)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._reactor.removeReader(self)
                return
            if not descriptors or not self._adopt(descriptors[0]):
                self._counts.connection_ended()  # already lost, or this process is out of descriptors

    def connectionLost(self, reason: Failure) -> None:
        """The node has closed its end. The pipe ends too."""

    def _adopt(self, descriptor: int) -> bool:
        try:
            with socket.socket(fileno=descriptor) as plain:
                plain.setblocking(False)
                return self._reactor.adoptStreamConnection(plain.fileno(), plain.family, self._factory) is not None
        except OSError:
            return False


@implementer(ILogObserver)
class _LogForwarder:
    """Sends the worker's log to the node."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        if level < LogLevel.info or str(event.get("log_namespace", "")).startswith("twisted.internet."):
            return
        text = formatEvent(event)
        failure = event.get("log_failure")
        if failure is not None:
            text = f"{text}: {failure.getTraceback()}"
        self._tell(Event(level.name, text[-_LONGEST_LINE:]))


def main() -> None:
    """Run a worker process."""
    # systemd and Ctrl-C signal all processes of a service, but only the node ends its workers.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    reactor = install()
    use_monotonic(reactor)
    for descriptor in (CHANNEL, CONNECTIONS):
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)
    counts = WorkerCounts(shared_memory(COUNTS))
    os.close(COUNTS)
    connections = socket.socket(fileno=CONNECTIONS)
    worker = Worker(
        reactor,
        counts,
        security=TLSSecurity,
        random=SystemRandom(),
        serve=lambda factory: ConnectionSource(reactor, connections, counts, factory),
        ended=lambda: reactor.callLater(0, _leave),
    )
    globalLogBeginner.beginLoggingTo([_LogForwarder(worker.tell)], redirectStandardIO=False, discardBuffer=True)
    reactor.adoptStreamConnection(CHANNEL, socket.AF_UNIX, Factory.forProtocol(lambda: worker))
    os.close(CHANNEL)
    # These objects stay for ever: the garbage collector need not examine them again.
    gc.collect()
    gc.freeze()
    reactor.run(installSignalHandlers=False)


def _leave() -> None:
    """End at once: without the node no packet may leave, and there is nothing to clean up."""
    os._exit(0)


if __name__ == "__main__":
    main()
