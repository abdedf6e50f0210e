"""The framing on the client's TCP socket: JSON lines, and CBOR after an 8-byte length.

Sans-IO, with bounded memory, and in linear time for any division of the bytes.
"""

import base64
import binascii
import io
import json
import re
from dataclasses import dataclass
from typing import Any

import cbor2
import msgspec

from twisted.internet.task import deferLater

from nymtw.errors import EncodingError

# A message of 64 MiB is 90 million characters of base64.
LIMIT = 96 * 1024 * 1024
LENGTH_PREFIX = 8
# Characters of base64 decoded in one turn of the reactor: about ten milliseconds. Four characters are three bytes.
STEP = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One unparsed request: a JSON text, or CBOR if `binary`."""

    body: bytes
    binary: bool


class RequestParser:
    """Turns bytes into whole requests. A first byte of zero starts a binary request, any other byte a line."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def waiting(self) -> int:
        """The number of bytes of an incomplete request."""
        return self._size

    def feed(self, data: bytes) -> list[RawRequest]:
        """The requests that `data` completes. Raises `EncodingError` for one longer than the limit."""
        found: list[RawRequest] = []
        start = 0
        while start < len(data):
            binary = (self._pieces[0] if self._pieces else data[start : start + 1])[0] == 0
            start, request = self._binary(data, start) if binary else self._line(data, start)
            if request is not None and (request.binary or request.body.strip()):
                found.append(request)
        return found

    def _line(self, data: bytes, start: int) -> tuple[int, RawRequest | None]:
        end = data.find(b"\n", start)
        if end < 0:
            self._keep(data[start:])
            return len(data), None
        self._keep(data[start:end])
        return end + 1, RawRequest(self._take(), False)

    def _binary(self, data: bytes, start: int) -> tuple[int, RawRequest | None]:
        missing = LENGTH_PREFIX - self._size
        if missing > 0:
            self._keep(data[start : start + missing])
            if self._size == LENGTH_PREFIX:
                self._pieces = [b"".join(self._pieces)]
                self._body_length()
            return start + missing, None
        missing = LENGTH_PREFIX + self._body_length() - self._size
        self._keep(data[start : start + missing])
        if len(data) - start < missing:
            return len(data), None
        return start + missing, RawRequest(self._take()[LENGTH_PREFIX:], True)

    def _body_length(self) -> int:
        length = int.from_bytes(self._pieces[0][:LENGTH_PREFIX], "big")
        if not 0 < length <= self.limit:
            raise EncodingError(f"a request is 1 to {self.limit} bytes long, not {length}")
        return length

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self.limit + LENGTH_PREFIX:
            raise EncodingError(f"a request is at most {self.limit} bytes long")
        if piece:
            self._pieces.append(piece)

    def _take(self) -> bytes:
        body = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return body


def decode(request: RawRequest) -> Any:
    """The plain object in a request. Raises `EncodingError`."""
    try:
        if request.binary:
            stream = io.BytesIO(request.body)
            value = cbor2.load(stream, max_depth=16)
            if stream.tell() != len(request.body):
                raise ValueError("there are bytes after the end")
            return value
        return _json(request.body)
    except Exception as error:  # both decoders raise many types of errors for hostile bytes, also RecursionError
        kind = "CBOR" if request.binary else "JSON"
        raise EncodingError(f"the request is not {kind}: {error}"[:300]) from None


def _json(body: bytes) -> Any:
    """The value in a JSON text. A lone surrogate, such as JavaScript can send, is one in the value (RFC 8259, 8.2)."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        # msgspec takes escapes in pairs only, and calls half of one a truncated text.
        if not re.search(rb"\\u[dD][89a-fA-F]", body):
            raise
        return json.loads(body, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


async def unpacked(value: Any, clock: Any) -> Any:
    """Decode the long base64 messages of a plain object, over several turns of the reactor.

    Raises `EncodingError`.
    """
    if isinstance(value, dict):
        for body in value.values():
            if isinstance(body, dict) and isinstance(text := body.get("message"), str) and len(text) > STEP:
                pieces = []
                for start in range(0, len(text), STEP):
                    piece = text[start : start + STEP]
                    if piece.endswith("=") and start + STEP < len(text):
                        raise EncodingError("message: this is not base64")
                    pieces.append(message_bytes(piece))
                    await deferLater(clock, 0)
                body["message"] = b"".join(pieces)
    return value


def encode(answer: Any, binary: bool) -> bytes:
    """The body of an answer. `bytes` become base64 in JSON, and stay bytes in CBOR."""
    if binary:
        return cbor2.dumps(answer)
    return msgspec.json.encode(answer)  # msgspec writes bytes as base64


def plain_text(text: str) -> str:
    """A text that can be encoded: lone surrogates, which a request may have had, are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def framed(body: bytes, binary: bool) -> bytes:
    """The form of an answer's body on the TCP socket."""
    return len(body).to_bytes(LENGTH_PREFIX, "big") + body if binary else body + b"\n"


def message_bytes(value: object) -> bytes:
    """The message of a request: bytes (CBOR) or standard base64 (JSON). Raises `EncodingError`."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise EncodingError("message: base64 text is expected")
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise EncodingError("message: this is not base64") from None
