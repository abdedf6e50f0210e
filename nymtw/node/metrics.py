"""A node's metrics as Prometheus text. No label ever names a peer, a client or a message.

Nothing is counted here: the values are read from the node's parts at each request. `docs/operating.md` lists them.
The library of Prometheus is loaded at the first request: most nodes are never asked.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from nymtw.drop_reasons import DropReason
from nymtw.node.announce.presence import Presence
from nymtw.node.directories.topology_watch import TopologyWatch
from nymtw.node.engine.key_rotation import KeyRotation
from nymtw.node.engine.packet_counters import PacketCounters

if TYPE_CHECKING:  # loaded when metrics are first asked for
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_KEYS = ((-1, "previous"), (0, "current"), (1, "next"))


class Metrics:
    """The metrics of registered collectors, and those of the process."""

    def __init__(self) -> None:
        self._collectors: list[_Collector] = []

    def add(self, collect: "Callable[[], Iterable[Metric]]") -> None:
        """Ask `collect` as well from now on. No label that it uses may name a peer or a client."""
        self._collectors.append(_Collector(collect))

    def text(self) -> bytes:
        """The Prometheus text, format 0.0.4."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        for collector in self._collectors:
            registry.register(collector)
        return generate_latest(registry)


class _Collector:
    def __init__(self, collect: "Callable[[], Iterable[Metric]]") -> None:
        self.collect = collect

    def describe(self) -> "Iterable[Metric]":
        """Nothing: the names are known when the values are."""
        return ()


def gauge(name: str, text: str, value: float) -> "GaugeMetricFamily":
    """A value that goes up and down."""
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"nymtw_{name}", text, value=value)


def labelled_gauges(name: str, text: str, labels: Sequence[str]) -> "GaugeMetricFamily":
    """A family of such values, one for each label; the caller adds them."""
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"nymtw_{name}", text, labels=labels)


def counter(name: str, text: str, value: float) -> "CounterMetricFamily":
    """A value that only grows; Prometheus adds `_total` to its name."""
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(f"nymtw_{name}", text, value=value)


def labelled_counters(name: str, text: str, labels: Sequence[str]) -> "CounterMetricFamily":
    """A family of such values, one for each label; the caller adds them."""
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(f"nymtw_{name}", text, labels=labels)


class MeasuredNode(Protocol):
    """The parts of a node that mixes which are measured."""

    counters: PacketCounters
    links: Any
    parts: Any
    presence: Presence
    rotation: KeyRotation
    watch: TopologyWatch

    @property
    def core(self) -> Any: ...


def node_metrics(node: MeasuredNode) -> "Iterable[Metric]":
    """The metrics of every node that mixes."""
    yield from _packets(node)
    yield from _keys(node)
    yield from _network(node)


def _packets(node: MeasuredNode) -> "Iterable[Metric]":
    counters = node.counters.snapshot()
    yield counter("packets_received", "Packets that came in, or began here.", counters.received)
    yield counter("packets_forwarded", "Packets handed to a link.", counters.forwarded)
    yield counter("packets_delivered", "Packets that ended here as they should.", counters.delivered)
    dropped = labelled_counters("packets_dropped", "Packets dropped, by reason.", labels=["reason"])
    for reason in DropReason:
        dropped.add_metric([reason.value], counters.dropped.get(reason, 0))
    yield dropped
    queued = labelled_gauges("packets_queued", "Packets inside the node, by place.", labels=["place"])
    queued.add_metric(["delay"], node.core.queued)
    queued.add_metric(["links"], node.links.pending)
    yield queued
    yield gauge("delay_queue_capacity_packets", "The most packets that are held at once.", node.core.capacity)
    yield gauge("carried_packets_per_second", "What this machine carries, as measured at start.", node.parts.carried)
    yield gauge("configured_packets_per_second", "What it was told to be ready for.", node.parts.section.rate)
    padding = node.links.padding
    yield counter("dummies_sent", "Dummy frames sent on padded lines.", padding.sent)
    yield counter("dummies_received", "Dummy frames received, and dropped unread.", padding.received)
    yield counter("slots_skipped", "Frames not sent since the machine was late for their slot.", padding.skipped)
    links = labelled_gauges("links", "Links to other nodes that are up.", labels=["direction"])
    incoming, outgoing = node.links.up()
    links.add_metric(["in"], incoming)
    links.add_metric(["out"], outgoing)
    yield links


def _keys(node: MeasuredNode) -> "Iterable[Metric]":
    rotation = node.rotation
    epoch = rotation.epoch
    guard = node.parts.guard
    yield gauge("key_epoch", "The key epoch of this node's clock; -1 before the first topology.", _number(epoch))
    yield counter("key_renewals", "Keys replaced within their epoch, their guard being nearly full.", rotation.renewals)
    tags = labelled_gauges("replay_tags", "Replay tags held for a key.", labels=["key"])
    room = labelled_gauges("replay_room_tags", "More tags that can be held for a key.", labels=["key"])
    for distance, name in _KEYS:
        number = -1 if epoch is None else rotation.number(epoch + distance)
        tags.add_metric([name], guard.count(number))
        room.add_metric([name], guard.room(number))
    yield tags
    yield room


def _network(node: MeasuredNode) -> "Iterable[Metric]":
    topology = node.watch.current
    now = node.parts.environment.wall_clock()
    age = -1.0 if topology is None else now - topology.published / 1e9
    left = 0.0 if topology is None else topology.valid_until / 1e9 - now
    yield gauge("topology_age_seconds", "Since the newest topology was made; -1 before the first one.", age)
    yield gauge("topology_valid_seconds", "Until the newest topology runs out; negative: it has.", left)
    yield gauge("announced", "1 where the directory took the last heartbeat.", node.presence.announced)


def _number(epoch: int | None) -> int:
    return -1 if epoch is None else epoch
