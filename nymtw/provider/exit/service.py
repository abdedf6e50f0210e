"""The exit: opens TCP connections for clients of the mixnet, and carries bytes both ways.

`nymtw.message.stream` defines the messages. An `ExitStream` is one connection, an `ExitClient` keeps those of a client.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.python import usage

from nymtw.errors import EncodingError
from nymtw.interfaces import IProviderContext
from nymtw.message.stream import StreamMessage
from nymtw.node.option_types import number, whole_number
from nymtw.provider.api import Request, Service, ServiceLimits
from nymtw.provider.exit.client import MOST_MESSAGE, Ceilings, ExitClient, Gone
from nymtw.provider.exit.dialer import Dialer
from nymtw.provider.exit.places import Places
from nymtw.provider.exit.policy import ExitPolicy

_MEBIBYTE: Final = 2**20
_CHECK_INTERVAL: Final = 5.0  # seconds between two searches for idle streams
_OPEN_PATIENCE: Final = 60.0  # seconds to wait for the opening of a stream, or for what it costs
_SHUTDOWN_MESSAGES: Final = 2.0  # seconds for the messages to clients that the exit stops
_THREADS: Final = 50  # threads that resolve names: many, so that slow name servers delay only their own names


_NUMBER: Final = whole_number(1, 100_000)
_SECONDS: Final = number(1, 86400, "seconds")


class Options(usage.Options):
    """The command line of `--impl=exit`."""

    optParameters: ClassVar[list[Any]] = [
        [
            "exit-policy",
            None,
            None,
            "File with the exit policy, in the syntax of Tor's ExitPolicy [default: everything but often abused ports]",
        ],
        ["exit-streams", None, 1000, "Maximum of simultaneous connections", _NUMBER],
        ["exit-client-streams", None, 100, "Maximum of simultaneous connections for one client", _NUMBER],
        ["exit-size", None, 64, "Maximum of MiB under way in each direction", _NUMBER],
        ["exit-client-size", None, 2, "Maximum of MiB under way in each direction for one client", _NUMBER],
        ["exit-connect-time", None, 30.0, "Maximum of seconds to resolve a name and to connect", _SECONDS],
        ["exit-idle-time", None, 7200.0, "Seconds without a byte after which a connection is closed", _SECONDS],
    ]
    optFlags: ClassVar[list[Any]] = [
        ["exit-private", None, "Connect to private and loopback addresses too, for tests on one machine"],
    ]


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "Exit":
    """Make the exit, for the plugin. Raises `ConfigError` with file and line for an invalid policy."""
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
    """An `IService`; each request and each answer is a `StreamMessage`."""

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
        price: Any = None,
    ) -> None:
        """Limits, for all clients and for one: `streams` and `client_streams` at once; `size` and `client_size` bytes
        under way in each direction. `idle`: seconds without a byte until a stream is reset, less at a full exit.
        `price`: an `IOpeningPrice`, for another one than `ProofOfWork`.
        """
        self._context, self.dialer = context, dialer
        self._client_ceilings = (client_streams, client_size)
        self.ceilings = Ceilings(streams, size)
        self.clients: dict[bytes, ExitClient] = {}
        self._places = Places(context.clock, streams, idle, self.clients.values, price)
        self._gone = Gone()
        self._timer: Any = None
        self._stopping = False
        # Slightly more than is ever sent, so that counted messages are never refused.
        self.limits = ServiceLimits(  # type: ignore[misc]
            reply_bytes=client_size + MOST_MESSAGE, total_bytes=size + MOST_MESSAGE, timers=3 * streams + 1000
        )

    def __len__(self) -> int:
        """The number of streams, with those that wait for a place."""
        return sum(len(client.streams) for client in self.clients.values())

    @property
    def connections(self) -> int:
        """The number of streams that have a place: a connection, or one that is being made."""
        return self._places.taken

    def start(self) -> None:
        """Begin to search for idle streams."""
        if IReactorThreads.providedBy(self._context.reactor):
            self._context.reactor.suggestThreadPoolSize(_THREADS)
        self._timer = self._context.clock.callLater(_CHECK_INTERVAL, self._check_idle)

    def handle(self, request: Request) -> None:
        """Handle one message of a client."""
        try:
            message = StreamMessage.parse(request.message)
        except EncodingError:
            self._context.metrics.count("bad-requests")
            return
        if request.sender is None or self._stopping:
            return
        client = self.clients.get(request.sender)
        if client is None:
            own = Ceilings(*self._client_ceilings)
            shared = self.ceilings, self._places, self._gone
            client = ExitClient(self._context, request.sender, self.dialer, own, *shared)
            self.clients[request.sender] = client
        client.take(message)
        if client.is_done:
            del self.clients[request.sender]

    async def leave(self) -> None:
        """Close all connections, and tell the clients."""
        self._stopping = True
        any_streams = bool(len(self))
        for client in self.clients.values():
            client.close("streams-stopped", tell=True)
        if any_streams:
            moment: Deferred[None] = Deferred()
            self._context.clock.callLater(_SHUTDOWN_MESSAGES, moment.callback, None)
            await moment

    def stop(self) -> None:
        """Close the connections that are still open."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for client in self.clients.values():
            client.close("streams-stopped", tell=False)
        self.clients.clear()

    def _check_idle(self) -> None:
        """Reset idle streams, and forget clients without work."""
        self._timer = self._context.clock.callLater(_CHECK_INTERVAL, self._check_idle)
        now = self._context.clock.seconds()
        for tag, client in list(self.clients.items()):
            for stream in list(client.streams.values()):
                patience = self._places.patience(stream)
                if not stream.has_place:
                    patience = min(_OPEN_PATIENCE, patience)
                if now - stream.seen >= patience:
                    client.end(stream, "streams-idle", client.reset(stream))
            if client.is_done:
                del self.clients[tag]
