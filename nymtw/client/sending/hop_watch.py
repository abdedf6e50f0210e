"""A client's own measurements: which mixnodes forward its packets, and how long acks take.

The consensus keeps a silent node for a while, so that a network does not flap. Meanwhile a client sees, by the acks of
all it sends, cover above all, that nothing comes back through a mixnode, and draws other routes. It never avoids more
than half of a layer, so that an attacker who drops packets cannot choose its routes, and tries again by and by.
"""

import random as random_module
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from zope.interface import implementer

from nymtw.interfaces import IRouteStrategy
from nymtw.message.packets import Outgoing
from nymtw.message.round_trip import MOST, RoundTrips
from nymtw.topology.document import LAYERS, NodeRecord, Topology

LATE: Final = 3.0  # seconds beyond drawn delays and learned excess after which an ack is missed
LEAST_MISSED: Final = 30  # packets in a row
LEAST_SECONDS: Final = 5.0  # from the first of them on
AVOIDED_FOR: Final = 30.0  # seconds, until it is tried again
MOST_PENDING: Final = 20_000
DRAWS: Final = 32  # at most half of each layer is avoided: one route in eight is good, at the least


@dataclass(slots=True)
class _Hop:
    """A mixnode: packets through it that were missed since something came back, since when, until when avoided."""

    missed: int = 0
    since: float = 0.0
    came: float = 0.0
    until: float = 0.0


class HopWatch:
    """`sent` and `acknowledged` count packets and acks; `avoided` names the mixnodes to leave out."""

    def __init__(self, seconds: Callable[[], float], round_trips: RoundTrips) -> None:
        """`round_trips` is told what every ack took beyond its drawn delays."""
        self._seconds = seconds
        self._round_trips = round_trips
        self._pending: dict[bytes, tuple[Outgoing, float]] = {}  # by ack id, with when it was to come
        self._undecided: deque[bytes] = deque()  # the ack ids that are neither here nor missed
        self._hops: dict[bytes, _Hop] = {}

    def sent(self, packet: Outgoing) -> None:
        """A packet has left."""
        self._miss()
        if len(self._pending) < MOST_PENDING:
            self._pending[packet.ack_id] = packet, self._seconds() + packet.expected_round_trip
            self._undecided.append(packet.ack_id)

    def acknowledged(self, ack_id: bytes) -> None:
        """An ack has come."""
        found = self._pending.pop(ack_id, None)
        if found is None:
            return
        packet, expected = found
        now = self._seconds()
        self._round_trips.measured(packet.route[-1], now - expected, now)
        for hop in _mixnodes(packet):
            self._hops[hop] = _Hop(came=now)

    def disconnected(self) -> None:
        """No ack can come: what is under way says nothing."""
        self._pending.clear()
        self._undecided.clear()

    def avoided(self, topology: Topology) -> frozenset[bytes]:
        """The mixnodes through which nothing comes back while something does through others of their layer."""
        now = self._seconds()
        found: list[bytes] = []
        for layer in LAYERS:
            there = [node.identity for node in topology.usable_mixnodes(layer)]
            known = {identity: self._hops[identity] for identity in there if identity in self._hops}
            latest = max((hop.came for hop in known.values()), default=0.0)
            suspects = []
            for identity, hop in known.items():
                is_new = hop.missed >= LEAST_MISSED and hop.since + LEAST_SECONDS <= now and latest > hop.since
                if is_new and not hop.until:
                    hop.until = now + AVOIDED_FOR
                if hop.until and now >= hop.until:
                    hop.missed, hop.until = 0, 0.0
                if hop.until:
                    suspects.append((hop.since, identity))
            found += [identity for _, identity in sorted(suspects)[: len(there) // 2]]
        return frozenset(found)

    def _miss(self) -> None:
        """Count those whose ack should have come. They are looked at in the order in which they were sent."""
        now = self._seconds()
        missed: Counter[bytes] = Counter()
        while self._undecided:
            ack_id = self._undecided[0]
            if ack_id in self._pending:
                packet, expected = self._pending[ack_id]
                if expected + LATE + self._round_trips.wait(packet.route[-1]) > now:
                    break
                missed.update(_mixnodes(packet))
            self._undecided.popleft()
        # An ack that is late teaches how long acks take: it is waited for longer than it takes to miss it.
        while self._pending:
            ack_id = next(iter(self._pending))
            if self._pending[ack_id][1] + LATE + MOST > now:
                break
            del self._pending[ack_id]
        for identity, number in missed.items():
            hop = self._hops.setdefault(identity, _Hop())
            if not hop.missed:
                hop.since = now
            hop.missed += number
        if len(self._hops) > MOST_PENDING:
            self._hops.clear()


@implementer(IRouteStrategy)
class AvoidingRoutes:
    """Routes as `inner` draws them, drawn again while one has a mixnode that is avoided."""

    def __init__(self, inner: IRouteStrategy, watch: HopWatch) -> None:
        self._inner = inner
        self._watch = watch

    def draw(self, topology: Topology, random: random_module.Random) -> Sequence[NodeRecord]:
        """One mixnode for each layer, in order. Raises as `inner` does."""
        route = self._inner.draw(topology, random)
        avoided = self._watch.avoided(topology)
        for _ in range(DRAWS if avoided else 0):
            if not any(node.identity in avoided for node in route):
                break
            route = self._inner.draw(topology, random)
        return route


def _mixnodes(packet: Outgoing) -> set[bytes]:
    return {*packet.route[:-1], *packet.ack_route[:-1]}
