"""The server of an ABCI application: varint length and message, answers in order, one request at a time in all."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.errors import EncodingError
from nymtw.ledger.abci.messages import Echo, Empty, ResponseException, request, response
from nymtw.ledger.abci.protobuf import CutOff, delimited, read_varint

LONGEST: Final = 100 * 2**20  # bytes of a request; CometBFT's own limit for a message
_MOST_QUEUED: Final = 10_000  # requests of a connection that wait; past it nothing more is read from it
_METHODS: Final = frozenset(
    (
        "info",
        "init_chain",
        "query",
        "check_tx",
        "commit",
        "list_snapshots",
        "offer_snapshot",
        "load_snapshot_chunk",
        "apply_snapshot_chunk",
        "prepare_proposal",
        "process_proposal",
        "extend_vote",
        "verify_vote_extension",
        "finalize_block",
    )
)


class ABCIProtocol(Protocol):
    """One of CometBFT's four connections. Flush and Echo are answered here; the rest by the application's methods."""

    transport: Any
    _log = Logger()

    def __init__(self, factory: "ABCIFactory") -> None:
        self._factory = factory
        self._buffer = bytearray()
        self._queue: deque[tuple[str, Any]] = deque()
        self._busy = False
        self._answering = False
        self._over = False
        self._paused = False

    def connectionMade(self) -> None:
        """CometBFT has connected."""
        self._factory.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """What still waits is not answered."""
        self._over = True
        self._queue.clear()
        self._factory.connections.discard(self)

    def dataReceived(self, data: bytes) -> None:
        """Take what is whole."""
        if self._over:
            return
        self._buffer += data
        try:
            self._take()
        except EncodingError as error:
            self._log.error("CometBFT sent what is not ABCI: {error}", error=str(error))
            self._hang_up()
            return
        if len(self._queue) > _MOST_QUEUED and not self._paused:
            self._paused = True
            self.transport.pauseProducing()
        self._answer()

    def _take(self) -> None:
        place = 0
        while place < len(self._buffer):
            try:
                size, start = read_varint(self._buffer[place : place + 10], 0)
            except CutOff:
                break
            if size > LONGEST:
                raise EncodingError(f"a request of {size} bytes")
            end = place + start + size
            if end > len(self._buffer):
                break
            self._queue.append(request(bytes(self._buffer[place + start : end])))
            place = end
        del self._buffer[:place]

    def _answer(self) -> None:
        if self._answering:
            return  # the loop below is running, and goes on by itself
        self._answering = True
        while self._queue and not self._busy and not self._over:
            name, asked = self._queue.popleft()
            if name == "flush":
                self._send(name, Empty())
            elif name == "echo":
                self._send(name, Echo(asked.message))
            elif name not in _METHODS:
                self._fail("this request is unknown here")
            else:
                self._ask_application(name, asked)
        self._answering = False
        if self._paused and len(self._queue) < _MOST_QUEUED // 2 and not self._over:
            self._paused = False
            self.transport.resumeProducing()

    def _ask_application(self, name: str, asked: Any) -> None:
        method, lock = getattr(self._factory.application, name), self._factory.lock
        if lock.locked:
            self._busy = True
            answered = lock.run(maybeDeferred, method, asked)
        else:
            try:
                found = method(asked)
            except Exception:
                self._failed(Failure())
                return
            if not isinstance(found, Deferred):
                self._send(name, found)
                return
            self._busy = True
            answered = lock.run(lambda: found)
        answered.addCallbacks(lambda answer: self._send(name, answer), self._failed)
        answered.addBoth(self._next)

    def _next(self, _: object) -> None:
        self._busy = False
        self._answer()

    def _failed(self, failure: Failure) -> None:
        self._factory.broken(failure)
        self._fail(failure.getErrorMessage())

    def _fail(self, text: str) -> None:
        self._send("exception", ResponseException(text))
        self._over = True
        self.transport.loseConnection()

    def _send(self, name: str, answer: Any) -> None:
        if not self._over:
            self.transport.write(delimited(response(name, answer)))

    def _hang_up(self) -> None:
        self._over = True
        self.transport.abortConnection()


class ABCIFactory(Factory):
    """Listens for CometBFT. `application` has a method for each request, which returns the answer, or waits for it."""

    noisy = False

    def __init__(self, application: Any, broken: Callable[[Failure], object]) -> None:
        """`broken(failure)`: the application has failed, and CometBFT is told so; nothing can follow."""
        self.application = application
        self.broken = broken
        self.lock = DeferredLock()
        self.connections: set[ABCIProtocol] = set()

    def buildProtocol(self, addr: Any) -> ABCIProtocol:
        """For one more connection."""
        return ABCIProtocol(self)

    def hang_up(self) -> None:
        """End all connections."""
        for connection in list(self.connections):
            connection.transport.loseConnection()
