"""The topology: every node of the network with its keys, signed by the directories, and checked by every reader.

The wire form is canonical CBOR (RFC 8949, section 4.2.3) with Ed25519 signatures (RFC 8032) over it.
`docs/protocol.md` describes the fields. All lookups use indexes; each is built once for a topology.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from nymtw.encoding import KEY_LENGTH, from_cbor, key_text, to_cbor
from nymtw.errors import (
    EncodingError,
    TopologyError,
    TopologyExpired,
    TopologyIncomplete,
    TopologySignatureError,
)

FORMAT: Final = 1
LAYERS: Final = (1, 2, 3)
MIXNODE: Final = "mixnode"
PROVIDER: Final = "provider"
GATEWAY: Final = "gateway"
EDGE_ROLES: Final = (PROVIDER, GATEWAY)
ANY: Final = "any"  # in presence only: the directory assigns the role
NETWORK_LENGTH: Final = 16
MAX_TOPOLOGY_LENGTH: Final = 8 * 1024 * 1024  # about 30,000 nodes
_SIGNATURE_PREFIX: Final = b"nymtw topology v1\0"
_NANOSECONDS: Final = 1_000_000_000

Key = Annotated[bytes, msgspec.Meta(min_length=KEY_LENGTH, max_length=KEY_LENGTH)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Epoch = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Host = Annotated[str, msgspec.Meta(max_length=253)]
ServiceName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,62}$")]
# The services of a provider: name -> address (text).
Services = Annotated[dict[ServiceName, Annotated[str, msgspec.Meta(max_length=200)]], msgspec.Meta(max_length=64)]


# Refreshes between the assignment of roles and the key epoch for which they hold: every node has asked twice by then.
NOTICE: Final = 3

# The most absent nodes whose places are remembered.
MOST_FORMER: Final = 1000

# The places that the directory can assign to a node of the role "any", as (role, layer).
Mode = Literal["mixnode", "entry-gateway", "exit-gateway"]
Place = Literal["mixnode-1", "mixnode-2", "mixnode-3", "entry-gateway", "exit-gateway"]
PLACES: Final[Mapping[str, tuple[str, int]]] = {
    **{f"mixnode-{layer}": (MIXNODE, layer) for layer in LAYERS},
    "entry-gateway": (GATEWAY, 0),
    "exit-gateway": (GATEWAY, 0),
}


Family = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z._-]{1,64}\Z")]
FramesPerSecond = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class LineRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Frames a second on each padded line of an edge: from each mixnode of layer 3, and to each of layer 1."""

    packets_in: FramesPerSecond
    acks_in: FramesPerSecond
    packets_out: FramesPerSecond
    acks_out: FramesPerSecond


class NodeRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One node.

    * `identity`: its Ed25519 key (32 bytes), which is its name everywhere and its address inside a Sphinx header.
    * `host`, `port`: for connections of nodes. `client_port`: for clients, at providers and gateways.
    * `layer`: 1 to 3 for a mixnode, otherwise 0.
    * `sphinx_keys`: an X25519 key (32 bytes) for each announced key epoch.
    * `services`: those of a provider; absent if it has none.
    * `clients`: of an edge, a step at or above the number that have registered (`nymtw.topology.lines.step`).
    * `lines`: of an edge, the rates of its lines, if lines are padded.
    * `takes`, `places`: only if the directory assigns the role. The possible roles, and the places by the key epoch
      with which they begin; `role` and `layer` are then those of the topology's epoch.
    * `family`: what the nodes of one operator say alike, so that no route has two of them.
    """

    role: str
    identity: Key
    host: Host
    port: Port
    layer: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    client_port: Port = 0
    sphinx_keys: Annotated[dict[Epoch, Key], msgspec.Meta(max_length=8)]
    services: Services | msgspec.UnsetType = msgspec.UNSET
    clients: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] | msgspec.UnsetType = msgspec.UNSET
    lines: LineRates | msgspec.UnsetType = msgspec.UNSET
    takes: Annotated[tuple[Mode, ...], msgspec.Meta(min_length=1, max_length=3)] | msgspec.UnsetType = msgspec.UNSET
    places: Annotated[dict[Epoch, Place], msgspec.Meta(min_length=1, max_length=3)] | msgspec.UnsetType = msgspec.UNSET
    family: Family | msgspec.UnsetType = msgspec.UNSET

    def place(self, epoch: int) -> "Place | Literal['']":
        """The place in a key epoch: a name of `PLACES`; "" for a node that has chosen its role itself."""
        if not self.places:
            return ""
        return self.places[max((each for each in self.places if each <= epoch), default=min(self.places))]

    def at(self, epoch: int) -> "NodeRecord":
        """The same node with its role and layer of this key epoch."""
        place = self.place(epoch)
        if not place or PLACES[place] == (self.role, self.layer):
            return self
        role, layer = PLACES[place]
        return msgspec.structs.replace(self, role=role, layer=layer)

    def sphinx_key(self, epoch: int) -> bytes:
        """The X25519 key (32 bytes) of a key epoch. Raises `TopologyIncomplete` if none is announced."""
        try:
            return self.sphinx_keys[epoch]
        except KeyError:
            raise TopologyIncomplete(
                f"{self.role} {key_text(self.identity)} has announced no key for key epoch {epoch}"
            ) from None


class PublicClient(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A client that wants to be found by others: its address (text) and its provider's identity (32 bytes)."""

    address: Annotated[str, msgspec.Meta(max_length=200)]
    provider: Key


