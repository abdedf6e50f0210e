"""Signed heartbeats from single fields."""

from collections.abc import Mapping, Sequence
from typing import Any

from nacl.signing import SigningKey

from nymtw.topology.document import NodeRecord, PublicClient
from nymtw.topology.presence import Heartbeat, make_heartbeat


def signed_heartbeat(
    role: str,
    *,
    keys: Mapping[int, bytes],
    signing_key: SigningKey,
    timestamp: int,
    registered_clients: Sequence[str] = (),
    number: int = 0,
    version: str = "",
    **fields: Any,
) -> dict[str, Any]:
    """`fields` are those of `NodeRecord` and the rest of `Heartbeat`."""
    identity = bytes(signing_key.verify_key)
    own = {name: fields.pop(name) for name in NodeRecord.__struct_fields__ if name in fields}
    record = NodeRecord(role=role, identity=identity, sphinx_keys=dict(keys), **own)
    clients = tuple(PublicClient(address=address, provider=identity) for address in registered_clients)
    return make_heartbeat(Heartbeat(record, clients, number, timestamp, version, **fields), signing_key)
