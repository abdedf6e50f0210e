"""The rates of padded lines: between edges and the first and last layers. Pure: who has the same nodes gets the same.

A line's rate follows from what clients, services and mixnodes send at the recommended rates, evenly spread, never from
what they do send. Within a key epoch an edge's clients are counted once; more than were counted count at once, in steps
that double, so that those who register find room.
"""

from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import Final

import msgspec

from nymtw.topology.document import EDGE_ROLES, LAYERS, MIXNODE, LineRates, NodeRecord, Recommended, Topology

FEWEST_CLIENTS: Final = 2
MOST_CLIENTS: Final = 1 << 14  # of an edge; it serves 10,000 at once
# A line has room for one sender that aims at one edge alone, and a little: else its packets would fill the slots.
_AIMED: Final = 1.1


def step(number: int) -> int:
    """What so many registered clients are counted as: the next power of two, from 2 to 16,384.

    The topology changes when a step is passed, not with every client.
    """
    return min(MOST_CLIENTS, max(FEWEST_CLIENTS, 1 << max(0, number - 1).bit_length()))


def line_rate(offered: float, aimed: float, recommended: Recommended) -> int:
    """Frames a second of a line that is offered so many on average, and `aimed` more while one sender aims at its edge.

    In constant slots, 1 / r apart, a packet of a Poisson process of rate a waits 1 / (2 (r - a)) seconds on average:
    half a slot, and the queue of M/D/1. So r is a + 1 / (2 `line_wait`), and `line_headroom` times a at least.
    """
    waiting = offered + 1 / (2 * recommended.line_wait)
    return ceil(round(max(waiting, offered * recommended.line_headroom, offered + _AIMED * aimed), 6))


def with_lines(
    nodes: Sequence[NodeRecord], recommended: Recommended, epoch: int, before: Topology | None
) -> tuple[NodeRecord, ...]:
    """`nodes`, in their order, each edge with its `clients` and, where lines are padded, the rates of its `lines`.

    `nodes` say by `clients` what they announce (a `step`). `before` is the topology that is followed, or None.
    """
    counted = {node.identity: _counted(node, epoch, before) for node in nodes if node.role in EDGE_ROLES}
    layers = Counter(node.layer for node in nodes if node.role == MIXNODE)
    padded = recommended.line_wait > 0 and all(layers[layer] for layer in LAYERS)
    total = _Offered(recommended, nodes, counted, layers)
    unset = msgspec.UNSET
    return tuple(
        msgspec.structs.replace(
            node,
            clients=counted[node.identity] if node.client_port else unset,
            lines=total.lines(node, counted[node.identity]) if padded else unset,
        )
        if node.identity in counted
        else msgspec.structs.replace(node, clients=unset, lines=unset)
        for node in nodes
    )


def _counted(node: NodeRecord, epoch: int, before: Topology | None) -> int:
    if not node.client_port:
        return 0
    announced = node.clients or FEWEST_CLIENTS
    earlier = before.find(node.identity) if before is not None and before.epoch == epoch else None
    return announced if earlier is None else max(announced, earlier.clients or 0)


class _Offered:
    """What the lines of an edge are offered, a second, on average."""

    def __init__(
        self,
        recommended: Recommended,
        nodes: Sequence[NodeRecord],
        counted: dict[bytes, int],
        layers: Counter[int],
    ) -> None:
        self._recommended = recommended
        self._first, self._last = layers[LAYERS[0]], layers[LAYERS[-1]]
        self._edges = max(1, len(counted))
        self._sending = recommended.message_sending_rate + recommended.drop_cover_traffic_rate
        self._from_clients = sum(counted.values()) * self._sending / self._edges
        self._from_mixnodes = layers.total() * recommended.mixnode_loop_rate / self._edges
        services = sum(_services(node) for node in nodes if node.identity in counted)
        self._from_services = services * recommended.service_sending_rate / self._edges
        others = 1 - 1 / self._edges
        self._one_client = others * recommended.message_sending_rate
        self._one_sender = max(self._one_client, others * recommended.service_sending_rate if services else 0.0)

    def lines(self, node: NodeRecord, clients: int) -> LineRates:
        """The rates of the lines of this edge."""
        recommended = self._recommended
        loops = clients * recommended.loop_cover_traffic_rate
        sent = clients * self._sending + loops
        packets_in = loops + self._from_clients + self._from_mixnodes + self._from_services
        packets_out = sent + self._from_mixnodes + _services(node) * recommended.service_sending_rate
        return LineRates(
            packets_in=line_rate(packets_in / self._last, self._one_sender / self._last, recommended),
            acks_in=line_rate(sent / self._last, 0.0, recommended),
            packets_out=line_rate(packets_out / self._first, 0.0, recommended),
            acks_out=line_rate((loops + self._from_clients) / self._first, self._one_client / self._first, recommended),
        )


def _services(node: NodeRecord) -> int:
    return len(node.services or ())
