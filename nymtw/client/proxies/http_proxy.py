"""An HTTP proxy on 127.0.0.1 whose requests go through the mixnet: `curl -x http://127.0.0.1:8118 http://...`."""

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web import http

from nymtw.client.proxies.web_client import WebClient
from nymtw.errors import NymtwError
from nymtw.message.web import MAX_HEADERS, WebHead

MAX_BODY: Final = 8 * 2**20
MAX_CONNECTIONS: Final = 256


class ProxyRequest(http.Request):
    """One request of a browser. Its body is in memory; the response is written as it arrives.

    A body longer than `MAX_BODY` is refused while it comes, whether its length was announced or not.
    """

    _left = MAX_BODY
    _too_long = False

    def gotLength(self, length: int | None) -> None:
        """The headers have been read; `length` is None for a chunked body."""
        super().gotLength(0)  # keeps what comes in memory: there is a limit
        if length is not None and length > MAX_BODY:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body has been read."""
        self._left -= len(data)
        if self._left < 0:
            self._refuse_body()
        elif not self._too_long:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole request has been read."""
        if not self._too_long:
            super().requestReceived(command, path, version)

    def _refuse_body(self) -> None:
        if self._too_long:
            return
        self._too_long = True
        channel: Any = self.channel
        text = f"A request's body has at most {MAX_BODY} bytes.\n".encode()
        head = b"HTTP/1.1 413 Content Too Large\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
        channel.transport.write(head + b"Content-Length: %d\r\n\r\n" % len(text) + text)
        channel.loseConnection()

    def process(self) -> None:
        """The request is complete."""
        channel: Any = self.channel
        client: WebClient | None = channel.factory.client()
        if client is None:
            self._refuse(503, "The client is not connected to the mixnet yet.")
        elif self.method == b"CONNECT":
            self._refuse(
                501, "This proxy supports http only; https needs a tunnel, which the web proxy does not offer."
            )
        elif not self.uri.startswith(b"http://"):
            self._refuse(400, "This is a proxy: it needs the whole URL.")
        else:
            body = self.content.read(MAX_BODY) if self.content is not None else b""
            pairs = [(name, value) for name, values in self.requestHeaders.getAllRawHeaders() for value in values]
            asked = Deferred.fromCoroutine(
                client.request(
                    self.method.decode("latin-1"),
                    self.uri.decode("latin-1"),
                    headers=tuple(pairs[:MAX_HEADERS]),
                    body=body,
                    follow=False,
                    head=self._head,
                    take=self._take,
                )
            )
            gone: Deferred[Any] = self.notifyFinish()
            gone.addErrback(lambda failure: asked.cancel())
            asked.addCallbacks(self._done, self._failed)

    def _head(self, head: WebHead) -> None:
        self.setResponseCode(head.status, head.reason.encode("latin-1", "replace"))
        for name, value in head.headers:
            self.responseHeaders.addRawHeader(name, value)

    def _take(self, data: bytes) -> None:
        if not self._disconnected:
            self.write(data)

    def _done(self, _: object) -> None:
        if not self._disconnected:
            self.finish()

    def _failed(self, failure: Failure) -> None:
        if self._disconnected:
            return
        if self.startedWriting:
            channel: Any = self.channel
            channel.loseConnection()  # a truncated response must be recognisable
        elif isinstance(failure.value, NymtwError):
            self.responseHeaders = type(self.responseHeaders)()
            self._refuse(502, f"{failure.value}.")
        else:
            self._refuse(500, "The request failed.")

    def _refuse(self, status: int, text: str) -> None:
        self.setResponseCode(status)
        self.setHeader(b"content-type", b"text/plain; charset=utf-8")
        self.write(f"{text}\n".encode())
        self.finish()


class ProxyFactory(http.HTTPFactory):
    """The factory for browsers. `client()` returns the `WebClient`, or None while there is none."""

    def __init__(self, client: Callable[[], WebClient | None], reactor: Any) -> None:
        super().__init__(reactor=reactor)
        self.client = client
        self.connections: set[Any] = set()

    def buildProtocol(self, addr: Any) -> Any:
        """A channel that makes `ProxyRequest`s; None closes the new connection, where there are `MAX_CONNECTIONS`."""
        if len(self.connections) >= MAX_CONNECTIONS:
            return None
        channel: Any = super().buildProtocol(addr)
        channel.requestFactory = ProxyRequest
        self.connections.add(channel)
        lost = channel.connectionLost

        def ended(reason: Any) -> None:
            self.connections.discard(channel)
            lost(reason)

        channel.connectionLost = ended
        return channel

    def log(self, request: Any) -> None:
        """Log nothing: requests are private."""
