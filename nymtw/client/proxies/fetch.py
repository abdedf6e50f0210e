"""`nym-client fetch` and `nym-client http-proxy`: web pages through the mixnet."""

import contextlib
import os
import sys
import zlib
from collections.abc import Awaitable, Callable, Sequence
from random import SystemRandom
from typing import Any, BinaryIO, ClassVar, Final

from tqdm import tqdm

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import globalLogBeginner
from twisted.python import usage
from twisted.python.failure import Failure

from nymtw.client.options import ClientOptions, configure
from nymtw.client.proxies.http_proxy import ProxyFactory
from nymtw.client.proxies.web_client import WebClient, WebError
from nymtw.client.service import LOOPBACK, ClientService
from nymtw.errors import ConfigError
from nymtw.message.web import MAX_REQUEST_LENGTH, WebHead
from nymtw.node.option_types import argument_last
from nymtw.node.process.clock import use_monotonic
from nymtw.node.process.log import observer
from nymtw.node.service import Listener
from nymtw.node.tap import port_number

_PIECE: Final = 256 * 1024


class WebOptions(ClientOptions):
    """The common options of both commands: the client and the web proxy."""

    optParameters: ClassVar[list[Any]] = [
        ["via", None, None, "Address of a web proxy [default: any one from the topology]"]
    ]


