"""What mixnode and provider have in common around their cores: the parts of a node that mixes, and how they start."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from random import Random, SystemRandom
from typing import Any, Final

from msgspec import UNSET, structs
from nacl.signing import SigningKey

from twisted.application.service import Service
from twisted.logger import Logger

from nymtw.errors import NymtwError
from nymtw.interfaces import IDirectory, IMixing
from nymtw.link.limits import LinkLimits
from nymtw.link.node_link import NodeLinks
from nymtw.link.security import ILinkSecurity, TLSSecurity
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.mixing.delay_queue import DelayQueue
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.node.announce.placement import hosts
from nymtw.node.announce.presence import Presence
from nymtw.node.directories.several_directories import directories_at
from nymtw.node.directories.topology_watch import TopologyWatch
from nymtw.node.engine.capacity import carried_rate, unwraps_per_second
from nymtw.node.engine.drain import Drain
from nymtw.node.engine.guard_watch import GuardWatch
from nymtw.node.engine.key_rotation import KeyRotation
from nymtw.node.engine.late_watch import LateWatch
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.node.engine.packet_engine import PacketEngine
from nymtw.node.home import NodeHome, write_file
from nymtw.node.keys import KeyRing, load_or_create_identity
from nymtw.node.metrics import Metrics, node_metrics
from nymtw.node.mixing_options import DAY, MixOptions, MixSection, positive, seconds
from nymtw.node.networks import chosen_network
from nymtw.node.process.reload import changed
from nymtw.node.service import AtStop, Listener, NodeService
from nymtw.sphinx import GEOMETRIES, SizeClass
from nymtw.topology.document import ANY, GATEWAY, MIXNODE, PROVIDER, NodeRecord, Topology, Trust
from nymtw.topology.presence import Heartbeat, make_heartbeat

__all__ = [
    "AtStop",
    "Environment",
    "MixNode",
    "MixOptions",
    "MixParts",
    "MixSection",
    "positive",
    "seconds",
]

_PRESENCE_PATHS: Final = {MIXNODE: "mixnodes", PROVIDER: "mixproviders", GATEWAY: "gateways", ANY: "nodes"}
_VERSION: Final = version("nymtw")  # reading it takes a quarter of a millisecond
_SECONDS_OF_QUEUE: Final = 30
_REGULAR: Final = GEOMETRIES[SizeClass.REGULAR].packet_length
_LEAST_ROOM: Final = 32 << 20  # bytes, for all links together
_EPOCH_FILE: Final = "epoch_seconds"
FEWEST_TAGS: Final = 100_000  # 300 kB: an epoch of a minute may well begin with a burst


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a node finds outside itself; a simulation gives its own."""

    random: Random
    wall_clock: Callable[[], float]
    directory: IDirectory
    trust: Trust
    security: Callable[[SigningKey], ILinkSecurity]
    # How many packets a second a core unwraps; None where time is not real, and nothing is checked.
    speed: Callable[[], float] | None = None
    # When padded lines send, an `ILinkSchedule`; None: in constant slots, as they do in workers in any case.
    schedule: Any = None
    cryptography: Cryptography = SPHINX
    mixing: Callable[..., IMixing] = DelayQueue

    @classmethod
    def real(cls, reactor: Any, section: MixSection) -> "Environment":
        """The system's randomness and clock, the directory over HTTP, TLS. Raises `ConfigError`, `KeyFileError`."""
        random = SystemRandom()
        network = chosen_network(section.directory, section.directory_key, section.directory_threshold, section.network)
        return cls(
            random=random,
            wall_clock=time.time,
            directory=directories_at(reactor, network.directories, network.trust),
            trust=network.trust,
            security=TLSSecurity,
            speed=partial(unwraps_per_second, random),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MixParts:
    """The parts that a core is made of, and those that bring it its packets and keys."""

    home: NodeHome
    identity: SigningKey
    ring: KeyRing
    guard: ReplayGuard
    counters: PacketCounters
    section: MixSection
    environment: Environment
    carried: int  # packets a second; the configured rate where nobody has measured

    @classmethod
    def at(cls, home: NodeHome, section: MixSection, environment: Environment, processes: int = 1) -> "MixParts":
        """Those kept in `home`, which is created and locked, for a node that works in so many processes.

        Raises `ConfigError`, `KeyFileError`, `DiskError`; `ConfigError` also where the rate is more than this machine
        carries.
        """
        carried = section.rate
        if environment.speed is not None:
            carried = carried_rate(environment.speed(), section.rate, min(processes, os.cpu_count() or 1))
        home.create()
        home.lock()
        return cls(
            home=home,
            identity=load_or_create_identity(home),
            ring=KeyRing(home, environment.random),
            guard=ReplayGuard(home.data / "replay", capacity=tags_for(section.rate, _remembered_epoch(home))),
            counters=PacketCounters(),
            section=section,
            environment=environment,
            carried=carried,
        )

    def record(self, role: str, *, layer: int = 0, client_port: int = 0) -> NodeRecord:
        """This node as the topology will list it, keys aside. Raises `ConfigError` for a bad host."""
        return NodeRecord(
            role=role,
            identity=bytes(self.identity.verify_key),
            host=hosts(self.section.host, self.section.announced_host)[1],
            port=self.section.port,
            layer=layer,
            client_port=client_port,
            sphinx_keys={},
        )

    @property
    def bound_host(self) -> str:
        """The address to listen on."""
        return hosts(self.section.host, self.section.announced_host)[0]

    def limits(self) -> LinkLimits:
        """Room in the links for as much as is carried while packets wait for a connection; an eighth for each peer."""
        usual = LinkLimits()
        room = max(_LEAST_ROOM, int(self.carried * usual.patience) * _REGULAR)
        return replace(usual, queue_bytes=room, queue_bytes_per_peer=room // 8)

    def engine(self, reactor: Any, own: NodeRecord) -> dict[str, Any]:
        """The arguments of `PacketEngine`."""
        return {
            "clock": reactor,
            "random": self.environment.random,
            "unwrapper": self.environment.cryptography.unwrapper(),
            "mixing": self.environment.mixing,
            "guard": self.guard,
            "counters": self.counters,
            "own": own,
            "capacity": self.carried * _SECONDS_OF_QUEUE,
            "max_delay": self.section.max_delay,
        }


class MixNode(NodeService):
    """A node that mixes, around `core`: children start in the order in which `_add_children` adds them.

    It takes part in the network from its first topology on: that says how long a key epoch is, so there is a key to
    announce.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        parts: MixParts,
        core: PacketEngine,
        beneath: Sequence[Service] = (),
        links: Any = None,
        listener: Any = None,
    ) -> None:
        """`beneath`: what has to be there before the first packet, and until the last.

        `links` and `listener` stand in the place of `NodeLinks` and of the `Listener` for them, where other processes
        have the sockets.
        """
        super().__init__()
        environment = parts.environment
        self.parts = parts
        self.core = core
        self.counters = parts.counters
        self.links = links or NodeLinks(
            reactor,
            environment.security(parts.identity),
            receive=core.receive,
            admit=core.admits,
            sent=parts.counters.forwarded,
            dropped=parts.counters.dropped,
            random=environment.random,
            limits=parts.limits(),
            schedule=environment.schedule,
        )
        core.use_links(self.links)
        self.presence = Presence(
            reactor, environment.directory, self.heartbeat, _PRESENCE_PATHS[core.own.role], environment.random
        )
        self.watch = TopologyWatch(
            reactor, environment.directory, environment.trust, environment.random, environment.wall_clock
        )
        self.rotation = KeyRotation(reactor, environment.wall_clock, parts.ring, core.use_keys)
        self.guard_watch = GuardWatch(reactor, parts.guard, core.ration, self.rotation.renew)
        self.listener = listener or Listener(reactor, parts.bound_host, core.own.port, self.links.factory)
        self.metrics = Metrics()
        self.metrics.add(lambda: node_metrics(self))
        self.exporter: Any = None
        self.drain = Drain(reactor, core, self.links, parts.section.drain)
        self.section = parts.section  # as far as it is in force
        self.reread: Callable[[], MixSection] | None = None
        self._add_children(reactor, beneath)
        self.watch.subscribe(self.use_topology)

    def _add_children(self, reactor: Any, beneath: Sequence[Service]) -> None:
        """In the order in which they start; they stop in the opposite order."""
        parts, core = self.parts, self.core
        self.add(AtStop(self._close_home))
        if parts.section.metrics_port:
            from nymtw.node.metrics_server import MetricsServer  # a web server, which most nodes do without

            self.exporter = self.add(MetricsServer(reactor, parts.section.metrics_port, self.metrics))
        self.add(self.guard_watch)
        self.add(LateWatch(reactor, parts.counters))
        for service in beneath:
            self.add(service)
        self.add(AtStop(self.links.stop))
        self.add(AtStop(core.stop))
        self.add(self.drain)
        self.add(self.listener)
        self.add(self.rotation)
        self.add(self.watch)

    def startService(self) -> None:
        """Start, and say where."""
        super().startService()
        own = self.core.own
        self.log.info(
            "{role} {id} listens on {host}:{port}",
            role=own.role,
            id=self.parts.home.id,
            host=own.host,
            port=self.listener.port,
        )
        if self.parts.environment.speed is not None:
            self.log.info(
                "This machine carries {carried} packets a second; {rate} are configured",
                carried=self.parts.carried,
                rate=self.parts.section.rate,
            )

    def reload(self) -> None:
        """Reread the configuration: what can change while the node runs does, and the rest is named in the log.

        The starter of the node sets `reread`; without it nothing happens.
        """
        if self.reread is None:
            return
        try:
            section = self.reread()
        except NymtwError as error:
            self.log.error("The configuration stays as it was: {error}", error=error)
            return
        different = changed(self.section, section)
        applied = self.apply(section)
        now = {name: getattr(section, name) for name in different if name in applied}
        self.section = structs.replace(self.section, **now)
        waiting = changed(self.section, section)
        self.log.info(
            "The configuration was reread; changed: {changed}; these need a restart: {waiting}",
            changed=", ".join(now) or "nothing",
            waiting=", ".join(waiting) or "none",
        )

    def apply(self, section: Any) -> frozenset[str]:
        """Put in force what can be while the node runs. Returns the names of those keys, changed or not."""
        self.core.set_max_delay(section.max_delay)
        self.drain.seconds = section.drain
        return frozenset(("max_delay", "drain", "description", "country"))

    def use_topology(self, topology: Topology) -> None:
        """A new topology has come."""
        self.core.use_topology(topology)
        self._size_guard(topology.epoch_seconds)
        self.rotation.follow(topology.epoch_seconds)
        if self.running and self.presence.parent is None and self.rotation.epoch is not None:
            self.add(self.presence)

    def heartbeat(self) -> Mapping[str, Any]:
        """One signed post of presence."""
        return make_heartbeat(self.announced(), self.parts.identity)

    def announced(self) -> Heartbeat:
        """The content of the next heartbeat. Roles extend it."""
        own = self.core.own
        record = NodeRecord(
            role=own.role,
            identity=own.identity,
            host=own.host,
            port=self.listener.port,
            layer=own.layer,
            sphinx_keys=self.rotation.public_keys(),
            family=self.section.family or UNSET,
        )
        return Heartbeat(
            record,
            clients=(),
            number=0,
            timestamp=int(self.parts.environment.wall_clock() * 1e9),
            version=_VERSION,
            description=self.section.description,
            country=self.section.country.upper(),
        )

    def _size_guard(self, epoch_seconds: int) -> None:
        guard = self.parts.guard
        capacity = tags_for(self.parts.section.rate, epoch_seconds)
        if capacity == guard.capacity and _remembered_epoch(self.parts.home) == epoch_seconds:
            return
        guard.capacity = capacity
        try:
            write_file(self.parts.home.data / _EPOCH_FILE, f"{epoch_seconds}\n".encode())
        except OSError as error:
            self.log.warn("{file}: {cause}", file=_EPOCH_FILE, cause=error.strerror)

    def _close_home(self) -> None:
        try:
            self.parts.guard.close()
        finally:
            self.parts.home.unlock()


def _remembered_epoch(home: NodeHome) -> int:
    """How long (seconds) a key epoch was when the node last ran; a day where nobody knows."""
    try:
        text = (home.data / _EPOCH_FILE).read_text().strip()
    except OSError:
        return DAY
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else DAY


def tags_for(rate: int, epoch_seconds: int) -> int:
    """How many replay tags a key has room for: an epoch, a day at most, at `rate` packets a second."""
    return max(rate * min(epoch_seconds, DAY), FEWEST_TAGS)
