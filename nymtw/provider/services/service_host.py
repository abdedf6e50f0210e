"""Hosts one implementation at a node: gives it its name, address, context and limits."""

import sys
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

from nacl.bindings import crypto_scalarmult_base

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from nymtw.errors import NymtwError, PluginError
from nymtw.interfaces import IProvider, IService
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.node.home import NodeHome, private_folder
from nymtw.node.keys import KeyKind, load_private, save_private
from nymtw.provider.api import ServiceLimits
from nymtw.provider.delivery import Delivery, MailKind
from nymtw.provider.services.adapter import ServiceProvider
from nymtw.provider.services.bounded_clock import BoundedClock
from nymtw.provider.services.context import ProviderContext
from nymtw.provider.services.dispatch import Dispatch
from nymtw.provider.services.installed_plugins import cause_of, load_options
from nymtw.provider.services.metrics import Faults, Metrics
from nymtw.topology.address import Address, mailbox_id
from nymtw.topology.document import Topology

LEAVE_SECONDS: Final = 5.0  # for the shutdown messages of a service
LOG_INTERVAL: Final = 600.0  # seconds between two log lines with the counts


class Node:
    """The part of the node that a service host uses. `topology` and `submit` are set once the node exists."""

    def __init__(
        self,
        reactor: Any,
        random: Random,
        wall_clock: Callable[[], float],
        identity: bytes,
        cryptography: Cryptography = SPHINX,
    ) -> None:
        self.reactor, self.random, self.wall_clock, self.identity = reactor, random, wall_clock, identity
        self.cryptography = cryptography
        self.topology: Callable[[], Topology | None] = lambda: None
        self.submit: Callable[[bytes, int, bytes], None] = lambda first_hop, epoch, packet: None


class ServiceHost:
    """The implementation that `factory` makes, at its own address. The address's key is in the home's `config`.

    Raises `PluginError` for an implementation that cannot be made, `KeyFileError`, and the errors of the factory.
    """

    def __init__(
        self,
        node: Node,
        home: NodeHome,
        factory: Any,
        options: Mapping[str, Any],
        rate: float | None,
        isolate: bool = False,
    ) -> None:
        """`rate`: packets a second, at most what the topology recommends; None: that. `isolate`: whether a service gets
        a process of its own."""
        self.name: str = factory.name
        self.log = Logger(namespace=f"nymtw.provider.{factory.name}")
        self.metrics = Metrics()
        self.faults = Faults(factory.name, self.log)
        private = _key(home, factory.name, node.random)
        public = crypto_scalarmult_base(private)
        self.address = Address(mailbox_id(public), public, node.identity)
        self._node = node
        self._clock = BoundedClock(node.reactor, ServiceLimits().timers, self._timer_failed)
        self.dispatch = Dispatch(
            node.reactor,
            node.random,
            self.address,
            topology=lambda: node.topology(),
            submit=lambda first_hop, epoch, packet: node.submit(first_hop, epoch, packet),
            rate=rate,
            cryptography=node.cryptography,
        )
        context = ProviderContext(
            identity=node.identity,
            clock=self._clock,
            wall_clock=node.wall_clock,
            random=node.random,
            data=private_folder(home.data / factory.name),
            log=self.log,
            metrics=self.metrics,
            reactor=node.reactor,
            dispatch=self.dispatch,
            newest_topology=lambda: node.topology(),
        )
        made: Any = None
        if isolate:
            from nymtw.provider.isolation.parent import isolated

            made = isolated(factory, context, options, load_options(factory), home.path.parent.parent)
        if made is None:
            made = make_provider(factory, context, options)
        self.files = _files(made)
        self.is_service = not IProvider.providedBy(made)
        if self.is_service:
            self.dispatch.limits = made.limits
            self._clock.limit = made.limits.timers
            made = ServiceProvider(
                made, node.reactor, private, self.dispatch, self.metrics, self.faults, node.cryptography
            )
        self.provider: Any = made
        self._reporting: Any = None
        self._started = False
        self._told: dict[str, int] = {}

    async def start(self) -> None:
        """Start the implementation."""
        await maybeDeferred(self.provider.start)
        self._started = True
        self._reporting = self._node.reactor.callLater(LOG_INTERVAL, self._tell)

    def deliver(self, delivery: Delivery) -> Any:
        """Deliver a packet to this implementation. An ack for its own sending is handled here."""
        if delivery.kind is MailKind.ACK and self.dispatch.acknowledged(delivery.content):
            return None
        return self.provider.deliver(delivery)

    async def leave(self) -> None:
        """Let a started service send shutdown messages, while packets still leave; cover ends."""
        self.dispatch.leave()
        if self._started and self.is_service:
            await self.provider.leave().addTimeout(LEAVE_SECONDS, self._node.reactor)

    async def stop(self) -> None:
        """Stop the implementation if it has started, then its timers and its sending."""
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        try:
            if self._started:
                await maybeDeferred(self.provider.stop)
        finally:
            self.dispatch.stop()
            left = self._clock.release()
            if left:
                self.metrics.count("timers-left", left)
            self._log_counts()

    def _tell(self) -> None:
        self._reporting = self._node.reactor.callLater(LOG_INTERVAL, self._tell)
        self._log_counts()

    def _log_counts(self) -> None:
        now = self.metrics.snapshot()
        if now != self._told:
            self._told = now
            self.log.info("{name} since the start: {counts}", name=self.name, counts=str(self.metrics))

    def _timer_failed(self) -> None:
        error = sys.exc_info()[1]
        self.metrics.count("failed-timers")
        self.faults.report_error(error or RuntimeError())


def make_provider(factory: Any, context: ProviderContext, options: Mapping[str, Any]) -> Any:
    """Make and check an implementation. Raises `PluginError`, or the `NymtwError` (`ConfigError`) of the factory."""
    try:
        provider = factory.make_provider(context, options)
    except NymtwError:
        raise
    except Exception as error:
        raise PluginError(f"the provider {factory.name!r} cannot be made: {cause_of(error)}") from error
    if IProvider.providedBy(provider):
        return provider
    if not IService.providedBy(provider):
        raise PluginError(
            f"the provider {factory.name!r} is broken: make_provider returns neither an IProvider nor an IService"
        )
    if not isinstance(provider.limits, ServiceLimits):
        raise PluginError(f"the provider {factory.name!r} is broken: its limits are not a ServiceLimits")
    return provider


def _files(made: Any) -> frozenset[str]:
    """The files with the code of an implementation and its base classes, without nymtw's own base classes."""
    modules = {kind.__module__ for kind in type(made).__mro__} - {"builtins", "nymtw.provider.api"}
    files = (getattr(sys.modules.get(module), "__file__", None) for module in modules)
    return frozenset(file for file in files if file)


def _key(home: NodeHome, name: str, random: Random) -> bytes:
    """The private key (32 bytes) of a service, created at the first start. Raises `KeyFileError`."""
    path = home.config / f"{name}_service_key.pem"
    if not path.exists():
        save_private(path, KeyKind.SPHINX, random.randbytes(32))
    return load_private(path, KeyKind.SPHINX)
