"""Delay, route and cover strategies of somebody else, named in a configuration or given to a network."""

import random
from collections.abc import Sequence

import pytest

from zope.interface import implementer

from nymtw.client.config import DebugSection
from nymtw.client.sending.idle import DropCover, LoopCover, NoCover, cover_strategy
from nymtw.errors import PluginError
from nymtw.interfaces import IDelayStrategy, IRouteStrategy
from nymtw.mixing.routes import UniformRoutes
from nymtw.mixing.strategies import delay_factory, route_strategy
from nymtw.testing.observer import Observer
from nymtw.testing.rows import Direction, Kind
from nymtw.testing.simulation import SimulatedNetwork
from nymtw.topology.document import NodeRecord, Topology

HERE = __name__


@implementer(IDelayStrategy)
class ConstantDelays:
    """The mean itself."""

    def __init__(self, mean_seconds: float) -> None:
        self.mean_seconds = mean_seconds

    def draw(self, hops: int, random: random.Random) -> Sequence[int]:
        return [int(self.mean_seconds * 1e9)] * hops


@implementer(IRouteStrategy)
class FirstOfEach:
    """The mixnode of each layer whose identity is the lowest."""

    def draw(self, topology: Topology, random: random.Random) -> Sequence[NodeRecord]:
        return [min(topology.usable_mixnodes(layer), key=lambda node: node.identity) for layer in (1, 2, 3)]


def broken() -> None:
    raise RuntimeError("no")


def test_a_delay_strategy_is_found_by_name() -> None:
    source = random.Random(1)
    assert delay_factory(f"{HERE}:ConstantDelays")(0.25).draw(3, source) == [250_000_000] * 3
    assert IDelayStrategy.providedBy(delay_factory("exponential")(0.05))


def test_a_route_strategy_is_found_by_name() -> None:
    assert isinstance(route_strategy(f"{HERE}:FirstOfEach"), FirstOfEach)
    assert isinstance(route_strategy("uniform"), UniformRoutes)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("pareto", "no delay strategy is called"),
        ("nymtw.nowhere:Delays", "cannot be loaded"),
        (f"{HERE}:nothing", "cannot be loaded"),
        (f"{HERE}:HERE", "is not a factory"),
        (f"{HERE}:FirstOfEach", "cannot be made"),
    ],
)
def test_a_delay_strategy_that_cannot_be_used_is_refused(name: str, cause: str) -> None:
    with pytest.raises(PluginError, match=cause):
        delay_factory(name)


@pytest.mark.parametrize("name", [f"{HERE}:broken", "builtins:dict"])
def test_a_route_or_cover_strategy_that_cannot_be_used_is_refused(name: str) -> None:
    with pytest.raises(PluginError):
        route_strategy(name)
    with pytest.raises((PluginError, RuntimeError)):
        cover_strategy(name)


def routes_of(observer: Observer) -> set[str]:
    rows = observer.rows
    return {
        rows.names[target]
        for target, direction, hop in zip(rows.target, rows.direction, rows.hop, strict=True)
        if direction in (Direction.IN, Direction.ACROSS) and hop >= 0
    }


def delays_of(observer: Observer) -> set[float]:
    rows = observer.rows
    return {delay for delay, direction in zip(rows.delay, rows.direction, strict=True) if direction == Direction.ACROSS}


@pytest.mark.parametrize("how", ["arguments", "configuration"])
def test_a_network_takes_both_strategies(how: str, seed: int) -> None:
    observer = Observer()
    if how == "arguments":
        given = {"delays": ConstantDelays, "routes": FirstOfEach()}
    else:
        named = DebugSection(delay_strategy=f"{HERE}:ConstantDelays", route_strategy=f"{HERE}:FirstOfEach")
        given = {"debug": named}
    with SimulatedNetwork(seed, crypto="none", observer=observer, **given) as network:
        network.deliver("alice", "bob", b"hello")
    assert delays_of(observer) == {0.05}
    assert len(routes_of(observer)) == 3


def test_by_default_delays_and_routes_vary(seed: int) -> None:
    observer = Observer()
    with SimulatedNetwork(seed, crypto="none", observer=observer) as network:
        network.run(2)
    assert len(delays_of(observer)) > 50
    assert len(routes_of(observer)) == 6


@pytest.mark.parametrize(("cover", "kind"), [(LoopCover(), Kind.LOOP), (DropCover(), Kind.DROP), (NoCover(), None)])
def test_a_cover_strategy_fills_idle_slots(cover: object, kind: Kind | None, seed: int) -> None:
    observer = Observer()
    quiet = DebugSection(loop_cover_traffic_rate=-1.0, drop_cover_traffic_rate=-1.0)
    with SimulatedNetwork(seed, crypto="none", observer=observer, idle=cover, debug=quiet) as network:
        network.run(2)
    rows = observer.rows
    sent = [
        kind for kind, direction, hop in zip(rows.kind, rows.direction, rows.hop, strict=True) if direction == 0 == hop
    ]
    assert set(sent) == (set() if kind is None else {kind})


def test_a_client_does_not_start_with_a_strategy_that_does_not_exist(seed: int) -> None:
    with (
        pytest.raises(PluginError, match="pareto"),
        SimulatedNetwork(seed, debug=DebugSection(delay_strategy="pareto")),
    ):
        pass
