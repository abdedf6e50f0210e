"""TCP connections through exits: which exit, under which tag, and whether it is still there.

Streams with the same isolation share a circuit for some minutes, as with Tor; others have one of their own, so that no
exit can link them. A circuit stays with its exit until that has failed; then new streams get another.
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
PATIENCE: Final = 60.0  # seconds without a sign of an exit that owes one, after which it has failed
PATIENCE_UNLISTED: Final = 15.0  # the same for one whose node the topology does not have any more
OPEN_PATIENCE: Final = 120.0  # seconds for a connection to be there
PROBE_INTERVAL: Final = 30.0  # seconds after which a stream that is silent is asked about, one a second
AVOID: Final = 600.0  # seconds for which an exit that has failed is not chosen
MEMORY: Final = 64 * 2**20  # bytes that the windows of all streams are cut to, about; each way
_TICK: Final = 1.0


class StreamRefused(NymtwError):
    """The connection cannot be opened; `failure` says why in the words of exits."""

    def __init__(self, text: str, failure: StreamFailure = StreamFailure.GENERAL) -> None:
        super().__init__(text)
        self.failure = failure


@dataclass(slots=True, eq=False)
class _Exit:
    address: Address
    avoid_until: float = 0.0
    waiting_since: float | None = None


@dataclass(slots=True, eq=False)
class _Way:
    """A circuit, and the streams on it."""

    exit: _Exit
    began: float
    circuit: Circuit = field(init=False)
    streams: dict[bytes, ExitStream] = field(default_factory=dict)
    retired: bool = False


class ExitStreams:
    """`open` makes one. Through `exit` (an address) alone, or through those that the topology lists."""

    log = Logger()

    def __init__(
        self, core: ClientCore, clock: Any, random: Random, topology: Callable[[], Any], exit: str | None = None
    ) -> None:
        """`topology()` is the newest one, or None. Raises `AddressError` for an `exit` that is none."""
        self._core, self._clock, self._random, self._topology = core, clock, random, topology
        self._only = None if exit is None else Address.parse(exit, core.network)
        self._exits: dict[Address, _Exit] = {}
        self._ways: dict[bytes, _Way] = {}
        self._all: list[_Way] = []
        self._timer: Any = None
        self._closed = False
        self.malformed = 0

    def __len__(self) -> int:
        """How many streams there are."""
        return sum(len(way.streams) for way in self._all)

    def open(self, host: str, port: int, user: StreamUser, *, isolation: bytes = b"", first: bytes = b"") -> ExitStream:
        """Ask for a connection; `user` is told what becomes of it, `first` is sent with the request.

        Raises `StreamRefused`.
        """
        try:
            msgspec.convert({"host": host, "port": port}, StreamOpen)
        except msgspec.ValidationError:
            raise StreamRefused("this is no host and port") from None
        count = len(self)
        if count >= MAX_STREAMS or self._closed:
            raise StreamRefused("there are as many connections as this client keeps", StreamFailure.BUSY)
        way = self._way(isolation)
        if self._timer is None:
            self._timer = self._clock.callLater(_TICK, self._tick)
        # Many streams get smaller windows, so that all readers together cannot make this grow without end.
        window = min(WINDOW, max(INITIAL_CREDIT, MEMORY // 2 // (count + 1)))
        stream = ExitStream(
            way.circuit,
            self._random.randbytes(ID_LENGTH),
            user,
            window=window,
            under_way=window,
            clock=self._clock.seconds,
            over=lambda stream: way.streams.pop(stream.id, None),
        )
        way.streams[stream.id] = stream
        try:
            stream.open(host, port, first)
        except NymtwError as error:
            del way.streams[stream.id]
            raise StreamRefused(str(error)) from None
        return stream

    def close(self) -> None:
        """Every stream breaks; no timer is left."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for way in list(self._all):
            self._break(way)

    # -- circuits and exits

    def _way(self, isolation: bytes) -> _Way:
        now = self._clock.seconds()
        way = self._ways.get(isolation)
        if way is not None and now - way.began < LIFETIME:
            return way
        if way is not None:
            way.retired = True
        self._make_room()
        via = self._choose(None if way is None else way.exit)
        new = _Way(via, now)
        new.circuit = self._core.circuits.open(pack_address(via.address), lambda data: self._received(new, data))
        new.circuit.signs = lambda: setattr(via, "waiting_since", None)
        self._ways[isolation] = new
        self._all.append(new)
        return new

    def _make_room(self) -> None:
        if len(self._all) >= MAX_CIRCUITS:
            idle = next((way for way in self._all if not way.streams), None)
            if idle is None:
                raise StreamRefused("there are as many circuits as this client keeps", StreamFailure.BUSY)
            self._break(idle)

    def _choose(self, before: _Exit | None) -> _Exit:
        """The exit of before while it works, else any other that works, else any."""
        topology = self._topology()
        if self._only is not None:
            if topology is not None and topology.find(self._only.provider) is None:
                raise StreamRefused("the exit is not in the topology", StreamFailure.NETWORK_UNREACHABLE)
            return self._exit(self._only)
        listed = []
        for text in [] if topology is None else topology.services(SERVICE):
            with suppress(AddressError):  # what a node says of itself is not checked before
                listed.append(self._exit(Address.parse(text, self._core.network)))
        if not listed:
            raise StreamRefused("the network has no exit", StreamFailure.NETWORK_UNREACHABLE)
        now = self._clock.seconds()
        working = [via for via in listed if via.avoid_until <= now]
        if before in working:
            return before
        return self._random.choice(working or listed)

    def _exit(self, address: Address) -> _Exit:
        return self._exits.setdefault(address, _Exit(address))

    def _received(self, way: _Way, data: bytes) -> None:
        try:
            message = StreamMessage.parse(data)
        except EncodingError:
            self.malformed += 1
            return
        stream = way.streams.get(message.stream)
        if stream is not None:
            stream.take(message)

    def _break(self, way: _Way) -> None:
        self._all.remove(way)
        for isolation, current in list(self._ways.items()):
            if current is way:
                del self._ways[isolation]
        for stream in list(way.streams.values()):
            stream.fail(StreamFailure.GENERAL, tell=False)
        way.circuit.close()

    # -- time

    def _tick(self) -> None:
        now = self._clock.seconds()
        self._timer = self._clock.callLater(_TICK, self._tick)
        for via in {way.exit: None for way in self._all}:
            self._judge(via, now)
        for way in list(self._all):
            if not way.streams and not way.circuit.posted and (way.retired or now - way.began >= LIFETIME):
                self._break(way)
        streams = [(way, stream) for way in self._all for stream in way.streams.values()]
        for way, stream in streams:
            if not stream.opened and now - stream.began >= OPEN_PATIENCE:
                # Its node may live, but it says neither yes nor no.
                self._avoid(way.exit, now)
                stream.fail(StreamFailure.TIMED_OUT)
        longest = min((stream for _, stream in streams), key=lambda stream: stream.last_post, default=None)
        if longest is not None and now - longest.last_post >= PROBE_INTERVAL:
            longest.probe()
        if not self._all:
            self._timer.cancel()
            self._timer = None

    def _judge(self, via: _Exit, now: float) -> None:
        """Whether an exit that has something to acknowledge does so."""
        ways = [way for way in self._all if way.exit is via]
        if self._core.packet_sender.connection is None or not any(way.circuit.posted for way in ways):
            via.waiting_since = None
            return
        if via.waiting_since is None:
            via.waiting_since = now
        topology = self._topology()
        listed = topology is None or topology.find(via.address.provider) is not None
        if now - via.waiting_since < (PATIENCE if listed else PATIENCE_UNLISTED):
            return
        self._avoid(via, now)
        via.waiting_since = None
        for way in ways:
            self._break(way)

    def _avoid(self, via: _Exit, now: float) -> None:
        """New streams take another exit, if there is one."""
        if via.avoid_until <= now:
            self.log.warn("An exit does not answer any more; new connections take another, if there is one")
        via.avoid_until = now + AVOID
        for isolation, way in list(self._ways.items()):
            if way.exit is via:
                way.retired = True
                del self._ways[isolation]
