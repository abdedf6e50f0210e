"""Taps on every link of a simulated network: what somebody who watches all of them writes down, beside the truth.

    observer = Observer()
    with SimulatedNetwork(seed, observer=observer) as network:
        network.run(60)
    observer.rows.write_csv(path)

The observer sees when a frame of which length went from whom to whom. The truth comes from the packets themselves: each
is known from its first bytes when it is built, and followed from hop to hop where nodes unwrap it.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from nymtw.link.frames import FIRST_HOP_LENGTH, Frame, FrameError, FrameParser, FrameType
from nymtw.message.cryptography import Cryptography, PacketUnwrapper, Unwrapped
from nymtw.message.fragments import FragmentKind
from nymtw.message.payload import (
    ACK_SECTION_LENGTH,
    DROP_DESTINATION,
    NO_ACK,
    PAYLOAD_LENGTH,
    AckSection,
    drop_acks,
)
from nymtw.sphinx import FinalHop, ForwardHop, Hop, SizeClass
from nymtw.testing.rows import CONTROL, MAIL, PULL, Direction, Kind, Rows
from nymtw.testing.security import HELLO_LENGTH

FOLLOWED: Final = 1_000_000  # packets under way; the oldest is forgotten for the next one
_ALPHA: Final = 32
_LONGEST_BODY: Final = 1 << 20
_NOBODY: Final = "nobody"
_SIZES: Final = {FrameType.PULL: PULL, FrameType.MAIL: MAIL}
# Which kind of link joins two roles: the part of a simulated host's name before the first dash, and the layer.
_EDGES: Final = ("provider", "gateway")


class Trace(NamedTuple):
    """A packet under way: its number, kind, hops behind it, and the delay in seconds before it was last sent."""

    number: int
    kind: Kind
    hop: int
    delay: float


class Observer:
    """Give one to a `SimulatedNetwork`. `rows` grows with every frame; `pause` and `resume` say when it looks."""

    def __init__(self) -> None:
        self.rows = Rows()
        self._looking = True
        self._streams: WeakKeyDictionary[Any, _Stream] = WeakKeyDictionary()
        self._traces: dict[bytes, Trace] = {}
        self._count = 0
        self._mailboxes: dict[bytes, str] = {}
        self._clock: Callable[[], float] = lambda: 0.0
        self._directions: dict[tuple[str, str], Direction | None] = {}

    def pause(self) -> None:
        """Write nothing down from now on; packets are followed all the same."""
        self._looking = False

    def resume(self) -> None:
        """Write down what is seen from now on."""
        self._looking = True

    # what the network calls

    def know(self, mailbox: bytes, name: str) -> None:
        """Whose mailbox (32 bytes) this is."""
        self._mailboxes[mailbox] = name

    def use_clock(self, seconds: Callable[[], float]) -> None:
        """Whose seconds rows of mailboxes have."""
        self._clock = seconds

    def at(self, name: str, cryptography: Cryptography) -> Cryptography:
        """What the node or client `name` uses in the place of `cryptography`."""
        return _Watched(self, name, cryptography)

    def chunk(self, seconds: float, transport: Any, sender: str, receiver: str, data: bytes) -> None:
        """Bytes that arrived over the connection that `transport` writes to."""
        stream = self._streams.get(transport)
        if stream is None:
            stream = self._streams[transport] = _Stream()
        for frame in stream.feed(data):
            self._frame(seconds, sender, receiver, frame)

    def _frame(self, seconds: float, sender: str, receiver: str, frame: Frame) -> None:
        direction = self._direction(sender, receiver)
        if direction is None or not self._looking or frame.type in (FrameType.KEEPALIVE, FrameType.CONTROL):
            return
        size, trace = frame.size_class, None
        if frame.type in (FrameType.PACKET, FrameType.SUBMIT):
            start = FIRST_HOP_LENGTH if frame.type is FrameType.SUBMIT else 0
            trace = self._traces.get(frame.body[start : start + _ALPHA])
        elif frame.type.name == "DUMMY":
            trace = Trace(-1, Kind.DUMMY, -1, 0.0)
        else:
            size = _SIZES.get(frame.type, CONTROL)
        if trace is not None and frame.type is FrameType.PACKET:
            trace = trace._replace(hop=trace.hop + 1)
        self.write(seconds, sender, receiver, size, direction, trace)

    def write(
        self, seconds: float, sender: str, receiver: str, size: int, direction: Direction, trace: Trace | None
    ) -> None:
        """One row."""
        rows = self.rows
        number, kind, hop, delay = trace or Trace(-1, Kind.OTHER, -1, float("nan"))
        rows.time.append(seconds)
        rows.source.append(rows.index(sender))
        rows.target.append(rows.index(receiver))
        rows.size_class.append(size)
        rows.direction.append(direction)
        rows.packet.append(number)
        rows.hop.append(hop)
        rows.delay.append(delay)
        rows.kind.append(kind)

    def kept(self, edge: str, destination: bytes, size: int, trace: Trace | None) -> None:
        """An edge has a packet for this mailbox, or one to discard."""
        if self._looking:
            target = self._mailboxes.get(destination, _NOBODY)
            self.write(self._clock(), edge, target, size, Direction.KEPT, trace)

    def is_mailbox(self, destination: bytes) -> bool:
        """Whether a client is known by it."""
        return destination in self._mailboxes

    # packets under way

    def built(self, packet: bytes, kind: Kind, delay: float = 0.0) -> None:
        """A new packet."""
        self._count += 1
        self._follow(packet[:_ALPHA], Trace(self._count, kind, 0, delay))

    def start_of_ack(self, packet: bytes, delay: float) -> None:
        """The edge where this ack starts holds it for `delay` seconds."""
        trace = self._traces.get(packet[:_ALPHA])
        if trace is not None:
            self._traces[packet[:_ALPHA]] = trace._replace(delay=delay)

    def unwrapped(self, packet: bytes, result: ForwardHop | FinalHop) -> Trace:
        """A hop has taken a layer off; a packet that nobody here has built came over a reply block."""
        trace = self._traces.get(packet[:_ALPHA])
        if trace is None:
            self._count += 1
            trace = Trace(self._count, Kind.REPLY, 0, 0.0)
        if isinstance(result, ForwardHop):
            trace = Trace(trace.number, trace.kind, trace.hop + 1, result.delay / 1e9)
            self._follow(result.packet[:_ALPHA], trace)
            return trace
        return trace._replace(hop=trace.hop + 2)

    def _follow(self, alpha: bytes, trace: Trace) -> None:
        self._traces[alpha] = trace
        if len(self._traces) > FOLLOWED:
            del self._traces[next(iter(self._traces))]

    def _direction(self, sender: str, receiver: str) -> Direction | None:
        pair = (sender, receiver)
        if pair not in self._directions:
            self._directions[pair] = direction_of(sender, receiver)
        return self._directions[pair]


def direction_of(sender: str, receiver: str) -> Direction | None:
    """The kind of link between two hosts of a simulated network, by their names; None where it carries no packets."""
    roles = [_role(name) for name in (sender, receiver)]
    if "directory" in roles:
        return None
    found = {
        ("client", "edge"): Direction.UP,
        ("edge", "mixnode"): Direction.IN,
        ("mixnode", "mixnode"): Direction.ACROSS,
        ("mixnode", "edge"): Direction.OUT,
        ("edge", "client"): Direction.DOWN,
    }
    return found.get((roles[0], roles[1]))


def _role(name: str) -> str:
    role = name.partition("-")[0]
    if role in _EDGES:
        return "edge"
    return role if role in ("mixnode", "directory") else "client"


class _Stream:
    """One direction of a connection: the hello of `MemorySecurity`, then frames."""

    def __init__(self) -> None:
        self._hello = HELLO_LENGTH
        self._parser: FrameParser | None = FrameParser(frozenset(FrameType), _LONGEST_BODY)

    def feed(self, data: bytes) -> list[Frame]:
        if self._hello:
            taken = min(self._hello, len(data))
            self._hello -= taken
            data = data[taken:]
        frames: list[Frame] = []
        while self._parser is not None:
            try:
                found = self._parser.feed(data)
            except FrameError:
                self._parser = None  # no link of this network: nothing is made of it
                break
            frames += found
            data = b""
            if not found or found[-1].type is not FrameType.CONTROL:
                break
        return frames


class _Watched:
    """A `Cryptography` that tells the observer what is built and unwrapped."""

    def __init__(self, observer: Observer, name: str, base: Cryptography) -> None:
        self._observer, self._name, self._base = observer, name, base
        self._is_cover = False  # what was sealed last is what the next packet carries

    def build(
        self,
        message: bytes,
        route: Sequence[Hop],
        delays: Sequence[int],
        destination: bytes,
        identifier: bytes = bytes(16),
        *,
        size_class: SizeClass = SizeClass.REGULAR,
        random: Random | None = None,
    ) -> bytes:
        packet = self._base.build(message, route, delays, destination, identifier, size_class=size_class, random=random)
        kind = Kind.LOOP if self._is_cover else Kind.REAL
        if size_class is SizeClass.ACK:
            kind = Kind.ACK
        elif any(identifier):
            kind = Kind.LOOP  # a mixnode's own
        elif destination[:-1] == DROP_DESTINATION[:-1]:
            kind = Kind.DROP
        self._observer.built(packet, kind)
        if len(message) == PAYLOAD_LENGTH:
            acks = [AckSection.parse(message[:ACK_SECTION_LENGTH])]
            if destination[:-1] == DROP_DESTINATION[:-1]:
                acks += drop_acks(destination, message[ACK_SECTION_LENGTH:]) or []
            for ack in acks:
                for stored in (True, False):
                    if ack != NO_ACK:
                        self._observer.start_of_ack(ack.packet(stored), ack.delay / 1e9)
        return packet

    def build_alternatives(
        self,
        messages: Sequence[bytes],
        route: Sequence[Hop],
        delays: Sequence[int],
        destination: bytes,
        *,
        size_class: SizeClass = SizeClass.REGULAR,
        random: Random | None = None,
    ) -> tuple[bytes, list[bytes]]:
        header, payloads = self._base.build_alternatives(
            messages, route, delays, destination, size_class=size_class, random=random
        )
        for payload in payloads:
            self._observer.built(header + payload, Kind.ACK)
        return header, payloads

    def unwrapper(self) -> PacketUnwrapper:
        return _WatchedUnwrapper(self._observer, self._name, self._base.unwrapper())

    def seal(self, plaintext: bytes, recipient_key: bytes, random: Random) -> bytes:
        self._is_cover = plaintext[0] == FragmentKind.LOOP
        return self._base.seal(plaintext, recipient_key, random)

    def unseal(self, sealed: bytes, private_key: bytes, public_key: bytes | None = None) -> bytes:
        return self._base.unseal(sealed, private_key, public_key)


class _WatchedUnwrapper:
    def __init__(self, observer: Observer, name: str, base: PacketUnwrapper) -> None:
        self._observer, self._name, self._base = observer, name, base
        self._is_edge = _role(name) == "edge"

    def set_keys(self, keys_by_epoch: Mapping[int, bytes]) -> None:
        self._base.set_keys(keys_by_epoch)

    def unwrap_many(
        self, packets: Sequence[tuple[int, bytes]], fresh: Callable[[bytes], bool] | None = None
    ) -> list[Unwrapped]:
        results = self._base.unwrap_many(packets, fresh)
        observer = self._observer
        for (_, packet), result in zip(packets, results, strict=True):
            if not isinstance(result, ForwardHop | FinalHop):
                continue
            trace = observer.unwrapped(packet, result)
            if not self._is_edge:
                continue
            size = int(SizeClass.ACK if trace.kind is Kind.ACK else SizeClass.REGULAR)
            if isinstance(result, FinalHop):
                observer.kept(self._name, result.destination, size, trace)
            elif observer.is_mailbox(result.next_address):
                observer.kept(self._name, result.next_address, size, trace)
        return results
