"""The mix itself, without sockets: unwrap what came in, hold each packet for its delay, pass it on, account for it.

What happens to a packet that ends at this node is the role's part.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from random import Random
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime

from nymtw.drop_reasons import DropReason
from nymtw.errors import PacketRejected
from nymtw.interfaces import IMixing
from nymtw.link.frames import Frame
from nymtw.message.cryptography import PacketUnwrapper
from nymtw.mixing.delay_queue import DelayQueue
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.node.engine.epoch_unwrapper import EpochUnwrapper
from nymtw.node.engine.neighbours import Neighbours, find_neighbours
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.node.engine.replay_check import ReplayCheck
from nymtw.sphinx import FinalHop, ForwardHop
from nymtw.topology.document import NodeRecord, Topology

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


class PacketEngine(ABC):
    """Receives frames, releases packets.

    Nothing leaves before it is due and its replay tag has been written, whichever is later. Every packet that comes in
    is in the account as received, and then as forwarded, delivered or dropped, or it is still queued.
    """

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
        self.replays = ReplayCheck(guard)
        self._unwrapper = EpochUnwrapper(unwrapper, self.replays)
        self.counters = counters
        self.own = own
        self.capacity = capacity
        self.stretch = 1  # every delay is multiplied by this
        self.set_max_delay(max_delay)
        self._queue: IMixing = mixing(clock, self._release, random, capacity, PATIENCE, self._late)
        self._links: Links | None = None
        self._neighbours = Neighbours()
        self._lines: Mapping[bytes, Mapping[int, float]] = {}  # as the links know them
        self._draining = False

    def use_links(self, links: Links) -> None:
        """Called once, before the first packet."""
        self._links = links

    def use_topology(self, topology: Topology) -> None:
        """From now on packets go to, and are taken from, the neighbours that `topology` names.

        The neighbours of a packet are those of its key epoch.
        """
        self._neighbours = neighbours = find_neighbours(self.own, topology)
        if self._links is None:
            return
        if neighbours.lines != self._lines:
            self._lines = neighbours.lines
            self._links.set_lines(neighbours.lines)
        self._links.set_peers(neighbours.peers)

    @property
    def neighbours(self) -> Neighbours:
        """The nodes before and behind this one."""
        return self._neighbours

    def next_hops(self, epoch: int) -> frozenset[bytes]:
        """To whom a packet of this key epoch may go from here."""
        return self._neighbours.at(epoch).next_hops

    def use_keys(self, private_keys: Mapping[int, bytes]) -> None:
        """Unwrap with these keys (32 bytes each, by the number that `KeyRing` gives them).

        The replay tags of other keys go with them.
        """
        self._unwrapper.use_keys(private_keys)

    def ration(self, number: int) -> None:
        """The filter of this key is nearly full: from now on every peer gets an equal share of the rest of it."""
        self.replays.ration(number, len(self._neighbours.allowed))

    def admits(self, peer: bytes) -> bool:
        """Whether this node takes packets from `peer`: it does from the layer before its own, in any key epoch."""
        return peer in self._neighbours.allowed

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
            neighbours = self._neighbours.at(epoch)
            if peer in neighbours.unauthenticated:
                self.counters.dropped(DropReason.WRONG_LAYER, len(packets))
                continue
            next_hops = neighbours.next_hops
            for hop in self._unwrapper.unwrap(peer, epoch, packets):
                if isinstance(hop, ForwardHop) and hop.next_address in next_hops:
                    self.forward(peer, epoch, hop)
                elif isinstance(hop, PacketRejected):
                    self.counters.dropped(hop.reason, 1)
                else:
                    self.end(peer, hop)

    def forward(self, peer: bytes, epoch: int, hop: ForwardHop) -> None:
        """A packet of `peer`, in the account as received, for a next hop of its key epoch."""
        self.hold((hop.next_address, epoch, hop.packet), hop.delay)

    def end(self, peer: bytes, hop: ForwardHop | FinalHop) -> None:
        """A packet of `peer`, in the account as received, that none of the next hops of its key epoch comes after."""
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
        self._draining = True
        self.counters.dropped(DropReason.SHUTDOWN, len(self._queue.drain()))

    def _release(self, due: list[Held]) -> None:
        """Called by the delay queue with packets that are due: their replay tags go to disk first."""
        if not self.replays.write():
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
