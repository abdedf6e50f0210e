"""What the author of a service needs: `Service` to derive from, `Request`, `ServiceLimits`.

`docs/writing-a-provider.md` shows how; `nymtw.provider.echo` is the smallest one.
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
    """What the framework holds a service to.

    `concurrent` requests are handled at once, `waiting` more wait; each is given `seconds`. `reply_bytes` may be under
    way to one sender, `total_bytes` to all; an answer that goes beyond raises `QueueFull`. `memory` is bytes of
    messages that are not yet whole, and as much again of those that wait; `timers` are those it may have running.
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

    `message` is what was sent, `sender` the tag (16 bytes) by which its sender is answered, the same one for all that
    this sender sends to this service, or None if no answer is wanted.
    """

    __slots__ = ("_reply", "message", "over", "sender")

    def __init__(self, message: bytes, sender: bytes | None, reply: Callable[[bytes, bytes], "Deferred[bool]"]) -> None:
        self.message = message
        self.sender = sender
        self.over = False
        self._reply = reply

    def reply(self, message: bytes) -> "Deferred[bool]":
        """Answer; may be called again until `handle` has finished. Parts of an answer may arrive in another order.

        A Deferred that never fails: True once all of it has come, False where it was given up. Raises `RequestOver`,
        and `QueueFull`, `MessageTooLong` or `NymtwError` as `IProviderContext.reply` does.
        """
        if self.over:
            raise RequestOver
        if self.sender is None:
            raise NymtwError("the sender of this request wants no answer")
        return self._reply(self.sender, message)


@implementer(IService)
class Service:
    """An `IService` without a `handle`: derive from it, and override what is needed."""

    limits: ClassVar[ServiceLimits] = ServiceLimits()

    def start(self) -> Any:
        """Nothing to prepare."""

    def handle(self, request: Request) -> Any:
        """What a service is for."""
        raise NotImplementedError

    def leave(self) -> Any:
        """Nothing to say."""

    def stop(self) -> Any:
        """Nothing to end."""
