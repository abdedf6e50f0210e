"""The service. The plugin uses `Options` and `make_provider`; `Hello` handles the requests."""

from collections.abc import Mapping
from typing import Any

from twisted.python import usage

from nymtw.interfaces import IProviderContext
from nymtw.provider.api import Request, Service, ServiceLimits


class Options(usage.Options):
    """This provider's options on the command line of `nym-provider`."""

    optParameters = [["greeting", None, "Hello", "The first word of every answer"]]


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "Hello":
    """Called once, when the node is made. Nothing runs yet."""
    return Hello(context, options["greeting"])


class Hello(Service):
    """Greets the sender of each message, and counts the greetings."""

    limits = ServiceLimits(concurrent=100, seconds=30)

    def __init__(self, context: IProviderContext, greeting: str) -> None:
        self._context = context
        self._greeting = greeting

    async def handle(self, request: Request) -> bytes:
        """Called for each whole message. The returned bytes go back to the sender."""
        self._context.metrics.count("greeted")
        return f"{self._greeting}, ".encode() + request.message
