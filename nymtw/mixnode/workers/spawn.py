"""Starts worker processes, and accepts connections for them.

A worker gets a pipe for messages, a socket for accepted connections, and the memory of its counts. Its command line and
its environment hold no secrets.
"""

import errno
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.errors import EncodingError, ListenError
from nymtw.link.limits import LinkLimits
from nymtw.mixnode.workers.counts import WorkerCounts, shared_file, shared_memory
from nymtw.mixnode.workers.handle import WorkerHandle
from nymtw.mixnode.workers.pool import WorkerPool
from nymtw.mixnode.workers.process import CHANNEL, CONNECTIONS, COUNTS
from nymtw.mixnode.workers.replay_coordinator import ReplayCoordinator
from nymtw.mixnode.workers.wire import ChannelParser, Settings
from nymtw.node.process.parent_watch import VARIABLE

_MODULE: Final = "nymtw.mixnode.workers.process"
_AT_ONCE: Final = 64  # connections accepted in one turn of the reactor
_BACKLOG: Final = 1024
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_GRACE: Final = 2.0  # seconds from a pipe's end until its process is killed
_PAUSE: Final = 0.1  # seconds without accepting when no descriptors are left


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The core, the links and the listener of a mixnode with workers."""

    coordinator: ReplayCoordinator
    workers: WorkerPool
    listener: "Acceptor"


def make_workers(
    reactor: Any,
    count: int,
    identity: bytes,
    engine: Mapping[str, Any],
    limits: LinkLimits,
    host: str | None = None,
) -> WorkerParts:
    """Make `count` workers. `identity`: the seed of the node's identity. `engine`: the arguments of `PacketEngine`.

    `limits` are those of the whole node: the workers share them. `host`: where to listen; None: what is announced.
    """
    coordinator = ReplayCoordinator(**engine)

    def share(bound: int) -> int:
        return -(-bound // count)

    settings = Settings(
        identity=identity,
        own=coordinator.own,
        capacity=share(engine["capacity"]),
        max_delay=engine["max_delay"],
        unauthenticated=share(limits.unauthenticated),
        unauthenticated_per_address=share(limits.unauthenticated_per_address),
        queue_bytes=share(limits.queue_bytes),
        queue_bytes_per_peer=limits.queue_bytes_per_peer,  # a peer's link is one worker's
    )
    workers = WorkerPool(reactor, coordinator, count=count, settings=settings, launch=partial(spawn, reactor))
    return WorkerParts(
        coordinator,
        workers,
        Acceptor(reactor, host or coordinator.own.host, coordinator.own.port, workers.next_for_connection),
    )


def spawn(reactor: Any, handle: WorkerHandle) -> "SpawnedWorker":
    """Start a worker process. Raises OSError if the machine lacks the resources."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    our_connections, their_connections = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    counts = shared_file()
    our_connections.setblocking(False)
    ours.setblocking(False)
    worker = SpawnedWorker(reactor, handle, WorkerCounts(shared_memory(counts)), our_connections)
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    # -P: modules in the current folder must not be importable.
    reactor.spawnProcess(
        worker.process,
        sys.executable,
        [sys.executable, "-P", "-m", _MODULE, str(handle.number)],
        environment,
        childFDs={
            0: 0,
            1: 1,
            2: 2,
            CHANNEL: theirs.fileno(),
            CONNECTIONS: their_connections.fileno(),
            COUNTS: counts,
        },
    )
    theirs.close()
    their_connections.close()
    os.close(counts)
    reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: worker))
    ours.close()
    return worker


class SpawnedWorker(Protocol):
    """The node's end of a worker's pipe."""

    transport: Any

    def __init__(self, reactor: Any, handle: WorkerHandle, counts: WorkerCounts, connections: socket.socket) -> None:
        self._reactor = reactor
        self._killing: Any = None
        self.counts = counts
        self.process = _Process(self)
        self._handle = handle
        self._connections = connections
        self._parser = ChannelParser()
        self._lost = False
        self._how = ""

    # WorkerProcess, for the handle

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def hand_over(self, connection: socket.socket) -> bool:
        try:
            socket.send_fds(self._connections, [b"\0"], [connection.fileno()])
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if not self._how:
            self.process.transport.signalProcess("KILL")

    # the pipe

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        try:
            frames = self._parser.feed(data)
            if frames:
                self._handle.received(frames)
        except EncodingError:
            self.kill()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._lost = True
        self._connections.close()
        if not self._how:
            self._killing = self._reactor.callLater(_GRACE, self.kill)
        self._tell_ended()

    def pauseProducing(self) -> None:
        self._handle.block(True)

    def resumeProducing(self) -> None:
        self._handle.block(False)

    def stopProducing(self) -> None:
        """The pipe has ended; `connectionLost` follows."""

    # the process

    def exited(self, how: str) -> None:
        """Called when the process has exited."""
        self._how = how
        if self._killing is not None and self._killing.active():
            self._killing.cancel()
        self._tell_ended()

    def _tell_ended(self) -> None:
        """Tell the handle once both the process and the pipe have ended: then everything has been read."""
        if self._lost and self._how:
            self._handle.ended(self._how)


class _Process(ProcessProtocol):
    transport: Any

    def __init__(self, worker: SpawnedWorker) -> None:
        self._worker = worker

    def processEnded(self, reason: Failure) -> None:
        self._worker.exited(str(reason.value).rstrip("."))


@implementer(IReadDescriptor)
class Acceptor(Service):
    """Listens, and passes each connection to the first of `handles()` that takes it.

    Like `nymtw.node.service.Listener`, it binds its port in `privilegedStartService`.
    """

    def __init__(self, reactor: Any, host: str, port: int, handles: Callable[[], list[WorkerHandle]]) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._handles = handles
        self._socket: socket.socket | None = None
        self._pause: Any = None

    @property
    def port(self) -> int:
        """The port it listens on; before that, the port from the configuration (maybe 0)."""
        return self._port if self._socket is None else int(self._socket.getsockname()[1])

    def privilegedStartService(self) -> None:
        """Bind the port. Raises `ListenError`."""
        if self._socket is not None:
            return
        where = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self._host, self._port))
            listening.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            listening.close()
            raise ListenError(f"cannot listen on {where}: {getattr(error, 'strerror', None) or error}") from None
        self._socket = listening

    def startService(self) -> None:
        """Bind the port if `privilegedStartService` has not, and accept. Raises `ListenError`."""
        self.privilegedStartService()
        super().startService()
        self._reactor.addReader(self)

    def stopService(self) -> None:
        """Free the port."""
        super().stopService()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        """For the reactor."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor's own log lines."""
        return "acceptor"

    def doRead(self) -> None:
        """Accept waiting connections."""
        for _ in range(_AT_ONCE):
            if self._socket is None:
                return
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._reactor.removeReader(self)
                    self._pause = self._reactor.callLater(_PAUSE, self._go_on)
                    return
                continue  # the connection was lost before it was accepted
            with connection:
                any(handle.hand_over(connection) for handle in self._handles())

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has given up the socket."""

    def _go_on(self) -> None:
        self._pause = None
        self._reactor.addReader(self)
