"""The bounds of the links between nodes."""

import resource
from dataclasses import dataclass
from typing import Final

_STRANGERS: Final = 4  # a quarter of the descriptors is for who has not said who they are


def strangers(most: int) -> int:
    """How many connections of strangers there may be: `most`, and a quarter of this process's descriptors at most.

    Past that the next accepted connection would have no descriptor, whoever it is from.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return most
    return max(1, min(most, descriptors // _STRANGERS))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLimits:
    """Bounds of a node's links: seconds, bytes, connections."""

    connect: float = 10.0
    handshake: float = 10.0
    half_frame: float = 10.0
    keepalive: float = 15.0
    silence: float = 50.0
    stalled: float = 30.0
    patience: float = 10.0
    reconnect_first: float = 0.5
    reconnect_most: float = 4.0
    closing: float = 2.0
    queue_bytes_per_peer: int = 16 << 20
    queue_bytes: int = 128 << 20
    unauthenticated: int = 512  # connections that have not proved an admitted identity
    unauthenticated_per_address: int = 64
