"""A node in the role that the directory assigns for each key epoch: a mixnode of any layer, or a gateway.

The node always has the parts of all roles, so that no packet loses the part that it needs. The role decides:
* which peers send packets to it, by the packets' key epoch,
* whether it accepts new clients,
* whether it sends loops of its own.

A node with mailboxes stays a gateway, because its clients' addresses name it. Nobody may register at a gateway that is
about to change its role. So a gateway without mailboxes accepts no clients shortly before roles are assigned, and only
then announces that it can take another role.
"""

from collections.abc import Mapping
from dataclasses import replace
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
from nymtw.topology.presence import Heartbeat

ENTRY: Final = "entry-gateway"
EXIT: Final = "exit-gateway"
# Seconds before roles are assigned. At CLOSING registration ends. At OFFERING running registrations have finished, and
# the node announces its other roles. Both are shorter if an epoch is short.
CLOSING: Final = 30.0
OFFERING: Final = 20.0
_PART_OF_EPOCH: Final = 0.1


class AutoService(GatewayService):
    """A gateway and a mixnode in one. The topology decides on the role. Made by `for_config`."""

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
        """Make the node for a `home`. `policy`: an `ICoverPolicy`, None for the default.

        Raises `ConfigError`, `KeyFileError`, `DiskError`, `PluginError`.
        """
        merged: Any = config.as_any()
        service = cls.from_config(reactor, home, merged, options.factories, options, environment)
        service.takes = merged.node.takes
        service.cover = Cover(reactor, service, service.core, merged.node, policy)
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
        """Use a new topology, which may assign another role."""
        record = topology.find(self.core.own.identity)
        if record is not None and record.places:
            self._become(self.kept.take(record, topology.epoch), topology)
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
        """The node's place now, by its own clock; "" before it has one."""
        topology = self.watch.current
        if topology is None:
            return ""
        return self.core.own.place(max(topology.epoch, int(self._now() // topology.epoch_seconds)))

    def closed(self) -> str:
        """The reason why no client can register now; "" if clients can register."""
        place = self.place()
        if place not in (ENTRY, EXIT):
            return "this node is not a gateway at present"
        if place == ENTRY and MIXNODE in self.takes and self._left() < CLOSING and not self.clients.store.count():
            return "this gateway may be needed elsewhere in the network: use another one, or try again later"
        return ""

    def can_be(self) -> tuple[str, ...]:
        """The roles that this node can take in the next key epoch."""
        place = self.place()
        gateway_roles = tuple(role for role in self.takes if role != MIXNODE) or (ENTRY,)
        if place == EXIT:
            return (EXIT,)  # connections end here
        if self.clients.store.count() or (place == ENTRY and self._left() >= OFFERING):
            return gateway_roles
        return self.takes

    def announced(self) -> Heartbeat:
        """A gateway's heartbeat in every role, with the exit's service only as an exit, and the possible roles."""
        heartbeat = super().announced()
        services = dict(heartbeat.record.services or {})
        if self.place() != EXIT:
            services.pop("exit", None)
        record = structs.replace(heartbeat.record, role=ANY, services=services, takes=self.can_be())
        return replace(heartbeat, record=record)

    def apply(self, section: Any) -> frozenset[str]:
        """Apply changed values of both roles, and `takes`, unless that needs a new start with an exit."""
        applied = super().apply(section) | self.cover.apply(section)
        if EXIT in section.takes and not any(hosted.name == "exit" for hosted in self.service_hosts):
            return applied
        self.takes = section.takes
        return applied | {"takes"}

    def _left(self) -> float:
        """Seconds until the roles of the next epoch are assigned; negative between that moment and the next epoch.

        If an epoch is short, time is scaled so that `CLOSING` is a tenth of it.
        """
        topology = self.watch.current
        if topology is None:
            return 0.0
        decided = (topology.epoch + 1) * topology.epoch_seconds - NOTICE * topology.refresh
        scale = min(1.0, _PART_OF_EPOCH * topology.epoch_seconds / CLOSING)
        return (decided - self._now()) / scale

    def _now(self) -> float:
        return self.parts.environment.wall_clock()
