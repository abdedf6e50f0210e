"""`SimulatedNetwork`: a directory, nodes of every role and clients in one process, on a fake clock, from one seed.

The services are those of the real programs. Only what surrounds them is replaced: the reactor is a host of a
`MemoryNetwork`, links go without TLS, the directory is asked without HTTP, and all randomness comes from the seed.
"""

import random
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from nacl.signing import SigningKey

from twisted.internet.defer import maybeDeferred

from nymtw.client.config import ClientConfig, ClientSection, DebugSection
from nymtw.client.service import ClientService
from nymtw.client.service import Environment as ClientEnvironment
from nymtw.directory.config import DirectoryConfig, DirectorySection, RecommendedSection
from nymtw.directory.core import Directory
from nymtw.encoding import key_text
from nymtw.interfaces import ICoverStrategy, IMixing, IRouteStrategy
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.mixing.delay_queue import DelayQueue
from nymtw.mixing.strategies import DelayFactory
from nymtw.mixnode.options import MixnodeConfig, MixnodeSection
from nymtw.mixnode.service import MixnodeService
from nymtw.node.engine.mix_node import Environment
from nymtw.node.home import NodeHome
from nymtw.node.keys import KeyKind, save_private, save_public
from nymtw.provider.service import ProviderService
from nymtw.testing.clock import FakeClock
from nymtw.testing.directories import SimulatedDirectories
from nymtw.testing.edge_kinds import GATEWAY_KIND, PROVIDER_KIND, EdgeKind
from nymtw.testing.impairment import Impairment
from nymtw.testing.network import LOCALHOST, MemoryNetwork
from nymtw.testing.observer import Observer
from nymtw.testing.security import MemorySecurity
from nymtw.testing.simulated import SimulatedClient, Transcript, limit_pages, running, unknown
from nymtw.testing.table import TableCryptography
from nymtw.topology.address import Address
from nymtw.topology.document import LAYERS

# Far below what real nodes are sized for: replay filters of a simulation need not fill the memory.
NODE_RATE: Final = 20
START_LIMIT: Final = 120.0


MOST_RATE: Final = 10_000.0  # packets a second: clients with rates of their own are let in


