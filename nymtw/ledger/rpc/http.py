"""JSON over HTTP with bounds: on length, on time, on what is believed."""

import json
from io import BytesIO
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers

from nymtw.errors import LedgerError

LIMIT: Final = 32 * 2**20  # bytes of an answer
CONNECT: Final = 10.0  # seconds


class JSONClient:
    """Asks one server. What goes wrong, in time or not, is a `LedgerError` that names the server."""

    def __init__(self, reactor: Any, url: str, agent: Any = None) -> None:
        """`url`: without a path behind it, such as http://127.0.0.1:26657. `agent`: an `IAgent`, for tests."""
        self.url = url.rstrip("/")
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 8
        self._agent = Agent(reactor, connectTimeout=CONNECT, pool=self._pool) if agent is None else agent

    def get(self, path: str, patience: float) -> "Deferred[tuple[int, Any]]":
        """Status code and JSON of what is under `path`, within `patience` seconds."""
        return self._ask(b"GET", path, None, b"", patience)

    def post(self, path: str, body: bytes, content_type: str, patience: float) -> "Deferred[tuple[int, Any]]":
        """Status code and JSON of the answer to `body`."""
        return self._ask(b"POST", path, body, content_type.encode(), patience)

    def close(self) -> "Deferred[None]":
        """Close idle connections."""
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed

    def _ask(
        self, method: bytes, path: str, body: bytes | None, content_type: bytes, patience: float
    ) -> "Deferred[tuple[int, Any]]":
        async def ask() -> tuple[int, Any]:
            headers = {b"User-Agent": [b"nymtw"]}
            if content_type:
                headers[b"Content-Type"] = [content_type]
            producer = None if body is None else FileBodyProducer(BytesIO(body))
            response = await self._agent.request(method, (self.url + path).encode(), Headers(headers), producer)
            answer: Deferred[bytes] = Deferred(lambda _: reader.hang_up())
            reader = _Reader(answer)
            response.deliverBody(reader)
            content = await answer
            try:
                return int(response.code), json.loads(content)
            except (ValueError, RecursionError):
                raise LedgerError(f"{self.url} does not answer in JSON") from None

        asked = Deferred.fromCoroutine(ask()).addTimeout(
            patience, self._reactor, lambda failure, seconds: _late(failure, self.url, seconds)
        )
        return asked.addErrback(self._as_ledger_error)

    def _as_ledger_error(self, failure: Failure) -> Any:
        if failure.check(LedgerError):
            return failure
        cause: Any = failure.value
        if failure.check(ConnectingCancelledError):
            cause = "no connection in time"
        reasons = getattr(cause, "reasons", None)
        if reasons:
            cause = reasons[0].value
        raise LedgerError(f"{self.url}: {str(cause) or type(cause).__name__}") from None


class _Reader(Protocol):
    def __init__(self, answer: "Deferred[bytes]") -> None:
        self._answer: Deferred[bytes] | None = answer
        self._content = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._content += data
        if len(self._content) > LIMIT:
            self._end(Failure(LedgerError(f"an answer is longer than {LIMIT} bytes")))
            self.hang_up()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(bytes(self._content) if reason.check(ResponseDone) else reason)

    def hang_up(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _end(self, result: Any) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.called:
            answer.callback(result)


def _late(failure: Any, url: str, seconds: float) -> Any:
    raise LedgerError(f"{url}: no answer within {seconds:g} seconds")
