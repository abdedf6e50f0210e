"""A provider: where packets end. Around its core, an implementation and, if that has mailboxes, a port for clients."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

from nymtw.errors import NymtwError, PluginError
from nymtw.interfaces import IMailboxHost
from nymtw.link.edge_link import ClientLinkFactory
from nymtw.node.engine.mix_node import AtStop, Environment, MixNode, MixParts
from nymtw.node.home import NodeHome
from nymtw.node.service import Listener
from nymtw.node.tap import stop_with
from nymtw.provider.core import ProviderCore
from nymtw.provider.delivery import Deliveries
from nymtw.provider.metrics import provider_metrics
from nymtw.provider.options import ProviderConfig
from nymtw.provider.public_clients import PublicClients
from nymtw.provider.services.installed_plugins import cause_of
from nymtw.provider.services.multiplexer import Multiplexer
from nymtw.provider.services.service_host import Node, ServiceHost
from nymtw.topology.document import PROVIDER, Recommended, Topology


class ProviderService(MixNode):
    """The parts of every node that mixes, the implementation, and its clients' links if it has any."""

    role: ClassVar[str] = PROVIDER
    core_type: ClassVar[type[ProviderCore]] = ProviderCore

    def __init__(
        self,
        reactor: Any,
        parts: MixParts,
        core: ProviderCore,
        implementation: "Implementation",
        client_port: int,
        **links: Any,
    ) -> None:
        """`links`: what its `ClientLinkFactory` is given besides what every provider gives it."""
        super().__init__(reactor, parts, core, [implementation])
        self.implementation = implementation
        implementation.tell(self._is_called, self._is_ready)
        self.listed = PublicClients(core.own.identity, parts.environment.trust.network)
        self.clients: ClientLinkFactory | None = None
        self.client_listener: Listener | None = None
        self.metrics.add(lambda: provider_metrics(self))
        if IMailboxHost.providedBy(implementation.provider):
            environment = parts.environment
            self.clients = ClientLinkFactory(
                reactor,
                environment.security(parts.identity),
                submit=core.submit,
                slots=Recommended().fetch_slots,
                random=environment.random,
                list_client=self.listed.put,
                dropped=core.refuse,
                **links,
            )
            self.client_listener = Listener(reactor, core.own.host, client_port, self.clients.factory)
            self.add(AtStop(self.clients.stop))
            self.add(self.client_listener)
        self.add(AtStop(implementation.leave))

    @classmethod
    def from_config(
        cls,
        reactor: Any,
        home: NodeHome,
        config: ProviderConfig,
        factories: Sequence[Any],
        options: Mapping[str, Any],
        environment: Environment | None = None,
        **links: Any,
    ) -> Self:
        """The provider whose files are in `home`, with the implementations that `factories` (`IProviderFactory`) make.

        `links`: as for `__init__`. Raises `ConfigError`, `KeyFileError`, `DiskError`, and `PluginError` for an
        implementation that cannot be made.
        """
        parts = MixParts.at(home, config.node, environment or Environment.real(reactor, config.node))
        record = parts.record(cls.role, client_port=config.node.client_port)
        environment = parts.environment
        node = Node(reactor, environment.random, environment.wall_clock, record.identity, environment.cryptography)
        multiplexer = Multiplexer(
            [ServiceHost(node, home, factory, options, config.node.stream_rate) for factory in factories]
        )
        names = " and ".join(factory.name for factory in factories)
        core = cls.core_type(deliveries=Deliveries(reactor, multiplexer), **parts.engine(reactor, record))
        implementation = Implementation(reactor, getattr(options, "program", f"nym-{cls.role}"), names, multiplexer)
        links = {**cls.link_parts(reactor, config.node), **links}
        service = cls(reactor, parts, core, implementation, config.node.client_port, **links)
        node.topology = lambda: service.watch.current
        node.submit = lambda first_hop, epoch, packet: core.submit(first_hop, 0, epoch, packet)
        return service

    @classmethod
    def link_parts(cls, reactor: Any, section: Any) -> dict[str, Any]:
        """What this role gives its `ClientLinkFactory` besides."""
        return {}

    @property
    def service_hosts(self) -> tuple[ServiceHost, ...]:
        """The implementations, each with its address."""
        service_hosts: tuple[ServiceHost, ...] = getattr(self.implementation.provider, "service_hosts", ())
        return service_hosts

    def startService(self) -> None:
        """Start, and say where."""
        super().startService()
        if self.client_listener is not None:
            self.log.info("Clients connect to port {port}", port=self.client_listener.port)
        network = self.parts.environment.trust.network
        for service_host in self.service_hosts:
            if service_host.is_service:
                self.log.info(
                    "{name} is at {address}", name=service_host.name, address=service_host.address.encode(network)
                )

    def use_topology(self, topology: Topology) -> None:
        """A new topology has come; no packet is taken before the implementation is ready."""
        if self.clients is not None and self.rotation.epoch is None:
            self.clients.slots = topology.recommended.fetch_slots  # the first one; a change waits for the next start
        for service_host in self.service_hosts:
            service_host.dispatch.use_epoch(topology.epoch)
        if self.implementation.ready:
            super().use_topology(topology)

    def announced(self) -> Mapping[str, Any]:
        """Where clients connect, how many mailboxes there are, whom to list, and which services are here."""
        network = self.parts.environment.trust.network
        services = {
            service_host.name: service_host.address.encode(network)
            for service_host in self.service_hosts
            if service_host.is_service
        }
        if self.clients is None or self.client_listener is None:
            return {"services": services}
        page = self.listed.next_page()
        return {
            "client_port": self.client_listener.port,
            "number": self.clients.store.count(),
            "registered_clients": page.addresses,
            "clients_page": page.number,
            "clients_pages": page.count,
            "services": services,
        }

    def blocked(self, files: frozenset[str]) -> None:
        """The reactor is blocked by code in `files`: counted against the implementation that one of them is of."""
        for service_host in self.service_hosts:
            if service_host.files & files:
                service_host.metrics.count("blocked")

    def _is_called(self) -> None:
        """The implementation's `start` has been called: now there are mailboxes."""
        if self.clients is not None:
            self.clients.use_store(self.implementation.provider.mailboxes)

    def _is_ready(self) -> None:
        """The implementation has started."""
        if self.watch.current is not None:
            self.use_topology(self.watch.current)