class SimulatedNetwork:
    """A whole network. Use it as a context manager, or call `start` and `stop`.

    `recommended` is what the directory tells clients: the rates of their streams, the mean delay of a hop. `refresh`,
    `expiry` and `epoch_seconds` are the directory's, `latency` is in seconds. A client's provider is the first for the
    first client, the second for the second, and so on in turn;
    `at` names another provider, or a gateway, for those who are in it. `implementations`: of a provider that does
    something else than the store, or of a gateway, the words of its command line.
    `directories`: of several, more than half must sign.
    `debug`: what stands in every client's configuration. `mix_loops`: loops of each mixnode, packets a second.
    `padded`: whether lines have slots and services send cover, as `recommended` says; else neither, which takes far
    less time and shows who talks to whom.
    `delays` makes every client's delay strategy for a mean in seconds, `routes` and `idle` are its route and cover
    strategies, `mixing` makes what a node holds packets in (`IMixing`).
    `crypto="none"` has a table in the place of Sphinx and of sealing: sizes and times are the same, the bytes say
    nothing; another `Cryptography` is taken too. `observer` sees every link.
    `str(seed)` is all that a run depends on: every one from the same seed is the same to the byte.
    """

    def __init__(
        self,
        seed: int | str,
        *,
        mixnodes_per_layer: int = 2,
        providers: int = 2,
        gateways: int = 0,
        directories: int = 1,
        clients: Iterable[str] = ("alice", "bob"),
        recommended: RecommendedSection | None = None,
        refresh: float = 60.0,
        epoch_seconds: int = 86400,
        expiry: float = 0.0,
        latency: float = 0.001,
        at: Mapping[str, str] | None = None,
        implementations: Mapping[str, Sequence[str]] | None = None,
        debug: DebugSection | None = None,
        mix_loops: float = 0.0,
        padded: bool = False,
        delays: DelayFactory | None = None,
        routes: IRouteStrategy | None = None,
        idle: ICoverStrategy | None = None,
        mixing: Callable[..., IMixing] = DelayQueue,
        crypto: str | Cryptography = "sphinx",
        observer: Observer | None = None,
    ) -> None:
        self.seed = seed
        self._cryptography = _cryptography(crypto)
        self._delays, self._routes, self._idle, self._mixing = delays, routes, idle, mixing
        self.observer = observer
        self._mix_loops = mix_loops
        self._implementations = implementations or {}
        self._debug = debug or DebugSection()
        # Clients with rates of their own are let in.
        self._admits = {} if debug is None else {"client_rate": MOST_RATE}
        self.clock = FakeClock()
        self.transcript = Transcript()
        self.network = MemoryNetwork(self.clock, latency, self.transcript)
        if observer is not None:
            observer.use_clock(self.clock.seconds)
            self.network.taps.append(observer.chunk)
        self._folder = tempfile.TemporaryDirectory(prefix="nymtw-simulation-")
        self.nodes: dict[str, Any] = {}
        self._addresses: dict[str, Address] = {}  # of clients that were killed
        self.impairments: dict[str, Impairment] = {}
        self._makers: dict[str, Callable[[], Any]] = {}
        self.homes: dict[str, NodeHome] = {}
        self._starts: dict[str, int] = {}
        recommended = recommended or RecommendedSection()
        if not padded:
            recommended = msgspec.structs.replace(recommended, line_wait=0.0, service_sending_rate=0.0)
        section = DirectorySection(id="directory", refresh=refresh, epoch_seconds=epoch_seconds, expiry=expiry)
        names = ["directory", *(f"directory-{number}" for number in range(2, directories + 1))]
        self.directories = SimulatedDirectories(
            self,
            {name: self._identity("directory", name) for name in names},
            DirectoryConfig(directory=section, recommended=recommended),
        )
        self.directory_away = False  # all of them
        self.trust = self.directories.trust
        ports = iter(range(1789, 9000))
        for layer in LAYERS:
            for number in range(1, mixnodes_per_layer + 1):
                name = f"mixnode-{layer}-{number}"
                self._identity("mixnode", name)
                self._makers[name] = self._mixnode(name, layer, next(ports))
        doors: dict[str, SigningKey] = {}
        for number in range(1, providers + 1):
            name = f"provider-{number}"
            doors[name] = self._identity("provider", name)
            self._makers[name] = self._edge(PROVIDER_KIND, name, next(ports), 9000 + number)
        for number in range(1, gateways + 1):
            name = f"gateway-{number}"
            doors[name] = self._identity("gateway", name)
            self._makers[name] = self._edge(GATEWAY_KIND, name, next(ports), 9500 + number)
        for number, name in enumerate(clients):
            door = (at or {}).get(name, f"provider-{number % max(1, providers) + 1}")
            self._makers[name] = self._client(name, door, key_text(bytes(doors[door].verify_key)))

    # running

    def start(self) -> None:
        """Start everything, and let time pass until the network is complete and every client is logged in."""
        self.directories.start()
        for name in self._makers:
            self._start(name)
        self.clock.advance_until(self._is_complete, START_LIMIT)
        if self.observer is not None:
            for name, client in self.clients.items():
                self.observer.know(client.address.mailbox, name)

    def stop(self) -> None:
        """Stop everything, clients first. Raises `AssertionError` if a timer or a connection is left."""
        for name in reversed(list(self.nodes)):
            stopped = maybeDeferred(_service_of(self.nodes.pop(name)).stopService)
            self.clock.wait_for(stopped, 60)
        self.directories.stop()
        self.clock.advance(1)
        left = self.clock.getDelayedCalls()
        self._folder.cleanup()
        assert not left, f"timers left behind: {left}"
        assert not self.network.connections(), f"connections left behind: {self.network.connections()}"

    def __enter__(self) -> "SimulatedNetwork":
        try:
            self.start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, kind: object, *args: object) -> None:
        if kind is None:
            self.stop()
        else:
            self._folder.cleanup()

    @property
    def directory(self) -> Directory:
        """The first directory."""
        return self.directories.running["directory"]

    @property
    def clients(self) -> dict[str, SimulatedClient]:
        """The clients that run, by name."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, SimulatedClient)}

    def send(self, sender: str, recipient: str, message: bytes) -> bytes:
        """From one client to another, which may have been killed; returns the message's id (16 bytes).

        Raises `ValueError` for a sender that does not run, or a name that no client has.
        """
        running = self._running(sender, self.clients)
        to = self.clients.get(recipient) or self._addresses.get(recipient)
        if to is None:
            raise ValueError(unknown(recipient, self._makers))
        return running.send(to, message)

    def deliver(self, sender: str, recipient: str, message: bytes, limit: float = 600.0) -> float:
        """Send, and let time pass until the recipient has it; returns the seconds that took. Raises `ValueError`."""
        receiver = self._running(recipient, self.clients)
        started, before = self.clock.seconds(), receiver.received.count(message)
        self.send(sender, recipient, message)
        self.run_until(lambda: receiver.received.count(message) > before, limit)
        return self.clock.seconds() - started

    def run(self, seconds: float) -> None:
        """Let `seconds` of network time pass."""
        self.clock.advance(seconds)

    def run_until(self, condition: Callable[[], bool], limit: float) -> float:
        """Let time pass until `condition()`; returns the seconds it took. Raises `TimeoutError` after `limit`."""
        return self.clock.advance_until(condition, limit)

    # faults

    def kill(self, name: str) -> None:
        """Do to a node or client what kill -9 would do; what it has written to its home stays. Raises `ValueError`."""
        node = self._running(name, self.nodes)
        if isinstance(node, SimulatedClient) and node.core.has_address:
            self._addresses[name] = node.address
        del self.nodes[name]
        self.network.kill(name)
        self.homes[name].unlock()

    def stall(self, name: str, seconds: float) -> None:
        """Stop a node, a client or a directory for so long, as SIGSTOP would; then it goes on."""
        self.network.stall(name, seconds)

    def fill_disk(self, name: str, full: bool = True) -> None:
        """Let the database of a client or a store-and-forward provider have no more room, or room again."""
        node = self._running(name, self.nodes)
        if isinstance(node, SimulatedClient):
            limit_pages(node.core._store, full)
        else:
            limit_pages(node.implementation.provider.mailboxes, full)

    def restart(self, name: str) -> None:
        """Start a node or client that was killed, with the home that it had. Raises `ValueError`."""
        if name in self.nodes or name not in self._makers:
            raise ValueError(f"{name!r} runs" if name in self.nodes else unknown(name, self._makers))
        self._start(name)

    def impair(self, layer: int | None = 1, *, loss: float = 0.0, duplicate: float = 0.0, reorder: float = 0.0) -> None:
        """Impair what arrives at the mixnodes of a layer, which each packet passes once; an ack is a packet too.

        None: every link between nodes, those to the providers as well.
        """
        for name, impairment in self.impairments.items():
            if layer is None or name.startswith(f"mixnode-{layer}-"):
                impairment.loss, impairment.duplicate, impairment.reorder = loss, duplicate, reorder

    def _running(self, name: str, among: Mapping[str, Any]) -> Any:
        return running(name, among, self._makers)

    # what a packet's walk adds up to

    def counters(self) -> "dict[str, dict[str, int]]":
        """The packet account of every node."""
        return {name: node.counters.snapshot() for name, node in self.nodes.items() if hasattr(node, "counters")}

    # making them

    def _start(self, name: str) -> None:
        self.nodes[name] = node = self._makers[name]()
        if isinstance(node, SimulatedClient):
            node.start()
        else:
            node.startService()

    def random_of(self, name: str) -> random.Random:
        """A source that follows from the seed and `name`."""
        return random.Random(f"{self.seed}/{name}")

    def home(self, role: str, name: str) -> NodeHome:
        """The folder of a node or client, kept in `homes`."""
        self.homes[name] = home = NodeHome(role, name, Path(self._folder.name))
        return home

    def _identity(self, role: str, name: str) -> SigningKey:
        """An identity from the seed, put where the node will look for it."""
        home = self.home(role, name)
        home.create()
        key = SigningKey(self.random_of(f"{name}/identity").randbytes(32))
        save_private(home.config / "identity_private_key.pem", KeyKind.IDENTITY, bytes(key))
        save_public(home.config / "identity_public_key.pem", KeyKind.IDENTITY, bytes(key.verify_key))
        return key

    def _environment(self, name: str) -> Environment:
        # Each start draws anew: a client that is started again must not use the ids of its first messages twice.
        starts = self._starts[name] = self._starts.get(name, 0) + 1
        source = self.random_of(f"{name}/{starts}")
        impairment = Impairment(self.network.host(name), source)
        kept = self.impairments.setdefault(name, impairment)
        impairment.loss, impairment.duplicate, impairment.reorder = kept.loss, kept.duplicate, kept.reorder
        self.impairments[name] = impairment
        return Environment(
            random=source,
            wall_clock=self.clock.wall_clock,
            directory=self.directories.seen_from(self.network.host(name)),
            trust=self.trust,
            security=lambda key: MemorySecurity(bytes(key.verify_key), source, impairment),
            cryptography=self._cryptography_at(name),
            mixing=self._mixing,
        )

    def _cryptography_at(self, name: str) -> Cryptography:
        return self._cryptography if self.observer is None else self.observer.at(name, self._cryptography)

    def _mixnode(self, name: str, layer: int, port: int) -> Callable[[], MixnodeService]:
        section = MixnodeSection(
            id=name,
            host=LOCALHOST,
            port=port,
            layer=layer,
            directory_key="",
            rate=NODE_RATE,
            loop_rate=self._mix_loops,
        )

        def make() -> MixnodeService:
            return MixnodeService.from_config(
                self.network.host(name),
                self.home("mixnode", name),
                MixnodeConfig(node=section),
                self._environment(name),
            )

        return make

    def _edge(self, kind: EdgeKind, name: str, port: int, client_port: int) -> Callable[[], ProviderService]:
        options = kind.options()
        options.parseOptions(list(self._implementations.get(name, ())))
        section = kind.section(
            id=name,
            host=LOCALHOST,
            port=port,
            client_port=client_port,
            directory_key="",
            rate=NODE_RATE,
            **{**self._admits, **options.mix_given(*kind.given)},
        )

        def make() -> ProviderService:
            return kind.service.from_config(
                self.network.host(name),
                self.home(kind.service.role, name),
                kind.config(node=section),
                options.factories,
                options,
                self._environment(name),
            )

        return make

    def _client(self, name: str, door: str, identity: str) -> Callable[[], SimulatedClient]:
        kept_at: dict[str, Any] = {"gateway_id" if door.startswith("gateway-") else "provider_id": identity}
        section = ClientSection(id=name, directory_identity_key="", **kept_at)

        def make() -> SimulatedClient:
            environment = self._environment(name)
            service = ClientService.from_config(
                self.network.host(name),
                self.home("client", name),
                ClientConfig(client=section, debug=self._debug),
                None,
                ClientEnvironment(
                    random=environment.random,
                    wall_clock=environment.wall_clock,
                    directory=environment.directory,
                    trust=environment.trust,
                    security=MemorySecurity(None, environment.random),
                    delays=self._delays,
                    routes=self._routes,
                    idle=self._idle,
                    cryptography=environment.cryptography,
                ),
            )
            return SimulatedClient(self, name, service)

        return make

    def _is_complete(self) -> bool:
        return all(client.is_ready() for client in self.clients.values())


def _cryptography(crypto: str | Cryptography) -> Cryptography:
    if not isinstance(crypto, str):
        return crypto
    if crypto not in ("sphinx", "none"):
        raise ValueError(f"crypto is 'sphinx' or 'none', not {crypto!r}")
    return SPHINX if crypto == "sphinx" else TableCryptography()


def _service_of(node: Any) -> Any:
    return node.service if isinstance(node, SimulatedClient) else node
