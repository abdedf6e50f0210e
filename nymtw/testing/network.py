"""A network in memory: hosts that listen and connect over one `FakeClock`. Links can be cut and hosts can die."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.abstract import isIPAddress
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    CannotListenError,
    NotConnectingError,
    UserError,
)
from twisted.internet.error import (
    ConnectionRefusedError as Refused,
)
from twisted.internet.error import (
    TimeoutError as ConnectTimeout,
)
from twisted.internet.interfaces import (
    IConnector,
    IHostnameResolver,
    IHostResolution,
    IListeningPort,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.testing.clock import FakeClock, ScheduledCall
from nymtw.testing.transport import MemoryTransport

LOCALHOST = "127.0.0.1"
_EPHEMERAL_PORTS = range(49152, 65536)

Observer = Callable[[float, str, str, bytes], None]
Tap = Callable[[float, Any, str, str, bytes], None]


class MemoryNetwork:
    """Hosts and the connections between them. `host(name)` is the reactor of what runs there.

    `latency` seconds pass between a write and its arrival, and between a connect and its answer.
    Every chunk of bytes that arrives is shown to `observer(seconds, from_name, to_name, data)`, if there is one, and to
    each of `taps`, which are given the writing transport too: `tap(seconds, transport, from_name, to_name, data)`.
    """

    def __init__(self, clock: FakeClock, latency: float = 0.001, observer: Observer | None = None) -> None:
        self.clock = clock
        self.latency = latency
        self.observer = observer
        self.taps: list[Tap] = []
        self._hosts: dict[str, MemoryHost] = {}
        self._ports: dict[tuple[str, int], MemoryPort] = {}
        self._transports: dict[MemoryTransport, None] = {}  # in the order in which they were made
        self._cut: set[frozenset[str]] = set()
        self._ephemeral = 0

    def host(self, name: str, address: str = LOCALHOST) -> "MemoryHost":
        """The host of this name: made when first asked for, and anew after it was killed."""
        if name not in self._hosts:
            self._hosts[name] = MemoryHost(self, name, address)
        return self._hosts[name]

    def is_alive(self, name: str) -> bool:
        """Whether there is a host of this name that was not killed."""
        return name in self._hosts

    def kill(self, name: str) -> None:
        """Do to the host what kill -9 does to a process: its timers never fire, its ports are closed, the other ends of
        its connections see a reset, and no code in it is called."""
        host = self._hosts.pop(name)
        host.alive = False
        for call in self.clock.getDelayedCalls():
            if call.owner is host:
                call.cancel()
        self._ports = {key: port for key, port in self._ports.items() if port.host is not host}
        for transport in list(self._transports):
            if transport.owner is host:
                transport.vanish()

    def stall(self, name: str, seconds: float) -> None:
        """Stop the host for so long, as SIGSTOP stops a process: connections stay and what is sent to it waits, its
        timers are late, and who connects to it waits too."""
        host = self.host(name)
        host.asleep_until = max(host.asleep_until, self.clock.seconds() + seconds)

    def cut(self, one: str, other: str) -> None:
        """Cut the link between two hosts: connections are lost, new ones time out, until `mend`."""
        self._cut.add(frozenset((one, other)))
        for transport in list(self._transports):
            if transport.owner.name == one and transport.other.owner.name == other:
                transport.cut()

    def mend(self, one: str, other: str) -> None:
        self._cut.discard(frozenset((one, other)))

    def is_cut(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self._cut

    def connections(self) -> list[tuple[str, str]]:
        """The names at the two ends of every connection, the one who connected first; the oldest first."""
        return [
            (transport.owner.name, transport.other.owner.name) for transport in self._transports if transport.connector
        ]

    # what hosts and transports call

    def crossed(self, writer: MemoryTransport, reader: MemoryTransport, data: bytes) -> None:
        sender, receiver = writer.owner.name, reader.owner.name
        if self.observer is not None:
            self.observer(self.clock.seconds(), sender, receiver, data)
        for tap in self.taps:
            tap(self.clock.seconds(), writer, sender, receiver, data)

    def forget(self, transport: MemoryTransport) -> None:
        self._transports.pop(transport, None)

    def port(self, address: str, number: int) -> "MemoryPort | None":
        return self._ports.get((address, number))

    def open_port(self, port: "MemoryPort", number: int) -> int:
        """Take `number`, or any free one for 0. Raises `CannotListenError`."""
        address = port.host.address
        if number == 0:
            number = self.free_port(address)
        if (address, number) in self._ports:
            raise CannotListenError(address, number, OSError(98, "Address already in use"))
        self._ports[address, number] = port
        return number

    def close_port(self, address: str, number: int) -> None:
        self._ports.pop((address, number), None)

    def free_port(self, address: str) -> int:
        while True:
            number = _EPHEMERAL_PORTS[self._ephemeral % len(_EPHEMERAL_PORTS)]
            self._ephemeral += 1
            if (address, number) not in self._ports:
                return number

    def connect(self, connector: "MemoryConnector", port: "MemoryPort") -> MemoryTransport:
        """Join a new protocol of the connector's factory and one of the port's; returns the connecting end."""
        client = connector.host
        near = IPv4Address("TCP", client.address, self.free_port(client.address))
        far = port.getHost()
        client_end = MemoryTransport(self, client, near, far, connector)
        server_end = MemoryTransport(self, port.host, far, near)
        client_end.join(server_end)
        self._transports[client_end] = None
        self._transports[server_end] = None
        server_end.protocol = port.factory.buildProtocol(near)
        client_end.protocol = connector.factory.buildProtocol(far)
        # A factory that builds nothing does not want the connection: what Twisted does then, on either side.
        if server_end.protocol is None:
            server_end.vanish()
        else:
            server_end.protocol.makeConnection(server_end)
        if client_end.protocol is None:
            client_end.loseConnection()
        else:
            client_end.protocol.makeConnection(client_end)
        return client_end


@implementer(IReactorTime, IReactorTCP, IReactorPluggableNameResolver)
class MemoryHost:
    """The reactor of one host: give it to a service where a real reactor would go."""

    def __init__(self, network: MemoryNetwork, name: str, address: str) -> None:
        self.network = network
        self.name = name
        self.address = address
        self.alive = True
        self.asleep_until = 0.0
        self.nameResolver: IHostnameResolver = _Resolver()

    def __repr__(self) -> str:
        return f"<MemoryHost {self.name}>"

    def seconds(self) -> float:
        return self.network.clock.seconds()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> ScheduledCall:
        if not self.alive:
            # What is dead can start a timer but never see it fire.
            return ScheduledCall(FakeClock(), self.seconds() + delay, callable, args, kwargs)
        call = self.network.clock.callLater(delay, callable, *args, **kwargs)
        call.owner = self
        return call

    def getDelayedCalls(self) -> list[ScheduledCall]:
        """Those of this host."""
        return [call for call in self.network.clock.getDelayedCalls() if call.owner is self]

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> "MemoryPort":
        """Raises `CannotListenError` for a port that is taken."""
        listening = MemoryPort(self, port, factory)
        listening.startListening()
        return listening

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> "MemoryConnector":
        connector = MemoryConnector(self, LOCALHOST if host == "localhost" else host, port, factory, timeout)
        connector.connect()
        return connector

    def installNameResolver(self, resolver: Any) -> Any:
        previous, self.nameResolver = self.nameResolver, resolver
        return previous


@implementer(IListeningPort)
class MemoryPort:
    """A port that is listened on."""

    def __init__(self, host: MemoryHost, number: int, factory: IProtocolFactory) -> None:
        self.host = host
        self.factory = factory
        self._number = number
        self._listening = False

    def startListening(self) -> None:
        self._number = self.host.network.open_port(self, self._number)
        self._listening = True
        self.factory.doStart()

    def stopListening(self) -> "Deferred[None]":
        if self._listening:
            self._listening = False
            self.host.network.close_port(self.host.address, self._number)
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self.host.address, self._number)


@implementer(IConnector)
class MemoryConnector:
    """An attempt to connect, and the connection that came of it."""

    def __init__(self, host: MemoryHost, address: str, port: int, factory: Any, timeout: float) -> None:
        self.host = host
        self.factory = factory
        self.state = "disconnected"
        self._address = address
        self._port = port
        self._timeout = timeout
        self._waiting: ScheduledCall | None = None
        self._transport: MemoryTransport | None = None
        self._started = False

    def connect(self) -> None:
        if self.state != "disconnected":
            raise RuntimeError("can't connect in this state")
        self.state = "connecting"
        if not self._started:
            self._started = True
            self.factory.doStart()
        self._waiting = self.host.callLater(self.host.network.latency, self._attempt)
        self.factory.startedConnecting(self)

    def stopConnecting(self) -> None:
        if self.state != "connecting":
            raise NotConnectingError("we're not trying to connect")
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        self._failed(UserError())

    def disconnect(self) -> None:
        if self.state == "connecting":
            self.stopConnecting()
        elif self._transport is not None:
            self._transport.loseConnection()

    def getDestination(self) -> IPv4Address:
        return IPv4Address("TCP", self._address, self._port)

    def lost(self, reason: Failure) -> None:
        """The connection has ended."""
        self.state = "disconnected"
        self._transport = None
        self.factory.clientConnectionLost(self, reason)
        self._stop_unless_reconnecting()

    def _attempt(self) -> None:
        network = self.host.network
        port = network.port(self._address, self._port)
        if port is None:
            self._failed(Refused())
        elif network.is_cut(self.host.name, port.host.name):
            self._waiting = self.host.callLater(self._timeout, self._failed, ConnectTimeout())
        elif port.host.asleep_until > network.clock.seconds():
            asleep = port.host.asleep_until - network.clock.seconds()
            if asleep > self._timeout:
                self._waiting = self.host.callLater(self._timeout, self._failed, ConnectTimeout())
            else:
                self._waiting = self.host.callLater(asleep, self._attempt)
        else:
            self.state = "connected"
            self._transport = network.connect(self, port)

    def _failed(self, reason: Exception) -> None:
        self.state = "disconnected"
        self.factory.clientConnectionFailed(self, Failure(reason))
        self._stop_unless_reconnecting()

    def _stop_unless_reconnecting(self) -> None:
        if self.state == "disconnected" and self._started:
            self._started = False
            self.factory.doStop()


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Done already: resolution is immediate."""


@implementer(IHostnameResolver)
class _Resolver:
    """Numeric addresses, and "localhost"; nothing else has a name here."""

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        address = LOCALHOST if hostName == "localhost" else hostName
        if isIPAddress(address):
            resolutionReceiver.addressResolved(IPv4Address("TCP", address, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution
