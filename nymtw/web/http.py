"""A small HTTP server for a table of routes: bounded bodies, JSON errors, and no internals in its answers."""

import gzip
import json
import resource
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from nymtw.encoding import unmapped
from nymtw.errors import DirectoryError, EncodingError, TooManyRequests

BODY_LIMIT = 64 * 2**10  # bytes
IDLE_TIMEOUT = 60  # seconds from the connection, or from an answer, until the next request is complete
MAX_CONNECTIONS = 10_000
COMPRESS_FROM = 1024  # bytes: shorter bodies are not worth compressing
_KEPT_COMPRESSED = 32  # bodies, by their entity tags
# Descriptors that the process needs besides connections: its log, its files, the reactor's own.
_RESERVED_DESCRIPTORS = 64
_LEAVING = 32  # connections above the limit, while the connections that they replace are closing


@dataclass(frozen=True, slots=True)
class Call:
    """A request, as a handler gets it."""

    body: bytes
    query: Mapping[str, str]  # the last value of a repeated name
    source: str  # the address of the sender
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)  # names in lower case


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returns."""

    body: bytes
    code: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    # Identifies this body among all bodies of this path: a client that has it already gets a 304.
    tag: str = ""


class Unavailable(DirectoryError):
    """The answer is not available now (503)."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. `handler` may return a Deferred.

    It raises `EncodingError` or `DirectoryError` to refuse a request (400), `TooManyRequests` (429), `Unavailable`
    (503). `operation`: its entry in the API's description.
    """

    method: str
    path: str
    handler: "Callable[[Call], Answer | Deferred[Answer]]"
    operation: Mapping[str, Any] = field(default_factory=dict)


def as_json(value: Any, code: int = 200) -> Answer:
    """`value` as a JSON answer."""
    return Answer(json.dumps(value, separators=(",", ":")).encode(), code)


class BoundedRequest(Request):
    """Refuses a body longer than `BODY_LIMIT` while it is read, with or without an announced length."""

    _left = BODY_LIMIT
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """The headers have been read; `length` is None for a chunked body."""
        super().gotLength(min(length or 0, BODY_LIMIT))
        if length is not None and length > BODY_LIMIT:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body has been read."""
        self._left -= len(data)
        if self._left >= 0 and not self._refused:
            super().handleContentChunk(data)
        else:
            self._refuse()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole request has been read."""
        if not self._refused:
            super().requestReceived(command, path, version)

    def _refuse(self) -> None:
        channel: Any = self.channel
        if self._refused or channel is None:
            return
        self._refused = True
        body = json.dumps({"error": f"a request has at most {BODY_LIMIT} bytes"}).encode()
        head = (
            "HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        channel.transport.write(head.encode() + body)
        channel.loseConnection()


class RoutesResource(Resource):
    """Answers requests from the routes. Errors (404, 405, 429, 500, 503) are JSON too."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        routes: Sequence[Route],
        count: Callable[[str, str, int], None],
        upgrades: "Mapping[str, Callable[[Request], bool]] | None" = None,
    ) -> None:
        """`count(method, path, code)` is called for every answer; method and path are those of the route, or "other".

        `upgrades`: path of a websocket -> a function that takes a request over; False if it asks for no websocket.
        """
        super().__init__()
        self.routes = list(routes)
        self._routes = {(route.method, route.path): route for route in routes}
        self._paths = {route.path for route in routes}
        self._count = count
        self._upgrades = upgrades or {}
        self._compressed: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def render(self, request: Request) -> Any:
        """Answer `request`."""
        method = request.method.decode("ascii", "replace")
        path = request.path.decode("ascii", "replace")
        if method == "GET" and path in self._upgrades and self._upgrades[path](request):
            self._count("GET", path, 101)
            return NOT_DONE_YET
        # HEAD is answered like GET: Request leaves out the body.
        route = self._routes.get(("GET" if method == "HEAD" else method, path))
        if route is None:
            return self._finished(None, request, self._no_route(method, path))
        try:
            answer = route.handler(_call(request))
        except Exception:
            answer = self._refusal(route, Failure())
        if not isinstance(answer, Deferred):
            return self._finished(route, request, answer)
        gone: list[Any] = []
        request.notifyFinish().addErrback(gone.append)
        answer.addErrback(lambda failure: self._refusal(route, failure))
        answer.addCallback(lambda found: None if gone else self._write(route, request, found))
        answer.addErrback(lambda failure: self._log.failure("an answer could not be written", failure=failure))
        return NOT_DONE_YET

    def _write(self, route: Route, request: Request, answer: Answer) -> None:
        request.write(self._finished(route, request, answer))
        request.finish()

    def _finished(self, route: Route | None, request: Request, answer: Answer) -> bytes:
        """Set the head, and return the bytes of the body."""
        headers = {
            "Content-Type": answer.content_type,
            "Cache-Control": "no-cache" if answer.tag else "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **answer.headers,
        }
        body, code = answer.body, answer.code
        if answer.tag:
            # Weak: one tag for the body whether compressed or not.
            headers["ETag"] = tag = f'W/"{answer.tag}"'
            known = (request.getHeader("if-none-match") or "").replace("W/", "").split(",")
            if tag.removeprefix("W/") in map(str.strip, known) or "*" in map(str.strip, known):
                body, code = b"", 304
        if len(body) >= COMPRESS_FROM:
            headers["Vary"] = "Accept-Encoding"
            if _takes_gzip(request.getHeader("accept-encoding") or ""):
                headers["Content-Encoding"] = "gzip"
                body = self._compress(route, answer)
        if code != 304:
            headers["Content-Length"] = str(len(body))
        self._count(*((route.method, route.path) if route else ("other", "other")), code)
        request.setResponseCode(code)
        request.responseHeaders.removeHeader("server")
        request.responseHeaders.removeHeader("content-type")
        for name, value in headers.items():
            if code != 304 or name != "Content-Type":
                request.setHeader(name, value)
        return body

    def _compress(self, route: Route | None, answer: Answer) -> bytes:
        place = (route.path if route else "", answer.tag)
        if not answer.tag or place not in self._compressed:
            body = gzip.compress(answer.body, 6, mtime=0)
            if not answer.tag:
                return body
            self._compressed[place] = body
            if len(self._compressed) > _KEPT_COMPRESSED:
                self._compressed.popitem(last=False)
        self._compressed.move_to_end(place)
        return self._compressed[place]

    def _no_route(self, method: str, path: str) -> Answer:
        if path in self._upgrades and method in ("GET", "HEAD"):
            refused = as_json({"error": "this is a websocket"}, 426)
            return Answer(refused.body, refused.code, headers={"Upgrade": "websocket", "Connection": "Upgrade"})
        if path not in self._paths and path not in self._upgrades:
            return as_json({"error": "there is nothing here"}, 404)
        allowed = ", ".join(sorted(method for method, known in self._routes if known == path)) or "GET"
        refused = as_json({"error": f"the methods here are {allowed}"}, 405)
        return Answer(refused.body, refused.code, headers={"Allow": allowed})

    def _refusal(self, route: Route, failure: Failure) -> Answer:
        if failure.check(Unavailable):
            return as_json({"error": str(failure.value)}, 503)
        if failure.check(TooManyRequests):
            return as_json({"error": str(failure.value)}, 429)
        if failure.check(EncodingError, DirectoryError):
            return as_json({"error": str(failure.value)}, 400)
        self._log.failure("{method} {path} failed", failure=failure, method=route.method, path=route.path)
        return as_json({"error": "the server failed; its log has the details"}, 500)


