"""A node's HTTP interface without sockets: `JSONClient` over routes."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed

from nymtw.errors import EncodingError, LedgerError
from nymtw.web.http import Call


class RouteClient:
    """Asks the routes of one node; `down` makes it unreachable, `lies` answers what it is told to."""

    def __init__(self, routes: Any) -> None:
        self._routes = {(route.method, route.path): route.handler for route in routes}
        self.down = False
        self.lies: Any = None
        self.asked: list[str] = []

    def get(self, path: str, patience: float) -> "Deferred[tuple[int, Any]]":
        return self._ask("GET", path, b"")

    def post(self, path: str, body: bytes, content_type: str, patience: float) -> "Deferred[tuple[int, Any]]":
        return self._ask("POST", path, body)

    def close(self) -> "Deferred[None]":
        return succeed(None)

    def _ask(self, method: str, path: str, body: bytes) -> "Deferred[tuple[int, Any]]":
        self.asked.append(path)
        if self.down:
            return fail(LedgerError("nobody answers"))
        if self.lies is not None:
            return succeed((200, self.lies))
        parts = urlsplit(path)
        handler = self._routes[method, parts.path]
        call = Call(body, dict(parse_qsl(parts.query)), "127.0.0.1")

        def refused(failure: Any) -> tuple[int, Any]:
            failure.trap(EncodingError)
            return 400, {"error": str(failure.value)}

        answer = maybeDeferred(handler, call)
        return answer.addCallbacks(lambda found: (found.code, json.loads(found.body)), refused)
