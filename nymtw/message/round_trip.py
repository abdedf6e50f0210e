"""Estimates the time of an ack beyond its drawn delays: the estimator of RFC 6298, one for each edge. Pure.

The drawn delays of a packet are known, so only the rest is learned: links, queues, busy nodes, the recipient's edge.
Every transmission has its own ack, so no ack is ambiguous: Karn's rule is not needed, and late acks are used too.
Backing off (section 5.5) is done for each fragment, in `nymtw.message.arq`. Repeated packets replace cover, so they
never add to a client's traffic. Times are in seconds.
"""

from dataclasses import dataclass
from typing import Final

ALPHA: Final = 1 / 8
BETA: Final = 1 / 4
DEVIATIONS: Final = 4
LEAST: Final = 1.5  # also before the first ack
MOST: Final = 60.0
# After a stall a process gets many acks at once. They count as one measurement, with bounded effect.
SPACING: Final = 1.0  # seconds between two measurements
JUMP: Final = 4.0  # one measurement counts as at most so many times the current wait
MOST_EDGES: Final = 256


@dataclass(frozen=True, slots=True)
class Excess:
    """The estimate for one edge: the smoothed excess, its mean deviation, and the time of the last measurement."""

    smoothed: float | None = None
    deviation: float = 0.0
    at: float = 0.0

    @property
    def wait(self) -> float:
        """The time to wait for an ack beyond the drawn delays, 1.5 to 60 (RFC 6298, 2.1 to 2.5)."""
        if self.smoothed is None:
            return LEAST
        return min(max(LEAST, self.smoothed + DEVIATIONS * self.deviation), MOST)

    def measured(self, excess: float, now: float) -> "Excess":
        """The estimate after an ack at `now` that took `excess` longer than the drawn delays (RFC 6298, 2.2, 2.3)."""
        excess = min(max(excess, 0.0), JUMP * self.wait)
        if self.smoothed is None:
            return Excess(excess, excess / 2, now)
        if now - self.at < SPACING:
            return self
        deviation = (1 - BETA) * self.deviation + BETA * abs(self.smoothed - excess)
        return Excess((1 - ALPHA) * self.smoothed + ALPHA * excess, deviation, now)


class RoundTrips:
    """The estimates for the recipients' edges, by name (any bytes), and one for all edges together.

    An unknown edge uses the common estimate: the sender's own edge and the layers are part of every route.
    """

    def __init__(self) -> None:
        self._edges: dict[bytes, Excess] = {}  # the most recently measured one is last
        self._all = Excess()

    def wait(self, edge: bytes) -> float:
        """Seconds to wait for an ack beyond the drawn delays."""
        return self._edges.get(edge, self._all).wait

    def measured(self, edge: bytes, excess: float, now: float) -> None:
        """Take an ack from `edge` at `now`, `excess` later than the drawn delays; a negative excess counts as 0."""
        self._all = self._all.measured(excess, now)
        self._edges[edge] = self._edges.pop(edge, Excess()).measured(excess, now)
        if len(self._edges) > MOST_EDGES:
            del self._edges[next(iter(self._edges))]