class Recommended(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The recommended behaviour of clients and nodes, so that all look alike: rates in events a second, the mean delay
    of a hop in seconds, and the number of slots in the answer to a pull.

    * `mixnode_loop_rate`: loops of each mixnode. `service_sending_rate`: packets of each service, replies or cover.
    * `line_wait`: seconds that a packet waits for a slot of a padded line on average; 0: lines are not padded.
    * `line_headroom`: the capacity of such a line as a multiple of what it is offered, at least.
    """

    loop_cover_traffic_rate: Rate = 5.0
    message_sending_rate: Rate = 20.0
    drop_cover_traffic_rate: Rate = 0.0
    fetch_message_rate: Rate = 10.0
    average_packet_delay: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 0.05
    fetch_slots: Annotated[int, msgspec.Meta(ge=1, le=255)] = 16
    mixnode_loop_rate: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 14.0
    service_sending_rate: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 100.0
    line_wait: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.015
    line_headroom: Annotated[float, msgspec.Meta(ge=1, le=10)] = 1.25


Former = Annotated[
    dict[Key, Annotated[dict[Epoch, Place], msgspec.Meta(min_length=1, max_length=3)]],
    msgspec.Meta(min_length=1, max_length=MOST_FORMER),
]


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """The network at one moment.

    * `serial` grows with each topology. `network` (16 bytes) is `Trust.network`.
    * `published`, `valid_until`: nanoseconds since 1970. `refresh`: seconds between two topologies.
    * `epoch`: the key epoch whose keys senders use: floor(wall-clock seconds / `epoch_seconds`) at publication.
    * `former`: the places of absent nodes, for the case that they return in the same epoch; absent if there are none.
    """

    format: int = FORMAT
    serial: Nanoseconds
    network: Annotated[bytes, msgspec.Meta(min_length=NETWORK_LENGTH, max_length=NETWORK_LENGTH)]
    published: Nanoseconds
    valid_until: Nanoseconds
    refresh: Annotated[float, msgspec.Meta(gt=0, le=86400)]
    epoch: Epoch
    epoch_seconds: Annotated[int, msgspec.Meta(ge=1, le=366 * 86400)]
    recommended: Recommended = Recommended()
    nodes: tuple[NodeRecord, ...] = ()
    clients: tuple[PublicClient, ...] = ()
    minimum_client_version: Annotated[str, msgspec.Meta(max_length=64)] = ""
    former: Former | msgspec.UnsetType = msgspec.UNSET

    @property
    def keys_until(self) -> float:
        """Seconds since 1970 until which nodes unwrap packets made with the keys of this topology's epoch.

        They hold the key of the epoch before the current one.
        """
        return float((self.epoch + 2) * self.epoch_seconds)

    @cached_property
    def _by_identity(self) -> dict[bytes, NodeRecord]:
        return {node.identity: node for node in self.nodes}

    @cached_property
    def _movers(self) -> bool:
        return any(node.places and len(node.places) > 1 for node in self.nodes)

    def at(self, epoch: int) -> "Topology":
        """The same network, each node in its role for packets of this key epoch.

        The result differs only while a node changes its role, and only in roles and layers.
        """
        if not self._movers:
            return self
        return msgspec.structs.replace(self, nodes=tuple(node.at(epoch) for node in self.nodes))

    @cached_property
    def _by_layer(self) -> dict[int, tuple[NodeRecord, ...]]:
        return {
            layer: tuple(node for node in self.nodes if node.role == MIXNODE and node.layer == layer)
            for layer in LAYERS
        }

    @cached_property
    def _usable_by_layer(self) -> dict[int, tuple[NodeRecord, ...]]:
        return {
            layer: tuple(node for node in nodes if self.epoch in node.sphinx_keys)
            for layer, nodes in self._by_layer.items()
        }

    @cached_property
    def _by_edge_role(self) -> dict[str, tuple[NodeRecord, ...]]:
        return {role: tuple(node for node in self.nodes if node.role == role) for role in EDGE_ROLES}

    @cached_property
    def _identities(self) -> dict[int, frozenset[bytes]]:
        """The identities of each layer; layer 0 is for the edges, before the first layer and after the last."""
        layers = {layer: frozenset(node.identity for node in nodes) for layer, nodes in self._by_layer.items()}
        return {0: frozenset(node.identity for node in self.edges()), **layers}

    def find(self, identity: bytes) -> NodeRecord | None:
        """The node with this identity (32 bytes), or None."""
        return self._by_identity.get(identity)

    def mixnodes(self, layer: int) -> tuple[NodeRecord, ...]:
        """The mixnodes of `layer` (1 to 3), in the order of the document."""
        return self._by_layer[layer]

    def usable_mixnodes(self, layer: int) -> tuple[NodeRecord, ...]:
        """The mixnodes of `layer` that can take packets now: they have a key for this topology's epoch."""
        return self._usable_by_layer[layer]

    def layers(self) -> Mapping[int, tuple[NodeRecord, ...]]:
        """The mixnodes of each layer, by the layer's number."""
        return MappingProxyType(self._by_layer)

    def services(self, name: str) -> list[str]:
        """The addresses (text) of all services called `name`."""
        return [node.services[name] for node in self.edges() if node.services and name in node.services]

    def providers(self) -> tuple[NodeRecord, ...]:
        """The providers, in the order of the document."""
        return self._by_edge_role[PROVIDER]

    def gateways(self) -> tuple[NodeRecord, ...]:
        """The gateways, in the order of the document."""
        return self._by_edge_role[GATEWAY]

    @cached_property
    def _usable_edges(self) -> tuple[NodeRecord, ...]:
        return tuple(node for node in self._edges if self.epoch in node.sphinx_keys)

    def usable_edges(self) -> tuple[NodeRecord, ...]:
        """The edges that packets can reach now: they have a key for this topology's epoch."""
        return self._usable_edges

    @cached_property
    def _edges(self) -> tuple[NodeRecord, ...]:
        return tuple(node for node in self.nodes if node.role in EDGE_ROLES)

    def edges(self) -> tuple[NodeRecord, ...]:
        """Providers and gateways: the nodes where packets start and end."""
        return self._edges

    def predecessors(self, record: NodeRecord) -> frozenset[bytes]:
        """The identities that may send packets to this node: those of the layer before; layer 3 for an edge."""
        return self._identities[record.layer - 1 if record.role == MIXNODE else LAYERS[-1]]

    def successors(self, record: NodeRecord) -> frozenset[bytes]:
        """The identities that this node may send packets to: those of the next layer; layer 1 for an edge."""
        return self._identities[(record.layer + 1) % (len(LAYERS) + 1)]


class SignedTopology(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The published form: a topology's CBOR, and a signature (64 bytes) by each directory's identity key."""

    document: bytes
    signatures: Annotated[dict[Key, bytes], msgspec.Meta(max_length=64)]


@dataclass(frozen=True, slots=True)
class Trust:
    """The trusted directories: Ed25519 identity keys (32 bytes each), and the number of required signatures."""

    directories: tuple[bytes, ...]
    threshold: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= len(set(self.directories)):
            raise TopologyError(
                f"{self.threshold} signatures are required, but only {len(set(self.directories))} directories are known"
            )

    @property
    def network(self) -> bytes:
        """The network's id, 16 bytes: the BLAKE2b of the sorted directory keys. The check of addresses includes it."""
        keys = b"".join(sorted(set(self.directories)))
        return hashlib.blake2b(keys, digest_size=NETWORK_LENGTH, person=b"nymtw network").digest()


def sign_topology(topology: Topology, signing_keys: Sequence[SigningKey]) -> bytes:
    """Sign a topology with each of `signing_keys`. Returns the CBOR of the `SignedTopology`."""
    document = to_cbor(topology)
    signed = signed_bytes(document)
    signatures = {bytes(key.verify_key): key.sign(signed).signature for key in signing_keys}
    return to_cbor(SignedTopology(document=document, signatures=signatures))


def signed_bytes(document: bytes) -> bytes:
    """The bytes that a directory signs. `document`: the CBOR of the topology."""
    return _SIGNATURE_PREFIX + document


def valid_signers(signed: SignedTopology, trust: Trust) -> list[bytes]:
    """The identities of the directories in `trust` whose signatures are valid."""
    return [directory for directory in sorted(set(trust.directories)) if _is_signed_by(signed, directory)]


def verify_topology(data: bytes, trust: Trust, now: float, newer_than: int = 0) -> Topology:
    """Verify `data`, the CBOR of a `SignedTopology`, and return the topology. `now`: wall-clock seconds.

    A serial below `newer_than`, the newest seen one, is a roll-back; an equal one is accepted.
    Raises `TopologySignatureError`, `TopologyExpired`, or `TopologyError` if it cannot be read or trusted.
    """
    try:
        signed = from_cbor(data, SignedTopology, MAX_TOPOLOGY_LENGTH)
    except EncodingError as error:
        raise TopologyError(f"this is not a signed topology: {error}") from None
    valid = len(valid_signers(signed, trust))
    if valid < trust.threshold:
        known = ", ".join(key_text(directory) for directory in trust.directories)
        raise TopologySignatureError(
            f"the topology has {valid} valid signatures of the {trust.threshold} needed from {known}"
        )
    try:
        topology = from_cbor(signed.document, Topology, MAX_TOPOLOGY_LENGTH)
    except EncodingError as error:
        raise TopologyError(f"the topology is signed but cannot be read: {error}") from None
    check_consistent(topology)
    if topology.network != trust.network:
        raise TopologyError("the topology is of another network, with other directories")
    if topology.serial < newer_than:
        raise TopologyError(f"the topology (serial {topology.serial}) is older than one already seen ({newer_than})")
    if now * _NANOSECONDS > topology.valid_until:
        late = now - topology.valid_until / _NANOSECONDS
        raise TopologyExpired(
            f"the newest topology expired {late:.0f} seconds ago: the directory does not publish new ones"
        )
    return topology


def check_consistent(topology: Topology) -> None:
    """Raises `TopologyError` for a topology that contradicts itself, even if its signatures are valid."""
    if topology.format != FORMAT:
        raise TopologyError(f"the topology has format {topology.format}; this version reads {FORMAT}")
    if len({node.identity for node in topology.nodes}) != len(topology.nodes):
        raise TopologyError("the topology has a node twice")
    for node in topology.nodes:
        if node.role not in (MIXNODE, *EDGE_ROLES):
            raise TopologyError(f"the topology has a node of unknown role {node.role!r:.40}")
        if (node.role == MIXNODE) != (node.layer in LAYERS):
            raise TopologyError(f"the topology has a {node.role} in layer {node.layer}")
        if node.at(topology.epoch) is not node:
            raise TopologyError("the topology has a node whose role does not match its place")


def check_usable(topology: Topology) -> None:
    """Raises `TopologyIncomplete`, with the missing part, if no packet can cross this network now."""
    for layer in LAYERS:
        if not topology.mixnodes(layer):
            raise TopologyIncomplete(f"layer {layer} has no mixnode")
        if not topology.usable_mixnodes(layer):
            raise TopologyIncomplete(f"no mixnode of layer {layer} has a key for key epoch {topology.epoch}")
    if not topology.edges():
        raise TopologyIncomplete("there is no provider or gateway")


def _is_signed_by(signed: SignedTopology, directory: bytes) -> bool:
    signature = signed.signatures.get(directory)
    if signature is None:
        return False
    try:
        VerifyKey(directory).verify(signed_bytes(signed.document), signature)
    except (BadSignatureError, ValueError):  # a wrong length is a ValueError
        return False
    return True
