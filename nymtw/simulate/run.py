"""Trials: each one is a network from its seed, one message in it, and the attacks on what was seen."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import numpy as np

from nymtw.client.sending.idle import cover_strategy
from nymtw.directory.config import RecommendedSection
from nymtw.message.envelope import ENVELOPE_OVERHEAD
from nymtw.message.fragments import FRAGMENT_CAPACITY
from nymtw.mixing.strategies import delay_factory, mixing_factory, route_strategy
from nymtw.simulate.workload import Workload
from nymtw.sphinx import SizeClass
from nymtw.testing.attacks import PASSIVE
from nymtw.testing.attacks.scene import Scene, column
from nymtw.testing.model import Download, Network, Transfer, simulate
from nymtw.testing.observer import Observer
from nymtw.testing.rows import Direction, Kind, Rows
from nymtw.testing.simulation import SimulatedNetwork

_SETTLE: Final = 2.0  # seconds until streams and links are as they will be
_PADDED: Final = (Direction.IN, Direction.OUT)


@dataclass(frozen=True)
class Plan:
    """What the command line asks for, besides where to write it."""

    clients: int
    edges: int
    mixnodes: int
    workload: Workload
    attacks: tuple[str, ...]
    engine: str = "model"
    crypto: str = "none"
    cover: str = "drops"
    delays: str = "exponential"
    routes: str = "uniform"
    mixing: str = "delays"

    def network(self, offline: frozenset[int] = frozenset()) -> Network:
        """The model of this network."""
        told = self.workload.network
        return Network(
            clients=self.clients,
            edges=self.edges,
            mixnodes=self.mixnodes,
            sending=told.sending_rate,
            loops=told.loop_rate,
            mean_delay=told.mean_delay,
            latency=told.latency,
            cover=self.cover if self.cover in ("drops", "loops", "none") else "none",
            line_wait=told.line_wait,
            line_headroom=told.line_headroom,
            service_rate=told.service_rate,
            offline=offline,
        )


@dataclass(frozen=True)
class Trial:
    """What an attack made of one: `ranks` of the true pair and of the sender at its edge, by attack."""

    seed: int
    sender: str
    recipient: str
    ranks: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Costs:
    """Of one trial. Seconds that a real packet took to its mailbox (median, 95th percentile) and that lines added
    (median, all hops); frames on lines at edges, dummies among them; packets that a client sends a second; packets and
    dummies that reach a mixnode a second, on average over all of them.
    """

    latency: float
    latency_95: float
    added: float
    frames: int
    dummies: int
    client_rate: float
    mixnode_packets: float
    mixnode_dummies: float

    @property
    def overhead(self) -> float:
        """Frames over those that are no dummies."""
        return self.frames / max(1, self.frames - self.dummies)

    @property
    def unwraps(self) -> float:
        """What a mixnode does a second, in packets: a dummy is a quarter of one (`benchmarks/padding.py`)."""
        return self.mixnode_packets + self.mixnode_dummies / 4


def run(plan: Plan, seeds: Iterable[int], done: Callable[[Trial], None] = lambda trial: None) -> list[Trial]:
    """The trials of these seeds; `done` is told of each. Raises `PluginError` for a strategy that cannot be used."""
    trials = []
    for seed in seeds:
        rows, scene, sender, recipient = observe(plan, seed)
        trials.append(evaluate(plan, seed, rows, scene, sender, recipient))
        done(trials[-1])
    return trials


def evaluate(plan: Plan, seed: int, rows: Rows, scene: Scene, sender: str, recipient: str) -> Trial:
    """Attack one trial. The true pair is ranked among those of different edges, as it is one."""
    neighbours = [client for client, edge in scene.home.items() if edge == scene.home.get(sender)]
    ranks = {}
    for name in plan.attacks:
        scores = PASSIVE[name](rows, scene)
        ranks[name] = (scores.rank((sender, recipient), scene.between_edges), scores.sender_rank(sender, neighbours))
    return Trial(seed, sender, recipient, ranks)


def observe(plan: Plan, seed: int) -> tuple[Rows, Scene, str, str]:
    """The rows of one trial, what the attacker knows, and the true pair."""
    sender, recipient = draw_pair(plan, seed)
    if plan.engine == "network":
        return _in_network(plan, seed, sender, recipient)
    return _in_model(plan, seed, sender, recipient)


def draw_pair(plan: Plan, seed: int) -> tuple[int, int]:
    """A random sender, and a random recipient at another edge (numbers of clients)."""
    random = Random(f"pair/{seed}")
    sender = random.randrange(plan.clients)
    others = [client for client in range(plan.clients) if client % plan.edges != sender % plan.edges]
    return sender, random.choice(others)


def _in_model(plan: Plan, seed: int, sender: int, recipient: int) -> tuple[Rows, Scene, str, str]:
    workload, message = plan.workload, plan.workload.message
    offline = frozenset({recipient}) if message.kind == "offline" else frozenset()
    network = plan.network(offline)
    start = _SETTLE + message.before
    seconds = start + workload.window + message.after
    downloads = []
    if message.kind == "download":
        # The service is where the recipient's mailbox would be; the sender's packets bring it reply blocks.
        downloads.append(Download(sender, network.home(recipient), start, workload.replies, message.rate))
    rows = simulate(network, seconds, seed, [Transfer(sender, recipient, start, workload.packets)], downloads)
    scene = network.scene(start, start + workload.window, workload.share, _SETTLE)
    names = network.names
    return rows, scene, names[sender], names[recipient]


def _in_network(plan: Plan, seed: int, sender: int, recipient: int) -> tuple[Rows, Scene, str, str]:
    told, message = plan.workload.network, plan.workload.message
    model = plan.network()
    names = model.names
    observer = Observer()
    recommended = RecommendedSection(
        message_sending_rate=told.sending_rate,
        loop_cover_traffic_rate=told.loop_rate,
        average_packet_delay=told.mean_delay,
    )
    # Each packet carries a fragment; the envelope is in the first.
    data = Random(seed).randbytes(max(1, plan.workload.packets * FRAGMENT_CAPACITY - ENVELOPE_OVERHEAD))
    with SimulatedNetwork(
        seed,
        clients=names[: plan.clients],
        providers=plan.edges,
        mixnodes_per_layer=plan.mixnodes,
        recommended=recommended,
        latency=told.latency,
        delays=delay_factory(plan.delays),
        routes=route_strategy(plan.routes),
        idle=cover_strategy(plan.cover),
        mixing=mixing_factory(plan.mixing),
        crypto=plan.crypto,
        observer=observer,
    ) as network:
        network.run(_SETTLE)
        before = network.clock.seconds()
        network.run(message.before)
        start = network.clock.seconds()
        network.send(names[sender], names[recipient], data)
        network.run(plan.workload.window + message.after)
        end = network.clock.seconds() - message.after
    scene = model.scene(start, end, plan.workload.share, before)
    return observer.rows, scene, names[sender], names[recipient]


def costs(rows: Rows, plan: Plan) -> Costs:
    """What the packets of this trial cost."""
    number, kind, direction = (column(rows, name) for name in ("packet", "kind", "direction"))
    time, delay, size = column(rows, "time"), column(rows, "delay"), column(rows, "size_class")
    sent = (direction == Direction.UP) & (size == SizeClass.REGULAR)
    real = np.isin(kind, (Kind.REAL, Kind.REPLY, Kind.DROP, Kind.LOOP)) & (number >= 0)
    begun = _by_packet(number, time, sent & real)
    ended = _by_packet(number, time, (direction == Direction.KEPT) & real)
    held = real & np.isin(direction, (Direction.ACROSS, Direction.OUT))
    order = np.argsort(number[held], kind="stable")
    numbers, first = np.unique(number[held][order], return_index=True)
    drawn = (
        dict(zip(numbers.tolist(), np.add.reduceat(delay[held][order], first).tolist(), strict=True))
        if len(first)
        else {}
    )
    both = [packet for packet in ended if packet in begun and packet in drawn]
    took = np.array([ended[packet] - begun[packet] for packet in both] or [float("nan")])
    links = 4 * plan.workload.network.latency
    added = np.array([ended[packet] - begun[packet] - drawn[packet] - links for packet in both] or [float("nan")])
    at_edges = np.isin(direction, _PADDED)
    to_mixnodes = np.isin(direction, (Direction.IN, Direction.ACROSS))
    seconds = float(time.max() - time.min()) if len(time) else 0.0
    of_mixnodes = seconds * 3 * plan.mixnodes or math.inf
    return Costs(
        latency=float(np.median(took)),
        latency_95=float(np.quantile(took, 0.95)),
        added=float(np.median(added)),
        frames=int(at_edges.sum()),
        dummies=int((at_edges & (kind == Kind.DUMMY)).sum()),
        client_rate=float(sent.sum()) / seconds / plan.clients if seconds else 0.0,
        mixnode_packets=float((to_mixnodes & (kind != Kind.DUMMY)).sum()) / of_mixnodes,
        mixnode_dummies=float((to_mixnodes & (kind == Kind.DUMMY)).sum()) / of_mixnodes,
    )


def _by_packet(number: Any, time: Any, mask: Any) -> dict[int, float]:
    return dict(zip(number[mask].tolist(), time[mask].tolist(), strict=True))
