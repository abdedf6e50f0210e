"""What a node does besides while it is a mixnode: loops of its own, and metrics for the directory."""

from collections.abc import Mapping
from typing import Any

from nymtw.mixing.loop_loss import ByChance
from nymtw.mixnode.core import MixnodeCore
from nymtw.mixnode.loops import MixLoops
from nymtw.node.announce.traffic_report import TrafficReport
from nymtw.node.engine.mix_node import MixNode
from nymtw.topology.document import MIXNODE
from nymtw.topology.presence import make_metric


class Cover:
    """Loops and metrics as services of `node`; both rest while the topology does not list it as a mixnode.

    `section` has `loop_rate`, `loop_window`, `on_loop_loss` and `metrics`. `policy`: an `ICoverPolicy`; None is
    `ByChance`, with what the section says.
    """

    def __init__(self, reactor: Any, node: MixNode, core: MixnodeCore, section: Any, policy: Any = None) -> None:
        environment = node.parts.environment
        self._node = node
        self._wanted: bool = section.metrics
        self._rate: float | None = section.loop_rate  # None: what the topology recommends
        self._policy_is_given = policy is not None
        self.loops = MixLoops(
            reactor,
            core,
            node.links,
            node.watch.usable,
            policy or ByChance(section.on_loop_loss),
            environment.random,
            rate=section.loop_rate or 0.0,
            window=section.loop_window,
            cryptography=environment.cryptography,
        )
        node.metrics.add(self.loops.metrics)
        node.add(self.loops)
        self._metrics = TrafficReport(
            reactor,
            environment.directory,
            node.counters,
            self._metric,
            environment.random,
            more=self.loops.totals,
            is_known=lambda: node.presence.announced,
        )

    def use_topology(self) -> None:
        """A new topology has come: it may recommend another rate, and the directory takes metrics only from mixnodes
        that it knows.
        """
        topology, own = self._node.watch.current, self._node.core.own.identity
        if topology is not None and self._rate is None:
            self.loops.set_rate(topology.recommended.mixnode_loop_rate)
        listed = None if topology is None else topology.find(own)
        wanted = self._wanted and listed is not None and listed.role == MIXNODE
        if wanted and self._metrics.parent is None:
            self._node.add(self._metrics)
        elif not wanted and self._metrics.parent is not None:
            self._metrics.disownServiceParent()

    def apply(self, section: Any) -> frozenset[str]:
        """As `MixNode.apply`."""
        applied = frozenset(("loop_rate", "metrics"))
        self._rate = section.loop_rate
        if self._rate is not None:
            self.loops.set_rate(self._rate)
        if not self._policy_is_given:
            self.loops.policy = ByChance(section.on_loop_loss)
            applied |= {"on_loop_loss"}
        self._wanted = section.metrics
        self.use_topology()
        return applied

    def _metric(self, sent: int, received: int, *loops: int) -> Mapping[str, Any]:
        node = self._node
        return make_metric(
            public_key=node.rotation.public_keys()[node.rotation.epoch or 0],
            received=received,
            sent=sent,
            loops=(loops[0], loops[1]),
            timestamp=int(node.parts.environment.wall_clock() * 1e9),
            signing_key=node.parts.identity,
        )
