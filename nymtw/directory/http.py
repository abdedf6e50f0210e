"""A small HTTP server for a table of routes: bounded bodies, JSON errors, nothing about its inside to a client."""

import json
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from nymtw.errors import DirectoryError, EncodingError

BODY_LIMIT = 64 * 2**10  # bytes
IDLE_TIMEOUT = 60  # seconds from one answer, or the connection, until the next request is complete
MAX_CONNECTIONS = 10_000
# What the process needs besides connections: its log, its files, the reactor's own.
_RESERVED_DESCRIPTORS = 64


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler is told of a request."""

    body: bytes
    query: Mapping[str, str]  # of a name that is given twice, the last
    source: str  # the address it came from


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returns."""

    body: bytes
    code: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. `handler` raises `EncodingError` or `DirectoryError` for a request it refuses (400)."""

    method: str
    path: str
    handler: Callable[[Call], Answer]


def as_json(value: Any, code: int = 200) -> Answer:
    """`value` as a JSON answer."""
    return Answer(json.dumps(value, separators=(",", ":")).encode(), code)


class BoundedRequest(Request):
    """Refuses a body longer than `BODY_LIMIT` while it is being read, whether its length was announced or not."""

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
        """All of it has been read."""
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
    """Answers what the routes answer; 404, 405 and 500 as JSON too."""

    isLeaf = True
    _log = Logger()

    def __init__(self, routes: Sequence[Route], count: Callable[[str, str, int], None]) -> None:
        """`count(method, path, code)` is called for every answer; method and path are a route's, or "other"."""
        super().__init__()
        self._routes = {(route.method, route.path): route for route in routes}
        self._paths = {route.path for route in routes}
        self._count = count

    def render(self, request: Request) -> bytes:
        """Answer `request`."""
        method = request.method.decode("ascii", "replace")
        path = request.path.decode("ascii", "replace")
        # A HEAD is answered like a GET: Request leaves out the body.
        route = self._routes.get(("GET" if method == "HEAD" else method, path))
        answer = self._answer(route, path, request)
        self._count(*((route.method, route.path) if route else ("other", "other")), answer.code)
        request.setResponseCode(answer.code)
        request.responseHeaders.removeHeader("server")
        headers = {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **answer.headers,
        }
        for name, value in headers.items():
            request.setHeader(name, value)
        return answer.body

    def _answer(self, route: Route | None, path: str, request: Request) -> Answer:
        if route is None:
            if path not in self._paths:
                return as_json({"error": "there is nothing here"}, 404)
            allowed = ", ".join(sorted(method for method, known in self._routes if known == path))
            refused = as_json({"error": f"the methods here are {allowed}"}, 405)
            return Answer(refused.body, refused.code, headers={"Allow": allowed})
        try:
            return route.handler(_call(request))
        except (EncodingError, DirectoryError) as error:
            return as_json({"error": str(error)}, 400)
        except Exception:
            self._log.failure("{method} {path} failed", method=route.method, path=route.path)
            return as_json({"error": "this is a fault of the directory; its log says more"}, 500)


class QuietChannel(HTTPChannel):
    """Ends a connection whose next request is not complete in time, without logging whose it was."""

    def resetTimeout(self) -> None:
        """Nothing: bytes that drip do not give a request more time. The next request has its own."""

    def timeoutConnection(self) -> None:
        """No request has been completed for `IDLE_TIMEOUT` seconds."""
        transport: Any = self.transport
        transport.abortConnection()


class QuietSite(Site):
    """No access log: an address and a time tie a person to a network."""

    protocol = QuietChannel  # type: ignore[assignment]  # Twisted has a proxy here, for HTTP/2
    requestFactory = BoundedRequest
    noisy = False

    def log(self, request: Any) -> None:
        """Nothing."""


class BoundedFactory(WrappingFactory[Any]):
    """At most `limit` connections at once; who comes then is hung up on."""

    noisy = False

    def __init__(self, wrapped: Any, limit: int) -> None:
        super().__init__(wrapped)
        self.limit = limit

    def buildProtocol(self, addr: Any) -> Any:
        """None, which closes the connection, if there are enough."""
        return super().buildProtocol(addr) if len(self.protocols) < self.limit else None


def bounded_site(routes: Resource, reactor: Any) -> BoundedFactory:
    """The factory to listen with: idle connections end after a minute, and there are never more than fit."""
    site = QuietSite(routes, timeout=IDLE_TIMEOUT, reactor=reactor)
    site.displayTracebacks = False
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return BoundedFactory(site, max(16, min(MAX_CONNECTIONS, descriptors - _RESERVED_DESCRIPTORS)))


def _call(request: Request) -> Call:
    content: Any = request.content
    query = {
        name.decode("utf-8", "replace"): values[-1].decode("utf-8", "replace")
        for name, values in (request.args or {}).items()
    }
    peer: Any = request.getClientAddress()
    return Call(content.read(BODY_LIMIT + 1), query, str(peer.host))
