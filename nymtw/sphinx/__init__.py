"""The Sphinx packet: bytes in, bytes out. No clock, no I/O, no reactor.

The format is that of the live Nym mixnodes, to the byte; `docs/sphinx.md` describes it. Danezis and Goldberg, "Sphinx:
A Compact and Provably Secure Mix Format" (IEEE S&P 2009).
"""

from nymtw.drop_reasons import DropReason
from nymtw.errors import PacketRejected, SphinxInputError
from nymtw.sphinx.geometry import (
    GEOMETRIES,
    MAX_HOPS,
    VERSION_EXPLICIT_KEY,
    VERSION_SEED,
    Geometry,
    SizeClass,
)
from nymtw.sphinx.header import Hop
from nymtw.sphinx.keys import generate_keypair, public_key
from nymtw.sphinx.packet import FinalHop, ForwardHop, build_alternatives, build_packet, process_packet
from nymtw.sphinx.payload import recover_message
from nymtw.sphinx.surb import SURB, SURBRecord
from nymtw.sphinx.unwrapper import Unwrapper

__all__ = [
    "GEOMETRIES",
    "MAX_HOPS",
    "SURB",
    "VERSION_EXPLICIT_KEY",
    "VERSION_SEED",
    "DropReason",
    "FinalHop",
    "ForwardHop",
    "Geometry",
    "Hop",
    "PacketRejected",
    "SURBRecord",
    "SizeClass",
    "SphinxInputError",
    "Unwrapper",
    "build_alternatives",
    "build_packet",
    "generate_keypair",
    "process_packet",
    "public_key",
    "recover_message",
]
