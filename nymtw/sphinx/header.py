"""The header: built by a sender for a whole route, opened by each hop.

Sphinx paper, section 3: creating a mix header, with filler (phi). Alpha, beta and MAC (gamma) are the paper's names.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nacl.bindings import crypto_scalarmult_base

from nymtw.errors import SphinxInputError
from nymtw.sphinx.geometry import (
    ADDRESS_LENGTH,
    BETA_LENGTH,
    IDENTIFIER_LENGTH,
    KEY_LENGTH,
    KEYSTREAM_LENGTH,
    MAC_LENGTH,
    MAX_DELAY,
    MAX_HOPS,
    STEP_LENGTH,
    VERSION_EXPLICIT_KEY,
    VERSION_SEED,
    Geometry,
)
from nymtw.sphinx.keys import HopKeys, sender_keys
from nymtw.sphinx.streams import aes_ctr

FLAG_FORWARD: Final = 1
FLAG_LAST: Final = 2
VERSIONS: Final = (VERSION_EXPLICIT_KEY, VERSION_SEED)

_NO_BETA: Final = bytes(KEYSTREAM_LENGTH)
_MORE_BETA: Final = bytes(STEP_LENGTH)


@dataclass(frozen=True, slots=True)
class Hop:
    """A hop of a route: its 32-byte address (a node's identity key) and its 32-byte X25519 public key."""

    address: bytes
    public_key: bytes


@dataclass(frozen=True, slots=True)
class BuiltHeader:
    """A sender's header (348 bytes), and the values that the hops will derive and see.

    `filler`: 60 bytes for each hop but the first. `last_mac_and_beta` (316 bytes): as they reach the last hop.
    """

    header: bytes
    shared_secrets: list[bytes]
    keys: list[HopKeys]
    filler: bytes
    last_mac_and_beta: bytes


def check_route(
    route: Sequence[Hop], delays: Sequence[int], destination: bytes, identifier: bytes, version: int
) -> None:
    """Raises `SphinxInputError`, with the limit, for arguments that no header can be built from."""
    hops = len(route)
    if not 1 <= hops <= MAX_HOPS:
        raise SphinxInputError(f"a route has 1 to {MAX_HOPS} hops, not {hops}")
    for hop in route:
        if len(hop.address) != ADDRESS_LENGTH:
            raise SphinxInputError(f"a hop's address is {ADDRESS_LENGTH} bytes, not {len(hop.address)}")
        if len(hop.public_key) != KEY_LENGTH:
            raise SphinxInputError(f"a hop's public key is {KEY_LENGTH} bytes, not {len(hop.public_key)}")
    if len(delays) != hops - 1:
        raise SphinxInputError(f"{hops} hops have {hops - 1} delays, one for each but the last, not {len(delays)}")
    for delay in delays:
        if not isinstance(delay, int) or not 0 <= delay <= MAX_DELAY:
            raise SphinxInputError(f"a delay is a whole number of nanoseconds from 0 to {MAX_DELAY}, not {delay!r}")
    if len(destination) != ADDRESS_LENGTH:
        raise SphinxInputError(f"a destination is {ADDRESS_LENGTH} bytes, not {len(destination)}")
    if len(identifier) != IDENTIFIER_LENGTH:
        raise SphinxInputError(f"an identifier is {IDENTIFIER_LENGTH} bytes, not {len(identifier)}")
    if version not in VERSIONS:
        raise SphinxInputError(f"a packet's version is one of {VERSIONS}, not {version!r}")


def check_secrets(hops: int, secret: bytes, padding: bytes) -> None:
    """Raises `SphinxInputError` for an ephemeral secret or a header padding of the wrong length."""
    if len(secret) != KEY_LENGTH:
        raise SphinxInputError(f"an ephemeral secret is {KEY_LENGTH} bytes, not {len(secret)}")
    expected = Geometry.header_padding_length(hops)
    if len(padding) != expected:
        raise SphinxInputError(f"the header padding for {hops} hops is {expected} bytes, not {len(padding)}")


def build_header(
    route: Sequence[Hop],
    delays: Sequence[int],
    destination: bytes,
    identifier: bytes,
    version: int,
    secret: bytes,
    padding: bytes,
) -> BuiltHeader:
    """Build the header for `route`. The caller has checked the arguments with `check_route` and `check_secrets`."""
    shared_secrets, keys = sender_keys(secret, [hop.public_key for hop in route])
    streams = [keystream(hop.stream_key) for hop in keys]
    filler = b""
    for hops, stream in enumerate(streams[:-1], start=1):
        filler = _xor(filler + _MORE_BETA, stream[KEYSTREAM_LENGTH - STEP_LENGTH * hops :])
    version_bytes = version.to_bytes(3, "big")
    last = b"".join((b"\x02", version_bytes, destination, identifier, padding))
    beta = _xor(last, streams[-1][: len(last)]) + filler
    mac = header_mac(keys[-1].mac_key, beta)
    last_mac_and_beta = mac + beta
    for index in range(len(route) - 2, -1, -1):
        step = b"".join((b"\x01", version_bytes, route[index + 1].address, delays[index].to_bytes(8, "big"), mac))
        beta = _xor(step + beta[: BETA_LENGTH - STEP_LENGTH], streams[index][:BETA_LENGTH])
        mac = header_mac(keys[index].mac_key, beta)
    return BuiltHeader(crypto_scalarmult_base(secret) + mac + beta, shared_secrets, keys, filler, last_mac_and_beta)


def keystream(stream_key: bytes) -> bytes:
    """The 360 bytes of AES-128-CTR that a hop uses (paper: rho)."""
    return aes_ctr(stream_key, _NO_BETA)


def open_beta(stream_key: bytes, beta: bytes) -> bytes:
    """The 360 decrypted bytes of a hop: its own step, then the next hop's beta."""
    return aes_ctr(stream_key, beta + _MORE_BETA)


def header_mac(mac_key: bytes, beta: bytes) -> bytes:
    """HMAC-SHA256 over beta, cut to 16 bytes (paper: mu)."""
    return hmac.digest(mac_key, beta, "sha256")[:MAC_LENGTH]


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "little") ^ int.from_bytes(right, "little")).to_bytes(len(left), "little")
