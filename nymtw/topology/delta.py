"""Deltas between two signed topologies, so that a reader with the older one need not fetch the whole newer one.

A delta restores the next document exactly, with its signatures. The reader verifies it like any other document.
"""

import hashlib
from typing import Annotated, Final

import msgspec

from nymtw.encoding import from_cbor, to_cbor
from nymtw.errors import EncodingError
from nymtw.topology.document import MAX_TOPOLOGY_LENGTH, Key, NodeRecord, PublicClient, SignedTopology, Topology

_DIGEST_LENGTH: Final = 32


class TopologyDelta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The changes from one topology to the next.

    * `base`: the serial of the older topology. `frame`: the newer one without nodes and clients.
    * `changed`: new and changed nodes. `gone`: the identities of removed nodes.
    * `clients`: the public clients if they have changed.
    * `digest`: the BLAKE2b-256 of the newer document.
    """

    base: int
    frame: Topology
    changed: tuple[NodeRecord, ...]
    gone: tuple[Key, ...]
    clients: tuple[PublicClient, ...] | None
    digest: bytes
    signatures: Annotated[dict[Key, bytes], msgspec.Meta(max_length=64)]


def make_delta(before: Topology, after: Topology, signed: bytes) -> bytes:
    """The CBOR of the delta from `before` to `signed`, the CBOR of the `SignedTopology` of `after`.

    In both, the nodes must be sorted by identity, as directories do.
    """
    found = from_cbor(signed, SignedTopology, MAX_TOPOLOGY_LENGTH)
    return to_cbor(
        TopologyDelta(
            base=before.serial,
            frame=msgspec.structs.replace(after, nodes=(), clients=()),
            changed=tuple(node for node in after.nodes if before.find(node.identity) != node),
            gone=tuple(node.identity for node in before.nodes if after.find(node.identity) is None),
            clients=None if before.clients == after.clients else after.clients,
            digest=_digest(found.document),
            signatures=found.signatures,
        )
    )


def apply_delta(signed: bytes, delta: bytes) -> bytes:
    """The CBOR of the next `SignedTopology`. `signed`: the older one. Arguments and result are not trusted.

    Raises `EncodingError` if they do not match.
    """
    change = from_cbor(delta, TopologyDelta, MAX_TOPOLOGY_LENGTH)
    document = from_cbor(signed, SignedTopology, MAX_TOPOLOGY_LENGTH).document
    before = from_cbor(document, Topology, MAX_TOPOLOGY_LENGTH)
    if before.serial != change.base:
        raise EncodingError(f"the delta is from serial {change.base}, not {before.serial}")
    nodes = {node.identity: node for node in before.nodes}
    for identity in change.gone:
        nodes.pop(identity, None)
    nodes.update((node.identity, node) for node in change.changed)
    after = msgspec.structs.replace(
        change.frame,
        nodes=tuple(nodes[identity] for identity in sorted(nodes)),
        clients=before.clients if change.clients is None else change.clients,
    )
    document = to_cbor(after)
    if _digest(document) != change.digest:
        raise EncodingError("the delta does not lead to the document with its digest")
    return to_cbor(SignedTopology(document=document, signatures=change.signatures))


def _digest(document: bytes) -> bytes:
    return hashlib.blake2b(document, digest_size=_DIGEST_LENGTH, person=b"nymtw delta").digest()
