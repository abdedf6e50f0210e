"""The wide-block cipher of the payload: LIONESS over ChaCha20 and keyed BLAKE2b-256.

Anderson and Biham, "Two Practical and Provably Secure Block Ciphers: BEAR and LION" (1996); the
permutation pi of the Sphinx paper, section 3. A change of one bit anywhere changes the whole block.
"""

from hashlib import blake2b
from struct import Struct
from typing import Final

from nymtw.sphinx.streams import chacha20

_LEFT: Final = 32
_KEYS: Final = Struct("32s 64s 32s 64s")
_int = int.from_bytes


def encrypt(key: bytes, block: bytes) -> bytes:
    """Encrypt `block`, more than 32 bytes, under the 192-byte `key`."""
    key1, key2, key3, key4 = _KEYS.unpack(key)
    left = _int(block[:_LEFT], "little")
    right = chacha20((left ^ _int(key1, "little")).to_bytes(_LEFT, "little"), block[_LEFT:])
    left ^= _int(blake2b(right, key=key2, digest_size=_LEFT).digest(), "little")
    right = chacha20((left ^ _int(key3, "little")).to_bytes(_LEFT, "little"), right)
    left ^= _int(blake2b(right, key=key4, digest_size=_LEFT).digest(), "little")
    return left.to_bytes(_LEFT, "little") + right


def decrypt(key: bytes, block: bytes) -> bytes:
    """Undo `encrypt`."""
    key1, key2, key3, key4 = _KEYS.unpack(key)
    right = block[_LEFT:]
    left = _int(block[:_LEFT], "little") ^ _int(blake2b(right, key=key4, digest_size=_LEFT).digest(), "little")
    right = chacha20((left ^ _int(key3, "little")).to_bytes(_LEFT, "little"), right)
    left ^= _int(blake2b(right, key=key2, digest_size=_LEFT).digest(), "little")
    right = chacha20((left ^ _int(key1, "little")).to_bytes(_LEFT, "little"), right)
    return left.to_bytes(_LEFT, "little") + right
