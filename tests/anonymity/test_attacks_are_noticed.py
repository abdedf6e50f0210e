"""Attackers who interfere with the real services are noticed in time, and the client says so."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from nymtw.mixing.delay_queue import DelayQueue
from nymtw.mixing.loop_loss import BLOCKED, LATE
from nymtw.testing import SimulatedNetwork

pytestmark = pytest.mark.long

FULL = bool(os.environ.get("NYMTW_FULL"))
MIX_LOOPS = 14.0  # a second: what a mixnode sends at the rates that are recommended
QUIET = 600.0 if FULL else 10.0  # seconds without an attack
MIXNODES = [f"mixnode-{layer}-{number}" for layer in (1, 2, 3) for number in (1, 2)]
NODE = "mixnode-2-1"


class Holding(DelayQueue[Any]):
    """A mixnode's queue whose operator may hold everything for `more` seconds longer than asked for."""

    more = 0.0

    def add(self, item: Any, delay_ns: int) -> bool:
        return super().add(item, delay_ns + int(self.more * 1e9))


class Network:
    """Six mixnodes with loops, two providers, alice and bob; and what each mixnode holds packets in."""

    def __init__(self, seed: int) -> None:
        self.queues: list[Holding] = []
        self.world = SimulatedNetwork(seed, crypto="none", mix_loops=MIX_LOOPS, mixing=self._queue)

    def _queue(self, *args: Any, **kwargs: Any) -> Holding:
        self.queues.append(Holding(*args, **kwargs))
        return self.queues[-1]

    def alarms(self, name: str) -> dict[str, int]:
        return dict(self.world.nodes[name].loops.alarms)

    def status(self, name: str = "alice") -> dict[str, Any]:
        return self.world.nodes[name].core.status()


@pytest.fixture
def network(seed: int) -> Iterator[Network]:
    """Nothing has happened for a while, and nobody has cried out."""
    made = Network(seed)
    with made.world as world:
        world.run(QUIET)
        for name in MIXNODES:
            assert made.alarms(name) == dict.fromkeys(made.alarms(name), 0)
        assert [made.status(name)["loopAlarms"] for name in ("alice", "bob")] == [{LATE: 0, BLOCKED: 0}] * 2
        assert made.status()["trouble"] == ""
        yield made


def test_each_attack_is_noticed_in_its_time(network: Network) -> None:
    world = network.world
    # (n-1): for two seconds everything but one packet is kept from a mixnode, its own loops too.
    world.impairments[NODE].loss = 1.0
    world.run(2)
    world.impairments[NODE].loss = 0.0
    world.run_until(lambda: network.alarms(NODE)[BLOCKED] > 0, 8)
    # An edge drops what its client sends. To her it is the same whether her edge does it, or the lines behind it.
    world.impair(1, loss=1.0)
    world.run_until(lambda: bool(network.status()["trouble"]), 60)
    assert "packets are held back or dropped" in network.status()["trouble"]
    world.impair()
    world.run_until(lambda: not network.status()["trouble"], 60)
    # A mixnode holds everything for five seconds.
    before = network.status()["loopAlarms"][LATE]
    network.queues[MIXNODES.index(NODE)].more = 5.0
    world.run_until(lambda: network.status()["loopAlarms"][LATE] > before, 60)
    assert "did not come back in time" in network.status()["trouble"]
