"""The service: `Options` and `make_provider` are what the plugin looks for, `Hello` is what it does."""

from collections.abc import Mapping
from typing import Any

from twisted.python import usage

from nymtw.interfaces import IProviderContext
from nymtw.provider.api import Request, Service, ServiceLimits


class Options(usage.Options):
    """What this provider adds to the command line of `nym-provider`."""

    optParameters = [["greeting", None, "Hello", "The first word of every answer"]]


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "Hello":
    """Called once, when the node is made. Nothing runs yet."""
    return Hello(context, options["greeting"])


class Hello(Service):
    """Greets whoever sends it a message, and counts how often."""

    limits = ServiceLimits(concurrent=100, seconds=30)

    def __init__(self, context: IProviderContext, greeting: str) -> None:
        self._context = context
        self._greeting = greeting

    async def handle(self, request: Request) -> bytes:
        """Called for each whole message; what is returned goes back to whoever sent it."""
        self._context.metrics.count("greeted")
        return f"{self._greeting}, ".encode() + request.message
