"""Routes and delays: the distributions that the anonymity rests on."""

import math
import random
from collections import Counter
from itertools import product

import msgspec
import pytest

from nymtw.errors import NymtwError, TopologyIncomplete
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.routes import UniformRoutes
from nymtw.topology.document import NodeRecord, Topology

NODES = tuple(
    NodeRecord(
        role="mixnode",
        identity=bytes([number]) * 32,
        host="",
        port=1,
        layer=1 + number % 3,
        sphinx_keys={1: bytes(32)} if number < 9 else {},
    )
    for number in range(12)
)
TOPOLOGY = Topology(
    serial=1, network=bytes(16), published=0, valid_until=1, refresh=1.0, epoch=1, epoch_seconds=1, nodes=NODES
)


def test_every_route_is_as_likely_as_any_other():
    source, routes, count = random.Random(1), UniformRoutes(), 8100
    drawn = Counter(tuple(node.identity[0] for node in routes.draw(TOPOLOGY, source)) for _ in range(count))
    assert set(drawn) == set(product((0, 3, 6), (1, 4, 7), (2, 5, 8)))
    expected = count / 27
    chi_squared = sum((seen - expected) ** 2 / expected for seen in drawn.values())
    assert chi_squared < 54.1  # 26 degrees of freedom, p = 0.001; the seed is fixed


def test_a_layer_without_a_usable_node_is_named():
    without = msgspec.structs.replace(
        TOPOLOGY, nodes=tuple(node for node in NODES if node.layer != 2 or node.identity[0] > 8)
    )
    with pytest.raises(TopologyIncomplete, match="layer 2"):
        UniformRoutes().draw(without, random.Random(1))


def test_delays_are_exponential():
    count, mean = 20_000, 50_000_000
    drawn = sorted(ExponentialDelays(0.05).draw(count, random.Random(2)))
    distance = max(abs((at + 1) / count - (1 - math.exp(-delay / mean))) for at, delay in enumerate(drawn))
    assert distance < 1.63 / math.sqrt(count)  # Kolmogorov-Smirnov, p = 0.01; the seed is fixed
    assert all(isinstance(delay, int) and 0 <= delay < 2**64 for delay in drawn)


def test_no_delay_is_no_delay():
    assert ExponentialDelays(0.0).draw(3, random.Random(1)) == [0, 0, 0]


@pytest.mark.parametrize("mean", [-1.0, math.nan, math.inf, 1e6])
def test_a_mean_that_is_none_is_refused(mean):
    with pytest.raises(NymtwError):
        ExponentialDelays(mean)


def test_a_seed_replays_the_choices():
    for strategy, what in ((UniformRoutes(), TOPOLOGY), (ExponentialDelays(1.0), 5)):
        assert strategy.draw(what, random.Random(3)) == strategy.draw(what, random.Random(3))