class QuietChannel(HTTPChannel):
    """Ends a connection whose next request is not complete in time, without logging the address.

    Another protocol can take over a request (`switch_to`), and then the whole connection.
    """

    _successor: Any = None

    def connectionMade(self) -> None:
        """The connection is idle until the first request."""
        super().connectionMade()
        self._idle()[self] = None

    def allContentReceived(self) -> None:
        """A request is complete."""
        self._idle().pop(self, None)
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """A request has been answered."""
        super().requestDone(request)
        if self._successor is None:
            self._idle()[self] = None

    def _idle(self) -> "dict[QuietChannel, None]":
        site: Any = self.factory
        idle: dict[QuietChannel, None] = site.idle
        return idle

    def switch_to(self, successor: Any) -> None:
        """Pass all data to `successor` from now on: an `IProtocol` with `blocked(bool)`, called by the transport."""
        self._successor = successor
        self.setTimeout(None)
        successor.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Data has arrived."""
        if self._successor is None:
            super().dataReceived(data)
        else:
            self._successor.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended."""
        if self._successor is not None:
            self._successor.connectionLost(reason)
        self._idle().pop(self, None)
        super().connectionLost(reason)

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        if self._successor is None:
            super().pauseProducing()
        else:
            self._successor.blocked(True)

    def resumeProducing(self) -> None:
        """The transport takes data again."""
        if self._successor is None:
            super().resumeProducing()
        else:
            self._successor.blocked(False)

    def resetTimeout(self) -> None:
        """Do nothing: slowly dripping bytes must not give a request more time."""

    def timeoutConnection(self) -> None:
        """No request has been completed for `IDLE_TIMEOUT` seconds."""
        transport: Any = self.transport
        transport.abortConnection()


