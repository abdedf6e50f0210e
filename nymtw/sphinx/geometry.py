"""Every length of a Sphinx packet, computed in one place, and the size classes of packets.

Lengths are in bytes. The letters are those of Danezis and Goldberg, "Sphinx: A Compact and Provably Secure Mix Format"
(IEEE S&P 2009), section 3: k is the security parameter, r the maximum of hops.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

SECURITY_PARAMETER: Final = 16
MAX_HOPS: Final = 5

ALPHA_LENGTH: Final = 32
MAC_LENGTH: Final = SECURITY_PARAMETER
KEY_LENGTH: Final = 32
ADDRESS_LENGTH: Final = 2 * SECURITY_PARAMETER
IDENTIFIER_LENGTH: Final = SECURITY_PARAMETER
FLAG_LENGTH: Final = 1
VERSION_LENGTH: Final = 3
DELAY_LENGTH: Final = 8
MAX_DELAY: Final = 256**DELAY_LENGTH - 1

STEP_LENGTH: Final = FLAG_LENGTH + VERSION_LENGTH + ADDRESS_LENGTH + DELAY_LENGTH + MAC_LENGTH
LAST_STEP_LENGTH: Final = FLAG_LENGTH + VERSION_LENGTH + ADDRESS_LENGTH + IDENTIFIER_LENGTH
BETA_LENGTH: Final = MAX_HOPS * STEP_LENGTH
KEYSTREAM_LENGTH: Final = BETA_LENGTH + STEP_LENGTH
HEADER_LENGTH: Final = ALPHA_LENGTH + MAC_LENGTH + BETA_LENGTH

PAYLOAD_ZEROS_LENGTH: Final = SECURITY_PARAMETER
PAYLOAD_OVERHEAD: Final = PAYLOAD_ZEROS_LENGTH + 1

PAYLOAD_KEY_LENGTH: Final = 192
PAYLOAD_SEED_LENGTH: Final = SECURITY_PARAMETER

VERSION_EXPLICIT_KEY: Final = 258
VERSION_SEED: Final = 259


class SizeClass(IntEnum):
    """The sizes of packets. The number is part of link frames."""

    REGULAR = 0
    ACK = 1
    EXTENDED_8 = 2
    EXTENDED_16 = 3
    EXTENDED_32 = 4


@dataclass(frozen=True, slots=True)
class Geometry:
    """The lengths of one size class. All follow from the length of its longest message."""

    size_class: SizeClass
    plaintext_length: int

    @property
    def payload_length(self) -> int:
        """The encrypted payload block: zeros in front, the message, one marker byte, padding."""
        return self.plaintext_length + PAYLOAD_OVERHEAD

    @property
    def packet_length(self) -> int:
        """Header and payload: the bytes on the wire, at every hop."""
        return HEADER_LENGTH + self.payload_length

    @staticmethod
    def header_padding_length(hops: int) -> int:
        """The random bytes after the last hop's routing information, in a header of `hops` hops."""
        return BETA_LENGTH - STEP_LENGTH * (hops - 1) - LAST_STEP_LENGTH

    @staticmethod
    def payload_secret_length(version: int) -> int:
        """The secret of one hop in a SURB: the whole payload key (version 258) or its seed (version 259)."""
        return PAYLOAD_KEY_LENGTH if version == VERSION_EXPLICIT_KEY else PAYLOAD_SEED_LENGTH

    @classmethod
    def surb_length(cls, hops: int, version: int = VERSION_SEED, *, single_seed: bool = False) -> int:
        """A SURB: header, first hop's address, and a payload key or seed for each hop (one for a single seed)."""
        return HEADER_LENGTH + ADDRESS_LENGTH + cls.payload_secret_length(version) * (1 if single_seed else hops)


GEOMETRIES: Final[dict[SizeClass, Geometry]] = {
    size_class: Geometry(size_class, plaintext_length)
    for size_class, plaintext_length in (
        (SizeClass.REGULAR, 2048),
        (SizeClass.ACK, 21),
        (SizeClass.EXTENDED_8, 8192),
        (SizeClass.EXTENDED_16, 16384),
        (SizeClass.EXTENDED_32, 32768),
    )
}

PACKET_LENGTHS: Final[dict[int, Geometry]] = {geometry.packet_length: geometry for geometry in GEOMETRIES.values()}
