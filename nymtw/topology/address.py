"""A client's address: `<mailbox id>.<encryption key>@<provider identity>`, each part in base58 with a checksum.

The checksum covers all three parts and the network's id. So typing errors, mixed parts of two addresses, and addresses
of another network are detected before anything is sent. An address gives no right to read the mailbox.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Self

import base58

from nymtw.encoding import KEY_LENGTH
from nymtw.errors import AddressError

CHECK_LENGTH: Final = 4
MAX_ADDRESS_LENGTH: Final = 3 * 50 + 2  # 36 bytes are at most 50 characters of base58


def mailbox_id(public_key: bytes) -> bytes:
    """The mailbox (32 bytes) for an Ed25519 mailbox key (32 bytes): the key's BLAKE2b-256."""
    return hashlib.blake2b(public_key, digest_size=32, person=b"nymtw mailbox").digest()


@dataclass(frozen=True, slots=True)
class Address:
    """A client's address: its mailbox, its X25519 key, its provider's identity; 32 bytes each."""

    mailbox: bytes
    encryption_key: bytes
    provider: bytes

    def encode(self, network: bytes) -> str:
        """The text form on the network with this id (16 bytes)."""
        parts = (self.mailbox, self.encryption_key, self.provider)
        checks = _checks(parts, network)
        mailbox, key, provider = (
            base58.b58encode(part + check).decode("ascii") for part, check in zip(parts, checks, strict=True)
        )
        return f"{mailbox}.{key}@{provider}"

    @classmethod
    def parse(cls, text: str, network: bytes) -> Self:
        """Parse the result of `encode`, for the network with this id (16 bytes). Raises `AddressError`."""
        mailbox, key, provider = split_address(text)
        address = cls(mailbox, key, provider)
        if address.encode(network) != text:
            raise AddressError
        return address


def split_address(text: str) -> tuple[bytes, bytes, bytes]:
    """Mailbox, encryption key and provider (32 bytes each) of an address of *any* network. The checksum is not checked.

    Raises `AddressError` for a text that is not an address in any network.
    """
    if not isinstance(text, str) or len(text) > MAX_ADDRESS_LENGTH or not text.isascii():
        raise AddressError("an address is <mailbox>.<key>@<provider>, in base58")
    client, at, provider = text.partition("@")
    mailbox, dot, key = client.partition(".")
    if not at or not dot:
        raise AddressError("an address is <mailbox>.<key>@<provider>, in base58")
    return _decode(mailbox), _decode(key), _decode(provider)


def _decode(part: str) -> bytes:
    try:
        data = base58.b58decode(part)
    except ValueError:
        raise AddressError("an address has a character that is not base58") from None
    if len(data) != KEY_LENGTH + CHECK_LENGTH:
        raise AddressError(f"a part of an address is {KEY_LENGTH + CHECK_LENGTH} bytes, not {len(data)}")
    return data[:KEY_LENGTH]


def _checks(parts: tuple[bytes, bytes, bytes], network: bytes) -> tuple[bytes, bytes, bytes]:
    digest = hashlib.blake2b(network + b"".join(parts), digest_size=3 * CHECK_LENGTH, person=b"nymtw address").digest()
    return digest[:4], digest[4:8], digest[8:]
