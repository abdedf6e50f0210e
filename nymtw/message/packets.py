"""Builds whole packets for the sending stream: data, loops and drop cover.

All have the same shape: an ack section, a sealed fragment, three mixnodes and a provider. The functions are pure: the
topology, the two strategies and the randomness are arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from nymtw.encoding import key_text
from nymtw.errors import EncodingError, TopologyIncomplete
from nymtw.interfaces import IDelayStrategy, IRouteStrategy
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.message.fragments import FRAGMENT_LENGTH, loop_fragment
from nymtw.message.payload import (
    ACK_ID_LENGTH,
    DROP_DESTINATION,
    NO_ACK,
    SEALED_LENGTH,
    AckSection,
    drop_destination,
    join_payload,
)
from nymtw.sphinx import Hop, SizeClass
from nymtw.topology.address import Address
from nymtw.topology.document import LAYERS, NodeRecord, Topology
from nymtw.topology.kinship import has_kin

_NANOSECONDS: Final = 1e9

_DRAWS: Final = 50  # of a route, until no two of its nodes are kin


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A packet to send now, and the data that its sender keeps.

    * `packet` (2,413 bytes) goes to `first_hop` (identity) in a frame of key epoch `epoch`.
    * `ack_id` (21 bytes) is the content of the ack if the packet is stored, `refusal_id` (21 bytes) if it is refused.
    * `route`, `ack_route`: identities in order; the last one is a provider.
    * `delays`: nanoseconds at each hop before the last. `ack_delays`: likewise; the first one is for the provider where
      the ack starts.
    """

    epoch: int
    first_hop: bytes
    packet: bytes
    ack_id: bytes
    refusal_id: bytes
    route: tuple[bytes, ...]
    delays: tuple[int, ...]
    ack_route: tuple[bytes, ...]
    ack_delays: tuple[int, ...]

    @property
    def expected_delay(self) -> float:
        """Seconds until it is stored at its provider: the sum of the drawn delays."""
        return sum(self.delays) / _NANOSECONDS

    @property
    def expected_round_trip(self) -> float:
        """Seconds until its ack is in the sender's mailbox: the sum of all drawn delays, there and back."""
        return (sum(self.delays) + sum(self.ack_delays)) / _NANOSECONDS


def build_data_packet(
    topology: Topology,
    own: Address,
    recipient: Address,
    plaintext: bytes,
    routes: IRouteStrategy,
    delays: IDelayStrategy,
    random: Random,
    cryptography: Cryptography = SPHINX,
) -> Outgoing:
    """A packet that carries `plaintext` (a fragment, 1,532 bytes) to `recipient`. Its ack returns to `own`.

    Raises `TopologyIncomplete` if a layer or one of the two providers is missing, `EncodingError` for a recipient with
    an invalid key.
    """
    if len(plaintext) != FRAGMENT_LENGTH:
        raise EncodingError(f"a packet carries {FRAGMENT_LENGTH} bytes, not {len(plaintext)}")
    sealed = cryptography.seal(plaintext, recipient.encryption_key, random)
    return _build(topology, own, recipient.provider, recipient.mailbox, sealed, routes, delays, random, cryptography)


def build_loop_packet(
    topology: Topology,
    own: Address,
    loop_id: bytes,
    routes: IRouteStrategy,
    delays: IDelayStrategy,
    random: Random,
    cryptography: Cryptography = SPHINX,
) -> Outgoing:
    """A loop: a packet to oneself, recognised by `loop_id` (16 random bytes). Raises like `build_data_packet`."""
    return build_data_packet(topology, own, own, loop_fragment(loop_id).encode(), routes, delays, random, cryptography)


def build_drop_packet(
    topology: Topology,
    own: Address,
    routes: IRouteStrategy,
    delays: IDelayStrategy,
    random: Random,
    cryptography: Cryptography = SPHINX,
    more_acks: int = 0,
) -> Outgoing:
    """Drop cover: a packet to a random edge, which acknowledges and drops it. Raises like `build_data_packet`.

    Every edge where packets can end is equally likely, services and the own one included: so the destination does not
    show whether a packet is real. `more_acks` (0 to 3) return besides its own.
    """
    edges = topology.usable_edges()
    if not edges:
        raise TopologyIncomplete(f"there is no provider with a key for key epoch {topology.epoch}")
    acks = [_draw_ack(topology, own, routes, delays, random, cryptography)[0].encode() for _ in range(more_acks)]
    filling = cryptography.seal(loop_fragment(random.randbytes(16)).encode(), own.encryption_key, random)
    content = b"".join((*acks, filling))[:SEALED_LENGTH]
    edge, destination = random.choice(edges).identity, drop_destination(more_acks)
    return _build(topology, own, edge, destination, content, routes, delays, random, cryptography)


