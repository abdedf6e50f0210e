"""The bounds of the links between nodes."""

from dataclasses import dataclass


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
