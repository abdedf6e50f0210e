"""A model of the network in arrays: the rows of an hour of 100 clients in a minute, where the real services take hours.

It has the streams of clients, routes, exponential delays, acks, links with a latency, and lines in constant slots. It
leaves out what does not depend on who talks to whom: logins, pulls and pushes, retransmissions (nothing is lost), loops
of mixnodes. `tests/anonymity/test_model.py` compares its rows with those of the real services. Needs `nymtw[lab]`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

import numpy as np

from nymtw.sphinx import SizeClass
from nymtw.testing.attacks.scene import Scene
from nymtw.testing.rows import COLUMNS, Direction, Kind, Rows

Array = Any  # numpy arrays: of one dimension, entries belong to packets
LAYERS: Final = 3
_NOWHERE: Final = -1
_SHORTEST_SLOT: Final = 0.005  # seconds between two slots of a line, at least
_AIMED: Final = 1.1


@dataclass(frozen=True, slots=True)
class Transfer:
    """A message: `packets` real ones from client `sender` to client `recipient` (numbers), from `start` seconds on."""

    sender: int
    recipient: int
    start: float
    packets: int


@dataclass(frozen=True, slots=True)
class Download:
    """`packets` of replies from a service at edge `edge` (number), from `start` on, at `rate` a second."""

    client: int
    edge: int
    start: float
    packets: int
    rate: float = 100.0


@dataclass(frozen=True, slots=True)
class Interference:
    """The edge of `client` drops its packets in `spans` (from, to, in seconds), or holds each until its span ends."""

    client: int
    spans: Sequence[tuple[float, float]]
    kind: str  # "drop" or "delay"


@dataclass(frozen=True, kw_only=True)
class Network:
    """Sizes, rates (events a second) and times (seconds); the defaults are those that a directory recommends.

    `cover` fills idle slots: "drops", "loops" or "none". `line_wait` is what a packet waits on average for a slot of a
    padded line, 0 for lines that send what there is. `services`: one at each edge that sends replies or cover at
    `service_rate`, if that is not 0. `offline`: clients that send nothing at all.
    """

    clients: int = 20
    edges: int = 2
    mixnodes: int = 2
    sending: float = 20.0
    loops: float = 5.0
    mean_delay: float = 0.05
    latency: float = 0.001
    cover: str = "drops"
    line_wait: float = 0.015
    line_headroom: float = 1.25
    service_rate: float = 0.0
    offline: frozenset[int] = field(default=frozenset())

    @property
    def names(self) -> list[str]:
        """Clients, edges, then mixnodes layer by layer, as a `SimulatedNetwork` calls them, and nobody."""
        clients = [f"client-{number + 1}" for number in range(self.clients)]
        edges = [f"provider-{number + 1}" for number in range(self.edges)]
        mixnodes = [f"mixnode-{layer + 1}-{place + 1}" for layer in range(LAYERS) for place in range(self.mixnodes)]
        return [*clients, *edges, *mixnodes, "nobody"]

    def edge(self, number: int) -> int:
        """The index of an edge in `names`."""
        return self.clients + number

    def home(self, client: int) -> int:
        """The edge (number) of a client: in turn."""
        return client % self.edges

    def scene(self, start: float, end: float, share: float, before: float = 0.0) -> Scene:
        """What an attacker of this network knows, for a message sent from `start` to `end`."""
        names = self.names
        spread = self.sending / (self.sending + self.loops) if self.cover == "drops" else 0.0
        return Scene(
            home={names[client]: names[self.edge(self.home(client))] for client in range(self.clients)},
            edges=names[self.clients : self.clients + self.edges],
            start=start,
            end=end,
            share=share,
            before=before,
            mean_delay=self.mean_delay,
            latency=self.latency,
            own_cover=1 - spread,
            spread_cover=spread,
        )


@dataclass(slots=True)
class _Packets:
    """Packets that travel together: where from (edge), where to (edge), for whom (client, or nowhere), when, what."""

    origin: Array
    edge: Array
    target: Array
    owner: Array  # the client that an ack goes back to
    time: Array
    kind: Array
    number: Array

    def __len__(self) -> int:
        return len(self.time)


def simulate(
    network: Network,
    seconds: float,
    seed: int,
    transfers: Sequence[Transfer] = (),
    downloads: Sequence[Download] = (),
    interference: Interference | None = None,
) -> Rows:
    """All rows of `seconds`, not in order of time; equal arguments give equal rows. Raises `ValueError`."""
    if network.cover not in ("drops", "loops", "none"):
        raise ValueError(f"cover is drops, loops or none, not {network.cover!r}")
    return _Run(network, seconds, seed, transfers, downloads).rows(interference)


class _Run:
    def __init__(
        self,
        network: Network,
        seconds: float,
        seed: int,
        transfers: Sequence[Transfer],
        downloads: Sequence[Download],
    ) -> None:
        self.network, self.seconds = network, seconds
        self.random = np.random.default_rng(seed)
        self.transfers, self.downloads = transfers, downloads
        self._count = 0
        self._first_reply = 0
        self._parts: dict[str, list[Array]] = {name: [] for name in COLUMNS}
        self._rates = _line_rates(network)

    def rows(self, interference: Interference | None) -> Rows:
        network = self.network
        sent = self._from_clients()
        self._write(sent, sent.time + network.latency, Direction.UP, sent.owner, network.edge(0) + sent.origin, 0, 0.0)
        sent.time = sent.time + network.latency
        if interference is not None:
            sent = _interfered(sent, interference)
        replies = self._from_services()
        arrived = self._cross(sent, SizeClass.REGULAR, np.zeros(len(sent)), also=replies)
        data = arrived.number < self._first_reply if len(replies) else np.ones(len(arrived), dtype=bool)
        acked = _select(arrived, data & (arrived.owner != _NOWHERE))
        delays = self._delays(len(acked))
        acks = _Packets(
            acked.edge,
            self._home(acked.owner),
            acked.owner,
            acked.owner,
            acked.time + delays,
            np.full(len(acked), Kind.ACK, dtype=np.int8),
            self._numbers(len(acked)),
        )
        self._cross(acks, SizeClass.ACK, delays)
        columns = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        within = columns["time"] < self.seconds
        return Rows(network.names, **{name: values[within] for name, values in columns.items()})

    # what is sent

    def _from_clients(self) -> _Packets:
        network, random = self.network, self.random
        parts: list[tuple[Array, ...]] = []
        for client in range(network.clients):
            if client in network.offline:
                continue
            slots = self._poisson(network.sending)
            kinds = np.full(len(slots), {"drops": Kind.DROP, "loops": Kind.LOOP, "none": Kind.OTHER}[network.cover])
            home = network.home(client)
            edges = np.full(len(slots), home)
            targets = np.full(len(slots), client if network.cover == "loops" else _NOWHERE)
            if network.cover == "drops":
                edges = random.integers(0, network.edges, len(slots))
            for transfer in self.transfers:
                if transfer.sender == client:
                    free = np.flatnonzero((slots >= transfer.start) & (kinds != Kind.REAL))[: transfer.packets]
                    kinds[free], targets[free] = Kind.REAL, transfer.recipient
                    edges[free] = network.home(transfer.recipient)
            used = kinds != Kind.OTHER
            loops = self._poisson(network.loops)
            parts.append((slots[used], edges[used], targets[used], kinds[used], np.full(used.sum(), client)))
            count = len(loops)
            own, mine = np.full(count, home), np.full(count, client)
            parts.append((loops, own, mine, np.full(count, Kind.LOOP), mine))
        time, edge, target, kind, owner = (np.concatenate(values) for values in zip(*parts, strict=True))
        numbers = self._numbers(len(time))
        return _Packets(self._home(owner), edge, target, owner, time, kind.astype(np.int8), numbers)

    def _from_services(self) -> _Packets:
        """Replies, and cover that looks like them: no acks."""
        network = self.network
        self._first_reply = self._count
        parts: list[tuple[Array, ...]] = []
        for edge in range(network.edges) if network.service_rate else ():
            slots = self._poisson(network.service_rate)
            edges = self.random.integers(0, network.edges, len(slots))
            targets, kinds = np.full(len(slots), _NOWHERE), np.full(len(slots), Kind.DROP)
            for download in self.downloads:
                if download.edge == edge:
                    free = np.flatnonzero((slots >= download.start) & (kinds != Kind.REPLY))[: download.packets]
                    kinds[free], targets[free] = Kind.REPLY, download.client
                    edges[free] = network.home(download.client)
            parts.append((slots, edges, targets, kinds, np.full(len(slots), edge)))
        for download in self.downloads if not network.service_rate else ():
            times = download.start + np.cumsum(self.random.exponential(1 / download.rate, download.packets))
            count = len(times)
            target = np.full(count, download.client)
            edges = np.full(count, network.home(download.client))
            parts.append((times, edges, target, np.full(count, Kind.REPLY), np.full(count, download.edge)))
        if not parts:
            empty = np.zeros(0, dtype=np.int64)
            return _Packets(empty, empty, empty, empty, np.zeros(0), empty, empty)
        time, to, target, kind, origin = (np.concatenate(values) for values in zip(*parts, strict=True))
        owner = np.full(len(time), _NOWHERE)
        return _Packets(origin, to, target, owner, time, kind.astype(np.int8), self._numbers(len(time)))

    # on the way

    def _cross(self, packets: _Packets, size: int, delays: Array, also: _Packets | None = None) -> _Packets:
        """Edge, three mixnodes, edge. `delays`: what was drawn for the edge, for the record. Returns them arrived."""
        network = self.network
        if also is not None and len(also):
            packets, delays = _join(packets, also), np.concatenate((delays, np.zeros(len(also))))
        route = [self.random.integers(0, network.mixnodes, len(packets)) for _ in range(LAYERS)]
        base = network.edge(network.edges)
        nodes = [base + layer * network.mixnodes + place for layer, place in enumerate(route)]
        edge, last = network.edge(0) + packets.origin, network.edge(0) + packets.edge
        time = self._lines(packets.time, edge, nodes[0], Direction.IN, size) + network.latency
        self._write(packets, time, Direction.IN, edge, nodes[0], 1, delays, size)
        for hop in range(1, LAYERS):
            held = self._delays(len(packets))
            time = time + held + network.latency
            self._write(packets, time, Direction.ACROSS, nodes[hop - 1], nodes[hop], hop + 1, held, size)
        held = self._delays(len(packets))
        time = self._lines(time + held, nodes[-1], last, Direction.OUT, size) + network.latency
        self._write(packets, time, Direction.OUT, nodes[-1], last, LAYERS + 1, held, size)
        nobody = len(network.names) - 1
        target = np.where(packets.target == _NOWHERE, nobody, packets.target)
        self._write(packets, time, Direction.KEPT, last, target, LAYERS + 2, 0.0, size)
        arrived = _select(packets, np.ones(len(packets), dtype=bool))
        arrived.time = time
        return arrived

    def _lines(self, due: Array, source: Array, target: Array, direction: Direction, size: int) -> Array:
        """When packets that are due leave: at once, or in the slots of their lines, which dummies fill."""
        rate = self._rates.get((direction, size), 0.0)
        if not rate:
            return due
        network = self.network
        left = due.copy()
        edges = range(network.edge(0), network.edge(network.edges))
        first = network.edge(network.edges) + (0 if direction is Direction.IN else (LAYERS - 1) * network.mixnodes)
        for edge in edges:
            for node in range(first, first + network.mixnodes):
                one, other = (edge, node) if direction is Direction.IN else (node, edge)
                of_line: Array = np.flatnonzero((source == one) & (target == other))
                frames = max(1, ceil(rate * _SHORTEST_SLOT - 1e-9))
                interval = frames / rate
                phase = interval * self.random.random()
                order = of_line[np.argsort(due[of_line], kind="stable")]
                taken = _slots(due[order], phase, interval, frames)
                left[order] = phase + (taken // frames) * interval
                count = int((self.seconds - phase) / interval + 1) * frames
                free = np.setdiff1d(np.arange(count), taken, assume_unique=True)
                self._dummies(phase + (free // frames) * interval + network.latency, direction, one, other, size)
        return left

    def _dummies(self, times: Array, direction: Direction, source: int, target: int, size: int) -> None:
        count = len(times)
        none = np.full(count, _NOWHERE)
        packets = _Packets(none, none, none, none, times, np.full(count, Kind.DUMMY, dtype=np.int8), none)
        self._write(packets, times, direction, np.full(count, source), np.full(count, target), _NOWHERE, 0.0, size)

    def _write(
        self,
        packets: _Packets,
        times: Array,
        direction: Direction,
        source: Array,
        target: Array,
        hop: int,
        delays: Any,
        size: int = SizeClass.REGULAR,
    ) -> None:
        count = len(times)
        values = (
            times,
            source.astype(np.int16),
            target.astype(np.int16),
            np.full(count, size, dtype=np.int8),
            np.full(count, direction, dtype=np.int8),
            packets.number,
            np.full(count, hop, dtype=np.int8),
            np.broadcast_to(delays, count).astype(float),
            packets.kind,
        )
        for name, column in zip(COLUMNS, values, strict=True):
            self._parts[name].append(column)

    # chance

    def _poisson(self, rate: float) -> Array:
        if rate <= 0:
            return np.zeros(0)
        return np.sort(self.random.random(self.random.poisson(rate * self.seconds)) * self.seconds)

    def _delays(self, count: int) -> Array:
        return self.random.exponential(self.network.mean_delay, count) if self.network.mean_delay else np.zeros(count)

    def _numbers(self, count: int) -> Array:
        self._count += count
        return np.arange(self._count - count, self._count)

    def _home(self, clients: Array) -> Array:
        return clients % self.network.edges


def _interfered(packets: _Packets, interference: Interference) -> _Packets:
    passed = np.ones(len(packets), dtype=bool)
    for start, end in interference.spans:
        held = (packets.owner == interference.client) & (packets.time >= start) & (packets.time < end)
        if interference.kind == "drop":
            passed &= ~held
        packets.time = np.where(held, end, packets.time)
    return _select(packets, passed)


def _slots(due: Array, phase: float, interval: float, frames: int) -> Array:
    """The frame (counted from the line's first slot) that each packet gets: `due` in order, one packet a frame."""
    if not len(due):
        return np.zeros(0, dtype=np.int64)
    earliest = np.maximum(0, np.ceil((due - phase) / interval - 1e-9)).astype(np.int64) * frames
    places = np.arange(len(due))
    return places + np.maximum.accumulate(earliest - places)


def _select(packets: _Packets, mask: Array) -> _Packets:
    return _Packets(*(getattr(packets, name)[mask] for name in _Packets.__dataclass_fields__))


def _join(one: _Packets, other: _Packets) -> _Packets:
    return _Packets(
        *(np.concatenate((getattr(one, name), getattr(other, name))) for name in _Packets.__dataclass_fields__)
    )


def _line_rates(network: Network) -> dict[tuple[Direction, int], float]:
    """Frames a second of a line of each direction and size; none where lines are not padded."""
    if not network.line_wait:
        return {}
    at_edge = ceil(network.clients / network.edges)
    loops, sent = at_edge * network.loops, at_edge * (network.sending + network.loops)
    evenly = network.clients * network.sending / network.edges
    others = 1 - 1 / network.edges
    one_client, one_sender = others * network.sending, others * max(network.sending, network.service_rate)

    def rate(offered: float, aimed: float) -> float:
        offered, aimed = offered / network.mixnodes, aimed / network.mixnodes
        waiting = offered + 1 / (2 * network.line_wait)
        return float(ceil(max(waiting, offered * network.line_headroom, offered + _AIMED * aimed)))

    services = network.service_rate
    return {
        (Direction.OUT, SizeClass.REGULAR): rate(loops + evenly + services, one_sender),
        (Direction.OUT, SizeClass.ACK): rate(sent, 0.0),
        (Direction.IN, SizeClass.REGULAR): rate(sent + services, 0.0),
        (Direction.IN, SizeClass.ACK): rate(loops + evenly, one_client),
    }
