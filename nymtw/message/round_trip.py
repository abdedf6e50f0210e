"""How long an ack takes beyond the delays that were drawn for it: the estimator of RFC 6298, one for each edge. Pure.

The drawn delays of a packet are known, so only the rest is learned: links, queues, busy nodes, the recipient's edge.
Every transmission has an ack of its own, so that none is ambiguous: Karn's rule is not needed, and a late ack teaches
most. Backing off (section 5.5) is done for each fragment, in `nymtw.message.arq`: what is sent again takes the place of
cover, so it never adds to what a client sends. Times are in seconds.
"""

from dataclasses import dataclass
from typing import Final

ALPHA: Final = 1 / 8
BETA: Final = 1 / 4
DEVIATIONS: Final = 4
LEAST: Final = 1.5  # also before the first ack
MOST: Final = 60.0
# A process that stalled gives all acks at once when it goes on: they are one measurement, and no long memory.
SPACING: Final = 1.0  # seconds between two measurements
JUMP: Final = 4.0  # how many times the wait one measurement may be
MOST_EDGES: Final = 256


@dataclass(frozen=True, slots=True)
class Excess:
    """What is known of one edge: the smoothed excess, its mean deviation, and when it was measured last."""

    smoothed: float | None = None
    deviation: float = 0.0
    at: float = 0.0

    @property
    def wait(self) -> float:
        """How long to wait for an ack beyond what was drawn, 1.5 to 60 (RFC 6298, 2.1 to 2.5)."""
        if self.smoothed is None:
            return LEAST
        return min(max(LEAST, self.smoothed + DEVIATIONS * self.deviation), MOST)

    def measured(self, excess: float, now: float) -> "Excess":
        """An ack that came at `now` took so much longer than was drawn (RFC 6298, 2.2 and 2.3)."""
        excess = min(max(excess, 0.0), JUMP * self.wait)
        if self.smoothed is None:
            return Excess(excess, excess / 2, now)
        if now - self.at < SPACING:
            return self
        deviation = (1 - BETA) * self.deviation + BETA * abs(self.smoothed - excess)
        return Excess((1 - ALPHA) * self.smoothed + ALPHA * excess, deviation, now)


class RoundTrips:
    """The estimators of the edges that messages go to, by their names (any bytes), and one for all of them.

    An edge of which nothing is known is as all are: the sender's own edge and the layers are part of every way.
    """

    def __init__(self) -> None:
        self._edges: dict[bytes, Excess] = {}  # the one that was measured last stands behind
        self._all = Excess()

    def wait(self, edge: bytes) -> float:
        """Seconds to wait for an ack beyond what was drawn."""
        return self._edges.get(edge, self._all).wait

    def measured(self, edge: bytes, excess: float, now: float) -> None:
        """An ack from `edge` came at `now`, `excess` later than was drawn; less than nothing counts as nothing."""
        self._all = self._all.measured(excess, now)
        self._edges[edge] = self._edges.pop(edge, Excess()).measured(excess, now)
        if len(self._edges) > MOST_EDGES:
            del self._edges[next(iter(self._edges))]
