"""The echo service: sends back what it is sent. The smallest service there is, for people to read first."""

from collections.abc import Mapping
from typing import Any

from twisted.python import usage

from nymtw.interfaces import IProviderContext
from nymtw.provider.api import Request, Service


class Options(usage.Options):
    """The command line of `--impl=echo`: nothing of its own."""


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "Echo":
    """What the plugin calls."""
    return Echo()


class Echo(Service):
    """Answers each message with the same bytes."""

    def handle(self, request: Request) -> bytes:
        """Called for each whole message; what is returned goes back to whoever sent it."""
        return request.message
