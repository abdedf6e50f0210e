"""The server side of SOCKS 4, 4a and 5: bytes in, bytes and one request out. No sockets.

SOCKS5 is RFC 1928 with the username and password of RFC 1929; SOCKS4 and 4a are Ying-Da Lee's memos. Only CONNECT is
supported. Any username and password are accepted: they separate streams, as with Tor.
"""

import string
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from nymtw.errors import NymtwError

MAX_NAME: Final = 255  # bytes of a host's name, and of a SOCKS4 user id
_VERSION_4: Final = 4
_VERSION_5: Final = 5
_AUTH_VERSION: Final = 1
_NO_AUTH: Final = 0
_PASSWORD: Final = 2
_NO_METHOD: Final = 0xFF
_CONNECT: Final = 1
_IPV4: Final = 1
_NAME: Final = 3
_IPV6: Final = 4
_IN_NAMES: Final = frozenset((string.ascii_letters + string.digits + "._:-").encode())
_UNKNOWN: Final = ("0.0.0.0", 0)  # noqa: S104  # the answer of proxies that do not tell the address
_GRANTED: Final = 90
_REJECTED: Final = 91
_NOT_SOCKS: Final = (
    b"HTTP/1.0 501 Not Implemented\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This is a SOCKS proxy, not an HTTP proxy.\n"
)


class SocksReply(IntEnum):
    """The replies of SOCKS5 (RFC 1928, section 6). SOCKS4 has only the first two."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


class SocksError(NymtwError):
    """A violation of SOCKS, or an unsupported request. Send `answer`, then close the connection."""

    def __init__(self, text: str, answer: bytes = b"") -> None:
        super().__init__(text)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class SocksRequest:
    """Connect to `host`, a name (1 to 255 of letters, digits and ._:-) or an address as text, at `port` (1 to 65535).

    `isolation` is equal for requests that may be linked to each other; empty without credentials.
    """

    version: int
    host: str
    port: int
    isolation: bytes = b""

    def answer(self, reply: SocksReply, bound: tuple[str, int] = _UNKNOWN) -> bytes:
        """The bytes of the answer. `bound`: the local address of the connection, if it is known."""
        if self.version == _VERSION_4:
            return _answer_4(_GRANTED if reply is SocksReply.SUCCEEDED else _REJECTED)
        return _answer_5(reply, bound)


class Handshake:
    """One connection, from its first byte to its request. `request` is None before that.

    Its memory is bounded by the longest request, about 1,100 bytes, and the piece of data in which the request ended.
    """

    def __init__(self) -> None:
        self.request: SocksRequest | None = None
        self._buffer = b""
        self._isolation = b""
        self._step: Callable[[_Reader], bytes] = self._first

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their message."""
        return len(self._buffer)

    def receive(self, data: bytes) -> bytes:
        """Take received bytes; returns the bytes to send. Raises `SocksError`."""
        self._buffer += data
        answers = b""
        while self.request is None:
            reader = _Reader(self._buffer)
            try:
                answers += self._step(reader)
            except _Short:
                break
            except SocksError as error:
                raise SocksError(str(error), answers + error.answer) from None
            self._buffer = self._buffer[reader.at :]
        return answers

    def take_rest(self) -> bytes:
        """The bytes after the request: the first data for the host."""
        rest, self._buffer = self._buffer, b""
        return rest

    def _first(self, reader: "_Reader") -> bytes:
        version = reader.byte()
        if version == _VERSION_5:
            return self._methods(reader)
        if version == _VERSION_4:
            return self._request_4(reader)
        raise SocksError("this is not SOCKS", _NOT_SOCKS if 0x41 <= version <= 0x5A else b"")

    def _request_4(self, reader: "_Reader") -> bytes:
        command = reader.byte()
        port = reader.port()
        address = IPv4Address(reader.take(4))
        user = reader.until_zero(_answer_4(_REJECTED))
        host = str(address)
        if 0 < int(address) <= 0xFF:  # 0.0.0.x with an x: SOCKS4a
            host = _name(reader.until_zero(_answer_4(_REJECTED)), _answer_4(_REJECTED))
        if command != _CONNECT:
            raise SocksError("SOCKS4: only CONNECT is supported", _answer_4(_REJECTED))
        if not port:
            raise SocksError("there is no port 0", _answer_4(_REJECTED))
        self.request = SocksRequest(_VERSION_4, host, port, b"\x04" + user if user else b"")
        return b""

    def _methods(self, reader: "_Reader") -> bytes:
        methods = reader.take(reader.byte())
        # A program that offers both has credentials that separate its streams.
        if _PASSWORD in methods:
            self._step = self._password
            return bytes((_VERSION_5, _PASSWORD))
        if _NO_AUTH in methods:
            self._step = self._request_5
            return bytes((_VERSION_5, _NO_AUTH))
        raise SocksError("none of these authentication methods is supported", bytes((_VERSION_5, _NO_METHOD)))

    def _password(self, reader: "_Reader") -> bytes:
        if reader.byte() != _AUTH_VERSION:
            raise SocksError("the username and password message is malformed", bytes((_AUTH_VERSION, 1)))
        user = reader.take(reader.byte())
        password = reader.take(reader.byte())
        self._isolation = bytes((_VERSION_5, len(user))) + user + password
        self._step = self._request_5
        return bytes((_AUTH_VERSION, 0))

    def _request_5(self, reader: "_Reader") -> bytes:
        if reader.byte() != _VERSION_5:
            raise SocksError("the request has another version", _answer_5(SocksReply.GENERAL_FAILURE))
        command = reader.byte()
        if reader.byte():
            raise SocksError("the reserved byte is not zero", _answer_5(SocksReply.GENERAL_FAILURE))
        kind = reader.byte()
        if kind == _IPV4:
            host = str(IPv4Address(reader.take(4)))
        elif kind == _IPV6:
            host = str(IPv6Address(reader.take(16)))
        elif kind == _NAME:
            host = _name(reader.take(reader.byte()), _answer_5(SocksReply.GENERAL_FAILURE))
        else:
            raise SocksError("the type of the address is unknown", _answer_5(SocksReply.ADDRESS_TYPE_NOT_SUPPORTED))
        port = reader.port()
        if command != _CONNECT:
            raise SocksError("only CONNECT is supported", _answer_5(SocksReply.COMMAND_NOT_SUPPORTED))
        if not port:
            raise SocksError("there is no port 0", _answer_5(SocksReply.GENERAL_FAILURE))
        self.request = SocksRequest(_VERSION_5, host, port, self._isolation)
        return b""


