"""The context of an implementation: the part of the node that it may use."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from nymtw.interfaces import IProviderContext
from nymtw.provider.services.bounded_clock import BoundedClock
from nymtw.provider.services.dispatch import Dispatch
from nymtw.provider.services.metrics import Metrics
from nymtw.topology.address import Address
from nymtw.topology.document import Topology


@implementer(IProviderContext)
@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderContext:
    """An `IProviderContext`; its methods go to the implementation's own `Dispatch`."""

    identity: bytes
    clock: BoundedClock
    wall_clock: Callable[[], float]
    random: Random
    data: Path
    log: Logger
    metrics: Metrics
    reactor: Any
    dispatch: Dispatch
    newest_topology: Callable[[], Topology | None]

    def reply(self, sender: bytes, message: bytes) -> "Deferred[bool]":
        """Send to the sender with this tag (16 bytes)."""
        return self.dispatch.reply(sender, message)

    def send(self, message: bytes, recipient: Address) -> "Deferred[bool]":
        """Send to an address."""
        return self.dispatch.send(message, recipient)

    def topology(self) -> Topology | None:
        """The newest topology."""
        return self.newest_topology()
