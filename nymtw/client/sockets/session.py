"""Handles the requests of one connection one after another. TCP socket and websocket share this."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nymtw.client.sockets.application import Application, ClientLike
from nymtw.client.sockets.wire import RawRequest, decode, encode, unpacked
from nymtw.errors import AddressError, EncodingError, NymtwError


class Gate:
    """The push producer that a connection registers with its transport, to notice when an application does not read."""

    def __init__(self, blocked: Callable[[bool], None]) -> None:
        self._blocked = blocked

    def pauseProducing(self) -> None:
        self._blocked(True)

    def resumeProducing(self) -> None:
        self._blocked(False)

    def stopProducing(self) -> None:
        """The transport has ended; `connectionLost` follows."""


class Session:
    """The requests of one connection.

    `write(body, binary)` sends an answer, `read(on)` lets the transport read or pauses it, `close` closes the
    connection. If `strict`, the first malformed request closes the connection after the exception that answers it.
    """

    log = Logger()

    def __init__(
        self,
        client: ClientLike,
        *,
        write: Callable[[bytes, bool], None],
        read: Callable[[bool], None],
        close: Callable[[], None],
        strict: bool,
    ) -> None:
        self._clock = client.clock
        self._application = Application(client, self._answer)
        self._write, self._read, self._close, self._strict = write, read, close, strict
        self._requests: deque[RawRequest] = deque()
        self._binary = False
        self._busy = self._blocked = self._over = self._ended = False

    def requests(self, requests: Iterable[RawRequest]) -> None:
        """Queue new requests."""
        if not self._over:
            self._requests.extend(requests)
            self._next()

    def malformed(self, error: NymtwError) -> None:
        """Answer data that is not a valid request."""
        self._answer(Application.exception(error))
        if self._strict:
            self._end()

    def blocked(self, blocked: bool) -> None:
        """Called when the application does not read, and when it reads again."""
        self._blocked = blocked
        if blocked:
            self._application.pause()
        else:
            self._application.resume()
            self._next()

    def ended(self) -> None:
        """No more requests will come: answer the queued ones, then close the connection."""
        self._ended = True
        self._next()

    def closed(self) -> None:
        """The connection has ended."""
        self._over = True
        self._requests.clear()
        self._application.closed()

    def _next(self) -> None:
        if self._busy or self._blocked or self._over:
            return
        if not self._requests:
            if self._ended:
                self._end()
            else:
                self._read(True)
            return
        self._busy = True
        self._read(False)  # no reading while a request is being handled
        handled = Deferred.fromCoroutine(self._handle(self._requests.popleft()))
        handled.addErrback(self._failed)
        handled.addCallback(self._done)

    def _failed(self, failure: Any) -> None:
        self.log.failure("A request failed", failure)
        self._answer(Application.exception(NymtwError("the request failed in the client; its log has the details")))

    def _done(self, _: object) -> None:
        self._busy = False
        self._next()

    async def _handle(self, request: RawRequest) -> None:
        self._binary = request.binary
        try:
            await self._application.handle(await unpacked(decode(request), self._clock))
        except AddressError as error:
            self._answer(Application.exception(error))
        except EncodingError as error:
            self.malformed(error)

    def _answer(self, answer: dict[str, Any]) -> None:
        if not self._over:
            self._write(encode(answer, self._binary), self._binary)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._close()
