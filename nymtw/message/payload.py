"""The plaintext of a regular packet: an ack section for the provider, then the sealed data for the recipient.

468 + 1,580 = 2,048 bytes. Data, loop and drop packets all have both parts, so that nobody can distinguish them.
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

from nymtw.errors import EncodingError
from nymtw.sphinx import GEOMETRIES, SizeClass
from nymtw.sphinx.geometry import HEADER_LENGTH

PAYLOAD_LENGTH: Final = GEOMETRIES[SizeClass.REGULAR].plaintext_length
ACK_PACKET_LENGTH: Final = GEOMETRIES[SizeClass.ACK].packet_length
ACK_ID_LENGTH: Final = GEOMETRIES[SizeClass.ACK].plaintext_length

ACK_HEADER_LENGTH: Final = HEADER_LENGTH
ACK_PAYLOAD_LENGTH: Final = GEOMETRIES[SizeClass.ACK].payload_length

_ACK_HEAD: Final = struct.Struct(">I32sQ")
ACK_SECTION_LENGTH: Final = _ACK_HEAD.size + ACK_HEADER_LENGTH + 2 * ACK_PAYLOAD_LENGTH
SEALED_LENGTH: Final = PAYLOAD_LENGTH - ACK_SECTION_LENGTH

DROP_DESTINATION: Final = bytes(32)
"""The destination of drop cover: the edge sends the ack and discards the rest."""


@dataclass(frozen=True, slots=True)
class AckSection:
    """Instructions for the edge once the packet is stored or refused: wait `delay` (nanoseconds), then send `header`
    (348 bytes) with one of two payloads (38 bytes each) to `first_hop` (identity, 32 bytes) in a frame of key epoch
    `epoch`.

    `stored` says that the packet is safe, `refused` that it is not kept. The plaintext of each is 21 random bytes,
    which only the sender can recognise: its own edge, which counts acks, learns nothing of what a recipient does.
    """

    epoch: int
    first_hop: bytes
    delay: int
    header: bytes
    stored: bytes
    refused: bytes

    def packet(self, stored: bool) -> bytes:
        """The ack (386 bytes) that says so."""
        return self.header + (self.stored if stored else self.refused)

    def encode(self) -> bytes:
        """The 468 bytes: epoch (4), first hop (32), delay (8), header (348), stored (38), refused (38); big-endian."""
        head = _ACK_HEAD.pack(self.epoch, self.first_hop, self.delay)
        return b"".join((head, self.header, self.stored, self.refused))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the result of `encode`. Raises `EncodingError` for another length."""
        if len(data) != ACK_SECTION_LENGTH:
            raise EncodingError(f"an ack section is {ACK_SECTION_LENGTH} bytes, not {len(data)}")
        epoch, first_hop, delay = _ACK_HEAD.unpack_from(data)
        stored = _ACK_HEAD.size + ACK_HEADER_LENGTH
        refused = stored + ACK_PAYLOAD_LENGTH
        return cls(epoch, first_hop, delay, data[_ACK_HEAD.size : stored], data[stored:refused], data[refused:])


NO_ACK: Final = AckSection(
    0, bytes(32), 0, bytes(ACK_HEADER_LENGTH), bytes(ACK_PAYLOAD_LENGTH), bytes(ACK_PAYLOAD_LENGTH)
)
"""The ack section of cover for replies, which have no acks: its first hop is nobody."""


MOST_MORE_ACKS: Final = 3
"""More ack sections that drop cover may have where others have a fragment."""


def drop_destination(more: int) -> bytes:
    """The destination of drop cover that brings back so many acks (0 to 3) more than its own: those of packets that
    were sent over reply blocks, without one. Then the own edge counts as many acks for a client as packets from it.
    """
    return DROP_DESTINATION[:-1] + bytes([more])


def drop_acks(destination: bytes, content: bytes) -> list[AckSection] | None:
    """The further ack sections in `content` of a packet to `destination`; None for one that is no drop cover.

    Raises `EncodingError` for drop cover that has more than it may.
    """
    if destination[:-1] != DROP_DESTINATION[:-1]:
        return None
    more = destination[-1]
    if more > MOST_MORE_ACKS:
        raise EncodingError(f"drop cover has at most {MOST_MORE_ACKS} more acks, not {more}")
    starts = range(0, more * ACK_SECTION_LENGTH, ACK_SECTION_LENGTH)
    return [AckSection.parse(content[start : start + ACK_SECTION_LENGTH]) for start in starts]


def join_payload(ack: AckSection, sealed: bytes) -> bytes:
    """The plaintext of a regular packet: the ack section, then 1,580 sealed bytes."""
    return ack.encode() + sealed


def split_payload(plaintext: bytes) -> tuple[AckSection, bytes]:
    """The ack section and the sealed bytes of a packet's plaintext. Raises `EncodingError` for another length."""
    if len(plaintext) != PAYLOAD_LENGTH:
        raise EncodingError(f"the plaintext of a regular packet is {PAYLOAD_LENGTH} bytes, not {len(plaintext)}")
    return AckSection.parse(plaintext[:ACK_SECTION_LENGTH]), plaintext[ACK_SECTION_LENGTH:]
