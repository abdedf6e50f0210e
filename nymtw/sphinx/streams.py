"""The two stream ciphers of the packet: ChaCha20 for the payload, AES-128-CTR for the header.

A key is used for one stream only, so counter and nonce always start at zero. Creating cipher objects costs more than
the encryption itself, so each thread keeps one set of objects and gives them the next key. A test at import checks that
the library supports this.
"""

import threading
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import CTR

_ZERO: Final = bytes(16)
_COUNTER: Final = CTR(_ZERO)


class _Kept(threading.local):
    """This thread's cipher objects: one takes the key, the other starts a stream with it."""

    def __init__(self) -> None:
        chacha, aes = ChaCha20(bytes(32), _ZERO), AES128(bytes(16))
        self.chacha = chacha, Cipher(chacha, None).encryptor
        self.aes = aes, Cipher(aes, _COUNTER).encryptor


_kept: Final = _Kept()


def fresh_chacha20(key: bytes, data: bytes) -> bytes:
    """`data` XORed with the ChaCha20 stream of the 32-byte `key`: 20 rounds, counter and nonce zero."""
    return Cipher(ChaCha20(key, _ZERO), None).encryptor().update(data)


def fresh_aes_ctr(key: bytes, data: bytes) -> bytes:
    """`data` XORed with the AES-128-CTR stream of the 16-byte `key`: 128-bit big-endian counter from zero."""
    return Cipher(AES128(key), _COUNTER).encryptor().update(data)


def kept_chacha20(key: bytes, data: bytes) -> bytes:
    """`fresh_chacha20` with this thread's kept objects. The caller must check the key's length."""
    algorithm, start = _kept.chacha
    algorithm.key = key
    return start().update(data)


def kept_aes_ctr(key: bytes, data: bytes) -> bytes:
    """`fresh_aes_ctr` with this thread's kept objects. The caller must check the key's length."""
    algorithm, start = _kept.aes
    algorithm.key = key
    return start().update(data)


def _keys_are_taken() -> bool:
    """Whether the kept objects encrypt with their newest key, and not with their first."""
    keys = bytes(range(32)), bytes(range(1, 33))
    return all(
        kept_chacha20(key, _ZERO) == fresh_chacha20(key, _ZERO)
        and kept_aes_ctr(key[:16], _ZERO) == fresh_aes_ctr(key[:16], _ZERO)
        for key in keys
    )


_KEEP: Final = _keys_are_taken()
chacha20 = kept_chacha20 if _KEEP else fresh_chacha20
aes_ctr = kept_aes_ctr if _KEEP else fresh_aes_ctr
