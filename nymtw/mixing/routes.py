"""Route strategies: they draw a route through the layers for each packet (`IRouteStrategy`)."""

import random as random_module
from collections.abc import Sequence

from zope.interface import implementer

from nymtw.errors import TopologyIncomplete
from nymtw.interfaces import IRouteStrategy
from nymtw.topology.document import LAYERS, NodeRecord, Topology


@implementer(IRouteStrategy)
class UniformRoutes:
    """One mixnode of each layer, each as likely as any other, independently for each packet."""

    def draw(self, topology: Topology, random: random_module.Random) -> Sequence[NodeRecord]:
        """One mixnode for each layer, in order. Raises `TopologyIncomplete`, naming the layer that is empty."""
        route = []
        for layer in LAYERS:
            nodes = topology.usable_mixnodes(layer)
            if not nodes:
                raise TopologyIncomplete(f"layer {layer} has no mixnode with a key for key epoch {topology.epoch}")
            route.append(random.choice(nodes))
        return route