def build_reply_cover(
    topology: Topology,
    routes: IRouteStrategy,
    delays: IDelayStrategy,
    random: Random,
    cryptography: Cryptography = SPHINX,
) -> tuple[int, bytes, bytes]:
    """Key epoch, first hop (identity) and packet of cover for replies: to a random edge, which throws it away, and
    without an ack, as a reply is. Raises `TopologyIncomplete`.
    """
    edges = topology.usable_edges()
    if not edges:
        raise TopologyIncomplete(f"there is no provider with a key for key epoch {topology.epoch}")
    hops = draw_hops(topology, random.choice(edges).identity, routes, random)
    payload = join_payload(NO_ACK, random.randbytes(SEALED_LENGTH))
    packet = cryptography.build(payload, hops, delays.draw(len(hops) - 1, random), DROP_DESTINATION, random=random)
    return topology.epoch, hops[0].address, packet


def draw_hops(
    topology: Topology, provider: bytes, routes: IRouteStrategy, random: Random, own: bytes = b""
) -> list[Hop]:
    """Hops through the layers to `provider` (identity), of which no two are kin; `own`: the sender's edge, whose kin
    is no mixnode either. Raises `TopologyIncomplete`.
    """
    last = topology.find(provider)
    if last is None:
        raise TopologyIncomplete(f"the provider {key_text(provider)} is not in the topology")
    epoch = topology.epoch
    first = topology.find(own) if own and own != provider else None
    ends = [last] if first is None else [last, first]
    for _ in range(_DRAWS):
        mixnodes = routes.draw(topology, random)
        if not any(has_kin((*mixnodes, end)) for end in ends):
            break
    else:
        mixnodes = _draw_apart(topology, ends, random)
    return [Hop(node.identity, node.sphinx_key(epoch)) for node in (*mixnodes, last)]


def _draw_apart(topology: Topology, ends: Sequence[NodeRecord], random: Random) -> list[NodeRecord]:
    """A route where most nodes are kin: drawn layer by layer, in any order. Raises `TopologyIncomplete`."""
    for _ in range(_DRAWS):
        chosen: dict[int, NodeRecord] = {}
        for layer in random.sample(LAYERS, len(LAYERS)):
            nodes = topology.usable_mixnodes(layer)
            mixnodes = chosen.values()
            apart = [each for each in nodes if not any(has_kin((each, *mixnodes, end)) for end in ends)]
            if not apart:
                break
            chosen[layer] = random.choice(apart)
        else:
            return [chosen[layer] for layer in LAYERS]
    raise TopologyIncomplete("there is no route without two nodes of one network prefix or family")


def _build(
    topology: Topology,
    own: Address,
    provider: bytes,
    destination: bytes,
    sealed: bytes,
    routes: IRouteStrategy,
    delays: IDelayStrategy,
    random: Random,
    cryptography: Cryptography = SPHINX,
) -> Outgoing:
    ack, (ack_id, refusal_id), ack_hops, ack_delays = _draw_ack(topology, own, routes, delays, random, cryptography)
    hops = draw_hops(topology, provider, routes, random, own.provider)
    hop_delays = tuple(delays.draw(len(hops) - 1, random))
    packet = cryptography.build(join_payload(ack, sealed), hops, hop_delays, destination, random=random)
    return Outgoing(
        topology.epoch,
        hops[0].address,
        packet,
        ack_id,
        refusal_id,
        tuple(hop.address for hop in hops),
        hop_delays,
        tuple(hop.address for hop in ack_hops),
        ack_delays,
    )


def _draw_ack(
    topology: Topology,
    own: Address,
    routes: IRouteStrategy,
    delays: IDelayStrategy,
    random: Random,
    cryptography: Cryptography,
) -> tuple[AckSection, tuple[bytes, bytes], list[Hop], tuple[int, ...]]:
    """An ack section whose acks come back to `own`, what they say (stored, refused), their hops, and their delays."""
    hops = draw_hops(topology, own.provider, routes, random)
    drawn = tuple(delays.draw(len(hops), random))
    said = random.randbytes(ACK_ID_LENGTH), random.randbytes(ACK_ID_LENGTH)
    header, payloads = cryptography.build_alternatives(
        said, hops, drawn[1:], own.mailbox, size_class=SizeClass.ACK, random=random
    )
    return AckSection(topology.epoch, hops[0].address, drawn[0], header, *payloads), said, hops, drawn