class QuietSite(Site):
    """A site without an access log: an address and a time would link a person to the network."""

    protocol = QuietChannel  # type: ignore[assignment]  # Twisted uses a proxy here, for HTTP/2
    requestFactory = BoundedRequest
    noisy = False

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        # Channels without a running request; the most recently served or connected one is last.
        self.idle: dict[QuietChannel, None] = {}

    def log(self, request: Any) -> None:
        """Nothing."""


class BoundedFactory(WrappingFactory):
    """Allows at most `limit` connections. A further one replaces the connection that has been idle for longest.

    If no connection is idle, the new one is closed. `idle` is that of the `QuietSite`.
    """

    noisy = False

    def __init__(self, wrapped: Any, limit: int, idle: "dict[QuietChannel, None]") -> None:
        super().__init__(wrapped)
        self.limit, self._idle = limit, idle

    def buildProtocol(self, addr: Any) -> Any:
        """None, which closes the connection, if the limit is reached and no connection is idle."""
        if len(self.protocols) >= self.limit:
            # The replaced connection is gone a moment later.
            if not self._idle or len(self.protocols) >= self.limit + _LEAVING:
                return None
            channel = next(iter(self._idle))
            del self._idle[channel]
            channel.timeoutConnection()
        return super().buildProtocol(addr)


def bounded_site(routes: Resource, reactor: Any, security: Any = None, most: int = MAX_CONNECTIONS) -> BoundedFactory:
    """The factory to listen with. Idle connections end after a minute. There are at most `most` connections, and never
    more than the process has descriptors for.

    With `security` (an `IOpenSSLServerConnectionCreator`) it serves HTTPS, for a tenth of the connections.
    """
    site: Any = QuietSite(routes, timeout=IDLE_TIMEOUT, reactor=reactor)
    site.displayTracebacks = False
    idle = site.idle
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(most, descriptors - _RESERVED_DESCRIPTORS)
    if security is not None:
        # TLS connections take fifty times the memory, and have their own share of the descriptors.
        site, limit = TLSMemoryBIOFactory(security, False, site), limit // 10
    return BoundedFactory(site, max(16, limit), idle)


def _call(request: Request) -> Call:
    content: Any = request.content
    query = {
        name.decode("utf-8", "replace"): values[-1].decode("utf-8", "replace")
        for name, values in (request.args or {}).items()
    }
    peer: Any = request.getClientAddress()
    headers = {
        name.decode("latin-1").lower(): values[-1].decode("latin-1")
        for name, values in request.requestHeaders.getAllRawHeaders()
    }
    # Whoever listens on :: sees IPv4 as addresses mapped into IPv6.
    return Call(content.read(BODY_LIMIT + 1), query, unmapped(str(peer.host)), headers)


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding asks for gzip (RFC 9110, section 12.5.3)."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() == "gzip":
            return weight.strip().replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
