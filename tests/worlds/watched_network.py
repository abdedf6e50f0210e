"""A small network of the real services, watched on every link: idle, then alice sends to bob, then idle again.

Alice and carol are at one provider, bob and dave at the other. Packets are those of a table: what is seen is the same.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nymtw.message.envelope import ENVELOPE_OVERHEAD
from nymtw.message.fragments import FRAGMENT_CAPACITY
from nymtw.sphinx import SizeClass
from nymtw.testing.attacks.scene import Scene, chosen, sent_by
from nymtw.testing.observer import Observer
from nymtw.testing.rows import Direction, Rows
from nymtw.testing.simulation import SimulatedNetwork

CLIENTS = ("alice", "bob", "carol", "dave")
EDGES = ("provider-1", "provider-2")
RATE = 25.0  # packets a second of a client, at the rates that are recommended
SENDING = 20.0
MEAN_DELAY = 0.05


@dataclass(frozen=True)
class Watched:
    """What was seen. The message was sent from `start` to `end`; the watch was from `began` to `over`."""

    rows: Rows
    began: float
    start: float
    end: float
    over: float

    def scene(self, own_cover: float = 0.2, share: float = SENDING / RATE) -> Scene:
        return Scene(
            home=dict(zip(CLIENTS, (*EDGES, *EDGES), strict=True)),
            edges=EDGES,
            start=self.start,
            end=self.end,
            share=share,
            before=self.began,
            own_cover=own_cover,
            spread_cover=1 - own_cover,
        )

    def gaps(self, client: str, start: float, end: float) -> Any:
        """Between the packets of a client that reached its edge in this time."""
        times = sent_by(self.rows, client)
        return np.diff(times[(times >= start) & (times < end)])

    def sizes(self, direction: Direction) -> set[int]:
        mask = np.asarray(self.rows.direction) == direction
        return set(np.unique(np.asarray(self.rows.size_class)[mask]).tolist())

    def times(self, direction: Direction, size: int = SizeClass.REGULAR, **ends: str) -> Any:
        return chosen(self.rows, direction, size_class=size, **ends)


def watch(
    seed: int, before: float = 20.0, sending: float = 20.0, loss: float = 0.0, text: bytes = b"\0", **network: Any
) -> Watched:
    """Run one: `before` idle seconds, then `sending` seconds. `network`: further arguments of `SimulatedNetwork`."""
    observer = Observer()
    with SimulatedNetwork(seed, clients=CLIENTS, **{"crypto": "none", "observer": observer, **network}) as simulated:
        simulated.run(1)
        if loss:
            simulated.impair(loss=loss)
        began = simulated.clock.seconds()
        simulated.run(before)
        start = simulated.clock.seconds()
        packets = int(SENDING * sending)
        simulated.send("alice", "bob", text * max(1, packets * FRAGMENT_CAPACITY - ENVELOPE_OVERHEAD))
        simulated.run(sending)
        end = simulated.clock.seconds()
        simulated.run(2)
        over = simulated.clock.seconds()
        simulated.impair()
    return Watched(observer.rows, began, start, end, over)