class Implementation(Service):
    """Starts and stops an `IProvider`, either of which may wait."""

    def __init__(self, reactor: Any, program: str, name: str, provider: Any) -> None:
        self._reactor = reactor
        self._program = program
        self._name = name
        self._called: Callable[[], None] = _nothing
        self._is_ready: Callable[[], None] = _nothing
        self._begun = False
        self.provider = provider
        self.ready = False

    def tell(self, called: Callable[[], None], ready: Callable[[], None]) -> None:
        """`called` is called once the implementation's `start` has been, `ready` once it has finished."""
        self._called, self._is_ready = called, ready

    def startService(self) -> None:
        """Raises a `NymtwError` where the implementation fails at once; where it fails later the process ends."""
        super().startService()
        started = maybeDeferred(self.provider.start)
        failures: list[Failure] = []
        started.addCallbacks(self._started, failures.append)
        if failures:
            raise self._error(failures[0]) from failures[0].value
        self._begun = True
        self._called()
        if self.ready:
            self._is_ready()
        else:
            started.addCallback(lambda _: self._end_process(failures) if failures else self._is_ready())

    def leave(self) -> Any:
        """The node begins to stop, and still sends: what has to be said is said now."""
        leave = getattr(self.provider, "leave", None)
        return leave() if self.ready and leave is not None else None

    def stopService(self) -> "Deferred[Any]":
        """A Deferred that fires when what was acknowledged is safe."""
        super().stopService()
        return maybeDeferred(self.provider.stop) if self._begun else succeed(None)

    def _started(self, _: object) -> None:
        self.ready = True

    def _end_process(self, failures: list[Failure]) -> None:
        if self.running:
            stop_with(self._reactor, self._program, self._error(failures[0]))

    def _error(self, failure: Failure) -> NymtwError:
        if isinstance(failure.value, NymtwError):
            return failure.value
        return PluginError(f"the provider {self._name!r} cannot start: {cause_of(failure.value or Exception())}")


def _nothing() -> None:
    """Whom nobody has told."""
