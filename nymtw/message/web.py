"""The protocol between a client and a web proxy: a request in one message, the response in parts.

Canonical CBOR maps. Parts are numbered, because messages may overtake each other.
"""

from typing import Annotated, Final

import msgspec

from nymtw.encoding import from_cbor, to_cbor

SERVICE: Final = "webproxy"
ID_LENGTH: Final = 16
PART_LENGTH: Final = 64 * 1024
MAX_REQUEST_LENGTH: Final = 16 * 2**20
MAX_HEADERS: Final = 200
_MAX_PART: Final = PART_LENGTH + 512 * 1024  # a head may be large

_Id = Annotated[bytes, msgspec.Meta(min_length=ID_LENGTH, max_length=ID_LENGTH)]
_Header = tuple[Annotated[bytes, msgspec.Meta(max_length=256)], Annotated[bytes, msgspec.Meta(max_length=32 * 1024)]]
_Headers = Annotated[tuple[_Header, ...], msgspec.Meta(max_length=MAX_HEADERS)]


class WebRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A web request. `id` (16 random bytes) links the parts of the response to it; `follow`: follow redirects."""

    id: _Id
    method: Annotated[str, msgspec.Meta(pattern="^[A-Z]{1,20}$")] = "GET"
    url: Annotated[str, msgspec.Meta(max_length=8192)]
    headers: _Headers = ()
    body: bytes = b""
    follow: bool = True

    def encode(self) -> bytes:
        """The CBOR form."""
        return to_cbor(self)

    @classmethod
    def parse(cls, data: bytes) -> "WebRequest":
        """Parse the result of `encode`. Raises `EncodingError`."""
        return from_cbor(data, cls, MAX_REQUEST_LENGTH)


class WebHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Status line and headers of a response, and its URL after redirects."""

    status: Annotated[int, msgspec.Meta(ge=100, le=999)]
    reason: Annotated[str, msgspec.Meta(max_length=256)] = ""
    headers: _Headers = ()
    url: Annotated[str, msgspec.Meta(max_length=8192)] = ""


class WebPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Part `number` (from 0) of the response to the request `id`. The first part has the head. A part with an `error`
    is the last one, and needs no head.
    """

    id: _Id
    number: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    head: WebHead | None = None
    data: bytes = b""
    last: bool = False
    error: Annotated[str, msgspec.Meta(max_length=500)] = ""

    def encode(self) -> bytes:
        """The CBOR form."""
        return to_cbor(self)

    @classmethod
    def parse(cls, data: bytes) -> "WebPart":
        """Parse the result of `encode`. Raises `EncodingError`."""
        return from_cbor(data, cls, _MAX_PART)
