"""The mix itself, without sockets: unwrap what came in, hold each packet for its delay, pass it on, account for it.

What happens to a packet that ends at this node is the role's part.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from random import Random
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.drop_reasons import DropReason
from nymtw.errors import DiskError, PacketRejected
from nymtw.interfaces import IMixing
from nymtw.link.frames import Frame
from nymtw.message.cryptography import PacketUnwrapper
from nymtw.mixing.delay_queue import DelayQueue
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.node.keys import epoch_of
from nymtw.sphinx import FinalHop, ForwardHop, SizeClass
from nymtw.topology.document import EDGE_ROLES, NodeRecord, Topology

# An hour at 50 ms a hop on average would be 72,000 times the mean: nobody draws ten minutes, so it is not honest.
DEFAULT_MAX_DELAY: Final = 600.0
DEFAULT_CAPACITY: Final = 100_000
# Seconds. A node that is so late has more to do than it can: by then senders send again what it still holds.
PATIENCE: Final = 5.0


class Links(Protocol):
    """The links to other nodes: `nymtw.link.node_link.NodeLinks`, or what a test puts in its place."""

    def send(self, peer: bytes, epoch: int, packet: bytes) -> None:
        """Pass on one packet; it ends in the account as forwarded or dropped."""

    def send_many(self, packets: Iterable[tuple[bytes, int, bytes]]) -> None:
        """`send` each of (peer, epoch, packet), and write them at once."""

    def set_peers(self, peers: Mapping[bytes, tuple[str, int]]) -> None:
        """Whom this node may connect to, and where."""

    def set_lines(self, lines: Mapping[bytes, Mapping[int, float]]) -> None:
        """Which lines to peers are padded: frames of each size class a second. Called where it is not as before."""


# What the delay queue holds: (next node, key epoch, packet), or what to do with a packet that ends here.
Held = tuple[bytes, int, bytes] | Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Around:
    """Who is beside this node for packets of one key epoch. `strangers`: who was or will be a neighbour, and is not."""

    next_hops: frozenset[bytes]
    unauthenticated: frozenset[bytes]


class _Ration:
    """What is left of a key's replay filter, for each peer."""

    def __init__(self, share: int) -> None:
        self.share = share
        self.taken: Counter[bytes] = Counter()


