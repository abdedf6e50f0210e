"""Several implementations under one provider identity: each packet goes to the one whose address it names."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from zope.interface import directlyProvides, implementer

from nymtw.errors import PluginError, UnknownDestination
from nymtw.interfaces import IMailboxHost, IProvider
from nymtw.provider.delivery import Delivery
from nymtw.provider.mount import Mount


@implementer(IProvider)
class Hub:
    """An `IProvider` of mounts. What is for none of their addresses goes to the first that takes packets itself.

    It is an `IMailboxHost` if one of them is. Raises `PluginError` for two with mailboxes, whose clients would come
    through the same port.
    """

    _log = Logger()

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self.mounts = tuple(mounts)
        self._by_mailbox = {mount.address.mailbox: mount for mount in mounts}
        self._rest = next((mount for mount in mounts if not mount.is_service), None)
        hosts = [mount for mount in mounts if IMailboxHost.providedBy(mount.provider)]
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
        started: list[Mount] = []
        for mount in sorted(self.mounts, key=lambda mount: mount is not self._host):
            try:
                started.append(mount)
                await mount.start()
            except Exception:
                await self._stop(started)
                raise

    def deliver(self, delivery: Delivery) -> Any:
        """To whom it is for. Raises `UnknownDestination`, or what the implementation raises."""
        mount = self._by_mailbox.get(delivery.destination, self._rest)
        if mount is None:
            raise UnknownDestination
        return mount.deliver(delivery)

    def leave(self) -> "Deferred[Any]":
        """Let all of them say their last words, at once; never fails."""
        return DeferredList([Deferred.fromCoroutine(self._leave(mount)) for mount in self.mounts])

    async def _leave(self, mount: Mount) -> None:
        try:
            await mount.leave()
        except Exception:
            self._log.failure("{name} did not leave cleanly", name=mount.name)

    def stop(self) -> "Deferred[None]":
        """Stop all of them, the last first; an error of one keeps no other running."""
        return Deferred.fromCoroutine(self._stop(self.mounts))

    async def _stop(self, mounts: Sequence[Mount]) -> None:
        for mount in reversed(mounts):
            try:
                await mount.stop()
            except Exception:
                self._log.failure("{name} did not stop cleanly", name=mount.name)
