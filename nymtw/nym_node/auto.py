"""A node that is what the directory asks for, from one key epoch to the next: a mixnode of any layer, or a gateway.

It has all parts at all times, so that none is taken away from a packet. What it is decides who sends packets to it, and
that goes by their key epoch; whether it takes new clients; and whether it sends loops of its own.

A node with mailboxes stays a gateway: its clients' addresses name it. So that nobody registers at a gateway that is
about to leave, one without mailboxes takes no clients for a moment before it is decided, and only then says that it
could be something else.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from msgspec import UNSET, structs

from nymtw.gateway.service import GatewayService
from nymtw.mixnode.cover import Cover
from nymtw.node.engine.mix_node import Environment
from nymtw.node.home import NodeHome
from nymtw.nym_node.config import NymNodeConfig
from nymtw.nym_node.core import AnyCore
from nymtw.nym_node.kept_places import KeptPlaces
from nymtw.nym_node.options import Options
from nymtw.topology.document import ANY, MIXNODE, NOTICE, Place, Topology

ENTRY: Final = "entry-gateway"
EXIT: Final = "exit-gateway"
# Seconds before it is decided: from then on nobody can register, and somewhat later, when whoever was registering has
# done so, the node says that it can leave. Less where an epoch is short.
CLOSING: Final = 30.0
OFFERING: Final = 20.0
_PART_OF_EPOCH: Final = 0.1


class AutoService(GatewayService):
    """A gateway and a mixnode in one, of which the topology says which it is. Made by `for_config`."""

    role: ClassVar[str] = ANY
    core_type: ClassVar[Any] = AnyCore
    core: AnyCore

    @classmethod
    def for_config(
        cls,
        reactor: Any,
        home: NodeHome,
        config: NymNodeConfig,
        options: Options,
        environment: Environment | None = None,
        policy: Any = None,
    ) -> "AutoService":
        """The node whose files are in `home`; `policy` is an `ICoverPolicy`, if it is not to be the default.

        Raises `ConfigError`, `KeyFileError`, `DiskError`, `PluginError`.
        """
        told: Any = config.as_any()
        service = cls.from_config(reactor, home, told, options.factories, options, environment)
        service.takes = told.node.takes
        service.cover = Cover(reactor, service, service.core, told.node, policy)
        service.clients.closed = service.closed
        service.kept = KeptPlaces(home.data, service.parts.environment.trust.network)
        if service.kept.places:
            service.core.own = structs.replace(service.core.own, places=dict(service.kept.places))
        return service

    kept: KeptPlaces
    takes: tuple[str, ...]
    cover: Cover
    clients: Any

    def use_topology(self, topology: Topology) -> None:
        """A new topology has come, which may say what this node is."""
        listed = topology.find(self.core.own.identity)
        if listed is not None and listed.places:
            self._become(self.kept.take(listed, topology.epoch), topology)
        else:
            places = dict(self.kept.forget_before(topology.epoch)) or UNSET
            self.core.own = structs.replace(self.core.own, places=places)
        super().use_topology(topology)
        self.cover.use_topology()

    def _become(self, places: Mapping[int, Place], topology: Topology) -> None:
        before = self.core.own
        self.core.own = own = structs.replace(before, places=dict(places)).at(topology.epoch)
        now, following = own.place(topology.epoch), own.place(topology.epoch + 1)
        if now != before.place(topology.epoch):
            self.log.info("From key epoch {epoch} on this node is {place}", epoch=topology.epoch, place=now)
        if following not in (now, before.place(topology.epoch + 1)):
            self.log.info("From key epoch {epoch} on this node is {place}", epoch=topology.epoch + 1, place=following)

    def place(self) -> str:
        """Where this node works now, by its own clock; empty before it has a place."""
        topology = self.watch.current
        if topology is None:
            return ""
        return self.core.own.place(max(topology.epoch, int(self._now() // topology.epoch_seconds)))

    def closed(self) -> str:
        """Why nobody can register now; empty where everybody can."""
        place = self.place()
        if place not in (ENTRY, EXIT):
            return "this node is no gateway now"
        if place == ENTRY and MIXNODE in self.takes and self._left() < CLOSING and not self.clients.store.count():
            return "this gateway may be needed elsewhere in the network: use another one, or try again later"
        return ""

    def can_be(self) -> tuple[str, ...]:
        """What this node could be in the next key epoch."""
        place = self.place()
        doors = tuple(role for role in self.takes if role != MIXNODE) or (ENTRY,)
        if place == EXIT:
            return (EXIT,)  # connections end here
        if self.clients.store.count() or (place == ENTRY and self._left() >= OFFERING):
            return doors
        return self.takes

    def role_announced(self) -> str:
        """What the heartbeat says."""
        return ANY

    def announced(self) -> Mapping[str, Any]:
        """As a gateway, whatever it is now; an exit's service only where it is one. And what it can be."""
        said = dict(super().announced())
        if self.place() != EXIT:
            said["services"] = {name: address for name, address in said["services"].items() if name != "exit"}
        return {**said, "takes": self.can_be()}

    def apply(self, section: Any) -> frozenset[str]:
        """As a gateway and as a mixnode; and what it takes, unless it would have to start as an exit for that."""
        applied = super().apply(section) | self.cover.apply(section)
        if EXIT in section.takes and not any(service_host.name == "exit" for service_host in self.service_hosts):
            return applied
        self.takes = section.takes
        return applied | {"takes"}

    def _left(self) -> float:
        """Seconds until it is decided who works where in the next epoch; negative: it has been, and that epoch has not
        begun. Where an epoch is short they are counted so that `CLOSING` is a tenth of it.
        """
        topology = self.watch.current
        if topology is None:
            return 0.0
        decided = (topology.epoch + 1) * topology.epoch_seconds - NOTICE * topology.refresh
        scale = min(1.0, _PART_OF_EPOCH * topology.epoch_seconds / CLOSING)
        return (decided - self._now()) / scale

    def _now(self) -> float:
        return self.parts.environment.wall_clock()