class _Short(Exception):
    """More bytes are needed."""


class _Reader:
    """Reads from the start of the received bytes. Raises `_Short` if they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self._data):
            raise _Short
        start, self.at = self.at, end
        return self._data[start:end]

    def byte(self) -> int:
        return self.take(1)[0]

    def port(self) -> int:
        return int.from_bytes(self.take(2))

    def until_zero(self, answer: bytes) -> bytes:
        """The bytes before the next zero byte. More than `MAX_NAME` bytes raise `SocksError` with `answer`."""
        end = self._data.find(b"\0", self.at, self.at + MAX_NAME + 1)
        if end < 0:
            if len(self._data) - self.at > MAX_NAME:
                raise SocksError("a user id or a name is too long", answer)
            raise _Short
        found = self.take(end - self.at)
        self.at += 1
        return found


def _name(name: bytes, answer: bytes) -> str:
    if name.startswith(b"[") and name.endswith(b"]"):
        # An IPv6 address as URLs have it, which some programs pass on.
        try:
            return str(IPv6Address(name[1:-1].decode("ascii")))
        except ValueError:
            raise SocksError("this is not an IPv6 address", answer) from None
    if not name or not set(name) <= _IN_NAMES:
        raise SocksError("this is not a valid host name", answer)
    return name.decode("ascii")


def _answer_4(code: int) -> bytes:
    return bytes((0, code)) + bytes(6)


def _answer_5(reply: SocksReply, bound: tuple[str, int] = _UNKNOWN) -> bytes:
    address = ip_address(bound[0])
    kind = _IPV4 if address.version == 4 else _IPV6
    return bytes((_VERSION_5, reply, 0, kind)) + address.packed + bound[1].to_bytes(2)
