"""The node's side of an isolated implementation: an `IService` whose work is done in a process of its own.

The process gets whole messages, and gives what it answers. Keys, packets, reply blocks and limits stay in the node. The
process is killed if it does not answer, and started again alone.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred

from nymtw.encoding import to_cbor
from nymtw.errors import ConfigError, EncodingError, NymtwError, PluginError
from nymtw.interfaces import IProviderContext
from nymtw.provider.api import Request, Service, ServiceLimits
from nymtw.provider.isolation.sandbox import hide_memory
from nymtw.provider.isolation.wire import Wire, adopt, read, write
from nymtw.topology.address import Address

MAKING: Final = 60.0  # seconds until a process must have made its implementation
PING: Final = 10.0  # seconds
SILENT: Final = 30.0  # seconds without an answer to a ping after which it is killed
STOPPING: Final = 5.0
FIRST_PAUSE: Final = 1.0  # seconds before it is started again: doubled each time that it did not last
LONGEST_PAUSE: Final = 60.0
LASTED: Final = 60.0
_LEVELS: Final = ("debug", "info", "warn", "error", "critical")
# What a process needs of the environment. The rest may hold secrets, such as PGPASSWORD.
_ENVIRONMENT: Final = (
    "PATH",
    "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)


class ProcessLost(NymtwError):
    """The process of an isolated implementation has ended before it answered."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running child, and the socket to it."""

    connection: socket.socket
    popen: Any

    def kill(self) -> None:
        """End it at once."""
        if self.popen.poll() is None:
            self.popen.kill()


