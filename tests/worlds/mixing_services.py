"""Mixnodes and a provider as real services, with a directory that is a few lines of Python, in memory."""

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from nacl.signing import SigningKey

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from nymtw.errors import DirectoryError
from nymtw.interfaces import IDirectory
from nymtw.link.client_link import ProviderConnection, connect_to_provider
from nymtw.message.fragments import FRAGMENT_LENGTH
from nymtw.message.packets import build_data_packet
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.routes import UniformRoutes
from nymtw.mixnode.options import MixnodeConfig, MixnodeSection
from nymtw.mixnode.service import MixnodeService
from nymtw.node.engine.mix_node import Environment, MixNode
from nymtw.node.home import NodeHome
from nymtw.provider.options import Options, ProviderConfig, ProviderSection
from nymtw.provider.service import ProviderService
from nymtw.provider.services.installed_plugins import find_implementations
from nymtw.sphinx import generate_keypair
from nymtw.testing.clock import FakeClock
from nymtw.testing.network import MemoryNetwork
from nymtw.testing.security import MemorySecurity
from nymtw.topology.address import Address, mailbox_id
from nymtw.topology.document import NodeRecord, Recommended, Topology, Trust, sign_topology
from nymtw.topology.presence import read_heartbeat, read_metric

KEY = SigningKey(bytes(range(32)))


