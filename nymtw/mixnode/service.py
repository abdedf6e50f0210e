"""A mixnode: takes packets from the layer before, mixes them, and sends them on to the layer behind."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from nymtw.mixnode.core import MixnodeCore
from nymtw.mixnode.loops import MixLoops
from nymtw.mixnode.loss import ByChance
from nymtw.mixnode.options import MixnodeConfig, MixnodeSection
from nymtw.mixnode.worker_spawn import Crew, hire
from nymtw.node.home import NodeHome, write_file
from nymtw.node.metrics import MetricsReport
from nymtw.node.mix_node import MixNode, MixParts, Surroundings
from nymtw.node.placement import thinnest_layer
from nymtw.topology.document import MIXNODE, Topology
from nymtw.topology.presence import make_metric


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
        crew: Crew | None = None,
    ) -> None:
        """`policy`: an `ICoverPolicy`; None is `ByChance`, with what the configuration says. `crew`: of `core`."""
        if crew is None:
            super().__init__(reactor, parts, core)
        else:
            super().__init__(reactor, parts, core, [crew.workers], crew.workers, crew.listener)
        around = parts.surroundings
        self.loops = MixLoops(
            reactor,
            core,
            self.links,
            self.watch.usable,
            policy or ByChance(section.on_loop_loss),
            around.random,
            rate=section.loop_rate,
            window=section.loop_window,
        )
        self.figures.add(self.loops.figures)
        self.add(self.loops)
        self._policy_is_given = policy is not None
        self._metrics = MetricsReport(
            reactor, around.directory, parts.account, self._metric, around.random, more=self.loops.totals
        )

    @classmethod
    def from_config(
        cls,
        reactor: Any,
        home: NodeHome,
        config: MixnodeConfig,
        around: Surroundings | None = None,
        policy: Any = None,
    ) -> "MixnodeService":
        """The mixnode whose files are in `home`; `policy` is an `ICoverPolicy`, if it is not to be the default.

        Raises `ConfigError`, `KeyFileError`, `DiskError`.
        """
        around = around or Surroundings.real(reactor, config.node)
        parts = MixParts.at(home, config.node, around, config.node.workers)
        layer = config.node.layer or _chosen_layer(home)
        engine = parts.engine(reactor, parts.record(MIXNODE, layer=layer))
        if config.node.workers == 1:
            return cls(reactor, parts, MixnodeCore(**engine), config.node, policy)
        crew = hire(reactor, config.node.workers, bytes(parts.identity), engine, parts.limits())
        return cls(reactor, parts, crew.judge, config.node, policy, crew)

    def use_topology(self, topology: Topology) -> None:
        """A new topology has come; the first one may decide the layer."""
        if not self.core.own.layer:
            layer = thinnest_layer(topology, self.parts.surroundings.random)
            write_file(self.parts.home.data / "layer", f"{layer}\n".encode())
            self.core.own = structs.replace(self.core.own, layer=layer)
            self.log.info("This mixnode works in layer {layer}, the thinnest", layer=layer)
        super().use_topology(topology)
        self._report_metrics()

    def apply(self, section: MixnodeSection) -> frozenset[str]:
        """As every node; and loops, and whether the directory gets metrics."""
        applied = super().apply(section) | {"loop_rate", "metrics"}
        self.loops.set_rate(section.loop_rate)
        if not self._policy_is_given:
            self.loops.policy = ByChance(section.on_loop_loss)
            applied |= {"on_loop_loss"}
        self.section = structs.replace(self.section, metrics=section.metrics)
        self._report_metrics()
        return applied

    def _report_metrics(self) -> None:
        """Tell the directory or do not, as the configuration says; it takes metrics only from nodes that it knows."""
        topology = self.watch.current
        wanted = self.section.metrics and topology is not None and topology.find(self.core.own.identity) is not None
        if wanted and self._metrics.parent is None:
            self.add(self._metrics)
        elif not self.section.metrics and self._metrics.parent is not None:
            self._metrics.disownServiceParent()

    def _metric(self, sent: int, received: int, *loops: int) -> Mapping[str, Any]:
        epoch = self.rotation.epoch
        return make_metric(
            public_key=self.rotation.public_keys()[epoch or 0],
            received=received,
            sent=sent,
            loops=(loops[0], loops[1]),
            timestamp=int(self.parts.surroundings.wall_clock() * 1e9),
            signing_key=self.parts.identity,
        )

    def announced(self) -> Mapping[str, Any]:
        """The layer."""
        return {"layer": self.core.own.layer}


def _chosen_layer(home: NodeHome) -> int:
    """The layer chosen at an earlier start; 0 if there was none."""
    try:
        text = (home.data / "layer").read_text().strip()
    except OSError:
        return 0
    return int(text) if text in ("1", "2", "3") else 0