class PacketEngine(ABC):
    """Receives frames, releases packets.

    Nothing leaves before it is due and its replay tag has been written, whichever is later. Every packet that comes in
    is in the account as received, and then as forwarded, delivered or dropped, or it is still queued.
    """

    log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        random: Random,
        unwrapper: PacketUnwrapper,
        guard: ReplayGuard,
        counters: PacketCounters,
        own: NodeRecord,
        capacity: int = DEFAULT_CAPACITY,
        max_delay: float = DEFAULT_MAX_DELAY,
        mixing: Callable[..., IMixing] = DelayQueue,
    ) -> None:
        """`capacity`: packets held at once. `max_delay`: seconds; a packet that asks for more is dropped."""
        self._unwrapper = unwrapper
        self._guard = guard
        self.counters = counters
        self.own = own
        self.capacity = capacity
        self.stretch = 1  # every delay is multiplied by this
        self.set_max_delay(max_delay)
        self._queue: IMixing = mixing(clock, self._release, random, capacity, PATIENCE, self._late)
        self._links: Links | None = None
        # Of all key epochs together; `_around` has them for each.
        self._next_hops: frozenset[bytes] = frozenset()
        self._allowed_peers: frozenset[bytes] = frozenset()
        self._lines: dict[bytes, Mapping[int, float]] = {}
        self._environment = {0: _Around(frozenset(), frozenset())}
        self._numbers: dict[int, list[int]] = {}  # epoch -> numbers of its keys, the newest first
        self._rations: dict[int, _Ration] = {}  # number of a key -> what is left of its filter
        self._disk_failed = False
        self._draining = False
        self._stopped = False

    def use_links(self, links: Links) -> None:
        """Called once, before the first packet."""
        self._links = links

    def use_topology(self, topology: Topology) -> None:
        """From now on packets go to, and are taken from, the neighbours that `topology` names.

        A node that changes its role has other neighbours in one key epoch than in the next: those of a packet are the
        ones of its epoch.
        """
        peers: dict[bytes, tuple[str, int]] = {}
        lines: dict[bytes, Mapping[int, float]] = {}
        beside: dict[int, tuple[frozenset[bytes], frozenset[bytes]]] = {}
        usual = self._beside_in(topology, topology.epoch, peers, lines)
        for epoch in (topology.epoch - 1, topology.epoch, topology.epoch + 1):
            there = topology.at(epoch)
            is_usual = there is topology and not self.own.places
            beside[epoch] = usual if is_usual else self._beside_in(there, epoch, peers, lines)
        self._next_hops = frozenset(peers)
        self._allowed_peers = frozenset().union(*(before for _, before in beside.values()))
        self._environment = {
            epoch: _Around(after, self._allowed_peers - before) for epoch, (after, before) in beside.items()
        }
        if self._links is None:
            return
        if lines != self._lines:
            self._lines = lines
            self._links.set_lines(lines)
        self._links.set_peers(peers)

    def _beside_in(
        self,
        topology: Topology,
        epoch: int,
        peers: dict[bytes, tuple[str, int]],
        lines: dict[bytes, Mapping[int, float]],
    ) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """Who is behind and before this node; where those behind it are goes into `peers`, at which rates into `lines`.

        A node whose role is decided for it is where a topology of that epoch has put it, the first and the newest.
        """
        listed = topology.find(self.own.identity)
        own = [self.own.at(epoch) if self.own.places else self.own]
        if listed is not None and listed.places:
            own = [listed, self.own.at(epoch)] if self.own.places else [listed]
        nodes = [topology.find(identity) for each in own for identity in topology.successors(each)]
        after = {node.identity: (node.host, node.port) for node in nodes if node is not None}
        peers.update(after)
        for each in own:
            for node in filter(None, map(topology.find, topology.successors(each))):
                if rates := _rates(listed, True) if each.role in EDGE_ROLES else _rates(node, False):
                    lines[node.identity] = rates
        return frozenset(after), frozenset().union(*(topology.predecessors(each) for each in own))

    def next_hops(self, epoch: int) -> frozenset[bytes]:
        """To whom a packet of this key epoch may go from here."""
        return self._beside(epoch).next_hops

    def _beside(self, epoch: int) -> _Around:
        environment = self._environment
        return environment.get(epoch) or environment[max(environment) if epoch > max(environment) else min(environment)]

    def use_keys(self, private_keys: Mapping[int, bytes]) -> None:
        """Unwrap with these keys (32 bytes each, by the number that `KeyRing` gives them).

        The replay tags of other keys go with them.
        """
        self._unwrapper.set_keys(private_keys)
        numbers: dict[int, list[int]] = {}
        for number in sorted(private_keys, reverse=True):
            numbers.setdefault(epoch_of(number), []).append(number)
        self._numbers = numbers
        self._rations = {number: ration for number, ration in self._rations.items() if number in private_keys}
        for number in self._guard.epochs:
            if number not in private_keys:
                self._guard.forget(number)

    def ration(self, number: int) -> None:
        """The filter of this key is nearly full: from now on every peer gets an equal share of the rest of it."""
        share = self._guard.room(number) // max(1, len(self._allowed_peers))
        self._rations.setdefault(number, _Ration(share))

    def admits(self, peer: bytes) -> bool:
        """Whether this node takes packets from `peer`: it does from the layer before its own, in any key epoch."""
        return peer in self._allowed_peers

    @property
    def queued(self) -> int:
        """Packets held here, those in the links not counted."""
        return len(self._queue)

    def receive(self, peer: bytes, frames: Sequence[Frame]) -> None:
        """All packets of one read from one peer."""
        self.counters.received(len(frames))
        if self._draining:
            self.counters.dropped(DropReason.SHUTDOWN, len(frames))
            return
        for epoch, run in groupby(frames, key=attrgetter("epoch")):
            packets = [frame.body for frame in run]
            environment = self._beside(epoch)
            if peer in environment.unauthenticated:
                self.counters.dropped(DropReason.WRONG_LAYER, len(packets))
                continue
            next_hops = environment.next_hops
            for hop in self._unwrap(peer, epoch, packets):
                if isinstance(hop, ForwardHop) and hop.next_address in next_hops:
                    self.hold((hop.next_address, epoch, hop.packet), hop.delay)
                elif isinstance(hop, PacketRejected):
                    self.counters.dropped(hop.reason, 1)
                else:
                    self.ends_here(hop)

    def hold(self, item: Held, delay: int) -> None:
        """Keep a packet that is in the account as received for `delay` nanoseconds, then pass it on."""
        if delay > self._max_delay:
            self.counters.dropped(DropReason.DELAY_TOO_LONG, 1)
        elif not self._queue.add(item, delay * self.stretch):
            self.counters.dropped(DropReason.DELAY_QUEUE_FULL, 1)

    @abstractmethod
    def ends_here(self, hop: ForwardHop | FinalHop) -> None:
        """A packet that is in the account as received, and that none of the next nodes comes after."""

    def set_max_delay(self, seconds: float) -> None:
        """From now on packets that ask for a longer delay are dropped."""
        self._max_delay = int(seconds * 1e9)

    def drain(self) -> None:
        """Take no more from peers; what is held still leaves when it is due."""
        self._draining = True

    def stop(self) -> None:
        """Give up what is still held, and take no more."""
        self._draining = self._stopped = True
        self.counters.dropped(DropReason.SHUTDOWN, len(self._queue.drain()))

    def _unwrap(self, peer: bytes, epoch: int, packets: list[bytes]) -> "list[ForwardHop | FinalHop | PacketRejected]":
        numbers = self._numbers.get(epoch, [epoch])
        hops = self._unwrap_with(numbers[0], peer, packets)
        for number in numbers[1:]:
            # While a key that was taken back is still used, a packet that is not for the new one may be for that.
            left = [place for place, hop in enumerate(hops) if _has_bad_mac(hop)]
            again = self._unwrap_with(number, peer, [packets[place] for place in left])
            for place, hop in zip(left, again, strict=True):
                hops[place] = hop
        return hops

    def _unwrap_with(
        self, number: int, peer: bytes, packets: list[bytes]
    ) -> "list[ForwardHop | FinalHop | PacketRejected]":
        ration = self._rations.get(number)
        fresh = partial(self._is_fresh, number) if ration is None else partial(self._in_share, ration, peer, number)
        return self._unwrapper.unwrap_many([(number, packet) for packet in packets], fresh)

    def _is_fresh(self, number: int, tag: bytes) -> bool:
        try:
            return self._guard.fresh(number, tag)
        except DiskError as error:
            self._say_disk_failed(error)
            raise PacketRejected(DropReason.DISK_ERROR) from None

    def _in_share(self, ration: "_Ration", peer: bytes, number: int, tag: bytes) -> bool:
        if ration.taken[peer] >= ration.share:
            raise PacketRejected(DropReason.PEER_SHARE)
        fresh = self._is_fresh(number, tag)
        ration.taken[peer] += fresh
        return fresh

    def _release(self, due: list[Held]) -> None:
        """Called by the delay queue with packets that are due: their replay tags go to disk first."""
        if not self._tags_are_written():
            self.counters.dropped(DropReason.DISK_ERROR, len(due))
            return
        links = self._links
        assert links is not None, "use_links comes before the first packet"
        links.send_many([item for item in due if isinstance(item, tuple)])
        for item in due:
            if not isinstance(item, tuple):
                item()

    def _late(self, count: int) -> None:
        """Called by the delay queue: so many packets are overdue for too long, and dropped."""
        self.counters.dropped(DropReason.TOO_LATE, count)

    def _tags_are_written(self) -> bool:
        try:
            self._guard.flush()
        except DiskError as error:
            self._say_disk_failed(error)
            return False
        if self._disk_failed:
            self.log.info("Replay tags are written again")
            self._disk_failed = False
        return True

    def _say_disk_failed(self, error: DiskError) -> None:
        if not self._disk_failed:
            self.log.error("No packet passes until replay tags can be written: {error}", error=error)
            self._disk_failed = True


def _rates(edge: NodeRecord | None, outwards: bool) -> Mapping[int, float]:
    """Frames a second of each size class on a line of this edge; none where it is not padded."""
    if edge is None or not edge.lines:
        return {}
    rates = edge.lines
    if outwards:
        return {SizeClass.REGULAR: rates.packets_out, SizeClass.ACK: rates.acks_out}
    return {SizeClass.REGULAR: rates.packets_in, SizeClass.ACK: rates.acks_in}


def _has_bad_mac(hop: ForwardHop | FinalHop | PacketRejected) -> bool:
    return isinstance(hop, PacketRejected) and hop.reason is DropReason.BAD_MAC
