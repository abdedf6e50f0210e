"""Signatures as Ethereum accounts make them: secp256k1, recoverable, over Keccak-256 (EIP-191, version 0x45).

A wallet's `personal_sign` of a transaction's body is its signature on the ledger. The address is the Ethereum address.
"""

from typing import Final

from coincurve import PrivateKey, PublicKey
from sha3 import keccak_256

from nymtw.errors import EncodingError

ADDRESS_LENGTH: Final = 20
SIGNATURE_LENGTH: Final = 65
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_PREFIX: Final = b"\x19Ethereum Signed Message:\n"
_RECOVERY: Final = 27  # what Ethereum adds to the recovery number in the last byte


class AccountKey:
    """A private key (32 bytes, 0 < key < the order of secp256k1) and its address (20 bytes)."""

    def __init__(self, secret: bytes) -> None:
        """Raises `EncodingError` for bytes that are no key."""
        try:
            if len(secret) != 32:
                raise ValueError("not 32 bytes")
            self._key = PrivateKey(secret)
        except ValueError as error:
            raise EncodingError(f"not a secp256k1 private key: {error}") from None
        self.address = address_of(self._key.public_key)

    @classmethod
    def generate(cls) -> "AccountKey":
        """A new key, from the system's randomness."""
        return cls(PrivateKey().secret)

    @property
    def secret(self) -> bytes:
        """The private key, 32 bytes."""
        return self._key.secret

    def sign(self, message: bytes) -> bytes:
        """The signature (r, s, 27 or 28; 65 bytes; s in the lower half) of `message`. Deterministic (RFC 6979)."""
        signature = self._key.sign_recoverable(message_digest(message), hasher=None)
        return signature[:64] + bytes([signature[64] + _RECOVERY])


def signer(message: bytes, signature: bytes) -> bytes:
    """The address that signed `message`.

    Raises `EncodingError` for any but the one signature that its key makes of it: s in the lower half, 27 or 28 last.
    """
    if len(signature) != SIGNATURE_LENGTH or signature[64] - _RECOVERY not in (0, 1):
        raise EncodingError("a signature is 65 bytes, the last 27 or 28")
    if int.from_bytes(signature[32:64]) > _ORDER // 2:
        raise EncodingError("the signature's s is not in the lower half")
    recoverable = signature[:64] + bytes([signature[64] - _RECOVERY])
    try:
        public = PublicKey.from_signature_and_message(recoverable, message_digest(message), hasher=None)
    except Exception:  # coincurve raises Exception itself
        raise EncodingError("the signature is of no key") from None
    return address_of(public)


def message_digest(message: bytes) -> bytes:
    """What is signed for `message`: its EIP-191 Keccak-256 digest, 32 bytes."""
    return _keccak(_PREFIX + str(len(message)).encode() + message)


def release_digest(chain: int, pipe: bytes, number: int, recipient: bytes, amount: int) -> bytes:
    """What a redeemer approves: keccak256(abi.encode(chain id, pipe contract, withdrawal, recipient, amount)).

    Its signature is that of these 32 bytes as a message, which a contract checks with `ecrecover` after hashing them
    behind "\\x19Ethereum Signed Message:\\n32".
    """
    words = (chain, int.from_bytes(pipe), number, int.from_bytes(recipient), amount)
    return _keccak(b"".join(word.to_bytes(32) for word in words))


def address_of(public: PublicKey) -> bytes:
    """The last 20 bytes of the Keccak-256 of the uncompressed key's 64 bytes."""
    return _keccak(public.format(compressed=False)[1:])[-ADDRESS_LENGTH:]


def address_text(address: bytes) -> str:
    """The text form of an address: 0x and 40 hexadecimal digits, whose case is a checksum (EIP-55)."""
    digits = address.hex()
    check = _keccak(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(mark, 16) >= 8 else digit for digit, mark in zip(digits, check, strict=False)
    )


def parse_address(text: str) -> bytes:
    """The 20 bytes behind an address's text. In one case alone there is no checksum; in both it must be right.

    Raises `EncodingError`.
    """
    digits = text[2:]
    if text[:2] != "0x" or len(digits) != 2 * ADDRESS_LENGTH or not set(digits.lower()) <= set("0123456789abcdef"):
        raise EncodingError(f"an address is 0x and 40 hexadecimal digits, not {text!r:.60}")
    address = bytes.fromhex(digits)
    if digits not in (digits.lower(), digits.upper()) and text != address_text(address):
        raise EncodingError(f"a letter of the address {text!r} is wrong: its checksum (EIP-55) does not fit")
    return address


def _keccak(data: bytes) -> bytes:
    """Keccak-256 as Ethereum has it, which is not SHA3-256: 32 bytes."""
    digest: bytes = keccak_256(data).digest()
    return digest
