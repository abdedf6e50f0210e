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


class ProxyRequest(http.Request):
    """One request of a browser. Its body is in memory; the response is written as it arrives."""

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
            body = self.content.read(MAX_BODY + 1) if self.content is not None else b""
            if len(body) > MAX_BODY:
                self._refuse(413, f"A request's body has at most {MAX_BODY} bytes.")
                return
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

    def buildProtocol(self, addr: Any) -> Any:
        """A channel that makes `ProxyRequest`s."""
        channel: Any = super().buildProtocol(addr)
        channel.requestFactory = ProxyRequest
        return channel

    def log(self, request: Any) -> None:
        """Log nothing: requests are private."""
