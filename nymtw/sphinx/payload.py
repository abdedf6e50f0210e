"""The payload: a message with its padding, wrapped in one wide-block layer for each hop.

Sphinx paper, section 3 (delta): zeros in front, so that the last hop detects a change anywhere.
"""

from collections.abc import Iterable
from typing import Final

from nymtw.drop_reasons import DropReason
from nymtw.errors import PacketRejected, SphinxInputError
from nymtw.sphinx import lioness
from nymtw.sphinx.geometry import GEOMETRIES, PAYLOAD_ZEROS_LENGTH, Geometry, SizeClass

_ZEROS: Final = bytes(PAYLOAD_ZEROS_LENGTH)
_MARKER: Final = b"\x01"


def check_message(message: bytes, size_class: SizeClass) -> Geometry:
    """The geometry of `size_class`. Raises `SphinxInputError` for a message that is too long, or an unknown class."""
    geometry = GEOMETRIES.get(size_class)
    if geometry is None:
        raise SphinxInputError(f"a size class is a number from 0 to {len(GEOMETRIES) - 1}, not {size_class!r}")
    if len(message) > geometry.plaintext_length:
        raise SphinxInputError(
            f"a message in a packet of class {geometry.size_class.name} is at most {geometry.plaintext_length} bytes, "
            f"not {len(message)}"
        )
    return geometry


def pad_message(message: bytes, geometry: Geometry) -> bytes:
    """16 zero bytes, the message, one marker byte, zero bytes up to the payload's length."""
    return (_ZEROS + message + _MARKER).ljust(geometry.payload_length, b"\0")


def wrap_payload(block: bytes, payload_keys: Iterable[bytes]) -> bytes:
    """Encrypt with each of the 192-byte `payload_keys`, in the order given: a sender gives the last hop's first."""
    for key in payload_keys:
        block = lioness.encrypt(key, block)
    return block


def recover_message(payload: bytes) -> bytes:
    """The message in a payload block without layers.

    Raises `PacketRejected` (malformed payload) if the zeros in front or the marker behind are missing: the block was
    changed on its way, or still has layers.
    """
    if payload.startswith(_ZEROS):
        body = payload[PAYLOAD_ZEROS_LENGTH:].rstrip(b"\0")
        if body.endswith(_MARKER):
            return body[:-1]
    raise PacketRejected(DropReason.MALFORMED_PAYLOAD)
