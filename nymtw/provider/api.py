"""The API for authors of services: `Service` to derive from, `Request`, `ServiceLimits`.

`docs/writing-a-provider.md` explains it; `nymtw.provider.echo` is the smallest example.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nymtw.errors import NymtwError
from nymtw.interfaces import IService


class RequestOver(NymtwError):
    """The request is over: it was answered for good, or its time ran out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """The limits that the framework sets for a service.

    * `concurrent`: requests handled at once. `waiting`: requests that wait. `seconds`: time for each request.
    * `reply_bytes`: bytes under way to one sender, `total_bytes`: to all. More raises `QueueFull`.
    * `memory`: bytes of incomplete messages, and as many bytes again of waiting requests.
    * `timers`: timers running at once.
    """

    concurrent: int = 100
    waiting: int = 1000
    seconds: float = 120.0
    reply_bytes: int = 4 * 2**20
    total_bytes: int = 64 * 2**20
    memory: int = 32 * 2**20
    timers: int = 10_000


class Request:
    """One whole message to a service.

    `message`: its bytes. `sender`: the tag (16 bytes) for answers, the same for all messages of this sender to this
    service; None if the sender wants no answer.
    """

    __slots__ = ("_reply", "message", "over", "sender")

    def __init__(self, message: bytes, sender: bytes | None, reply: Callable[[bytes, bytes], "Deferred[bool]"]) -> None:
        self.message = message
        self.sender = sender
        self.over = False
        self._reply = reply

    def reply(self, message: bytes) -> "Deferred[bool]":
        """Send an answer. More answers may follow until `handle` has finished; they may arrive in another order.

        A Deferred that never fails: True once the whole answer has arrived, False if it was given up. Raises
        `RequestOver`, and `QueueFull`, `MessageTooLong` or `NymtwError` as `IProviderContext.reply` does.
        """
        if self.over:
            raise RequestOver
        if self.sender is None:
            raise NymtwError("the sender of this request wants no answer")
        return self._reply(self.sender, message)


@implementer(IService)
class Service:
    """Base class for an `IService`. A subclass must define `handle`; the other methods do nothing."""

    limits: ClassVar[ServiceLimits] = ServiceLimits()

    def start(self) -> Any:
        """Prepare the service."""

    def handle(self, request: Request) -> Any:
        """Handle one request."""
        raise NotImplementedError

    def leave(self) -> Any:
        """Send shutdown messages."""

    def stop(self) -> Any:
        """Release resources."""