@implementer(IDirectory)
class FakeDirectory:
    """Lists all that have announced themselves, for good; `away` refuses everybody."""

    def __init__(self, clock: FakeClock, epoch_seconds: int) -> None:
        self.clock = clock
        self.epoch_seconds = epoch_seconds
        self.nodes: dict[bytes, NodeRecord] = {}
        self.numbers: dict[bytes, int] = {}
        self.listed: dict[bytes, list[str]] = {}
        self.metrics: dict[bytes, list[int]] = {}
        self.paths: set[str] = set()
        self.recommended = Recommended(service_sending_rate=0.0)
        self.away = False
        self.serial = 0

    def announce(self, path: str, heartbeat: Mapping[str, Any]) -> "Deferred[None]":
        if self.away:
            return fail(DirectoryError("away"))
        read = read_heartbeat(dict(heartbeat), self.clock.wall_clock())
        self.nodes[read.record.identity] = read.record
        self.numbers[read.record.identity] = read.number
        self.listed[read.record.identity] = [client.address for client in read.clients]
        self.paths.add(path)
        return succeed(None)

    def topology(self) -> "Deferred[bytes]":
        if self.away:
            return fail(DirectoryError("away"))
        return succeed(sign_topology(self.newest(), [KEY]))

    def newest(self) -> Topology:
        self.serial += 1
        now = self.clock.wall_clock()
        return Topology(
            serial=self.serial,
            network=Trust((bytes(KEY.verify_key),)).network,
            published=int(now * 1e9),
            valid_until=int((now + 3600) * 1e9),
            refresh=2.0,
            epoch=int(now // self.epoch_seconds),
            epoch_seconds=self.epoch_seconds,
            nodes=tuple(self.nodes.values()),
            recommended=self.recommended,
        )

    def report(self, metric: Mapping[str, Any]) -> "Deferred[None]":
        read = read_metric(dict(metric), self.clock.wall_clock())
        sums = self.metrics.setdefault(read.identity, [0, 0])
        sums[0] += read.received
        sums[1] += read.sent
        return succeed(None)


class World:
    """A directory, and the nodes that a test starts."""

    def __init__(self, folder: Path, seed: int, epoch_seconds: int = 86400) -> None:
        print("seed", seed)
        self.folder = folder
        self.random = Random(seed)
        self.clock = FakeClock()
        self.network = MemoryNetwork(self.clock)
        self.directory = FakeDirectory(self.clock, epoch_seconds)
        self.running: list[MixNode] = []

    def environment(self) -> Environment:
        return Environment(
            random=self.random,
            wall_clock=self.clock.wall_clock,
            directory=self.directory,
            trust=Trust((bytes(KEY.verify_key),)),
            security=lambda key: MemorySecurity(bytes(key.verify_key), self.random),
        )

    def mixnode(self, name: str, layer: int = 0, port: int = 0, **given: Any) -> MixnodeService:
        told = {"rate": 1, "loop_rate": 0, **given}
        section = MixnodeSection(id=name, host="127.0.0.1", port=port, directory_key="", layer=layer, **told)
        home = NodeHome("mixnode", name, self.folder)
        return self.started(
            MixnodeService.from_config(self.network.host(name), home, MixnodeConfig(node=section), self.environment())
        )

    def provider(self, factory: Any = None, argv: tuple[str, ...] = (), name: str = "p") -> ProviderService:
        options = Options()
        options.parseOptions(list(argv))
        section = ProviderSection(id=name, host="127.0.0.1", port=0, client_port=0, directory_key="", rate=1)
        return self.started(
            ProviderService.from_config(
                self.network.host(name),
                NodeHome("provider", name, self.folder),
                ProviderConfig(node=section),
                [factory or find_implementations().choose("store")],
                options,
                self.environment(),
            )
        )

    def started(self, node: Any) -> Any:
        self.running.append(node)
        node.privilegedStartService()
        node.startService()
        return node

    def close(self) -> None:
        """Stop all nodes. Asserts that no packet is left in them, and no timer."""
        for node in list(self.running):
            self.stop(node)
            assert node.counters.queued == 0
        self.clock.advance(100.0)
        assert self.clock.getDelayedCalls() == []

    def stop(self, node: MixNode) -> None:
        self.running.remove(node)
        self.clock.wait_for(node.stopService(), 10.0)

    def network_of_four(self) -> ProviderService:
        for layer in (1, 2, 3):
            self.mixnode(f"m{layer}", layer)
        provider = self.provider()
        self.clock.advance(10.0)
        return provider

    def run_exactly(self, seconds: float) -> None:
        """Let time pass; after each event the account of every node must be what is really in it."""

        def exact() -> bool:
            for node in self.running:
                assert node.counters.queued == node.core.queued + node.links.pending, node.counters.snapshot()
            return False

        with pytest.raises(TimeoutError):
            self.clock.advance_until(exact, seconds)

    def client(self, provider: ProviderService) -> "Client":
        return Client(self, provider)


class Client:
    """One that registers, logs in, sends to itself and pulls."""

    name = "client"

    def __init__(self, world: World, provider: ProviderService) -> None:
        self.world = world
        self.mailbox_key = SigningKey(world.random.randbytes(32))
        self.private_key, self.public_key = generate_keypair(world.random)
        self.provider = world.directory.nodes[bytes(provider.parts.identity.verify_key)]
        self.connection = self.connect()
        self.token = world.clock.wait_for(self.connection.register(), 5.0)
        world.clock.wait_for(self.connection.login(self.token), 5.0)

    def connect(self) -> ProviderConnection:
        connecting = connect_to_provider(
            self.world.network.host(self.name),
            self.provider.host,
            self.provider.client_port,
            self.provider.identity,
            MemorySecurity(None, self.world.random),
            mailbox_key=self.mailbox_key,
            lost=lambda: None,
        )
        return self.world.clock.wait_for(connecting, 5.0)

    @property
    def own(self) -> Address:
        mailbox = mailbox_id(bytes(self.mailbox_key.verify_key))
        return Address(mailbox, self.public_key, self.provider.identity)

    def address(self) -> str:
        return self.own.encode(self.world.environment().trust.network)

    def send(self, text: bytes) -> bytes:
        """Send to itself what a client would; returns what the ack will say."""
        topology, random = self.world.directory.newest(), self.world.random
        plaintext = text.ljust(FRAGMENT_LENGTH)
        routes, delays = UniformRoutes(), ExponentialDelays(0.05)
        outgoing = build_data_packet(topology, self.own, self.own, plaintext, routes, delays, random)
        assert self.connection.submit(outgoing.first_hop, outgoing.epoch, outgoing.packet)
        return outgoing.ack_id

    def pull(self) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        for item in self.world.clock.wait_for(self.connection.pull(), 5.0):
            found.setdefault(item.kind, []).append(item.content)
        return found
