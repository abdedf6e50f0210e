"""What has changed from one signed topology to the next, so that who has the one need not fetch the other whole.

A delta gives the next document to the byte, signatures and all: the reader checks that as he checks any.
"""

import hashlib
from typing import Annotated, Final

import msgspec

from nymtw.encoding import from_cbor, to_cbor
from nymtw.errors import EncodingError
from nymtw.topology.document import MAX_TOPOLOGY_LENGTH, Key, ListedClient, NodeRecord, SignedTopology, Topology

_DIGEST_LENGTH: Final = 32


class TopologyDelta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`frame` is the next topology without nodes and clients; `base` the serial of the one before.

    `changed` are the nodes that are new or other than they were, `gone` the identities of those that are not there any
    more, `clients` the listed clients if they are others. `digest` is the BLAKE2b-256 of the next document.
    """

    base: int
    frame: Topology
    changed: tuple[NodeRecord, ...]
    gone: tuple[Key, ...]
    clients: tuple[ListedClient, ...] | None
    digest: bytes
    signatures: Annotated[dict[Key, bytes], msgspec.Meta(max_length=64)]


def make_delta(before: Topology, after: Topology, signed: bytes) -> bytes:
    """The CBOR of what leads from `before` to `signed`, the CBOR of the `SignedTopology` of `after`.

    In both the nodes stand in the order of their identities, as a directory puts them.
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
    """The CBOR of the next `SignedTopology`; `signed` is the one before. Neither is trusted, nor is the result.

    Raises `EncodingError` where they do not fit.
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
        raise EncodingError("the delta does not give the document that it says")
    return to_cbor(SignedTopology(document=document, signatures=change.signatures))


def _digest(document: bytes) -> bytes:
    return hashlib.blake2b(document, digest_size=_DIGEST_LENGTH, person=b"nymtw delta").digest()
