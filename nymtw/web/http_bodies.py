"""Bodies of HTTP requests and responses that fit into memory."""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from nymtw.errors import EncodingError


@implementer(IBodyProducer)
class Bytes:
    """The body of a request, written at once."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> "Deferred[None]":
        """Write it."""
        consumer.write(self._body)
        return succeed(None)

    def stopProducing(self) -> None:
        """Nothing is left to produce."""

    pauseProducing = resumeProducing = stopProducing


class _Reader(Protocol):
    transport: Any

    def __init__(self, limit: int) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self.transport.loseConnection())
        self._left = limit
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        self._parts.append(data)
        if self._left < 0 and not self.done.called:
            self._parts.clear()
            self.done.errback(EncodingError("the answer is longer than allowed"))
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(reason)


def read_body(response: Any, limit: int) -> "Deferred[bytes]":
    """The body of a response. If it exceeds `limit` bytes, closes the connection and fails with `EncodingError`."""
    reader = _Reader(limit)
    response.deliverBody(reader)
    return reader.done
