"""A provider: the node where packets end. It has a core, implementations, and a port for clients of mailboxes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from msgspec import structs

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

from nymtw.errors import NymtwError, PluginError
from nymtw.interfaces import IMailboxHost
from nymtw.link.client_link import ClientLinkLimits
from nymtw.link.edge_link import ClientLinkFactory
from nymtw.node.engine.mix_node import AtStop, Environment, MixNode, MixParts
from nymtw.node.home import NodeHome
from nymtw.node.service import Listener
from nymtw.node.tap import stop_with
from nymtw.provider.admission import OpenAdmission
from nymtw.provider.core import ProviderCore
from nymtw.provider.delivery import Deliveries
from nymtw.provider.metrics import provider_metrics
from nymtw.provider.options import ProviderConfig
from nymtw.provider.public_clients import PublicClients
from nymtw.provider.services.installed_plugins import cause_of
from nymtw.provider.services.multiplexer import Multiplexer
from nymtw.provider.services.service_host import Node, ServiceHost
from nymtw.topology.document import PROVIDER, PublicClient, Recommended, Topology
from nymtw.topology.presence import Heartbeat


class ProviderService(MixNode):
    """The parts of every node that mixes, the implementations, and the links of clients if there are mailboxes.

    `verifier=` takes another `ICredentialVerifier` than `OpenAdmission`.
    """

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
        """`links`: further arguments of `ClientLinkFactory`."""
        super().__init__(reactor, parts, core, [implementation])
        self.implementation = implementation
        implementation.tell(self._is_called, self._is_ready)
        self.public_clients = PublicClients(core.own.identity, parts.environment.trust.network)
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
                list_client=self.public_clients.put,
                dropped=core.refuse,
                **links,
            )
            self.client_listener = Listener(reactor, parts.bound_host, client_port, self.clients.factory)
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
        """Make the provider for a `home`, with the implementations that `factories` (`IProviderFactory`) make.

        `links`: as for `__init__`. Raises `ConfigError`, `KeyFileError`, `DiskError`, and `PluginError` for an
        implementation that cannot be made.
        """
        parts = MixParts.at(home, config.node, environment or Environment.real(reactor, config.node))
        record = parts.record(cls.role, client_port=config.node.client_port)
        environment = parts.environment
        node = Node(reactor, environment.random, environment.wall_clock, record.identity, environment.cryptography)
        multiplexer = Multiplexer(
            [
                ServiceHost(node, home, factory, options, config.node.stream_rate, bool(options.get("isolate")))
                for factory in factories
            ]
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
        """This role's further arguments of `ClientLinkFactory`: the admission, and limits of registrations."""
        limits = ClientLinkLimits(
            registrations=section.registrations, registrations_per_address=section.registrations_per_address
        )
        return {"verifier": OpenAdmission(reactor, section.client_rate), "limits": limits}

    @property
    def service_hosts(self) -> tuple[ServiceHost, ...]:
        """The implementations, each with its address."""
        hosts: tuple[ServiceHost, ...] = getattr(self.implementation.provider, "service_hosts", ())
        return hosts

    def startService(self) -> None:
        """Start, and log ports and addresses."""
        super().startService()
        if self.client_listener is not None:
            self.log.info("Clients connect to port {port}", port=self.client_listener.port)
        network = self.parts.environment.trust.network
        for hosted in self.service_hosts:
            if hosted.is_service:
                self.log.info("{name} is at {address}", name=hosted.name, address=hosted.address.encode(network))

    def use_topology(self, topology: Topology) -> None:
        """Use a new topology. No packet is accepted before the implementations are ready."""
        if self.clients is not None:
            self.clients.verifier.use_topology(topology)
            if self.rotation.epoch is None:
                # Only from the first topology: a change waits for the next start.
                self.clients.slots = topology.recommended.fetch_slots
        for hosted in self.service_hosts:
            hosted.dispatch.use_topology(topology, hosted.is_service)
        if self.implementation.ready:
            super().use_topology(topology)

    def apply(self, section: Any) -> frozenset[str]:
        """Apply changed values: those of every node, and the rate of clients."""
        if self.clients is not None and isinstance(self.clients.verifier, OpenAdmission):
            topology = self.watch.current
            recommended = Recommended() if topology is None else topology.recommended
            self.clients.verifier.use_rate(section.client_rate, recommended)
        return super().apply(section) | {"client_rate"}

    def announced(self) -> Heartbeat:
        """The content of the next heartbeat, with port for clients, mailboxes, public clients and services."""
        heartbeat = super().announced()
        network = self.parts.environment.trust.network
        services = {hosted.name: hosted.address.encode(network) for hosted in self.service_hosts if hosted.is_service}
        if self.clients is None or self.client_listener is None:
            return replace(heartbeat, record=structs.replace(heartbeat.record, services=services))
        page = self.public_clients.next_page()
        return replace(
            heartbeat,
            record=structs.replace(heartbeat.record, client_port=self.client_listener.port, services=services),
            clients=tuple(PublicClient(address=address, provider=self.core.own.identity) for address in page.addresses),
            number=self.clients.store.count(),
            page=page.number,
            pages=page.count,
        )

    def blocked(self, files: frozenset[str]) -> None:
        """Count a blockage of the reactor by code in `files` for the implementation that the code belongs to."""
        for hosted in self.service_hosts:
            if hosted.files & files:
                hosted.metrics.count("blocked")

    def _is_called(self) -> None:
        """Use the mailboxes, after the implementation's `start` has been called."""
        if self.clients is not None:
            self.clients.use_store(self.implementation.provider.mailboxes)

    def _is_ready(self) -> None:
        """Use the topology that has arrived before the implementation was ready."""
        if self.watch.current is not None:
            self.use_topology(self.watch.current)


class Implementation(Service):
    """Starts and stops an `IProvider`. Both may wait."""

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
        """`called` is called after the implementation's `start` was called, `ready` after it has finished."""
        self._called, self._is_ready = called, ready

    def startService(self) -> None:
        """Raises a `NymtwError` if the implementation fails at once. If it fails later, the process ends."""
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
        """Let the implementation send shutdown messages, while the node still sends packets."""
        leave = getattr(self.provider, "leave", None)
        return leave() if self.ready and leave is not None else None

    def stopService(self) -> "Deferred[Any]":
        """A Deferred that fires when all acknowledged packets are safe."""
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
    """The default for callbacks."""
