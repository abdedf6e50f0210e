"""Strict encodings for all packages: canonical CBOR into typed records, and the text form of a key."""

import base64
import binascii
import io
from typing import Any, TypeVar

import cbor2
import msgspec

from nymtw.errors import EncodingError

T = TypeVar("T")

KEY_LENGTH = 32


def to_cbor(record: Any) -> bytes:
    """The canonical CBOR (RFC 8949, section 4.2.3) of a `msgspec.Struct` or of plain values."""
    plain = msgspec.to_builtins(record, builtin_types=(bytes,))
    return cbor2.dumps(plain, canonical=True)


def from_cbor(data: bytes, kind: type[T], limit: int) -> T:
    """Decode `data`, at most `limit` bytes of CBOR, as `kind`.

    Raises `EncodingError` for anything else: too long, not CBOR, trailing bytes, a wrong type, an unknown field.
    """
    if len(data) > limit:
        raise EncodingError(f"{len(data)} bytes where at most {limit} are allowed")
    stream = io.BytesIO(data)
    try:
        # cbor2 raises many kinds of error on hostile bytes, RecursionError and MemoryError among them.
        plain = cbor2.load(stream, max_depth=16, allow_indefinite=False, allow_duplicate_keys=False)
        if stream.tell() != len(data):
            raise ValueError("bytes behind the end")
        return msgspec.convert(plain, kind, strict=True, builtin_types=(bytes,))  # a text is not base64 of bytes
    except Exception as error:
        raise EncodingError(f"not a valid {getattr(kind, '__name__', 'record')}: {error}") from None


def key_text(key: bytes) -> str:
    """The text form of a 32-byte key: URL-safe base64 with padding, 44 characters."""
    return base64.urlsafe_b64encode(key).decode("ascii")


def parse_key_text(text: str) -> bytes:
    """The 32 bytes behind `key_text`. Raises `EncodingError` for anything but the one text that stands for them."""
    try:
        key = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise EncodingError(f"not URL-safe base64: {text!r:.60}") from None
    if len(key) != KEY_LENGTH or key_text(key) != text:
        raise EncodingError(f"a key is {KEY_LENGTH} bytes, 44 characters of URL-safe base64, not {text!r:.60}")
    return key


def unmapped(host: str) -> str:
    """The IPv4 address that is mapped into this IPv6 address, as text (RFC 4291, 2.5.5.2); else `host` as it is."""
    mapped = "::ffff:"
    inner = host[len(mapped) :] if host.lower().startswith(mapped) else ""
    return inner if inner.count(".") == 3 else host