def spawn(made: Mapping[str, Any]) -> Process:
    """Start a process, and tell it what to make. Raises `PluginError`."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "nymtw.provider.isolation.child", str(theirs.fileno())]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        popen = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        write(ours, "make", dict(made))
    except OSError as error:
        raise PluginError(f"no process can be started for {made['name']!r}: {error.strerror}") from None
    finally:
        theirs.close()
    return Process(ours, popen)


def isolated(
    factory: Any, context: IProviderContext, options: Mapping[str, Any], own: type[Any], forbidden: Path
) -> "IsolatedService | None":
    """The implementation of `factory` in a process of its own; None if it is no service, and needs the node's process.

    `own` is its options class, `forbidden` the folder that it cannot reach. Raises `PluginError`, `ConfigError`.
    """
    names = {name.rstrip("=").replace("_", "-") for name in own().longOpt} | set(own())
    made = {
        "name": factory.name,
        "options": {name: options[name] for name in sorted(names) if name in options},
        "identity": context.identity,
        "data": str(context.data),
        "forbidden": str(forbidden),
    }
    process = spawn(made)
    try:
        process.connection.settimeout(MAKING)
        kind, *rest = read(process.connection)
        if kind == "refused":
            raise ConfigError(str(rest[0]))
        if kind == "provider":
            process.connection.close()
            process.popen.wait()
            return None
        limits, safe = ServiceLimits(**rest[0]), bool(rest[1])
    except (OSError, EncodingError, TypeError, ValueError, IndexError) as error:
        process.kill()
        process.connection.close()
        raise PluginError(f"the process of {factory.name!r} cannot make it: {error}") from None
    except BaseException:
        process.kill()
        process.connection.close()
        raise
    hide_memory()
    if not safe:
        context.log.warn("This system has no Landlock: the process of {name} could read files", name=factory.name)
    return IsolatedService(context, limits, process, lambda: spawn(made))


class IsolatedService(Service):
    """An `IService` over a process. `again()` starts another process, which makes the same."""

    def __init__(
        self,
        context: Any,
        limits: ServiceLimits,
        process: Process,
        again: Callable[[], Process],
        attach: Callable[[Any, Process, Wire], None] | None = None,
    ) -> None:
        """`attach(reactor, process, wire)` connects the two in the reactor."""
        self.limits = limits  # type: ignore[misc]
        self._context, self._process, self._again = context, process, again
        self._attach = attach or _attach
        self._wire: Wire | None = None
        self._ready = False
        self._requests: dict[int, Deferred[bytes | None]] = {}
        self._held: dict[int, Request] = {}
        self._numbers = count()
        self._starting: Deferred[None] | None = None
        self._moment: Deferred[None] | None = None  # fires when the process has left or stopped
        self._stopping = False
        self._timers: dict[str, Any] = {}
        self._pause = FIRST_PAUSE
        self._since = self._heard = 0.0
        self._told: Any = None

    def start(self) -> "Deferred[None]":
        """Start the implementation. Fails with its error."""
        self._starting = started = Deferred[None]()
        self._connect()
        self._begin()
        return started

    def handle(self, request: Request) -> "Deferred[bytes | None]":
        """Pass one request on; while there is no process it waits for the next one, as long as it may run."""
        number = next(self._numbers)
        answer: Deferred[bytes | None] = Deferred(lambda _: self._give_up(number))
        self._requests[number] = answer
        if self._ready and self._wire is not None:
            self._wire.say("handle", number, request.message, request.sender)
        else:
            self._held[number] = request  # no more than may run at once
        return answer

    def leave(self) -> "Deferred[None]":
        """Let the implementation send shutdown messages."""
        return self._last_word("leave")

    async def stop(self) -> None:
        """Stop the implementation, and its process, which has five seconds for it."""
        self._stopping = True
        self._cancel("again")
        self._cancel("ping")
        if self._ready:
            self._timers["kill"] = self._context.clock.callLater(STOPPING, self._process.kill)
            await self._last_word("stop")
            self._cancel("kill")
        self._ready = False
        self._process.kill()
        if self._wire is not None and self._wire.connected:
            self._wire.transport.abortConnection()

    def _last_word(self, what: str) -> "Deferred[None]":
        self._moment = moment = Deferred[None]()
        if self._ready and self._wire is not None:
            self._wire.say(what)
        else:
            self._spoken()
        return moment

    def _spoken(self) -> None:
        moment, self._moment = self._moment, None
        if moment is not None:
            moment.callback(None)

    def _connect(self) -> None:
        self._wire = Wire(self._took, self._lost)
        self._heard = self._context.clock.seconds()
        self._timers["ping"] = self._context.clock.callLater(PING, self._ping)
        self._attach(self._context.reactor, self._process, self._wire)

    def _begin(self) -> None:
        assert self._wire is not None
        self._since = self._heard = self._context.clock.seconds()
        self._told = None
        self._tell_topology()
        self._wire.say("start")

    def _took(self, parts: list[Any]) -> None:
        self._heard = self._context.clock.seconds()
        match parts:
            case ["answer", int(number), answer] if answer is None or isinstance(answer, bytes):
                self._answered(number, answer)
            case ["error", int(number)]:
                self._answered(number, RuntimeError())
            case ["reply", int(number), bytes(message), bytes(sender)]:
                self._send(number, lambda: self._context.reply(sender, message))
            case ["send", int(number), bytes(message), bytes(mailbox), bytes(key), bytes(provider)]:
                self._send(number, lambda: self._context.send(message, Address(mailbox, key, provider)))
            case ["count", str(name), int(number)]:
                self._context.metrics.count(name[:100], number)
            case ["log", str(level), str(text)] if level in _LEVELS:
                getattr(self._context.log, level)("{text}", text=text)
            case ["made", dict(), bool()]:  # by a process that was started again
                self._begin()
            case ["started"]:
                self._started()
            case ["failed", str(text)] | ["refused", str(text)]:
                self._failed(text)
            case ["left"] | ["stopped"]:
                self._spoken()
            case ["pong"]:
                pass
            case _:
                raise EncodingError(f"an unknown message {parts[0]!r:.40}")

    def _answered(self, number: int, answer: bytes | RuntimeError | None) -> None:
        waiting = self._requests.pop(number, None)
        if waiting is None:
            return  # it was given up
        if isinstance(answer, RuntimeError):
            waiting.errback(answer)
        else:
            waiting.callback(answer)

    def _send(self, number: int, send: Callable[[], "Deferred[bool]"]) -> None:
        wire = self._wire
        assert wire is not None
        try:
            sent = send()
        except NymtwError:
            wire.say("done", number, False)
            return
        sent.addCallback(lambda arrived: wire.say("done", number, bool(arrived)))

    def _started(self) -> None:
        self._ready = True
        starting, self._starting = self._starting, None
        held, self._held = self._held, {}
        if self._wire is not None:
            for number, request in held.items():
                self._wire.say("handle", number, request.message, request.sender)
        if starting is not None:
            starting.callback(None)

    def _failed(self, text: str) -> None:
        starting, self._starting = self._starting, None
        self._stopping = self._stopping or starting is not None  # a node that cannot start ends
        self._process.kill()
        if starting is not None:
            starting.errback(PluginError(text))
        else:
            self._context.log.error("The isolated implementation does not start again: {text}", text=text)

    def _ping(self) -> None:
        self._timers["ping"] = self._context.clock.callLater(PING, self._ping)
        if self._context.clock.seconds() - self._heard > SILENT:
            self._context.log.error("The process of an isolated implementation does not answer: it is killed")
            self._process.kill()
        elif self._wire is not None:
            self._tell_topology()
            self._wire.say("ping")

    def _tell_topology(self) -> None:
        topology = self._context.topology()
        if self._wire is not None and topology is not None and topology is not self._told:
            self._told = topology
            self._wire.say("topology", to_cbor(topology))

    def _give_up(self, number: int) -> None:
        waiting = self._requests.pop(number, None)
        if self._held.pop(number, None) is None and waiting is not None and self._wire is not None:
            self._wire.say("cancel", number)

    def _lost(self) -> None:
        """The process has ended: all that it had is lost, and another one takes its place."""
        self._ready = False
        self._cancel("ping")
        self._process.kill()
        lost = [number for number in self._requests if number not in self._held]
        for waiting in [self._requests.pop(number) for number in lost]:
            waiting.errback(ProcessLost())
        self._spoken()
        if self._starting is not None:
            self._failed("its process has ended")
        if self._stopping:
            return
        now = self._context.clock.seconds()
        self._pause = FIRST_PAUSE if now - self._since >= LASTED else min(LONGEST_PAUSE, 2 * self._pause)
        self._context.metrics.count("processes-lost")
        self._context.log.error("The process of an isolated implementation has ended; another one is started")
        self._timers["again"] = self._context.clock.callLater(self._pause, self._restart)

    def _restart(self) -> None:
        try:
            self._process = self._again()
        except PluginError as error:
            self._context.log.error("{error}", error=error)
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
            self._timers["again"] = self._context.clock.callLater(self._pause, self._restart)
            return
        self._since = self._context.clock.seconds()
        self._connect()

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None and timer.active():
            timer.cancel()


def _attach(reactor: Any, process: Process, wire: Wire) -> None:
    adopt(reactor, process.connection, wire)