class FetchOptions(WebOptions):
    """`nym-client fetch URL`."""

    synopsis = "Usage: nym-client fetch URL [OPTIONS]"
    optFlags: ClassVar[list[Any]] = [
        ["no-follow", None, "Do not follow redirects"],
        ["quiet", "q", "No progress bar"],
        ["include", "i", "Print status and headers before the page"],
    ]
    optParameters: ClassVar[list[Any]] = [
        ["output", "o", None, "File to write [default: standard output]"],
        ["request", "X", None, "Method [default: GET, or POST with --data]"],
        ["data", "d", None, "Body of the request; @FILE reads it from a file"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["header"] = []

    def opt_header(self, text: str) -> None:
        """Header of the request, such as 'Accept: text/html'. May be repeated"""
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise usage.UsageError(f"--header: {text!r:.80} is not 'name: value'")
        self["header"].append((name.strip().encode("latin-1", "replace"), value.strip().encode("latin-1", "replace")))

    opt_H = opt_header

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As `usage.Options`, with the URL before or after the options."""
        super().parseOptions(argument_last(sys.argv[1:] if options is None else options))

    def parseArgs(self, url: str) -> None:  # type: ignore[override]  # the signature follows usage.Options
        """Take the URL."""
        if not url.startswith(("http://", "https://")):
            raise usage.UsageError(f"{url!r:.80} is not an http or https URL")
        self["url"] = url


class ProxyOptions(WebOptions):
    """`nym-client http-proxy`."""

    optParameters: ClassVar[list[Any]] = [["port", None, 8118, "Port on 127.0.0.1", port_number]]


class Unpacker:
    """Decompresses the body of a response, in pieces of bounded length."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self._gzip: Any = None

    def head(self, head: WebHead) -> None:
        """Take the head. Raises `WebError` for a compression that the request does not allow."""
        codings = [value.lower() for name, value in head.headers if name.lower() == b"content-encoding"]
        if codings in ([b"gzip"], [b"deflate"], [b"x-gzip"]):
            self._gzip = zlib.decompressobj(47)
        elif codings not in ([], [b"identity"]):
            raise WebError("the server compresses the page with a method that was not requested")

    def body(self, data: bytes) -> None:
        """Take a part of the body. Raises `WebError` for invalid data."""
        if self._gzip is None:
            self._take(data)
            return
        try:
            while data:
                self._take(self._gzip.decompress(data, _PIECE))
                data = self._gzip.unconsumed_tail
        except zlib.error:
            raise WebError("the compressed page is damaged") from None


VISIBLE: Final = (
    "This starts a client for as long as it takes, and an observer of your line sees when. "
    "A client that runs all the time hides that: nym-client run, http-proxy or socks5"
)


def warn_of_visibility() -> None:
    """Warn the user of a command that starts a client for one task."""
    print(VISIBLE, file=sys.stderr)


def run(options: ClientOptions, work: Callable[[ClientService, Any], Awaitable[Any]]) -> Any:
    """Start the client, wait for `work`, and stop the client. Returns the result of `work`, or raises its error."""
    from twisted.internet import reactor as module

    reactor: Any = module
    use_monotonic(reactor)
    home, config = configure(options)
    service = ClientService.from_config(reactor, home, config)
    outcome: list[Any] = []
    ending: list[bool] = []

    async def main() -> Any:
        service.startService()
        try:
            await service.ready()
            await service.logged_in()
            return await work(service, reactor)
        finally:
            await service.stopService()

    def begin() -> None:
        running = Deferred.fromCoroutine(main())
        ended: Deferred[None] = Deferred()

        def interrupted() -> "Deferred[None]":
            running.cancel()
            return ended

        def over(result: Any) -> None:
            by_itself = not ending
            outcome.append(result)
            ended.callback(None)
            if by_itself:
                reactor.stop()

        # Ctrl-C: an orderly shutdown, for which the reactor waits.
        reactor.addSystemEventTrigger("before", "shutdown", ending.append, True)
        reactor.addSystemEventTrigger("before", "shutdown", interrupted)
        running.addBoth(over)

    reactor.callWhenRunning(begin)
    reactor.run()
    [result] = outcome
    if isinstance(result, Failure):
        result.raiseException()
    return result


def web_client(service: ClientService, reactor: Any, via: str | None) -> WebClient:
    """A `WebClient` over a running client."""
    core = service.core
    assert core is not None
    return WebClient(core, reactor, SystemRandom(), lambda: service.watch.current, via)


def fetch(options: FetchOptions) -> int:
    """Fetch one page. Returns 0 if the server sent it, 1 if it answered with an error."""
    warn_of_visibility()
    body = _body(options["data"])
    method = (options["request"] or ("POST" if body is not None else "GET")).upper()
    headers = [(b"Accept-Encoding", b"gzip"), *options["header"]]
    if body is not None and not any(name.lower() == b"content-type" for name, _ in headers):
        headers.append((b"Content-Type", b"application/x-www-form-urlencoded"))
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
    status: list[int] = []
    with contextlib.ExitStack() as stack:
        output, commit = _output(options["output"], stack)
        quiet = options["quiet"] or not sys.stderr.isatty()
        bar = stack.enter_context(tqdm(unit="B", unit_scale=True, disable=quiet, desc="connecting", leave=False))
        unpacker = Unpacker(output.write)

        def took_head(head: WebHead) -> None:
            status.append(head.status)
            bar.set_description("fetching")
            bar.total = next((int(v) for n, v in head.headers if n.lower() == b"content-length" and v.isdigit()), None)
            if options["include"]:
                lines = [f"HTTP {head.status} {head.reason}".encode("latin-1", "replace")]
                lines += [name + b": " + value for name, value in head.headers]
                output.write(b"\r\n".join([*lines, b"", b""]))
            unpacker.head(head)

        def took(data: bytes) -> None:
            bar.update(len(data))
            unpacker.body(data)

        async def work(service: ClientService, reactor: Any) -> None:
            client = web_client(service, reactor, options["via"])
            try:
                await client.request(
                    method,
                    options["url"],
                    headers=tuple(headers),
                    body=body or b"",
                    follow=not options["no-follow"],
                    head=took_head,
                    take=took,
                )
            finally:
                client.close()

        run(options, work)
        output.flush()
        commit()
    if status[0] >= 400:
        print(f"nym-client fetch: the server answers {status[0]}", file=sys.stderr)
        return 1
    return 0


def proxy(options: ProxyOptions) -> int:
    """Serve browsers until Ctrl-C."""
    globalLogBeginner.beginLoggingTo([observer()], redirectStandardIO=False)

    async def work(service: ClientService, reactor: Any) -> None:
        client = web_client(service, reactor, options["via"])
        listener = Listener(reactor, LOOPBACK, options["port"], ProxyFactory(lambda: client, reactor))
        try:
            listener.startService()
            service.log.info("An HTTP proxy is at http://127.0.0.1:{port}", port=listener.port)
            await Deferred()
        finally:
            client.close()
            await _stopped(listener)

    with contextlib.suppress(CancelledError):
        run(options, work)
    return 0


async def _stopped(listener: Listener) -> None:
    stopped = listener.stopService()
    if stopped is not None:
        await stopped


def _body(data: str | None) -> bytes | None:
    if data is None:
        return None
    if not data.startswith("@"):
        return data.encode()
    try:
        with open(data[1:], "rb") as file:
            body = file.read(MAX_REQUEST_LENGTH)
    except OSError as error:
        raise ConfigError(f"{data[1:]}: {error.strerror}") from None
    if len(body) >= MAX_REQUEST_LENGTH:
        raise ConfigError(f"{data[1:]}: too long for a request")
    return body


def _output(path: str | None, stack: contextlib.ExitStack) -> tuple[BinaryIO, Callable[[], None]]:
    """The output for the page, and a function to call when it is complete: only that creates the file.

    Raises `ConfigError`.
    """
    if path is None or path == "-":
        return sys.stdout.buffer, lambda: None
    scratch = f"{path}.part"
    try:
        file = open(scratch, "wb")  # noqa: SIM115  # the stack closes it
    except OSError as error:
        raise ConfigError(f"{scratch}: {error.strerror}") from None
    stack.enter_context(file)
    whole = False

    def commit() -> None:
        nonlocal whole
        os.replace(scratch, path)
        whole = True

    def clean() -> None:
        if not whole:
            with contextlib.suppress(OSError):
                os.unlink(scratch)

    stack.callback(clean)
    return file, commit
