"""Names to addresses by the asyncio loop, for a reactor that runs on one.

Twisted's own resolver has threads that only the end of the reactor ends; a loop's own are gone when `asyncio.run` is.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

_FAMILIES = {IPv4Address: socket.AF_INET, IPv6Address: socket.AF_INET6}


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


@implementer(IHostnameResolver)
class AsyncioResolver:
    """Asks the system, through `loop.getaddrinfo`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Tell the receiver every address of the name, none where it has none."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        wanted = {_FAMILIES[kind] for kind in addressTypes or _FAMILIES if kind in _FAMILIES}
        resolution.task = self._loop.create_task(self._resolve(resolutionReceiver, hostName, portNumber, wanted))
        return resolution

    async def _resolve(self, receiver: Any, name: str, port: int, wanted: set[Any]) -> None:
        try:
            found = await self._loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        for family, _, _, _, where in found:
            if family in wanted:
                kind = IPv4Address if family == socket.AF_INET else IPv6Address
                receiver.addressResolved(kind("TCP", *where))
        receiver.resolutionComplete()
