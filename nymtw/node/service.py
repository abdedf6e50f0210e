"""Parts of every role's service: children that start in order and stop in reverse, and a port that listens."""

from collections.abc import Callable
from inspect import isawaitable
from typing import Any, Final

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from nymtw.errors import ListenError

_BACKLOG: Final = 1024  # connections that wait to be accepted; past it, who connects tries again a second later


def listen(reactor: Any, host: str, port: int, factory: Any) -> Any:
    """Listen on TCP at the numeric address `host` and return the `IListeningPort`.

    Raises `ListenError` naming address and cause: a taken port, an address that is not this machine's.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return reactor.listenTCP(port, factory, _BACKLOG, host)
    except CannotListenError as error:
        cause = getattr(error.socketError, "strerror", None) or error.socketError
        raise ListenError(f"cannot listen on {where}: {cause}") from None
    except (OSError, OverflowError, ValueError) as error:
        raise ListenError(f"cannot listen on {where}: {error}") from None


class Listener(Service):
    """Listens while it runs. It takes its port in `privilegedStartService`, or in `startService`.

    twistd makes a daemon of itself between the two, so a taken port is an error on the user's terminal. The reactor
    runs later: nothing is accepted before all services have started.
    """

    def __init__(self, reactor: Any, host: str, port: int, factory: Any) -> None:
        self._reactor = reactor
        self.host = host
        self._port = port
        self._factory = factory
        self._listening: Any = None

    @property
    def port(self) -> int:
        """The port it listens on; the one that was asked for (maybe 0) while it does not."""
        return self._port if self._listening is None else int(self._listening.getHost().port)

    def privilegedStartService(self) -> None:
        """Take the port. Raises `ListenError`."""
        if self._listening is None:
            self._listening = listen(self._reactor, self.host, self._port, self._factory)

    def startService(self) -> None:
        """Take the port if `privilegedStartService` has not. Raises `ListenError`."""
        self.privilegedStartService()
        super().startService()

    def stopService(self) -> Any:
        """Free the port. A Deferred that fires when it is free."""
        super().stopService()
        listening, self._listening = self._listening, None
        return None if listening is None else listening.stopListening()


class AtStop(Service):
    """Calls `stop` when it is stopped; it may return a Deferred."""

    def __init__(self, stop: Callable[[], Any]) -> None:
        self._stop = stop

    def stopService(self) -> Any:
        """Stop what this stands for."""
        super().stopService()
        return self._stop()


class PeriodicService(Service):
    """Calls `tick` every `interval` seconds, for the first time after one interval."""

    def __init__(self, clock: Any, interval: float) -> None:
        self._clock = clock
        self._interval = interval
        self._call: Any = None

    def startService(self) -> None:
        """Tick from now on."""
        super().startService()
        self._call = self._clock.callLater(self._interval, self._tick)

    def stopService(self) -> None:
        """Tick no more."""
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def tick(self) -> None:
        """The work of one interval. Subclasses implement it."""
        raise NotImplementedError

    def _tick(self) -> None:
        self._call = self._clock.callLater(self._interval, self._tick)
        self.tick()


class NodeService(MultiService):
    """Children start in the order in which they were added and stop in reverse, each after the one before.

    A child that cannot start stops those that have, and its error goes to the caller. A child whose stop fails is
    logged and does not keep the others running.

    Before twistd makes a daemon of itself, constructors and `privilegedStartService` may read and write files and take
    ports; databases, processes and timers wait for `startService`.
    """

    _log = Logger()

    def startService(self) -> None:
        """Start the children in order."""
        Service.startService(self)
        started: list[Any] = []
        try:
            for child in self:
                started.append(child)
                child.startService()
        except BaseException:
            self.running = 0
            Deferred.fromCoroutine(self._stop(started)).addErrback(lambda failure: None)
            raise

    def stopService(self) -> "Deferred[None]":
        """Stop the children, the last first. A Deferred that fires when all have stopped."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop(list(self)))

    def add(self, child: Any) -> Any:
        """Adopt `child` (an `IService`) and return it."""
        IService(child).setServiceParent(self)
        return child

    async def _stop(self, children: list[Any]) -> None:
        for child in reversed(children):
            try:
                stopped = child.stopService()
                if isawaitable(stopped):
                    await stopped
            except Exception:
                self._log.failure("{child} did not stop cleanly", child=type(child).__name__)
