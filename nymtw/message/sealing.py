"""Sealing to a recipient's X25519 key: only the owner of the key can open it, and nobody learns the sender.

The layout is that of PyNaCl's `SealedBox` (libsodium's `crypto_box_seal`): the ephemeral public key (32), then
XSalsa20-Poly1305 of the plaintext (16 more), with BLAKE2b-192(ephemeral key + recipient's key) as nonce. The ephemeral
key comes from an argument, so that a seed replays a run.
"""

import hashlib
from random import Random
from typing import Final

from nacl.bindings import crypto_box, crypto_box_open, crypto_scalarmult_base
from nacl.exceptions import CryptoError

from nymtw.errors import EncodingError

SEAL_OVERHEAD: Final = 48
KEY_LENGTH: Final = 32
_NONCE_LENGTH: Final = 24


def seal(plaintext: bytes, recipient_key: bytes, random: Random) -> bytes:
    """Seal `plaintext` to `recipient_key` (32 bytes). The result is 48 bytes longer. Takes 32 bytes of `random`.

    Raises `EncodingError` for an invalid key (a wrong length, a point of low order).
    """
    ephemeral = random.randbytes(KEY_LENGTH)
    ephemeral_public = crypto_scalarmult_base(ephemeral)
    try:
        box = crypto_box(plaintext, _nonce(ephemeral_public, recipient_key), recipient_key, ephemeral)
    except (CryptoError, ValueError):
        raise EncodingError("this is not a valid X25519 public key") from None
    return ephemeral_public + box


def unseal(sealed: bytes, private_key: bytes, public_key: bytes | None = None) -> bytes:
    """Open bytes that were sealed to the public key of `private_key` (32 bytes each). Giving both keys saves a
    multiplication.

    Raises `EncodingError` for bytes that were not sealed to this key.
    """
    if len(sealed) < SEAL_OVERHEAD:
        raise EncodingError(f"sealed data is at least {SEAL_OVERHEAD} bytes, not {len(sealed)}")
    ephemeral_public = sealed[:KEY_LENGTH]
    nonce = _nonce(ephemeral_public, public_key or crypto_scalarmult_base(private_key))
    try:
        return crypto_box_open(sealed[KEY_LENGTH:], nonce, ephemeral_public, private_key)
    except CryptoError:
        raise EncodingError("these bytes were not sealed to this key") from None


def _nonce(ephemeral_public: bytes, recipient_key: bytes) -> bytes:
    return hashlib.blake2b(ephemeral_public + recipient_key, digest_size=_NONCE_LENGTH).digest()
