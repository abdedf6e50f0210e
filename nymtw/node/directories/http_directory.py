"""The directory over HTTP."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from OpenSSL import SSL

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, RequestTransmissionFailed, ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer

from nymtw.encoding import from_cbor
from nymtw.errors import ConfigError, DirectoryError, EncodingError
from nymtw.interfaces import IDirectory
from nymtw.topology.delta import apply_delta
from nymtw.topology.document import MAX_TOPOLOGY_LENGTH, SignedTopology, Topology
from nymtw.web.http_bodies import Bytes

DELTA = "application/vnd.nymtw.topology-delta+cbor"
TIMEOUT = 15.0  # seconds
POST_TIMEOUT = 4.0  # seconds: a directory that stalls must not hold up the next heartbeat for long
ANSWER_LIMIT = 64 * 2**10  # bytes of any other answer


def check_directory_url(url: str) -> str:
    """`url` without a slash at its end. Raises `ConfigError` if it is not `http://HOST[:PORT]` or `https://...`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"--directory: {url!r:.200} is not a URL: {error}") from None
    plain = url.isascii() and url.isprintable() and " " not in url
    if not plain or parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigError(f"--directory: {url!r:.200} is not a URL like http://directory.example.org:8080")
    if parts.query or parts.fragment or parts.username is not None:
        raise ConfigError(f"--directory: {url!r:.200} has more in it than scheme, host, port and path")
    return url.rstrip("/")


@implementer(IDirectory)
class HTTPDirectory:
    """The directory at `url`. One request is over, one way or the other, within `timeout` seconds; a post within 4."""

    def __init__(self, reactor: Any, url: str, agent: Any = None, timeout: float = TIMEOUT) -> None:
        """`reactor` is given to `Agent`, unless there is an `agent` (`IAgent`). Raises `ConfigError` for a bad URL."""
        self.url = check_directory_url(url)
        self._clock = reactor
        self._timeout = timeout
        self._pool: HTTPConnectionPool | None = None
        if agent is None:
            self._pool = HTTPConnectionPool(reactor)
            agent = Agent(reactor, connectTimeout=timeout, pool=self._pool)
        self._agent = IAgent(agent)
        self._kept = b""  # the last signed topology, its serial and its tag
        self._serial = 0
        self._tag = ""

    def announce(self, path: str, heartbeat: Mapping[str, Any]) -> "Deferred[None]":
        """Post one heartbeat to `/api/presence/PATH`."""
        return self._post(f"/api/presence/{path}", heartbeat)

    def report(self, metric: Mapping[str, Any]) -> "Deferred[None]":
        """Post one metric to `/api/metrics/mixes`."""
        return self._post("/api/metrics/mixes", metric)

    def topology(self) -> "Deferred[bytes]":
        """The bytes of the newest signed topology, unverified. What has not changed since is not fetched."""
        return Deferred.fromCoroutine(self._topology())

    async def _topology(self) -> bytes:
        path = "/api/v1/topology"
        if self._kept:
            answer = await self._ask(
                "GET", f"{path}?since={self._serial}", None, {200, 304}, MAX_TOPOLOGY_LENGTH, self._tag
            )
            if answer.code == 304:
                return self._kept
            if answer.kind == DELTA:
                try:
                    return self._keep(apply_delta(self._kept, answer.content))
                except EncodingError:
                    answer = await self._ask("GET", path, None, {200}, MAX_TOPOLOGY_LENGTH)
        else:
            answer = await self._ask("GET", path, None, {200}, MAX_TOPOLOGY_LENGTH)
        return self._keep(answer.content)

    def _keep(self, signed: bytes) -> bytes:
        try:
            document = from_cbor(signed, SignedTopology, MAX_TOPOLOGY_LENGTH).document
            self._serial = from_cbor(document, Topology, MAX_TOPOLOGY_LENGTH).serial
            self._kept, self._tag = signed, f'W/"{self._serial}"'
        except EncodingError:
            self._kept = b""  # the caller will find out what is wrong with it
        return signed

    def nodes(self) -> "Deferred[bytes]":
        """The JSON of `/api/presence/topology`: what was posted, with `lastSeen`. It is not signed."""
        return self._request("GET", "/api/presence/topology", None, 200, MAX_TOPOLOGY_LENGTH)

    def description(self) -> "Deferred[bytes]":
        """The JSON of `/api/v1/nodes`: what the directory says of itself and of the nodes. It is not signed."""
        return self._request("GET", "/api/v1/nodes", None, 200, MAX_TOPOLOGY_LENGTH)

    def close(self) -> "Deferred[None]":
        """Close the connections that are kept for the next request."""
        if self._pool is None:
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done
        return self._pool.closeCachedConnections()

    def _post(self, path: str, body: Mapping[str, Any]) -> "Deferred[None]":
        timeout = min(POST_TIMEOUT, self._timeout)
        posted = self._ask("POST", path, json.dumps(body).encode(), {201}, ANSWER_LIMIT, timeout=timeout)
        return posted.addCallback(lambda _: None)

    def _request(self, method: str, path: str, body: bytes | None, expected: int, limit: int) -> "Deferred[bytes]":
        return self._ask(method, path, body, {expected}, limit).addCallback(lambda answer: answer.content)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None,
        expected: set[int],
        limit: int,
        tag: str = "",
        timeout: float | None = None,
        kind: str = "application/json",
    ) -> "Deferred[_Answer]":
        where = f"{self.url}{path}"

        async def ask() -> _Answer:
            headers = Headers({} if body is None else {"Content-Type": [kind]})
            if method == "GET":
                headers.addRawHeader("Accept-Encoding", "gzip")
            if tag:
                headers.addRawHeader("If-None-Match", tag)
            producer = None if body is None else Bytes(body)
            response = await self._agent.request(method.encode(), where.encode(), headers, producer)
            content = await _read(response, limit)
            if response.headers.getRawHeaders("content-encoding", []) == ["gzip"]:
                content = _decompress(content, limit)
            if response.code not in expected:
                raise DirectoryError(f"{where}: {response.code}: {_reason(content)}")
            return _Answer(response.code, response.headers.getRawHeaders("content-type", [""])[0], content)

        def as_directory_error(failure: Failure) -> Any:
            if failure.check(DirectoryError):
                return failure
            raise DirectoryError(f"{where}: {_cause(failure)}") from None

        def late(result: object, timeout: float) -> Any:
            raise DirectoryError(f"{where}: no answer in {timeout:g} seconds")

        asked = Deferred.fromCoroutine(ask())
        asked.addTimeout(timeout or self._timeout, self._clock, late)
        return asked.addErrback(as_directory_error)


