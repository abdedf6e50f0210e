"""The wide-block cipher of the payload: LIONESS over ChaCha20 and keyed BLAKE2b-256.

Anderson and Biham, "Two Practical and Provably Secure Block Ciphers: BEAR and LION" (1996); section 2.2 of the
Sphinx paper names it as the payload's pi. A change of one bit anywhere changes the whole block.
"""

from hashlib import blake2b

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

_LEFT = 32
# Four bytes of counter and twelve of nonce: a key is used for one stream alone.
_NONCE = bytes(16)


def encrypt(key: bytes, block: bytes) -> bytes:
    """Encrypt `block`, more than 32 bytes, under the 192-byte `key`."""
    left = int.from_bytes(block[:_LEFT], "little")
    stream_key = (left ^ int.from_bytes(key[:32], "little")).to_bytes(_LEFT, "little")
    right = Cipher(ChaCha20(stream_key, _NONCE), None).encryptor().update(block[_LEFT:])
    left ^= int.from_bytes(blake2b(right, key=key[32:96], digest_size=_LEFT).digest(), "little")
    stream_key = (left ^ int.from_bytes(key[96:128], "little")).to_bytes(_LEFT, "little")
    right = Cipher(ChaCha20(stream_key, _NONCE), None).encryptor().update(right)
    left ^= int.from_bytes(blake2b(right, key=key[128:], digest_size=_LEFT).digest(), "little")
    return left.to_bytes(_LEFT, "little") + right


def decrypt(key: bytes, block: bytes) -> bytes:
    """Undo `encrypt`."""
    right = block[_LEFT:]
    left = int.from_bytes(block[:_LEFT], "little")
    left ^= int.from_bytes(blake2b(right, key=key[128:], digest_size=_LEFT).digest(), "little")
    stream_key = (left ^ int.from_bytes(key[96:128], "little")).to_bytes(_LEFT, "little")
    right = Cipher(ChaCha20(stream_key, _NONCE), None).encryptor().update(right)
    left ^= int.from_bytes(blake2b(right, key=key[32:96], digest_size=_LEFT).digest(), "little")
    stream_key = (left ^ int.from_bytes(key[:32], "little")).to_bytes(_LEFT, "little")
    right = Cipher(ChaCha20(stream_key, _NONCE), None).encryptor().update(right)
    return left.to_bytes(_LEFT, "little") + right
