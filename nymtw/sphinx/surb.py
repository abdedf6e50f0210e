"""Single-use reply blocks (SURBs): a route back to the creator, made in advance. Its user does not learn the route.

Sphinx paper, section 3: replies. An ordinary SURB carries the payload key of every hop. A single-seed SURB carries only
the key of the last hop, which is its creator: no other hop can recognise the reply's payload.
"""

import hmac
import random as random_module
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from nymtw.drop_reasons import DropReason
from nymtw.errors import EncodingError, PacketRejected, SphinxInputError
from nymtw.sphinx import lioness
from nymtw.sphinx.geometry import (
    ADDRESS_LENGTH,
    HEADER_LENGTH,
    IDENTIFIER_LENGTH,
    KEY_LENGTH,
    MAX_HOPS,
    PACKET_LENGTHS,
    PAYLOAD_KEY_LENGTH,
    PAYLOAD_SEED_LENGTH,
    VERSION_SEED,
    Geometry,
    SizeClass,
)
from nymtw.sphinx.header import Hop, build_header, check_route, check_secrets
from nymtw.sphinx.keys import expand_payload_secret, last_alpha
from nymtw.sphinx.payload import check_message, pad_message, recover_message, wrap_payload

_SYSTEM_RANDOM: Final = random_module.SystemRandom()
_KEYS_AT: Final = HEADER_LENGTH + ADDRESS_LENGTH
_RECORD_KEYS_AT: Final = 1 + IDENTIFIER_LENGTH + HEADER_LENGTH


