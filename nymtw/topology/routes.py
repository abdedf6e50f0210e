"""Routes through the layers, and the delays at each hop: the two choices that a sender makes for every packet.

Both are strategies (`IRouteStrategy`, `IDelayStrategy`), so that a researcher can put others in their place.
"""

import math
import random as random_module
from collections.abc import Sequence

from zope.interface import implementer

from nymtw.errors import NymtwError, TopologyIncomplete
from nymtw.interfaces import IDelayStrategy, IRouteStrategy
from nymtw.topology.document import LAYERS, NodeRecord, Topology

_NANOSECONDS = 1e9


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


@implementer(IDelayStrategy)
class ExponentialDelays:
    """Delays from an exponential distribution with this mean, in seconds; zero means no delay at all.

    The only distribution under which a mixnode that knows when a packet came cannot tell more the longer it waits
    (Loopix, section 3.2: memorylessness). Never cut.
    """

    def __init__(self, mean_seconds: float) -> None:
        if not (math.isfinite(mean_seconds) and 0 <= mean_seconds <= 86400):
            raise NymtwError(f"a mean delay is 0 to 86400 seconds, not {mean_seconds}")
        self.mean_seconds = mean_seconds

    def draw(self, hops: int, random: random_module.Random) -> Sequence[int]:
        """`hops` delays in nanoseconds."""
        if not self.mean_seconds:
            return [0] * hops
        rate = 1 / (self.mean_seconds * _NANOSECONDS)
        return [int(random.expovariate(rate)) for _ in range(hops)]
