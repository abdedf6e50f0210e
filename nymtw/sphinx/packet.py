"""A whole packet: built by a sender, processed by one hop after the other.

Sphinx paper, section 3: forward messages, and their processing by mixes. `docs/sphinx.md` draws the packet at each hop.
"""

import hmac
import random as random_module
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.bindings import crypto_scalarmult
from nacl.exceptions import RuntimeError as SodiumError

from nymtw.drop_reasons import DropReason
from nymtw.errors import PacketRejected, ReplayGuardFull, SphinxInputError
from nymtw.sphinx import lioness
from nymtw.sphinx.geometry import (
    HEADER_LENGTH,
    KEY_LENGTH,
    PACKET_LENGTHS,
    PAYLOAD_SEED_LENGTH,
    VERSION_EXPLICIT_KEY,
    VERSION_SEED,
    Geometry,
    SizeClass,
)
from nymtw.sphinx.header import (
    FLAG_FORWARD,
    FLAG_LAST,
    Hop,
    build_header,
    check_route,
    check_secrets,
    header_mac,
    open_beta,
)
from nymtw.sphinx.keys import FIELD_PRIME, cut_keys, expand_seed
from nymtw.sphinx.payload import check_message, pad_message, wrap_payload

# The step of a forward hop: flag, a zero byte, version, address, delay.
_STEP: Final = Struct(">B B H 32s Q")
_REFUSED_VERSIONS: Final = frozenset((1, 257))  # their arithmetic is not clamped
_SYSTEM_RANDOM: Final = random_module.SystemRandom()


class ForwardHop(msgspec.Struct, frozen=True, gc=False):
    """The result at a forward hop: the next address, and the delay in nanoseconds.

    `next_address` and `replay_tag` are 32 bytes; `packet` has the length of the incoming one.
    """

    next_address: bytes
    delay: int
    packet: bytes
    replay_tag: bytes


class FinalHop(msgspec.Struct, frozen=True, gc=False):
    """The result at the last hop: the destination, and the payload block with its padding (`recover_message`).

    `destination` and `replay_tag` are 32 bytes, `identifier` is 16 bytes: zeros in a packet that is not a reply.
    """

    destination: bytes
    identifier: bytes
    payload: bytes
    version: int
    replay_tag: bytes


def build_packet(
    message: bytes,
    route: Sequence[Hop],
    delays: Sequence[int],
    destination: bytes,
    identifier: bytes = bytes(16),
    *,
    size_class: SizeClass = SizeClass.REGULAR,
    version: int = VERSION_SEED,
    random: random_module.Random | None = None,
    secret: bytes | None = None,
    padding: bytes | None = None,
) -> bytes:
    """Build a packet that carries `message` over `route` (1 to 5 hops) to `destination` (32 bytes) at the last hop.

    `delays`: nanoseconds, one for each hop but the last. `identifier`: 16 bytes, zero for a plain packet.
    `secret` (32 bytes) and `padding` (`Geometry.header_padding_length(hops)`) are drawn from `random` unless given.
    With both given, the packet is always the same: for tests only.
    Raises `SphinxInputError`, before any cryptography, if the packet cannot be built.
    """
    geometry = check_message(message, size_class)
    check_route(route, delays, destination, identifier, version)
    source = random or _SYSTEM_RANDOM
    secret = source.randbytes(KEY_LENGTH) if secret is None else secret
    padding = source.randbytes(Geometry.header_padding_length(len(route))) if padding is None else padding
    check_secrets(len(route), secret, padding)
    built = build_header(route, delays, destination, identifier, version, secret, padding)
    block = pad_message(message, geometry)
    return built.header + wrap_payload(block, [keys.payload_key(version) for keys in reversed(built.keys)])


