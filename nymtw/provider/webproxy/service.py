"""The web proxy: makes web requests for clients, and streams the responses back in parts.

It uses Twisted's `Agent` without treq, which would follow redirects and decompress bodies. Here each redirect is
checked, and a body crosses the mixnet compressed.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import urljoin, urlsplit

from OpenSSL import SSL
from service_identity import VerificationError

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.internet.protocol import Protocol
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from nymtw.errors import ConfigError, EncodingError, NymtwError, QueueFull
from nymtw.interfaces import IProviderContext
from nymtw.message.web import MAX_HEADERS, PART_LENGTH, WebHead, WebPart, WebRequest
from nymtw.node.option_types import number, whole_number
from nymtw.provider.api import Request, Service, ServiceLimits
from nymtw.provider.webproxy.policy import CheckedEndpoints, PolicyError, WebPolicy
from nymtw.web.http_bodies import Bytes

MOST_REDIRECTS: Final = 10
WINDOW: Final = 2 * 2**20  # bytes of a body under way to the client, before its server has to wait
PATIENCE: Final = 60.0  # seconds for a server to begin, and between two pieces of its response
_MEBIBYTE: Final = 2**20
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
_REDIRECTS: Final = (301, 302, 303, 307, 308)
# Headers about one connection only, and headers that would identify the client (RFC 9110, section 7.6).
_DROPPED: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate te trailer transfer-encoding "
    b"upgrade host content-length expect via forwarded x-forwarded-for x-forwarded-host x-forwarded-proto "
    b"x-real-ip".split()
)
_DROPPED_IN_RESPONSES: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate te trailer transfer-encoding upgrade".split()
)
# Headers that are removed on a redirect to another origin.
_SECRETS: Final = frozenset((b"authorization", b"cookie"))


class Options(usage.Options):
    """The command line of `--impl=webproxy`."""

    optParameters: ClassVar[list[Any]] = [
        [
            "web-hosts",
            None,
            "",
            "Allowed hosts, separated by commas; *.example.org for all below a name [default: all]",
        ],
        ["web-ports", None, "80,443", "Allowed ports, separated by commas; 'all' for all"],
        ["web-size", None, 64, "Maximum of MiB in a response", whole_number(1, 4096, "MiB")],
        ["web-time", None, 600.0, "Maximum of seconds for a request", number(1, 86400, "seconds")],
    ]
    optFlags: ClassVar[list[Any]] = [
        ["web-private", None, "Allow private and loopback addresses too, for tests on one machine"],
    ]


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "WebProxy":
    """Make the web proxy, for the plugin. Raises `ConfigError` for invalid ports."""
    ports = options["web-ports"]
    numbers = [] if ports == "all" else ports.split(",")
    if not all(text.isascii() and text.isdecimal() and 0 < int(text) < 65536 for text in numbers):
        raise ConfigError(f"--web-ports: {ports!r:.80} is not a list of ports")
    hosts = tuple(host.strip().lower() for host in options["web-hosts"].split(",") if host.strip())
    policy = WebPolicy(hosts, frozenset(map(int, numbers)), bool(options["web-private"]))
    return WebProxy(context, policy, size=options["web-size"] * _MEBIBYTE, seconds=options["web-time"])


class WebProxy(Service):
    """An `IService`: requests are `WebRequest`s, answers are `WebPart`s."""

    def __init__(
        self, context: IProviderContext, policy: WebPolicy, *, size: int, seconds: float, trust_root: Any = None
    ) -> None:
        """`size`: the most bytes of a response. `trust_root`: authorities for certificates; None for the platform's."""
        self._context, self._size = context, size
        endpoints = CheckedEndpoints(context.reactor, policy, trust_root)
        self._agent = Agent.usingEndpointFactory(context.reactor, endpoints)
        self.limits = ServiceLimits(concurrent=50, waiting=500, seconds=seconds)  # type: ignore[misc]

    async def handle(self, request: Request) -> None:
        """Fetch the page and stream the response. The client is told about every error."""
        try:
            wanted = WebRequest.parse(request.message)
        except EncodingError:
            self._context.metrics.count("bad-requests")
            return
        if request.sender is None:
            return
        stream = _Stream(self._context, request, wanted.id, self._size)
        try:
            await self._fetch(wanted, stream)
            self._context.metrics.count("fetched")
        except CancelledError:
            stream.abort()
            stream.fail("the time for this request is over")
            raise
        except Exception as error:
            stream.abort()
            self._context.metrics.count("refused" if isinstance(error, PolicyError) else "unreachable")
            stream.fail(_error_text(error))

    async def _fetch(self, wanted: WebRequest, stream: "_Stream") -> None:
        url, method, body = wanted.url, wanted.method, wanted.body
        if method not in _METHODS:
            raise PolicyError(f"this web proxy does not support {method}")
        headers = [(name, value) for name, value in wanted.headers if name.lower() not in _DROPPED]
        for _ in range(MOST_REDIRECTS + 1):
            response = await self._request(method, url, headers, body)
            place = response.headers.getRawHeaders(b"location")
            if not (wanted.follow and response.code in _REDIRECTS and place):
                await stream.take(response, url)
                return
            _discard(response)
            target = urljoin(url, place[0].decode("ascii", "replace"))
            if _origin(target) != _origin(url):
                headers = [(name, value) for name, value in headers if name.lower() not in _SECRETS]
            if response.code == 303 or (response.code in (301, 302) and method == "POST"):
                method, body = ("HEAD" if method == "HEAD" else "GET"), b""
                headers = [(name, value) for name, value in headers if name.lower() != b"content-type"]
            url = target
        raise PolicyError(f"more than {MOST_REDIRECTS} redirects")

    async def _request(self, method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Any:
        raw = Headers()
        for name, value in headers:
            raw.addRawHeader(name, value)
        try:
            target = urlsplit(url)._replace(fragment="").geturl().encode("ascii")
            asked = self._agent.request(method.encode("ascii"), target, raw, Bytes(body) if body else None)
        except (ValueError, TypeError):
            raise PolicyError("this is not the URL of a web page") from None
        late = self._context.clock.callLater(PATIENCE, asked.cancel)
        try:
            return await asked
        finally:
            if late.active():
                late.cancel()


class _Stream:
    """Sends one response in parts."""

    def __init__(self, context: IProviderContext, request: Request, identifier: bytes, size: int) -> None:
        self._context, self._request, self._id, self._left = context, request, identifier, size
        self._number = 0
        self._body: _Body | None = None

    async def take(self, response: Any, url: str) -> None:
        """Send the head of `response`, and its body as it arrives. Raises the error that ends it early."""
        headers = [
            (name, value)
            for name, values in response.headers.getAllRawHeaders()
            if name.lower() not in _DROPPED_IN_RESPONSES
            for value in values
        ]
        if isinstance(response.length, int) and not response.headers.hasHeader(b"content-length"):
            headers.append((b"Content-Length", b"%d" % response.length))  # Twisted removes it from the headers
        reason = response.phrase.decode("latin-1")[:256]
        head = WebHead(status=response.code, reason=reason, headers=tuple(headers[:MAX_HEADERS]), url=url[:8192])
        self._body = body = _Body(self._context)
        response.deliverBody(body)
        under_way = 0
        wake: list[Deferred[None]] = []

        def arrived(whole: bool, length: int) -> None:
            nonlocal under_way
            under_way -= length
            if not whole:
                body.end(NymtwError("the client has gone"))
            for waiting in wake[:]:
                wake.remove(waiting)
                waiting.callback(None)

        while True:
            data, last = await body.read()
            self._left -= len(data)
            if self._left < 0:
                raise PolicyError("the response is longer than this web proxy allows")
            under_way += len(data)
            self._send(WebPart(id=self._id, number=self._number, head=head, data=data, last=last)).addCallback(
                arrived, len(data)
            )
            head = None  # type: ignore[assignment]
            if last:
                return
            while under_way >= WINDOW:
                wake.append(Deferred())
                await wake[-1]

    def fail(self, error: str) -> None:
        """Send an error, as the last part."""
        if not self._request.over:
            try:
                self._send(WebPart(id=self._id, number=self._number, last=True, error=error))
            except NymtwError:
                self._context.metrics.count("untold")

    def abort(self) -> None:
        """Stop receiving the body."""
        if self._body is not None:
            self._body.abort()

    def _send(self, part: WebPart) -> "Deferred[bool]":
        self._number += 1
        return self._request.reply(part.encode())


class _Body(Protocol):
    """Receives a body in parts. The server waits while nobody reads."""

    transport: Any

    def __init__(self, context: IProviderContext) -> None:
        self._clock = context.clock
        self._data = bytearray()
        self._end: BaseException | None = None
        self._over = self._paused = False
        self._wake: Deferred[None] | None = None
        self._timer: Any = None

    async def read(self) -> tuple[bytes, bool]:
        """Returns a part of the body and whether it is the last. Raises the error that ended the body."""
        while len(self._data) < PART_LENGTH and not self._over:
            if self._paused:
                self._paused = False
                self.transport.resumeProducing()
                continue
            self._wake = Deferred()
            self._timer = self._clock.callLater(PATIENCE, self.end, NymtwError("the server sends nothing any more"))
            try:
                await self._wake
            finally:
                self._wake = None
                if self._timer.active():
                    self._timer.cancel()
        if self._end is not None:
            raise self._end
        part = bytes(self._data[:PART_LENGTH])
        del self._data[:PART_LENGTH]
        return part, self._over and not self._data

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) >= 2 * PART_LENGTH and not self._paused:
            self._paused = True
            self.transport.pauseProducing()
        if len(self._data) >= PART_LENGTH:
            self._woken()

    def connectionLost(self, reason: Failure = Protocol.connectionLost.__defaults__[0]) -> None:  # type: ignore[index]
        if not reason.check(ResponseDone, PotentialDataLoss):
            self._end = self._end or reason.value
        self._over = True
        self._woken()

    def end(self, error: Exception) -> None:
        """End the body with an error."""
        if not self._over:
            self._end, self._over = error, True
            self._woken()
            self.abort()

    def abort(self) -> None:
        """Close the connection."""
        transport = getattr(self, "transport", None)
        if transport is not None:
            transport.loseConnection()

    def _woken(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.callback(None)


class _Nothing(Protocol):
    """Closes the connection of a response whose body is not needed."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.loseConnection()


def _discard(response: Any) -> None:
    response.deliverBody(_Nothing())


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _is_untrusted(error: BaseException) -> bool:
    """Whether OpenSSL has refused a certificate: self-signed, expired, or of an unknown authority."""
    return isinstance(error, SSL.Error) and "certificate verify failed" in str(error)


def _error_text(error: BaseException) -> str:
    """The text of an error for the client."""
    if isinstance(error, QueueFull):
        return "too much data is under way already"
    if isinstance(error, NymtwError):
        return str(error)[:500]
    if isinstance(error, DNSLookupError):
        return "the host is unknown"
    if isinstance(error, (ResponseNeverReceived, ResponseFailed)):
        reasons = [reason.value for reason in error.reasons]
        if any(isinstance(reason, CancelledError) for reason in reasons):
            return "the server has not answered in time"
        if any(isinstance(reason, VerificationError) or _is_untrusted(reason) for reason in reasons):
            return "the server's certificate is not valid for this host"
        if any(isinstance(reason, SSL.Error) for reason in reasons):
            return "TLS with this server failed"
        kind = type(reasons[0]).__name__ if reasons else "nothing"
        return f"the server's answer is not valid HTTP ({kind})"
    if isinstance(error, (ConnectError, ConnectionLost)):
        return f"the server cannot be reached ({type(error).__name__})"
    if isinstance(error, CancelledError):
        return "the server has not answered in time"
    return f"the request failed ({type(error).__name__})"
