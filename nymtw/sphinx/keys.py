"""The X25519 side of Sphinx: key pairs, the keys of a hop, and a sender's shared secrets at linear cost.

Sphinx paper, section 3: the group, the hash functions, the blinding. RFC 7748 (X25519), RFC 5869 (HKDF).
"""

import random
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import RuntimeError as SodiumError

from nymtw.errors import SphinxInputError
from nymtw.sphinx.geometry import KEY_LENGTH, PAYLOAD_KEY_LENGTH, PAYLOAD_SEED_LENGTH, VERSION_EXPLICIT_KEY

FIELD_PRIME: Final = 2**255 - 19
_GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_SCALAR_MODULUS: Final = 8 * _GROUP_ORDER
_BASE_POINT: Final = (9).to_bytes(KEY_LENGTH, "little")
_CLAMP_TOP: Final = 1 << 254
_CLAMP_MASK: Final = _CLAMP_TOP - 8

_CUT: Final = Struct("16s 16s 192s 32s 32s")
_HOP_INFO: Final = b"Dwste mou enan moxlo arketa makru kai ena upomoxlio gia na ton topothetisw kai tha kinisw thn gh."
_PAYLOAD_SALT: Final = b"sphinx-payload-key-V01-CS01-HKDF:SHA256-SALT"
_PAYLOAD_INFO: Final = b"sphinx-payload-key-V01-CS01-HKDF:SHA256-INFO"
_SHA256: Final = SHA256()


class HopKeys(NamedTuple):
    """The keys of one hop, cut from 288 bytes of HKDF-SHA256 over its shared secret.

    In the paper they are the keys for rho, mu and pi, and the values of h_b and h_tau.
    """

    stream_key: bytes  # 16
    mac_key: bytes  # 16
    explicit_payload_key: bytes  # 192
    blinding_factor: bytes  # 32
    replay_tag: bytes  # 32

    def payload_secret(self, version: int) -> bytes:
        """The secret of this hop in a SURB of `version`: the 192-byte payload key (258) or its 16-byte seed."""
        key = self.explicit_payload_key
        return key if version == VERSION_EXPLICIT_KEY else key[:PAYLOAD_SEED_LENGTH]

    def payload_key(self, version: int) -> bytes:
        """The 192-byte key of the payload: explicit (258) or derived from its seed (259 and later)."""
        key = self.explicit_payload_key
        return key if version == VERSION_EXPLICIT_KEY else expand_seed(key[:PAYLOAD_SEED_LENGTH])


def derive_keys(shared_secret: bytes) -> HopKeys:
    """The keys that both ends of a hop derive from their 32-byte shared secret."""
    return HopKeys._make(cut_keys(shared_secret))


def cut_keys(shared_secret: bytes) -> tuple[bytes, ...]:
    """`derive_keys` as a plain tuple, for the path of every packet."""
    return _CUT.unpack(HKDF(_SHA256, _CUT.size, None, _HOP_INFO).derive(shared_secret))


def expand_seed(seed: bytes) -> bytes:
    """The 192-byte payload key for a 16-byte seed."""
    return HKDF(_SHA256, PAYLOAD_KEY_LENGTH, _PAYLOAD_SALT, _PAYLOAD_INFO).derive(seed)


def expand_payload_secret(secret: bytes) -> bytes:
    """The 192-byte payload key for a secret in a SURB: such a key itself, or a 16-byte seed."""
    return secret if len(secret) == PAYLOAD_KEY_LENGTH else expand_seed(secret)


def generate_keypair(source: random.Random | None = None) -> tuple[bytes, bytes]:
    """A fresh X25519 key pair: (private key, public key), 32 bytes each."""
    private_key = (source or random.SystemRandom()).randbytes(KEY_LENGTH)
    return private_key, crypto_scalarmult_base(private_key)


def public_key(private_key: bytes) -> bytes:
    """The 32-byte public key of a 32-byte private key. Raises `SphinxInputError` for another length."""
    if len(private_key) != KEY_LENGTH:
        raise SphinxInputError(f"a private key is {KEY_LENGTH} bytes, not {len(private_key)}")
    return crypto_scalarmult_base(private_key)


def clamp(scalar: bytes) -> int:
    """The integer that X25519 multiplies by, for the 32 bytes of a scalar (RFC 7748, section 5)."""
    return int.from_bytes(scalar, "little") & _CLAMP_MASK | _CLAMP_TOP


def linear_scalar(product: int) -> bytes | None:
    """A scalar of 32 bytes that X25519's clamping leaves unchanged, and that acts as `product`, a product of clamped
    scalars mod 8L.

    The negative has the same u-coordinate, and one of the two has the top bit that clamping sets, except for about one
    in 2^127 products. Those give None.
    """
    for candidate in (product, _SCALAR_MODULUS - product):
        if candidate >> 254 == 1:
            return candidate.to_bytes(KEY_LENGTH, "little")
    return None


def multiply_chain(scalars: Sequence[bytes], point: bytes) -> bytes:
    """X25519 with each of `scalars` in turn: a sender's shared secret by definition."""
    for scalar in scalars:
        point = crypto_scalarmult(scalar, point)
    return point


def sender_keys(secret: bytes, public_keys: Sequence[bytes]) -> tuple[list[bytes], list[HopKeys]]:
    """Each hop's shared secret and keys, for the sender's ephemeral `secret` (32 bytes).

    The scalars are multiplied as integers first, so that n hops cost n multiplications instead of n(n+1)/2. Raises
    `SphinxInputError` for a low-order public key.
    """
    secrets: list[bytes] = []
    keys: list[HopKeys] = []
    scalars = [secret]
    product = clamp(secret)
    try:
        for point in public_keys:
            scalar = linear_scalar(product)
            shared = multiply_chain(scalars, point) if scalar is None else crypto_scalarmult(scalar, point)
            hop = derive_keys(shared)
            secrets.append(shared)
            keys.append(hop)
            scalars.append(hop.blinding_factor)
            product = product * clamp(hop.blinding_factor) % _SCALAR_MODULUS
    except SodiumError:
        raise SphinxInputError("a hop's public key is a point of low order") from None
    return secrets, keys


def last_alpha(secret: bytes, keys: Sequence[HopKeys]) -> bytes:
    """The alpha of a packet at the last hop of a route whose hops derive `keys`."""
    scalars = [secret, *(hop.blinding_factor for hop in keys[:-1])]
    product = 1
    for scalar in scalars:
        product = product * clamp(scalar) % _SCALAR_MODULUS
    combined = linear_scalar(product)
    return multiply_chain(scalars, _BASE_POINT) if combined is None else crypto_scalarmult_base(combined)
