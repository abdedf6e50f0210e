"""Runs several implementations under one provider identity: each packet goes to the one with its address."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from zope.interface import directlyProvides, implementer

from nymtw.errors import PluginError, UnknownDestination
from nymtw.interfaces import IMailboxHost, IProvider
from nymtw.provider.delivery import Delivery
from nymtw.provider.services.service_host import ServiceHost


@implementer(IProvider)
class Multiplexer:
    """An `IProvider` around several `ServiceHost`s.

    Packets to none of their addresses go to the first implementation that handles packets itself. The multiplexer is an
    `IMailboxHost` if one implementation is. Raises `PluginError` for two implementations with mailboxes, because their
    clients would use the same port.
    """

    _log = Logger()

    def __init__(self, service_hosts: Sequence[ServiceHost]) -> None:
        self.service_hosts = tuple(service_hosts)
        self._by_mailbox = {hosted.address.mailbox: hosted for hosted in service_hosts}
        self._rest = next((hosted for hosted in service_hosts if not hosted.is_service), None)
        hosts = [hosted for hosted in service_hosts if IMailboxHost.providedBy(hosted.provider)]
        if len(hosts) > 1:
            raise PluginError(f"{' and '.join(host.name for host in hosts)} both have mailboxes: choose one")
        self._host = hosts[0] if hosts else None
        if self._host is not None:
            self._rest = self._host
            directlyProvides(self, IMailboxHost)

    @property
    def mailboxes(self) -> Any:
        """The `IMailboxStore` of the implementation with mailboxes, None without one."""
        return None if self._host is None else self._host.provider.mailboxes

    def start(self) -> "Deferred[None]":
        """Start all implementations one after another: the one with mailboxes first, because they must be there at
        once, then the others in order. Fails with the first error.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        started: list[ServiceHost] = []
        for hosted in sorted(self.service_hosts, key=lambda hosted: hosted is not self._host):
            try:
                started.append(hosted)
                await hosted.start()
            except Exception:
                await self._stop(started)
                raise

    def deliver(self, delivery: Delivery) -> Any:
        """Deliver to the implementation at the destination. Raises its errors, or `UnknownDestination`."""
        hosted = self._by_mailbox.get(delivery.destination, self._rest)
        if hosted is None:
            raise UnknownDestination
        return hosted.deliver(delivery)

    def leave(self) -> "Deferred[Any]":
        """Let all implementations send shutdown messages, at the same time. Never fails."""
        return DeferredList([Deferred.fromCoroutine(self._leave(hosted)) for hosted in self.service_hosts])

    async def _leave(self, hosted: ServiceHost) -> None:
        try:
            await hosted.leave()
        except Exception:
            self._log.failure("The shutdown messages of {name} failed", name=hosted.name)

    def stop(self) -> "Deferred[None]":
        """Stop all implementations, the last one first. An error in one does not keep the others running."""
        return Deferred.fromCoroutine(self._stop(self.service_hosts))

    async def _stop(self, service_hosts: Sequence[ServiceHost]) -> None:
        for hosted in reversed(service_hosts):
            try:
                await hosted.stop()
            except Exception:
                self._log.failure("{name} did not stop cleanly", name=hosted.name)
