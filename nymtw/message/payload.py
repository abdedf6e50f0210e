"""The plaintext of a regular packet: an ack section for the provider, then the sealed data for the recipient.

430 + 1,618 = 2,048 bytes. Data, loop and drop packets all have both parts, so that nobody can distinguish them.
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

from nymtw.errors import EncodingError
from nymtw.sphinx import GEOMETRIES, SizeClass

PAYLOAD_LENGTH: Final = GEOMETRIES[SizeClass.REGULAR].plaintext_length
ACK_PACKET_LENGTH: Final = GEOMETRIES[SizeClass.ACK].packet_length
ACK_ID_LENGTH: Final = GEOMETRIES[SizeClass.ACK].plaintext_length

_ACK_HEAD: Final = struct.Struct(">I32sQ")
ACK_SECTION_LENGTH: Final = _ACK_HEAD.size + ACK_PACKET_LENGTH
SEALED_LENGTH: Final = PAYLOAD_LENGTH - ACK_SECTION_LENGTH

DROP_DESTINATION: Final = bytes(32)
"""The destination of drop cover: the provider sends the ack and discards the rest."""


@dataclass(frozen=True, slots=True)
class AckSection:
    """Instructions for the provider once the packet is stored: wait `delay` (nanoseconds), then send `packet` (386
    bytes, built by the sender) to `first_hop` (identity, 32 bytes) in a frame of key epoch `epoch`.

    The ack's plaintext is 21 random bytes, which only the sender can recognise.
    """

    epoch: int
    first_hop: bytes
    delay: int
    packet: bytes

    def encode(self) -> bytes:
        """The 430 bytes: epoch (4), first hop (32), delay (8), packet (386); numbers are big-endian."""
        return _ACK_HEAD.pack(self.epoch, self.first_hop, self.delay) + self.packet

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the result of `encode`. Raises `EncodingError` for another length."""
        if len(data) != ACK_SECTION_LENGTH:
            raise EncodingError(f"an ack section is {ACK_SECTION_LENGTH} bytes, not {len(data)}")
        epoch, first_hop, delay = _ACK_HEAD.unpack_from(data)
        return cls(epoch, first_hop, delay, data[_ACK_HEAD.size :])


def join_payload(ack: AckSection, sealed: bytes) -> bytes:
    """The plaintext of a regular packet: the ack section, then 1,618 sealed bytes."""
    return ack.encode() + sealed


def split_payload(plaintext: bytes) -> tuple[AckSection, bytes]:
    """The ack section and the sealed bytes of a packet's plaintext. Raises `EncodingError` for another length."""
    if len(plaintext) != PAYLOAD_LENGTH:
        raise EncodingError(f"the plaintext of a regular packet is {PAYLOAD_LENGTH} bytes, not {len(plaintext)}")
    return AckSection.parse(plaintext[:ACK_SECTION_LENGTH]), plaintext[ACK_SECTION_LENGTH:]
