"""Manages TCP connections through exits: chooses exits and circuits, and detects failed exits.

Streams with the same isolation share a circuit for some minutes, as with Tor. Others have separate circuits, so that no
exit can link them. A circuit keeps its exit until the exit fails; then new streams get another exit.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import msgspec

from twisted.logger import Logger

from nymtw.client.core import ClientCore
from nymtw.client.proxies.exit_stream import ExitStream, StreamUser
from nymtw.client.receiving.circuits import Circuit
from nymtw.client.sending.packet_sender import pack_address
from nymtw.errors import AddressError, EncodingError, NymtwError
from nymtw.message.opening import MOST_WORK, bits_of, work
from nymtw.message.stream import (
    ID_LENGTH,
    INITIAL_CREDIT,
    SERVICE,
    WINDOW,
    StreamFailure,
    StreamMessage,
    StreamOpen,
)
from nymtw.topology.address import Address

MAX_STREAMS: Final = 1024
MAX_CIRCUITS: Final = 256
LIFETIME: Final = 600.0  # seconds in which a circuit takes new streams
PATIENCE: Final = 60.0  # seconds without an expected sign of an exit, after which it counts as failed
PATIENCE_UNLISTED: Final = 15.0  # the same for an exit whose node has left the topology
OPEN_PATIENCE: Final = 120.0  # seconds for opening a connection
PROBE_INTERVAL: Final = 30.0  # seconds after which a silent stream is probed, one stream a second
AVOID: Final = 600.0  # seconds for which a failed exit is not chosen
MEMORY: Final = 64 * 2**20  # the approximate bytes of the windows of all streams, in each direction
_TICK: Final = 1.0
_PAUSE: Final = 0.004  # seconds between two pieces of work: streams of packets go on meanwhile


class StreamRefused(NymtwError):
    """The connection cannot be opened; `failure` is the reason."""

    def __init__(self, text: str, failure: StreamFailure = StreamFailure.GENERAL) -> None:
        super().__init__(text)
        self.failure = failure


@dataclass(slots=True, eq=False)
class _Exit:
    address: Address
    avoid_until: float = 0.0
    waiting_since: float | None = None


@dataclass(slots=True, eq=False)
class _Path:
    """A circuit and its streams."""

    exit: _Exit
    began: float
    circuit: Circuit = field(init=False)
    streams: dict[bytes, ExitStream] = field(default_factory=dict)
    retired: bool = False


class ExitStreams:
    """All streams of a client. They use only `exit` (an address), or the exits of the topology."""

    log = Logger()

    def __init__(
        self, core: ClientCore, clock: Any, random: Random, topology: Callable[[], Any], exit: str | None = None
    ) -> None:
        """`topology()` returns the newest one, or None. Raises `AddressError` for an invalid `exit`."""
        self._core, self._clock, self._random, self._topology = core, clock, random, topology
        self._only = None if exit is None else Address.parse(exit, core.network)
        self._exits: dict[Address, _Exit] = {}
        self._paths: dict[bytes, _Path] = {}
        self.paths: list[_Path] = []
        self._timer: Any = None
        self._closed = False
        self.malformed = 0

    def __len__(self) -> int:
        """The number of streams."""
        return sum(len(path.streams) for path in self.paths)

    def open(self, host: str, port: int, user: StreamUser, *, isolation: bytes = b"", first: bytes = b"") -> ExitStream:
        """Open a connection. `user` gets its events, `first` is sent with the request.

        Raises `StreamRefused`.
        """
        try:
            msgspec.convert({"host": host, "port": port}, StreamOpen)
        except msgspec.ValidationError:
            raise StreamRefused("this is not a valid host and port") from None
        count = len(self)
        if count >= MAX_STREAMS or self._closed:
            raise StreamRefused("the limit of connections of this client is reached", StreamFailure.BUSY)
        path = self._path(isolation)
        if self._timer is None:
            self._timer = self._clock.callLater(_TICK, self._tick)
        # The more streams, the smaller their windows, so that memory stays bounded.
        window = min(WINDOW, max(INITIAL_CREDIT, MEMORY // 2 // (count + 1)))
        stream = ExitStream(
            path.circuit,
            self._random.randbytes(ID_LENGTH),
            user,
            window=window,
            under_way=window,
            clock=self._clock.seconds,
            over=lambda stream: path.streams.pop(stream.id, None),
            pay=self._pay,
        )
        path.streams[stream.id] = stream
        try:
            stream.open(host, port, first)
        except NymtwError as error:
            del path.streams[stream.id]
            raise StreamRefused(str(error)) from None
        return stream

    def _pay(self, price: str, stream: ExitStream) -> None:
        """Do the work that a full exit asks for, a little in each turn of the reactor."""
        bits = bits_of(price)
        if bits is None or bits > MOST_WORK:
            stream.fail(StreamFailure.BUSY)
            return
        attempts = work(bits, stream.circuit.tag, stream.id)

        def go_on() -> None:
            payment = next(attempts)
            if payment is not None:
                stream.paid(payment)
            elif not stream.is_over:
                self._clock.callLater(_PAUSE, go_on)

        go_on()

    def close(self) -> None:
        """Break all streams, and stop all timers."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for path in list(self.paths):
            self._break(path)

    # -- circuits and exits

    def _path(self, isolation: bytes) -> _Path:
        now = self._clock.seconds()
        path = self._paths.get(isolation)
        if path is not None and now - path.began < LIFETIME:
            return path
        if path is not None:
            path.retired = True
        self._make_room()
        via = self._choose(None if path is None else path.exit)
        new = _Path(via, now)
        new.circuit = self._core.circuits.open(pack_address(via.address), lambda data: self._received(new, data))
        new.circuit.signs = lambda: setattr(via, "waiting_since", None)
        self._paths[isolation] = new
        self.paths.append(new)
        return new

    def _make_room(self) -> None:
        if len(self.paths) >= MAX_CIRCUITS:
            idle = next((path for path in self.paths if not path.streams), None)
            if idle is None:
                raise StreamRefused("the limit of circuits of this client is reached", StreamFailure.BUSY)
            self._break(idle)

    def _choose(self, before: _Exit | None) -> _Exit:
        """The previous exit while it works, otherwise any other working exit, otherwise any exit."""
        topology = self._topology()
        if self._only is not None:
            if topology is not None and topology.find(self._only.provider) is None:
                raise StreamRefused("the exit is not in the topology", StreamFailure.NETWORK_UNREACHABLE)
            return self._exit(self._only)
        present = []
        for text in [] if topology is None else topology.services(SERVICE):
            with suppress(AddressError):  # addresses in the topology have not been checked before
                present.append(self._exit(Address.parse(text, self._core.network)))
        if not present:
            raise StreamRefused("the network has no exit", StreamFailure.NETWORK_UNREACHABLE)
        now = self._clock.seconds()
        working = [via for via in present if via.avoid_until <= now]
        if before in working:
            return before
        return self._random.choice(working or present)

    def _exit(self, address: Address) -> _Exit:
        return self._exits.setdefault(address, _Exit(address))

    def _received(self, path: _Path, data: bytes) -> None:
        try:
            message = StreamMessage.parse(data)
        except EncodingError:
            self.malformed += 1
            return
        stream = path.streams.get(message.stream)
        if stream is not None:
            stream.take(message)

    def _break(self, path: _Path) -> None:
        self.paths.remove(path)
        for isolation, current in list(self._paths.items()):
            if current is path:
                del self._paths[isolation]
        for stream in list(path.streams.values()):
            stream.fail(StreamFailure.GENERAL, tell=False)
        path.circuit.close()

    # -- time

    def _tick(self) -> None:
        now = self._clock.seconds()
        self._timer = self._clock.callLater(_TICK, self._tick)
        for via in {path.exit: None for path in self.paths}:
            self._check(via, now)
        for path in list(self.paths):
            if not path.streams and not path.circuit.posted and (path.retired or now - path.began >= LIFETIME):
                self._break(path)
        streams = [(path, stream) for path in self.paths for stream in path.streams.values()]
        for path, stream in streams:
            if not stream.opened and now - stream.began >= OPEN_PATIENCE:
                # The exit's node may be up, but the exit does not answer.
                self._avoid(path.exit, now)
                stream.fail(StreamFailure.TIMED_OUT)
        longest = min((stream for _, stream in streams), key=lambda stream: stream.last_post, default=None)
        if longest is not None and now - longest.last_post >= PROBE_INTERVAL:
            longest.probe()
        if not self.paths:
            self._timer.cancel()
            self._timer = None

    def _check(self, via: _Exit, now: float) -> None:
        """Avoid an exit that does not acknowledge data in time."""
        paths = [path for path in self.paths if path.exit is via]
        if self._core.packet_sender.connection is None or not any(path.circuit.posted for path in paths):
            via.waiting_since = None
            return
        if via.waiting_since is None:
            via.waiting_since = now
        topology = self._topology()
        present = topology is None or topology.find(via.address.provider) is not None
        if now - via.waiting_since < (PATIENCE if present else PATIENCE_UNLISTED):
            return
        self._avoid(via, now)
        via.waiting_since = None
        for path in paths:
            self._break(path)

    def _avoid(self, via: _Exit, now: float) -> None:
        """Choose another exit for new streams, if there is one."""
        if via.avoid_until <= now:
            self.log.warn("An exit does not answer any more; new connections use another exit, if there is one")
        via.avoid_until = now + AVOID
        for isolation, path in list(self._paths.items()):
            if path.exit is via:
                path.retired = True
                del self._paths[isolation]