@dataclass(frozen=True, slots=True)
class SURB:
    """A reply block: a header (348 bytes), the first hop's address (32 bytes), and the payload keys in route order.

    A key has 192 bytes (version 258), or is a seed of 16 bytes (version 259). A single-seed SURB has one key for any
    route. A SURB is used once.
    """

    header: bytes
    first_hop_address: bytes
    payload_secrets: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def create(
        cls,
        route: Sequence[Hop],
        delays: Sequence[int],
        destination: bytes,
        identifier: bytes,
        *,
        version: int = VERSION_SEED,
        single_seed: bool = False,
        random: random_module.Random | None = None,
        secret: bytes | None = None,
        padding: bytes | None = None,
    ) -> "tuple[SURB, SURBRecord]":
        """Create a SURB over `route` (1 to 5 hops), and the record with which its creator reads the reply.

        The last hop reads `destination` (32 bytes) and `identifier` (16 bytes). `delays`, `secret`, `padding` and
        `random`: as for `build_packet`. With `single_seed` the creator is the last hop of the route, and finds the
        record by the identifier, which must not be zero.
        Raises `SphinxInputError`, before any cryptography, if the SURB cannot be built.
        """
        check_route(route, delays, destination, identifier, version)
        if single_seed and not any(identifier):
            raise SphinxInputError("the identifier of a single-seed SURB must not be zero: its record is found by it")
        source = random or _SYSTEM_RANDOM
        secret = source.randbytes(KEY_LENGTH) if secret is None else secret
        padding = source.randbytes(Geometry.header_padding_length(len(route))) if padding is None else padding
        check_secrets(len(route), secret, padding)
        built = build_header(route, delays, destination, identifier, version, secret, padding)
        secrets = tuple(keys.payload_secret(version) for keys in built.keys)
        last_header = last_alpha(secret, built.keys) + built.last_mac_and_beta
        surb = cls(built.header, route[0].address, secrets[-1:] if single_seed else secrets)
        return surb, SURBRecord(identifier, single_seed, last_header, secrets)

    def use(self, message: bytes, *, size_class: SizeClass = SizeClass.REGULAR) -> tuple[bytes, bytes]:
        """The first hop's address (32 bytes), and the packet for it that carries `message` to the SURB's creator.

        Raises `SphinxInputError` for a message longer than the size class carries.
        """
        geometry = check_message(message, size_class)
        keys = [expand_payload_secret(secret) for secret in reversed(self.payload_secrets)]
        return self.first_hop_address, self.header + wrap_payload(pad_message(message, geometry), keys)

    def to_bytes(self) -> bytes:
        """Header, address and keys: 380 bytes, and 16 (version 259) or 192 (version 258) bytes for each key."""
        return b"".join((self.header, self.first_hop_address, *self.payload_secrets))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse the result of `to_bytes`. Raises `EncodingError` for a length that no SURB has."""
        return cls(data[:HEADER_LENGTH], data[HEADER_LENGTH:_KEYS_AT], _split_secrets(data, _KEYS_AT, "SURB"))


@dataclass(frozen=True, slots=True)
class SURBRecord:
    """The creator's record of a SURB: the header (348 bytes) with which the reply reaches the last hop, and all keys.

    It is found by `identifier` (16 bytes), which the last hop reads, or by `alpha`, the beginning of the packet.
    """

    identifier: bytes
    single_seed: bool
    last_header: bytes = field(repr=False)
    payload_secrets: tuple[bytes, ...] = field(repr=False)

    @property
    def alpha(self) -> bytes:
        """The first 32 bytes of the packet that reaches the last hop."""
        return self.last_header[:32]

    def open(self, payload: bytes) -> bytes:
        """The message in `payload`, the block of a `FinalHop`, which the last hop of the route has decrypted.

        Raises `PacketRejected` (malformed payload) if it was changed on its way.
        """
        if not self.single_seed:
            return recover_message(payload)
        keys = [expand_payload_secret(secret) for secret in self.payload_secrets]
        return recover_message(lioness.decrypt(keys[-1], wrap_payload(_checked_payload(payload), reversed(keys))))

    def open_packet(self, packet: bytes) -> bytes:
        """The message in a whole reply, as it reaches the last hop. The hop's private key is not needed.

        Raises `PacketRejected`: wrong length, bad MAC (the header of another SURB), or malformed payload.
        """
        if len(packet) not in PACKET_LENGTHS:
            raise PacketRejected(DropReason.WRONG_LENGTH)
        if not hmac.compare_digest(packet[:HEADER_LENGTH], self.last_header):
            raise PacketRejected(DropReason.BAD_MAC)
        payload = packet[HEADER_LENGTH:]
        keys = [expand_payload_secret(secret) for secret in self.payload_secrets]
        if self.single_seed:
            payload = wrap_payload(payload, reversed(keys[:-1]))
        return recover_message(lioness.decrypt(keys[-1], payload))

    def to_bytes(self) -> bytes:
        """One byte (1 for single-seed), identifier, header, keys: 365 bytes, and 16 or 192 bytes for each hop."""
        kind = b"\x01" if self.single_seed else b"\x00"
        return b"".join((kind, self.identifier, self.last_header, *self.payload_secrets))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse the result of `to_bytes`. Raises `EncodingError` for anything else."""
        secrets = _split_secrets(data, _RECORD_KEYS_AT, "SURB record")
        if data[0] > 1:
            raise EncodingError(f"a SURB record starts with 0 or 1, not {data[0]}")
        header_at = 1 + IDENTIFIER_LENGTH
        return cls(data[1:header_at], data[0] == 1, data[header_at:_RECORD_KEYS_AT], secrets)


def _split_secrets(data: bytes, start: int, what: str) -> tuple[bytes, ...]:
    """One to five keys from `start` on. Five seeds are shorter than one whole key, so the length decides."""
    total = len(data) - start
    size = PAYLOAD_SEED_LENGTH if total < PAYLOAD_KEY_LENGTH else PAYLOAD_KEY_LENGTH
    if total <= 0 or total % size or total > MAX_HOPS * size:
        raise EncodingError(
            f"a {what} is {start} bytes and 1 to {MAX_HOPS} keys of {PAYLOAD_SEED_LENGTH} or {PAYLOAD_KEY_LENGTH}, "
            f"not {len(data)} bytes"
        )
    return tuple(data[at : at + size] for at in range(start, len(data), size))


def _checked_payload(payload: bytes) -> bytes:
    if HEADER_LENGTH + len(payload) not in PACKET_LENGTHS:
        raise PacketRejected(DropReason.WRONG_LENGTH)
    return payload
