"""Which role those nodes get that leave it to the directory: a function of who is there and of what was assigned.

Nothing else goes into it, so that directories that know of the same nodes decide the same. A node gets a place as soon
as it is there, keeps it within a key epoch, and for the next one gets another only where the network lacks something.
That is decided once, `NOTICE` refreshes before the epoch begins: by then everybody knows where a packet of it goes.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from nymtw.topology.document import ANY, LAYERS, MIXNODE, MOST_FORMER, NOTICE, PLACES, Former, NodeRecord, Topology

_MIXES: Final = tuple(f"mixnode-{layer}" for layer in LAYERS)
_ENTRY: Final = "entry-gateway"
_EXIT: Final = "exit-gateway"
_ORDER: Final = {place: number for number, place in enumerate(PLACES)}  # among equals the first is served first
# More than what any number of nodes adds up to: without a layer, or without an edge, a network carries nothing.
_BROKEN: Final = 10**12
_EMPTY: Final[Mapping[str, int]] = {}


Places = Mapping[int, str]  # from a key epoch on -> a name of `PLACES`


def assign(
    nodes: Sequence[NodeRecord],
    known: Mapping[bytes, Places],
    *,
    epoch: int,
    published: int,
    epoch_seconds: int,
    refresh: float,
) -> tuple[NodeRecord, ...]:
    """`nodes`, in their order; those of the role "any" with the role that they have in `epoch`, and their places.

    `known`: the places of nodes in the last topology, by identity. `epoch`, `published` (nanoseconds since 1970),
    `epoch_seconds` and `refresh` (seconds) are those of the topology that is being made.
    """
    floating = {node.identity: node for node in nodes if node.role == ANY}
    if not floating:
        return tuple(nodes)
    fixed = Counter(_kind(node) for node in nodes if node.role != ANY)
    places = {identity: _kept(known.get(identity, {}), epoch) for identity in floating}
    places = {identity: kept for identity, kept in places.items() if kept and min(kept) <= epoch}
    is_decided = any(epoch + 1 in each for each in places.values())
    _place_new_nodes(floating, places, fixed, epoch)
    time_to_tell = published >= ((epoch + 1) * epoch_seconds - NOTICE * refresh) * 1e9
    if time_to_tell and not is_decided and epoch_seconds > NOTICE * refresh:
        _move(floating, places, fixed, epoch)
    placed = {
        identity: msgspec.structs.replace(node, places=places[identity], role=MIXNODE, layer=LAYERS[0]).at(epoch)
        for identity, node in floating.items()
    }
    return tuple(placed.get(node.identity, node) for node in nodes)


def places_in(topology: Topology | None) -> dict[bytes, Places]:
    """The places that a topology states, by identity, those of nodes that are away too."""
    if topology is None:
        return {}
    return {**(topology.former or {}), **{node.identity: node.places for node in topology.nodes if node.places}}


def former_places(before: Topology | None, nodes: Iterable[NodeRecord], epoch: int) -> Former | msgspec.UnsetType:
    """`Topology.former` of the topology with `nodes` that follows `before`: who has left keeps the place of this epoch.

    At most `MOST_FORMER`; which does not depend on who chose their identities so that they come first.
    """
    if before is None:
        return msgspec.UNSET
    there = {node.identity for node in nodes}
    kept: Former = {
        identity: {each: place for each, place in places.items() if each >= epoch}
        for identity, places in (before.former or {}).items()
    }
    for node in before.nodes:
        place = node.place(epoch)
        if node.places and place:
            kept[node.identity] = {epoch: place} | {e: p for e, p in node.places.items() if e == epoch + 1}
    away = [identity for identity, places in kept.items() if places and identity not in there]
    chosen = sorted(away, key=lambda each: _lot(each, epoch))[:MOST_FORMER]
    return {identity: kept[identity] for identity in sorted(chosen)} or msgspec.UNSET


def _kept(places: Places, epoch: int) -> dict[int, str]:
    """The places from the earliest epoch on whose packets may still be under way."""
    first = max((each for each in places if each < epoch), default=epoch)
    return {each: place for each, place in places.items() if first <= each <= epoch + 1}


def _place_new_nodes(
    floating: Mapping[bytes, NodeRecord], places: dict[bytes, dict[int, str]], fixed: Counter[str], epoch: int
) -> None:
    """Give each node without a place the one with the fewest nodes."""
    counts = fixed + Counter(_at(each, epoch) for each in places.values())
    for identity in sorted(floating.keys() - places.keys(), key=lambda each: _lot(each, epoch)):
        place = min(_open_to(floating[identity]), key=lambda each: (_cost(counts, {each: 1}), _ORDER[each]))
        places[identity] = {epoch: place}
        counts[place] += 1


def _move(
    floating: Mapping[bytes, NodeRecord], places: Mapping[bytes, dict[int, str]], fixed: Counter[str], epoch: int
) -> None:
    """State everybody's place in the next epoch: another one for those whose moving makes the network more even.

    A node is moved once at most, and first of all a node whose place it does not take any more.
    """
    now = {identity: _at(each, epoch) for identity, each in places.items()}
    counts = fixed + Counter(now.values())
    for identity, place in now.items():
        places[identity][epoch + 1] = place
    alike: dict[tuple[str, tuple[str, ...]], list[bytes]] = {}
    for identity in sorted(floating, key=lambda each: _lot(each, epoch + 1), reverse=True):
        alike.setdefault((now[identity], _open_to(floating[identity])), []).append(identity)
    while True:
        cost = _cost(counts, _EMPTY)
        steps = [
            (place in choice, _cost(counts, {place: -1, to: 1}) - cost, _ORDER[to], _ORDER[place], choice)
            for (place, choice), waiting in alike.items()
            if waiting
            for to in choice
            if to != place
        ]
        steps = [step for step in steps if not step[0] or step[1] < 0]
        if not steps:
            return
        _, _, to_number, from_number, choice = min(steps)
        to, place = _name(to_number), _name(from_number)
        identity = alike[place, choice].pop()
        places[identity][epoch + 1] = to
        counts[place] -= 1
        counts[to] += 1


def _cost(counts: Counter[str], change: Mapping[str, int]) -> int:
    """The imbalance between the places after `change`; far higher if one is empty."""
    filled = {place: counts[place] + change.get(place, 0) for place in PLACES}
    lacking = sum(not filled[mix] for mix in _MIXES) + (not filled[_ENTRY] + filled[_EXIT])
    return _BROKEN * lacking + sum(number * number for number in filled.values())


def _at(places: Places, epoch: int) -> str:
    return places[max(each for each in places if each <= epoch)]


def _open_to(node: NodeRecord) -> tuple[str, ...]:
    """The places that a node takes, in the order in which they are served."""
    takes = node.takes or ()
    return tuple(place for place in PLACES if (MIXNODE if place in _MIXES else place) in takes)


def _kind(node: NodeRecord) -> str:
    """The place in which a node of a role of its own counts."""
    if node.role == MIXNODE:
        return f"mixnode-{node.layer}"
    return _EXIT if node.services and "exit" in node.services else _ENTRY


def _lot(identity: bytes, epoch: int) -> bytes:
    """Another order of the nodes in every epoch."""
    return hashlib.blake2b(identity + epoch.to_bytes(8, "big"), digest_size=16, person=b"nymtw places").digest()


def _name(number: int) -> str:
    return tuple(PLACES)[number]
