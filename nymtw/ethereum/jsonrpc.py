"""JSON-RPC 2.0 of an Ethereum node over HTTP (execution-apis), with bounds on time, length and on what is believed."""

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import treq

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from nymtw.errors import ConfigError, EthereumError, EthereumRefused

PATIENCE: Final = 10.0  # seconds for an answer
LIMIT: Final = 16 * 2**20  # bytes of one
CONNECT: Final = 5.0  # seconds
_LONGEST_ERROR: Final = 300  # letters of a node's own words


def check_ethereum_url(url: str) -> str:
    """`url`, which may have a path and a query. Raises `ConfigError` unless it is http(s)://HOST..."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.fragment
    except ValueError:
        right = False
    if not right or not url.isascii():
        raise ConfigError(f"an Ethereum node's URL looks like http://127.0.0.1:8545, not {url!r:.100}")
    return url


class EthereumRPC:
    """Calls of one node. Whatever it does, in time or not, is an answer or an `EthereumError` that names its host.

    The rest of the URL is never shown: providers put keys there.
    """

    def __init__(self, reactor: Any, url: str, patience: float = PATIENCE, agent: Any = None) -> None:
        """`agent`: an `IAgent`, for tests. Raises `ConfigError` for a bad URL."""
        self._url = check_ethereum_url(url)
        parts = urlsplit(url)
        self.host = parts.netloc.rpartition("@")[2]
        self._reactor = reactor
        self._patience = patience
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 4
        self._client = treq.client.HTTPClient(
            Agent(reactor, connectTimeout=CONNECT, pool=self._pool) if agent is None else agent
        )
        self._number = 0

    async def call(self, method: str, *parameters: Any) -> Any:
        """The result of one call. Raises `EthereumRefused` for the node's own error, `EthereumError` for any other."""
        [answer] = await self.batch([(method, parameters)])
        return answer

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """The results of several calls in one request, in their order; of one call alone, a request that is no list.

        Raises as `call`, for the first call with an error.
        """
        first = self._number + 1
        self._number += len(calls)
        asked = [
            {"jsonrpc": "2.0", "id": first + place, "method": method, "params": list(parameters)}
            for place, (method, parameters) in enumerate(calls)
        ]
        answer = await self._post(asked if len(asked) > 1 else asked[0])
        answers = answer if len(asked) > 1 else [answer]
        if isinstance(answer, dict) and len(asked) > 1:
            self._result(answer)  # one error for all of them
        if not isinstance(answers, list) or len(answers) != len(asked):
            raise self._error("its answer is not one for each call")
        by_number = {each.get("id"): each for each in answers if isinstance(each, dict) and _is_number(each.get("id"))}
        if by_number.keys() != {each["id"] for each in asked}:
            raise self._error("its answers are to other calls")
        return [self._result(by_number[each["id"]]) for each in asked]

    def close(self) -> "Deferred[None]":
        """Close idle connections."""
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed

    def _post(self, body: Any) -> "Deferred[Any]":
        async def ask() -> Any:
            headers = Headers({"Content-Type": ["application/json"], "User-Agent": ["nymtw"]})
            response = await self._client.request(
                "POST", self._url, data=_Body(json.dumps(body).encode()), headers=headers, allow_redirects=False
            )
            content = bytearray()

            def more(data: bytes) -> None:
                if len(content) + len(data) > LIMIT:
                    raise self._error(f"its answer is longer than {LIMIT} bytes")
                content.extend(data)

            await treq.collect(response, more)
            try:
                return json.loads(content, parse_constant=_no_number)
            except (ValueError, RecursionError):
                raise self._error(f"status {response.code} and an answer that is not JSON") from None

        asked = Deferred.fromCoroutine(ask())
        asked.addTimeout(self._patience, self._reactor, lambda failure, seconds: self._late(seconds))
        return asked.addErrback(self._explain)

    def _late(self, seconds: float) -> Any:
        raise self._error(f"no answer within {seconds:g} seconds")

    def _explain(self, failure: Failure) -> Any:
        if failure.check(EthereumError, CancelledError):
            return failure
        cause: Any = failure.value
        reasons = getattr(cause, "reasons", None)
        if reasons:
            cause = reasons[0].value
        raise self._error(str(cause)[:_LONGEST_ERROR] or type(cause).__name__) from None

    def _result(self, answer: dict[str, Any]) -> Any:
        error = answer.get("error")
        if isinstance(error, dict):
            code: Any = error.get("code")
            text = printable(f"{error.get('message', '')}")
            raise EthereumRefused(code if _is_number(code) else 0, f"the Ethereum node {self.host}: {text}")
        if error is not None or "result" not in answer:
            raise self._error("its answer has neither result nor error")
        return answer["result"]

    def _error(self, text: str) -> EthereumError:
        return EthereumError(f"the Ethereum node {self.host}: {printable(text)}")


@implementer(IBodyProducer)
class _Body:
    """A request's body, written at once."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length = len(content)

    def startProducing(self, consumer: Any) -> "Deferred[None]":
        consumer.write(self._content)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All of it was written."""

    def resumeProducing(self) -> None:
        """All of it was written."""

    def stopProducing(self) -> None:
        """All of it was written."""


def printable(text: str, longest: int = _LONGEST_ERROR) -> str:
    """A stranger's words, fit for a log: one line, not too long."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:longest])


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _no_number(text: str) -> Any:
    raise ValueError(text)
