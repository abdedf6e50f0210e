"""The nodes before and behind a node, by key epoch: from a topology, without I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

from nymtw.sphinx import SizeClass
from nymtw.topology.document import EDGE_ROLES, NodeRecord, Topology

NOBODY: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class EpochNeighbours:
    """The neighbours for packets of one key epoch. `unauthenticated`: neighbours of another epoch, but not of this."""

    next_hops: frozenset[bytes]
    unauthenticated: frozenset[bytes]


class Neighbours:
    """The neighbours of one node. Identities have 32 bytes.

    `by_epoch`: those for packets of each key epoch. `peers`: where the nodes behind it are, of all epochs. `lines`:
    frames of each size class a second on the padded lines to them. `allowed`: the nodes before it, of all epochs.
    """

    def __init__(
        self,
        by_epoch: Mapping[int, EpochNeighbours] | None = None,
        allowed: frozenset[bytes] = NOBODY,
        peers: Mapping[bytes, tuple[str, int]] | None = None,
        lines: Mapping[bytes, Mapping[int, float]] | None = None,
    ) -> None:
        self.by_epoch = by_epoch or {0: EpochNeighbours(NOBODY, NOBODY)}
        self.allowed = allowed
        self.peers = peers or {}
        self.lines = lines or {}

    def at(self, epoch: int) -> EpochNeighbours:
        """The neighbours for packets of this key epoch, of the nearest one that is known."""
        known = self.by_epoch
        return known.get(epoch) or known[max(known) if epoch > max(known) else min(known)]


def find_neighbours(own: NodeRecord, topology: Topology) -> Neighbours:
    """The neighbours of `own` in the epoch of `topology`, the one before and the one after.

    A node that changes its role has other neighbours in one key epoch than in the next.
    """
    peers: dict[bytes, tuple[str, int]] = {}
    lines: dict[bytes, Mapping[int, float]] = {}
    found: dict[int, tuple[frozenset[bytes], frozenset[bytes]]] = {}
    usual = _in_epoch(own, topology, topology.epoch, peers, lines)
    for epoch in (topology.epoch - 1, topology.epoch, topology.epoch + 1):
        there = topology.at(epoch)
        is_usual = there is topology and not own.places
        found[epoch] = usual if is_usual else _in_epoch(own, there, epoch, peers, lines)
    allowed = NOBODY.union(*(before for _, before in found.values()))
    by_epoch = {epoch: EpochNeighbours(after, allowed - before) for epoch, (after, before) in found.items()}
    return Neighbours(by_epoch, allowed, peers, lines)


def _in_epoch(
    own: NodeRecord,
    topology: Topology,
    epoch: int,
    peers: dict[bytes, tuple[str, int]],
    lines: dict[bytes, Mapping[int, float]],
) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """The nodes behind and before `own`. The addresses of those behind go into `peers`, the rates into `lines`.

    A node whose role is decided for it is where a topology of that epoch has put it, the first and the newest.
    """
    listed = topology.find(own.identity)
    places = [own.at(epoch) if own.places else own]
    if listed is not None and listed.places:
        places = [listed, own.at(epoch)] if own.places else [listed]
    nodes = [topology.find(identity) for each in places for identity in topology.successors(each)]
    after = {node.identity: (node.host, node.port) for node in nodes if node is not None}
    peers.update(after)
    for each in places:
        for node in filter(None, map(topology.find, topology.successors(each))):
            if rates := _rates(listed, True) if each.role in EDGE_ROLES else _rates(node, False):
                lines[node.identity] = rates
    return frozenset(after), NOBODY.union(*(topology.predecessors(each) for each in places))


def _rates(edge: NodeRecord | None, outwards: bool) -> Mapping[int, float]:
    """Frames a second of each size class on a line of this edge; none where it is not padded."""
    if edge is None or not edge.lines:
        return {}
    rates = edge.lines
    if outwards:
        return {SizeClass.REGULAR: rates.packets_out, SizeClass.ACK: rates.acks_out}
    return {SizeClass.REGULAR: rates.packets_in, SizeClass.ACK: rates.acks_in}
