"""The exit: opens TCP connections for whoever asks over the mixnet, and carries bytes both ways.

What is said is in `nymtw.message.stream`; one connection is an `ExitStream`, one client's are kept by an `ExitClient`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.python import usage

from nymtw.errors import EncodingError
from nymtw.interfaces import IProviderContext
from nymtw.message.stream import StreamMessage
from nymtw.provider.api import Request, Service, ServiceLimits
from nymtw.provider.exit.client import MOST_MESSAGE, Ceilings, ExitClient, Gone
from nymtw.provider.exit.dialer import Dialer
from nymtw.provider.exit.policy import ExitPolicy

_MEBIBYTE: Final = 2**20
_LOOK: Final = 5.0  # seconds between two looks at what is idle
_OPEN_PATIENCE: Final = 60.0  # seconds for the opening of a stream whose other messages have come
_LAST_WORDS: Final = 2.0  # seconds in which clients are told that the exit stops
_THREADS: Final = 50  # that resolve names, so that some slow name servers hold up nobody else


def _number(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= number <= 100_000:
        raise ValueError("this is a number from 1 to 100000")
    return number


def _seconds(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 86400:
        raise ValueError("this is a number of seconds from 1 to 86400")
    return value


_number.coerceDoc = "must be a number from 1 to 100000."  # type: ignore[attr-defined]
_seconds.coerceDoc = "must be a number of seconds from 1 to 86400."  # type: ignore[attr-defined]


class Options(usage.Options):
    """The command line of `--impl=exit`."""

    optParameters: ClassVar[list[Any]] = [
        [
            "exit-policy",
            None,
            None,
            "File that says where it connects to, in the syntax of Tor's ExitPolicy [default: anywhere but ports that "
            "are abused]",
        ],
        ["exit-streams", None, 1000, "Connections at once, at most", _number],
        ["exit-client-streams", None, 100, "Connections at once for one client, at most", _number],
        ["exit-size", None, 64, "MiB on their way in each direction, at most", _number],
        ["exit-client-size", None, 2, "MiB on their way in each direction for one client, at most", _number],
        ["exit-connect-time", None, 30.0, "Seconds to resolve a name and to connect, at most", _seconds],
        ["exit-idle-time", None, 900.0, "Seconds without a byte after which a connection is closed", _seconds],
    ]
    optFlags: ClassVar[list[Any]] = [
        ["exit-private", None, "Connect to private and loopback addresses too: for trying things out on one machine"],
    ]


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "Exit":
    """What the plugin calls. Raises `ConfigError` for a policy that is none, which names its file and line."""
    policy = ExitPolicy.load(options["exit-policy"] or "")
    dialer = Dialer(
        context.reactor,
        context.clock,
        policy,
        private=bool(options["exit-private"]),
        seconds=options["exit-connect-time"],
    )
    return Exit(
        context,
        dialer,
        streams=options["exit-streams"],
        client_streams=options["exit-client-streams"],
        size=options["exit-size"] * _MEBIBYTE,
        client_size=options["exit-client-size"] * _MEBIBYTE,
        idle=options["exit-idle-time"],
    )


class Exit(Service):
    """An `IService` whose requests and answers are each a `StreamMessage`."""

    def __init__(
        self,
        context: IProviderContext,
        dialer: Dialer,
        *,
        streams: int,
        client_streams: int,
        size: int,
        client_size: int,
        idle: float,
    ) -> None:
        """Ceilings: `streams` at once and `client_streams` of one client; `size` and `client_size` bytes under way in
        each direction; `idle` seconds without a byte.
        """
        self._context, self._dialer = context, dialer
        self._client_ceilings = (client_streams, client_size)
        self._ceilings = Ceilings(streams, size)
        self._idle = idle
        self._clients: dict[bytes, ExitClient] = {}
        self._gone = Gone()
        self._timer: Any = None
        self._stopping = False
        # A little above what is sent at most, so that nothing that was counted is refused.
        self.limits = ServiceLimits(  # type: ignore[misc]
            reply_bytes=client_size + MOST_MESSAGE, total_bytes=size + MOST_MESSAGE, timers=3 * streams + 1000
        )

    def __len__(self) -> int:
        """How many streams there are."""
        return self._ceilings.streams

    def start(self) -> None:
        """Look after what is idle from now on."""
        if IReactorThreads.providedBy(self._context.reactor):
            self._context.reactor.suggestThreadPoolSize(_THREADS)
        self._timer = self._context.clock.callLater(_LOOK, self._look)

    def handle(self, request: Request) -> None:
        """One message of a client."""
        try:
            message = StreamMessage.parse(request.message)
        except EncodingError:
            self._context.metrics.count("bad-requests")
            return
        if request.sender is None or self._stopping:
            return
        client = self._clients.get(request.sender)
        if client is None:
            own = Ceilings(*self._client_ceilings)
            client = ExitClient(self._context, request.sender, self._dialer, own, self._ceilings, self._gone)
            self._clients[request.sender] = client
        client.take(message)
        if client.is_done:
            del self._clients[request.sender]

    async def leave(self) -> None:
        """Hang up everywhere, and tell the clients."""
        self._stopping = True
        told = bool(len(self))
        for client in self._clients.values():
            client.close("streams-stopped", tell=True)
        if told:
            moment: Deferred[None] = Deferred()
            self._context.clock.callLater(_LAST_WORDS, moment.callback, None)
            await moment

    def stop(self) -> None:
        """Hang up where that was not done before."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for client in self._clients.values():
            client.close("streams-stopped", tell=False)
        self._clients.clear()

    def _look(self) -> None:
        """What is idle is reset; clients of whom nothing is left are forgotten."""
        self._timer = self._context.clock.callLater(_LOOK, self._look)
        now = self._context.clock.seconds()
        for tag, client in list(self._clients.items()):
            for stream in list(client.streams.values()):
                patience = self._idle if stream.is_asked_for else min(_OPEN_PATIENCE, self._idle)
                if now - stream.seen >= patience:
                    client.end(stream, "streams-idle", client.reset(stream))
            if client.is_done:
                del self._clients[tag]
