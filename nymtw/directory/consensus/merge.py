"""One topology from the votes of several directories. Pure: the same votes give the same bytes."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import Final

import msgspec

from nymtw.directory.consensus.votes import Statement, Vote
from nymtw.topology.document import LAYERS, MIXNODE, NodeRecord, PublicClient, Topology
from nymtw.topology.kinship import prefix_of

# More would make the document longer than a reader takes.
MAX_CLIENTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Elected:
    """A node that enough directories have seen: which of its statements counts, and how many have seen it."""

    identity: bytes
    statement: bytes
    votes: int


def elect_settings(votes: Sequence[Vote], threshold: int) -> Mapping[str, str] | None:
    """The settings that `threshold` of the votes have alike; None if there are none."""
    counted = Counter(tuple(sorted(vote.settings.items())) for vote in votes)
    found = [settings for settings, number in counted.items() if number >= threshold]
    return dict(found[0]) if len(found) == 1 else None


def elect_base(votes: Sequence[Vote], faulty: int) -> bytes | None:
    """The digest of the newest topology that more than `faulty` votes have; None if there is none."""
    counted = Counter((vote.base_serial, vote.base) for vote in votes if vote.base_serial)
    return max((found for found, number in counted.items() if number > faulty), default=(0, None))[1]


def elect(votes: Sequence[Vote], threshold: int) -> list[Elected]:
    """The nodes with the same statement in `threshold` votes, by identity.

    Of two such statements, that counts which more votes have for the newest.
    """
    seen: dict[bytes, Counter[bytes]] = {}
    newest: dict[bytes, Counter[bytes]] = {}
    for vote in votes:
        for node in vote.nodes:
            seen.setdefault(node.identity, Counter()).update(set(node.statements))
            newest.setdefault(node.identity, Counter())[node.statements[0]] += 1
    elected = []
    for identity in sorted(seen):
        firsts = newest[identity]
        enough = [statement for statement, number in seen[identity].items() if number >= threshold]
        if enough:
            chosen = min(enough, key=lambda each: (-firsts[each], each))
            elected.append(Elected(identity, chosen, firsts.total()))
    return elected


def merge(
    elected: Sequence[Elected], statements: Mapping[bytes, Statement], base: Topology | None
) -> tuple[tuple[NodeRecord, ...], tuple[PublicClient, ...]]:
    """The nodes, by identity, and the listed clients of a topology. `statements` has every elected one by its digest.

    Of two nodes at one address and port, that is left out which fewer have seen. A mixnode that asks for a layer keeps
    the one that it has in `base`. Another one gets the layer of the other nodes of its /24 or /48, or one by lot; where
    addresses are not public, the thinnest.
    """
    taken: set[tuple[str, int]] = set()
    kept: dict[bytes, Statement] = {}
    for each in sorted(elected, key=lambda one: (-one.votes, one.identity)):
        statement = statements[each.statement]
        if statement.record.identity != each.identity or taken & places(statement.record):
            continue
        taken |= places(statement.record)
        kept[each.identity] = statement
    ordered = [kept[identity] for identity in sorted(kept)]
    return _with_layers([each.record for each in ordered], base), interleave_clients([each.clients for each in ordered])


def places(record: NodeRecord) -> set[tuple[str, int]]:
    """The endpoints of a node."""
    return {(record.host, port) for port in (record.port, record.client_port) if port}


def interleave_clients(clients_of_nodes: Sequence[Sequence[PublicClient]]) -> tuple[PublicClient, ...]:
    """Each node's first client, each one's second, and so on, so that no node crowds out the clients of others."""
    in_turn = chain.from_iterable(zip_longest(*filter(None, clients_of_nodes)))
    return tuple(islice((client for client in in_turn if client is not None), MAX_CLIENTS))


def _lot(prefix: str, layers: Sequence[int], base: Topology | None) -> int:
    """One of these layers for a prefix: all who count the votes draw the same, and before `base` nobody knows it."""
    drawn = hashlib.blake2b(prefix.encode(), digest_size=8, person=b"nymtw layers")
    drawn.update((0 if base is None else base.serial).to_bytes(8, "big"))
    return layers[int.from_bytes(drawn.digest()) % len(layers)]


def _with_layers(records: Sequence[NodeRecord], base: Topology | None) -> tuple[NodeRecord, ...]:
    layers = {record.identity: record.layer for record in records}
    asking = [record.identity for record in records if record.role == MIXNODE and not record.layer]
    for identity in asking:
        before = None if base is None else base.find(identity)
        layers[identity] = before.layer if before is not None and before.role == MIXNODE else 0
    filled = Counter(layers.values())
    of_prefix = {
        prefix_of(record.host): layers[record.identity] for record in records if layers[record.identity] in LAYERS
    }
    hosts = {record.identity: record.host for record in records}
    for identity in asking:
        if layers[identity]:
            continue
        prefix = prefix_of(hosts[identity])
        if not prefix:
            layer = min(LAYERS, key=lambda layer: (filled[layer], layer))
        else:
            layer = of_prefix.get(prefix) or _lot(prefix, [each for each in LAYERS if not filled[each]] or LAYERS, base)
        layers[identity] = of_prefix[prefix] = layer
        filled[layer] += 1
    return tuple(msgspec.structs.replace(record, layer=layers[record.identity]) for record in records)
