"""A mixnode: takes packets from the layer before, mixes them, and sends them on to the layer behind."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nymtw.mixnode.core import MixnodeCore
from nymtw.mixnode.options import MixnodeConfig
from nymtw.node.home import NodeHome, write_file
from nymtw.node.metrics import MetricsReport
from nymtw.node.mix_node import MixNode, MixParts, Surroundings
from nymtw.node.placement import thinnest_layer
from nymtw.topology.document import MIXNODE, Topology
from nymtw.topology.presence import make_metric


class MixnodeService(MixNode):
    """The parts of every node that mixes, the choice of a layer where none was given, and the metrics."""

    def __init__(self, reactor: Any, parts: MixParts, core: MixnodeCore, metrics: bool) -> None:
        super().__init__(reactor, parts, core)
        around = parts.surroundings
        self._metrics = (
            MetricsReport(reactor, around.directory, parts.account, self._metric, around.random) if metrics else None
        )

    @classmethod
    def from_config(
        cls, reactor: Any, home: NodeHome, config: MixnodeConfig, around: Surroundings | None = None
    ) -> "MixnodeService":
        """The mixnode whose files are in `home`. Raises `ConfigError`, `KeyFileError`, `DiskError`."""
        parts = MixParts.at(home, config.node, around or Surroundings.real(reactor, config.node))
        layer = config.node.layer or _chosen_layer(home)
        core = MixnodeCore(**parts.engine(reactor, parts.record(MIXNODE, layer=layer)))
        return cls(reactor, parts, core, config.node.metrics)

    def use_topology(self, topology: Topology) -> None:
        """A new topology has come; the first one may decide the layer."""
        if not self.core.own.layer:
            layer = thinnest_layer(topology, self.parts.surroundings.random)
            write_file(self.parts.home.data / "layer", f"{layer}\n".encode())
            self.core.own = msgspec.structs.replace(self.core.own, layer=layer)
            self.log.info("This mixnode works in layer {layer}, the thinnest", layer=layer)
        super().use_topology(topology)
        # A directory takes metrics only from nodes that it knows.
        if self._metrics is not None and self._metrics.parent is None and topology.find(self.core.own.identity):
            self.add(self._metrics)

    def _metric(self, sent: int, received: int) -> Mapping[str, Any]:
        epoch = self.rotation.epoch
        return make_metric(
            public_key=self.rotation.public_keys()[epoch or 0],
            received=received,
            sent=sent,
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
