"""Several implementations under one provider identity: each packet goes to the one whose address it names."""

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
    """An `IProvider` of mounts. What is for none of their addresses goes to the first that takes packets itself.

    It is an `IMailboxHost` if one of them is. Raises `PluginError` for two with mailboxes, whose clients would come
    through the same port.
    """

    _log = Logger()

    def __init__(self, service_hosts: Sequence[ServiceHost]) -> None:
        self.service_hosts = tuple(service_hosts)
        self._by_mailbox = {service_host.address.mailbox: service_host for service_host in service_hosts}
        self._rest = next((service_host for service_host in service_hosts if not service_host.is_service), None)
        hosts = [service_host for service_host in service_hosts if IMailboxHost.providedBy(service_host.provider)]
        if len(hosts) > 1:
            raise PluginError(f"{' and '.join(host.name for host in hosts)} both have mailboxes: choose one")
        self._host = hosts[0] if hosts else None
        if self._host is not None:
            self._rest = self._host
            directlyProvides(self, IMailboxHost)

    @property
    def mailboxes(self) -> Any:
        """The `IMailboxStore` of the one that has mailboxes."""
        return None if self._host is None else self._host.provider.mailboxes

    def start(self) -> "Deferred[None]":
        """Start all of them, each after the one before: first the one with mailboxes, which are there at once, then in
        order. Fails as the first that fails.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        started: list[ServiceHost] = []
        for service_host in sorted(self.service_hosts, key=lambda service_host: service_host is not self._host):
            try:
                started.append(service_host)
                await service_host.start()
            except Exception:
                await self._stop(started)
                raise

    def deliver(self, delivery: Delivery) -> Any:
        """To whom it is for. Raises `UnknownDestination`, or what the implementation raises."""
        service_host = self._by_mailbox.get(delivery.destination, self._rest)
        if service_host is None:
            raise UnknownDestination
        return service_host.deliver(delivery)

    def leave(self) -> "Deferred[Any]":
        """Let all of them say their last words, at once; never fails."""
        return DeferredList([Deferred.fromCoroutine(self._leave(service_host)) for service_host in self.service_hosts])

    async def _leave(self, service_host: ServiceHost) -> None:
        try:
            await service_host.leave()
        except Exception:
            self._log.failure("{name} did not leave cleanly", name=service_host.name)

    def stop(self) -> "Deferred[None]":
        """Stop all of them, the last first; an error of one keeps no other running."""
        return Deferred.fromCoroutine(self._stop(self.service_hosts))

    async def _stop(self, service_hosts: Sequence[ServiceHost]) -> None:
        for service_host in reversed(service_hosts):
            try:
                await service_host.stop()
            except Exception:
                self._log.failure("{name} did not stop cleanly", name=service_host.name)
