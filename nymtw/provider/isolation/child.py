"""The process of an isolated implementation: makes it, forbids it the node's files, and passes requests to it.

Started by `nymtw.provider.isolation.parent`: `python -m nymtw.provider.isolation.child DESCRIPTOR`.
"""

import inspect
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger, formatEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.encoding import from_cbor
from nymtw.errors import EncodingError, MessageTooLong, NymtwError, QueueFull
from nymtw.interfaces import IProviderContext, IService
from nymtw.message.fragments import MAX_MESSAGE_LENGTH
from nymtw.provider.api import Request, ServiceLimits
from nymtw.provider.isolation.sandbox import forbid
from nymtw.provider.isolation.wire import Wire, adopt, read, write
from nymtw.provider.services.bounded_clock import BoundedClock
from nymtw.provider.services.installed_plugins import cause_of, find_implementations
from nymtw.provider.services.metrics import Faults
from nymtw.topology.address import Address
from nymtw.topology.document import MAX_TOPOLOGY_LENGTH, Topology

_OVERHEAD: Final = 1024  # bytes that a message costs besides its own, as in the node
_LOG_LIMIT: Final = 2000  # characters of a log line
Say = Callable[..., None]


class Outgoing:
    """The replies and messages that are under way, with the limits that the node has for them."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.limits = ServiceLimits()
        self._numbers = count()
        self._waiting: dict[int, tuple[Deferred[bool], bytes, int]] = {}
        self._sizes: Counter[bytes] = Counter()
        self._size = 0

    def send(self, kind: str, key: bytes, message: bytes, *more: bytes) -> "Deferred[bool]":
        """Raises `QueueFull` and `MessageTooLong` as the node does."""
        if len(message) > MAX_MESSAGE_LENGTH:
            raise MessageTooLong
        held, cost = self._sizes[key], len(message) + _OVERHEAD
        if held and held + cost > self.limits.reply_bytes:
            raise QueueFull(f"{held} bytes are under way to this correspondent already")
        if self._size and self._size + cost > self.limits.total_bytes:
            raise QueueFull(f"{self._size} bytes are under way already")
        number, done = next(self._numbers), Deferred[bool]()
        self._waiting[number] = (done, key, cost)
        self._sizes[key] += cost
        self._size += cost
        self._say(kind, number, message, key, *more)
        return done

    def done(self, number: int, arrived: bool) -> None:
        """The node says what became of one."""
        waiting, key, cost = self._waiting.pop(number)
        self._size -= cost
        self._sizes[key] -= cost
        if not self._sizes[key]:
            del self._sizes[key]
        waiting.callback(arrived)


class Counts:
    """Passes counts to the node."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def count(self, name: str, number: int = 1) -> None:
        """Add `number` to the counter `name`."""
        self._say("count", name, number)


@implementer(IProviderContext)
@dataclass(kw_only=True)
class ChildContext:
    """An `IProviderContext` whose node is at the other end of a socket.

    `reply` to a sender that cannot be answered fires with False: only the node knows the reply blocks.
    """

    identity: bytes
    clock: Any
    wall_clock: Callable[[], float]
    random: Any
    data: Path
    log: Logger
    metrics: Any
    reactor: Any
    outgoing: Outgoing
    newest: Topology | None = None

    def reply(self, sender: bytes, message: bytes) -> "Deferred[bool]":
        """Send to the sender with this tag (16 bytes)."""
        return self.outgoing.send("reply", sender, message)

    def send(self, message: bytes, recipient: Address) -> "Deferred[bool]":
        """Send to an address."""
        return self.outgoing.send("send", recipient.mailbox, message, recipient.encryption_key, recipient.provider)

    def topology(self) -> Topology | None:
        """The newest topology."""
        return self.newest


