"""The service. The plugin uses `Options` and `make_provider`; `Hello` handles the requests."""

from collections.abc import Mapping
from typing import Any

from twisted.python import usage

from nymtw.interfaces import IProviderContext
from nymtw.provider.api import Request, Service, ServiceLimits


class Options(usage.Options):
    """This provider's options on the command line of `nym-provider`."""

    # One row for each option: name, letter, default, help. `options["limit"]` is then the value.
    # ["limit", None, 100, "The longest answer, in bytes", int],
    optParameters: list[list[Any]] = []


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "Hello":
    """Called once, when the node is made. Nothing runs yet."""
    return Hello(context)


class Hello(Service):
    """The provider hello."""

    limits = ServiceLimits(concurrent=100, seconds=30)

    def __init__(self, context: IProviderContext) -> None:
        self._context = context

    async def handle(self, request: Request) -> bytes:
        """Called for each whole message. The returned bytes go back to the sender."""
        self._context.metrics.count("handled")
        return request.message  # your own work goes here