@dataclass(frozen=True, slots=True)
class _Answer:
    code: int
    kind: str
    content: bytes


class _Reader(Protocol):
    """Collects a body of at most `limit` bytes; hangs up on a longer one."""

    def __init__(self, limit: int) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._hang_up())
        self._left = limit
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._parts.clear()
            if not self.done.called:
                self.done.errback(_TooLong())
            self._hang_up()
        else:
            self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(reason)

    def _hang_up(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            # A proxy that knows the methods of a producer alone; stopProducing closes the connection.
            transport.stopProducing()


class _TooLong(Exception):
    pass


class _Damaged(Exception):
    pass


def _read(response: Any, limit: int) -> "Deferred[bytes]":
    reader = _Reader(limit)
    response.deliverBody(reader)
    return reader.done


def _decompress(content: bytes, limit: int) -> bytes:
    """At most `limit` bytes out of gzip."""
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = unpacking.decompress(content, limit + 1)
    except zlib.error:
        raise _Damaged from None
    if len(plain) > limit:
        raise _TooLong
    if not unpacking.eof:
        raise _Damaged
    return plain


def _reason(content: bytes) -> str:
    """The text of `{"error": "..."}`, one short printable line."""
    try:
        text = json.loads(content)["error"]
    except (ValueError, LookupError, TypeError, RecursionError):
        text = "no reason given"
    return "".join(letter if letter.isprintable() else " " for letter in str(text)[:300])


def _cause(failure: Failure) -> str:
    if failure.check(_TooLong):
        return "the answer is longer than allowed"
    if failure.check(_Damaged):
        return "the answer is damaged"
    if failure.check(DNSLookupError):
        return "no such host"
    if failure.check(ConnectError, SSL.Error):
        return " ".join(str(failure.value).split()).rstrip(".") or "cannot connect"
    if isinstance(failure.value, ResponseFailed | RequestTransmissionFailed):
        reasons = failure.value.reasons
        if any(reason.check(SSL.Error) for reason in reasons):
            return "no TLS with it, or its certificate cannot be verified"
        if any(reason.check(ConnectionLost, ConnectionDone) for reason in reasons):
            return "the connection closed before the whole answer came"
        return "the answer is not HTTP"
    return f"{type(failure.value).__name__}: {failure.getErrorMessage()}"[:300]
