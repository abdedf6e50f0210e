"""A client as a service: what it is made of, and in which order that starts and stops."""

import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from random import Random, SystemRandom
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from nymtw.client.config import ClientConfig, differing, edge, in_home, network_of
from nymtw.client.core import ClientCore
from nymtw.client.edge_connection import EdgeConnection
from nymtw.client.keys import ClientKeys, load_or_create_keys
from nymtw.client.loop_watch import ClientPolicy
from nymtw.client.parts import Identity, LinkControl, Strategies
from nymtw.client.store import ClientStore
from nymtw.errors import ClientTooOld
from nymtw.interfaces import ICoverStrategy, IDirectory, IRouteStrategy
from nymtw.link.security import ILinkSecurity, TLSSecurity
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.mixing.strategies import DelayFactory, delay_factory, route_strategy
from nymtw.node.directories.several_directories import directories_at
from nymtw.node.directories.topology_watch import TopologyWatch
from nymtw.node.home import NodeHome
from nymtw.node.service import AtStop, Listener, NodeService
from nymtw.topology.address import Address, mailbox_id
from nymtw.topology.document import GATEWAY, PROVIDER, Topology, Trust
from nymtw.topology.versions import check_client

VERSION = version("nymtw")
LOOPBACK = "127.0.0.1"
DATABASE = "client.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a client finds outside itself; a simulation gives its own."""

    random: Random
    wall_clock: Callable[[], float]
    directory: IDirectory
    trust: Trust
    security: ILinkSecurity
    version: str = VERSION
    # Each stands in the place of what the configuration names.
    delays: DelayFactory | None = None
    routes: IRouteStrategy | None = None
    idle: ICoverStrategy | None = None
    cryptography: Cryptography = SPHINX

    @classmethod
    def real(cls, reactor: Any, config: ClientConfig) -> "Environment":
        """The system's randomness and clock, the directory over HTTP, TLS. Raises `ConfigError`, `KeyFileError`."""
        network = network_of(config)
        return cls(
            random=SystemRandom(),
            wall_clock=time.time,
            directory=directories_at(reactor, network.directories, network.trust),
            trust=network.trust,
            security=TLSSecurity(None),
        )


@dataclass(frozen=True, slots=True)
class Socket:
    """What applications connect to: "websocket" or "tcp", the port on 127.0.0.1, and whom raw messages go to.

    `open`: whether applications need no token.
    """

    kind: str
    port: int
    recipient: str | None = None
    open: bool = False


def _door(kind: str, recipient: Address | None) -> Any:
    """The factory of the socket; the library for the other kind is not loaded."""
    if kind == "tcp":
        from nymtw.client.sockets.tcp import RequestSocketFactory

        return RequestSocketFactory(recipient)
    from nymtw.client.sockets.websocket import MixSocketFactory

    return MixSocketFactory(recipient)