class Child:
    """The implementation's end. `took` gets every message of the node; `ended()` is called once it has stopped."""

    def __init__(
        self, service: Any, context: ChildContext, say: Say, faults: Faults, ended: Callable[[], None]
    ) -> None:
        self._service, self._context, self._say, self._faults, self._ended = service, context, say, faults, ended
        self._running: dict[int, tuple[Request, Any]] = {}

    def took(self, parts: list[Any]) -> None:
        """Act on one message. Raises `EncodingError` for one that is none."""
        match parts:
            case ["start"]:
                started = maybeDeferred(self._service.start)
                started.addCallbacks(lambda _: self._say("started"), self._failed_to_start)
            case ["handle", int(number), bytes(message), sender]:
                self._handle(number, message, sender)
            case ["cancel", int(number)]:
                self._cancel(number)
            case ["done", int(number), bool(arrived)]:
                self._context.outgoing.done(number, arrived)
            case ["topology", bytes(document)]:
                self._context.newest = from_cbor(document, Topology, MAX_TOPOLOGY_LENGTH)
            case ["ping"]:
                self._say("pong")
            case ["leave"]:
                maybeDeferred(self._service.leave).addErrback(self._report).addBoth(lambda _: self._say("left"))
            case ["stop"]:
                for number in list(self._running):
                    self._cancel(number)
                maybeDeferred(self._service.stop).addErrback(self._report).addBoth(lambda _: self._stopped())
            case _:
                raise EncodingError(f"an unknown message {parts[0]!r:.40}")

    def _handle(self, number: int, message: bytes, sender: bytes | None) -> None:
        request = Request(message, sender, self._context.reply)
        try:
            answer = self._service.handle(request)
            if inspect.iscoroutine(answer):
                answer = Deferred.fromCoroutine(answer)
        except Exception:
            self._error(Failure(), number, request)
            return
        if not isinstance(answer, Deferred):
            self._answer(answer, number, request)
            return
        self._running[number] = request, answer
        answer.addCallbacks(self._answer, self._error, callbackArgs=(number, request), errbackArgs=(number, request))

    def _answer(self, answer: Any, number: int, request: Request) -> None:
        self._running.pop(number, None)
        request.over = True
        if answer is None or isinstance(answer, bytes):
            self._say("answer", number, answer)
        else:
            self._error(Failure(TypeError("an answer must be bytes or None")), number, request)

    def _error(self, failure: Failure, number: int, request: Request) -> None:
        self._running.pop(number, None)
        request.over = True
        self._report(failure)
        self._say("error", number)

    def _cancel(self, number: int) -> None:
        request, answer = self._running.pop(number, (None, None))
        if request is not None and answer is not None:
            request.over = True
            answer.cancel()

    def _failed_to_start(self, failure: Failure) -> None:
        self._say("failed", str(failure.value) if failure.check(NymtwError) else cause_of(failure.value or Exception()))

    def _report(self, failure: Failure) -> None:
        self._faults.report_error(failure.value or RuntimeError())

    def _stopped(self) -> None:
        self._say("stopped")
        self._ended()


def make(made: Mapping[str, Any], say: Say, reactor: Any) -> tuple[Any, ChildContext, Faults]:
    """What the node has asked for: the implementation, its context and its faults. Raises `NymtwError`."""
    log = Logger(namespace=f"nymtw.provider.{made['name']}")
    faults = Faults(made["name"], log)
    outgoing = Outgoing(say)

    def timer_failed() -> None:
        say("count", "failed-timers", 1)
        faults.report_error(sys.exc_info()[1] or RuntimeError())

    clock = BoundedClock(reactor, ServiceLimits().timers, timer_failed)
    context = ChildContext(
        identity=made["identity"],
        clock=clock,
        wall_clock=time.time,
        random=SystemRandom(),
        data=Path(made["data"]),
        log=log,
        metrics=Counts(say),
        reactor=reactor,
        outgoing=outgoing,
    )
    implementation = find_implementations().choose(made["name"]).make_provider(context, made["options"])
    if IService.providedBy(implementation):
        outgoing.limits = implementation.limits
        clock.limit = implementation.limits.timers
    return implementation, context, faults


def main(descriptor: int) -> int:
    """Run until the node ends or says so; returns the exit status."""
    connection = socket.socket(fileno=descriptor)
    _, made = read(connection)
    safe = forbid(Path(made["forbidden"]), Path(made["data"]))
    os.chdir(made["data"])
    from twisted.internet import reactor as module

    reactor: Any = module
    wires: list[Wire] = []

    def say(*parts: Any) -> None:
        if wires:
            wires[0].say(*parts)
        else:
            write(connection, *parts)

    try:
        implementation, context, faults = make(made, say, reactor)
    except NymtwError as error:
        write(connection, "refused", str(error))
        return 1
    except Exception as error:
        write(connection, "refused", f"the provider {made['name']!r} cannot be made: {cause_of(error)}")
        return 1
    if not IService.providedBy(implementation):
        write(connection, "provider")
        return 0
    write(connection, "made", asdict(implementation.limits), safe)

    def observe(event: Any) -> None:
        text = formatEvent(event)[:_LOG_LIMIT]
        say("log", event["log_level"].name, text)

    observers: list[Any] = [observe]
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)

    def stop() -> None:
        if reactor.running:
            reactor.stop()

    child = Child(implementation, context, say, faults, lambda: wires[0].transport.loseConnection())
    wire = Wire(child.took, stop)

    def begin() -> None:
        adopt(reactor, connection, wire)
        wires.append(wire)

    reactor.callWhenRunning(begin)
    reactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
