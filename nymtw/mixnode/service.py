"""A mixnode: takes packets from the layer before, mixes them, and sends them on to the layer behind."""

from typing import TYPE_CHECKING, Any

from msgspec import structs

from nymtw.mixnode.core import MixnodeCore
from nymtw.mixnode.cover import Cover
from nymtw.mixnode.options import MixnodeConfig, MixnodeSection
from nymtw.node.announce.placement import thinnest_layer
from nymtw.node.engine.mix_node import Environment, MixNode, MixParts
from nymtw.node.home import NodeHome, write_file
from nymtw.topology.document import MIXNODE, Topology

if TYPE_CHECKING:  # a mixnode of one process does not load it
    from nymtw.mixnode.workers.spawn import WorkerParts


class MixnodeService(MixNode):
    """The parts of every node that mixes, the choice of a layer where none was given, loops, and the metrics."""

    section: MixnodeSection

    def __init__(
        self,
        reactor: Any,
        parts: MixParts,
        core: MixnodeCore,
        section: MixnodeSection,
        policy: Any = None,
        worker_parts: "WorkerParts | None" = None,
    ) -> None:
        """`policy`: an `ICoverPolicy`; None: `ByChance`, as configured. `worker_parts`: those of `core`."""
        if worker_parts is None:
            super().__init__(reactor, parts, core)
        else:
            super().__init__(reactor, parts, core, [worker_parts.workers], worker_parts.workers, worker_parts.listener)
        self.cover = Cover(reactor, self, core, section, policy)
        self.loops = self.cover.loops

    @classmethod
    def from_config(
        cls,
        reactor: Any,
        home: NodeHome,
        config: MixnodeConfig,
        environment: Environment | None = None,
        policy: Any = None,
    ) -> "MixnodeService":
        """The mixnode whose files are in `home`; `policy` is an `ICoverPolicy`, if it is not to be the default.

        Raises `ConfigError`, `KeyFileError`, `DiskError`.
        """
        environment = environment or Environment.real(reactor, config.node)
        parts = MixParts.at(home, config.node, environment, config.node.workers)
        layer = config.node.layer or _chosen_layer(home)
        engine = parts.engine(reactor, parts.record(MIXNODE, layer=layer))
        if config.node.workers == 1:
            return cls(reactor, parts, MixnodeCore(**engine), config.node, policy)
        from nymtw.mixnode.workers.spawn import make_workers

        worker_parts = make_workers(
            reactor, config.node.workers, bytes(parts.identity), engine, parts.limits(), parts.bound_host
        )
        return cls(reactor, parts, worker_parts.coordinator, config.node, policy, worker_parts)

    def use_topology(self, topology: Topology) -> None:
        """A new topology has come; the first one may decide the layer."""
        if not self.core.own.layer:
            layer = thinnest_layer(topology, self.parts.environment.random)
            write_file(self.parts.home.data / "layer", f"{layer}\n".encode())
            self.core.own = structs.replace(self.core.own, layer=layer)
            self.log.info("This mixnode works in layer {layer}, the thinnest", layer=layer)
        listed = topology.find(self.core.own.identity)
        if listed is not None and listed.layer not in (0, self.core.own.layer):
            write_file(self.parts.home.data / "layer", f"{listed.layer}\n".encode())
            self.core.own = structs.replace(self.core.own, layer=listed.layer)
            self.log.info("The directory has put this mixnode into layer {layer}", layer=listed.layer)
        super().use_topology(topology)
        self.cover.use_topology()

    def apply(self, section: MixnodeSection) -> frozenset[str]:
        """As every node; and loops, and whether the directory gets metrics."""
        return super().apply(section) | self.cover.apply(section)


def _chosen_layer(home: NodeHome) -> int:
    """The layer chosen at an earlier start; 0 if there was none."""
    try:
        text = (home.data / "layer").read_text().strip()
    except OSError:
        return 0
    return int(text) if text in ("1", "2", "3") else 0