class ClientService(NodeService):
    """Store, core, link to the provider or gateway, topology watch, and the socket for applications."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: ClientConfig,
        keys: ClientKeys,
        home: NodeHome,
        environment: Environment,
        socket: Socket | None = None,
    ) -> None:
        """`home` exists and is locked.

        Raises `ConfigError`, `PluginError` for a strategy that cannot be used, `AddressError` for the socket's
        recipient.
        """
        super().__init__()
        self._reactor, self._config, self._keys, self._environment = reactor, config, keys, environment
        self._edge = edge(config)
        debug = config.debug
        self._delays = environment.delays or (delay_factory(debug.delay_strategy) if debug.delay_strategy else None)
        self._routes = environment.routes or (route_strategy(debug.route_strategy) if debug.route_strategy else None)
        self.store: ClientStore | None = None
        self._waiting: list[Deferred[ClientCore]] = []
        self._logging_in: list[Deferred[None]] = []
        self._refused: ClientTooOld | None = None
        self.home = home
        self.public_key = keys.public
        self.core: ClientCore | None = None
        self.link: EdgeConnection | None = None
        self.listener: Listener | None = None
        self._door: Any = None
        self._socket = socket
        self.watch = TopologyWatch(
            reactor, environment.directory, environment.trust, environment.random, environment.wall_clock
        )
        if socket is not None:
            recipient = None if socket.recipient is None else Address.parse(socket.recipient, environment.trust.network)
            self._door = _door(socket.kind, recipient)
            self.listener = Listener(reactor, LOOPBACK, socket.port, self._door)

    @classmethod
    def from_config(
        cls,
        reactor: Any,
        home: NodeHome,
        config: ClientConfig,
        socket: Socket | None = None,
        environment: Environment | None = None,
    ) -> "ClientService":
        """The client whose files are in `home`, which is created and locked. Raises `ConfigError`, `KeyFileError`."""
        environment = environment or Environment.real(reactor, config)
        home.create()
        home.lock()
        section = config.client
        keys = load_or_create_keys(
            home, in_home(home, section.priv_key_file), in_home(home, section.pub_key_file), environment.random
        )
        return cls(reactor, config, keys, home, environment, socket)

    def privilegedStartService(self) -> None:
        """Take the socket's port. Raises `ListenError`."""
        if self.listener is not None:
            self.listener.privilegedStartService()

    def startService(self) -> None:
        """Open the database, then begin. Raises `StoreError`, `ListenError`."""
        environment, keys = self._environment, self._keys
        self.store = store = ClientStore(self.home.data / DATABASE, self._reactor)
        self.core = core = ClientCore(
            clock=self._reactor,
            random=environment.random,
            wall_clock=environment.wall_clock,
            store=store,
            topology=self._usable,
            identity=Identity(
                network=environment.trust.network,
                mailbox=mailbox_id(bytes(keys.mailbox.verify_key)),
                private_key=keys.private,
                public_key=keys.public,
            ),
            provider=self._edge,
            debug=self._config.debug,
            strategies=Strategies(
                routes=self._routes,
                delays=self._delays,
                idle=environment.idle,
                cryptography=environment.cryptography,
                policy=ClientPolicy(self._config.client.on_loop_loss),
            ),
            link=LinkControl(drop=self._drop_link, change=self._change_link, trouble=self._link_trouble),
        )
        self.link = EdgeConnection(
            self._reactor,
            environment.security,
            keys.mailbox,
            store,
            core.provider_record,
            environment.random,
            connected=self._connected,
            disconnected=core.disconnected,
            listing=core.own_address if self._config.client.listed else lambda: "",
            role=GATEWAY if self._config.client.gateway_id else PROVIDER,
        )
        self.add(AtStop(self._close))
        self.add(AtStop(core.stop))
        self.add(self.link)
        self.add(self.watch)
        if self.listener is not None and self._door is not None:
            self._door.client = core
            self.listener.privilegedStartService()
            self._give_token(self.listener.port)
            self.add(AtStop(self._door.close))
            self.add(self.listener)
        core.start()
        self.watch.subscribe(self._use_topology)
        super().startService()
        self._tell_ready()
        self._log_differences()
        if self.listener is not None:
            self.log.info(
                "Applications connect to 127.0.0.1:{port}{how}",
                port=self.listener.port,
                how=", whoever they are" if self._door.file is None else f", with the token in {self._door.file}",
            )

    def _give_token(self, port: int) -> None:
        """Draw the token of the socket, and put it where the programs of this user find it. Raises `ConfigError`."""
        if self._socket is None or self._socket.open:
            return
        from nymtw.client.sockets.tokens import TOKEN_BYTES, remove_token, token_file, write_token

        file = token_file(port, self.home.path.parent.parent)
        token = urlsafe_b64encode(self._environment.random.randbytes(TOKEN_BYTES)).decode().rstrip("=")
        write_token(file, token)
        self._door.token, self._door.file = token, file
        self.add(AtStop(lambda: remove_token(file, token)))

    def _drop_link(self) -> None:
        if self.link is not None:
            self.link.drop()

    def _change_link(self) -> None:
        if self.link is not None:
            self.link.change()

    def _link_trouble(self) -> str:
        return "" if self.link is None else self.link.trouble

    def ready(self) -> "Deferred[ClientCore]":
        """Fires with the core once it has an address: with the first topology, if no provider is configured.

        Fails with `ClientTooOld` where the network asks for a newer client, as `logged_in` does.
        """
        if self._refused is not None:
            return fail(self._refused)
        if self.core is not None and self.core.has_address:
            return succeed(self.core)
        waiting: Deferred[ClientCore] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def logged_in(self) -> "Deferred[None]":
        """Fires when the link to the provider or gateway is up."""
        if self._refused is not None:
            return fail(self._refused)
        if self.link is not None and self.link.up:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._logging_in.append(waiting)
        return waiting

    def _connected(self, connection: Any) -> None:
        if self.core is not None:
            self.core.connected(connection)
        waiting, self._logging_in = self._logging_in, []
        for deferred in waiting:
            deferred.callback(None)

    def _usable(self) -> Topology:
        """The newest topology. Raises `TopologyError`, and `ClientTooOld` where it is not for this client."""
        topology = self.watch.usable()
        check_client(self._environment.version, topology.minimum_client_version)
        return topology

    def _use_topology(self, topology: Topology) -> None:
        try:
            check_client(self._environment.version, topology.minimum_client_version)
            self._refused = None
        except ClientTooOld as error:
            self._refuse(error)
        if self.core is not None and self.link is not None:
            self.core.use_topology(topology)
            self.link.topology_changed()
            self._tell_ready()

    def _tell_ready(self) -> None:
        if self.core is not None and self.core.has_address:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(self.core)

    def _refuse(self, error: ClientTooOld) -> None:
        """Tell those who wait for this client that it cannot be used."""
        if self._refused is None:
            self.log.error("Nothing is sent: {error}", error=error)
        self._refused = error
        waiting: list[Deferred[Any]] = [*self._waiting, *self._logging_in]
        self._waiting, self._logging_in = [], []
        for deferred in waiting:
            deferred.errback(error)

    def _log_differences(self) -> None:
        names = differing(self._config.debug)
        if names:
            self.log.warn(
                "This client can be told from others by what its configuration sets: {names}",
                names=", ".join(names),
            )

    def _close(self) -> None:
        if self.store is not None:
            self.store.close()
        self.home.unlock()