def build_alternatives(
    messages: Sequence[bytes],
    route: Sequence[Hop],
    delays: Sequence[int],
    destination: bytes,
    *,
    size_class: SizeClass = SizeClass.REGULAR,
    random: random_module.Random | None = None,
) -> tuple[bytes, list[bytes]]:
    """One header, and a payload for each of `messages`: their holder sends one, and nobody on the way can tell
    which. Arguments and errors as `build_packet`; a packet is the header (348 bytes) and one payload.

    Only one may be sent: every node takes the second for a replay.
    """
    geometries = [check_message(message, size_class) for message in messages]
    check_route(route, delays, destination, bytes(16), VERSION_SEED)
    source = random or _SYSTEM_RANDOM
    secret = source.randbytes(KEY_LENGTH)
    padding = source.randbytes(Geometry.header_padding_length(len(route)))
    built = build_header(route, delays, destination, bytes(16), VERSION_SEED, secret, padding)
    payload_keys = [keys.payload_key(VERSION_SEED) for keys in reversed(built.keys)]
    blocks = [pad_message(message, geometry) for message, geometry in zip(messages, geometries, strict=True)]
    return built.header, [wrap_payload(block, payload_keys) for block in blocks]


def load_private_key(private_key: bytes | X25519PrivateKey) -> X25519PrivateKey:
    """The key object for 32 bytes of private key. Raises `SphinxInputError` for another length."""
    if isinstance(private_key, X25519PrivateKey):
        return private_key
    if len(private_key) != KEY_LENGTH:
        raise SphinxInputError(f"a private key is {KEY_LENGTH} bytes, not {len(private_key)}")
    return X25519PrivateKey.from_private_bytes(private_key)


def process_packet(packet: bytes, private_key: bytes | X25519PrivateKey) -> ForwardHop | FinalHop:
    """Remove one layer of `packet`, as the hop with `private_key` does.

    Raises `PacketRejected` with the reason for an invalid packet. Only `recover_message` checks the payload. The caller
    must detect replays, by `replay_tag`.
    """
    return unwrap(packet, load_private_key(private_key), None)


def unwrap(
    packet: bytes, private_key: X25519PrivateKey, fresh: Callable[[bytes], bool] | None
) -> ForwardHop | FinalHop:
    """`process_packet`, with a call of `fresh` for the replay tag between the MAC check and the decryption."""
    if len(packet) not in PACKET_LENGTHS:
        raise PacketRejected(DropReason.WRONG_LENGTH)
    alpha = packet[:32]
    # X25519 would mask such a point, so that a replay looks new. Only the rare 0x7f needs the long comparison.
    if alpha[31] >= 0x7F and int.from_bytes(alpha, "little") >= FIELD_PRIME:
        raise PacketRejected(DropReason.NON_CANONICAL_POINT)
    try:
        shared_secret = private_key.exchange(X25519PublicKey.from_public_bytes(alpha))
    except ValueError:
        raise PacketRejected(DropReason.LOW_ORDER_POINT) from None
    stream_key, mac_key, payload_key, blinding_factor, replay_tag = cut_keys(shared_secret)
    beta = packet[48:HEADER_LENGTH]
    if not hmac.compare_digest(header_mac(mac_key, beta), packet[32:48]):
        raise PacketRejected(DropReason.BAD_MAC)
    if fresh is not None:
        try:
            is_fresh = fresh(replay_tag)
        except ReplayGuardFull:
            raise PacketRejected(DropReason.REPLAY_GUARD_FULL) from None
        if not is_fresh:
            raise PacketRejected(DropReason.REPLAYED)
    opened = open_beta(stream_key, beta)
    flag, zero, version, address, delay = _STEP.unpack_from(opened)
    if flag != FLAG_FORWARD and flag != FLAG_LAST:
        raise PacketRejected(DropReason.UNKNOWN_FLAG)
    if zero or version in _REFUSED_VERSIONS:
        raise PacketRejected(DropReason.REFUSED_VERSION)
    if version != VERSION_EXPLICIT_KEY:
        payload_key = expand_seed(payload_key[:PAYLOAD_SEED_LENGTH])
    payload = lioness.decrypt(payload_key, packet[HEADER_LENGTH:])
    if flag == FLAG_LAST:
        return FinalHop(address, opened[36:52], payload, version, replay_tag)
    try:
        next_alpha = crypto_scalarmult(blinding_factor, alpha)
    except SodiumError:
        raise PacketRejected(DropReason.LOW_ORDER_POINT) from None
    # The next MAC and the next beta are already adjacent.
    return ForwardHop(address, delay, b"".join((next_alpha, opened[44:], payload)), replay_tag)
