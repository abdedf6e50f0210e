"""The echo service: sends each message back. The smallest service, and a first example to read."""

from collections.abc import Mapping
from typing import Any

from twisted.python import usage

from nymtw.interfaces import IProviderContext
from nymtw.provider.api import Request, Service


class Options(usage.Options):
    """The command line of `--impl=echo`: no options of its own."""


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "Echo":
    """Make the service, for the plugin."""
    return Echo()


class Echo(Service):
    """Answers each message with the same bytes."""

    def handle(self, request: Request) -> bytes:
        """Called for each whole message. The returned bytes go back to the sender."""
        return request.message
