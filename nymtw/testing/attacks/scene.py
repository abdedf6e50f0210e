"""What an attacker knows besides rows, and what comes of an attack: a score for every pair of sender and recipient."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nymtw.sphinx import SizeClass
from nymtw.testing.rows import Direction, Rows

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Public facts, and the suspicion that is to be tested.

    `home`: the edge of every client. The suspected message was sent from `start` to `end` (seconds), as `share` of all
    packets that its sender sent then; from `before` to `start` nobody sent any. `mean_delay` of a hop and `latency` of
    a link are in seconds. `own_cover` and `spread_cover` are the shares of a client's packets that go to its own edge
    and evenly to all edges while it sends no message; they sum to 1.
    """

    home: Mapping[str, str]
    edges: Sequence[str]
    start: float
    end: float
    share: float
    before: float = 0.0
    mean_delay: float = 0.05
    latency: float = 0.001
    own_cover: float = 1.0
    spread_cover: float = 0.0
    suspects: Sequence[str] = field(default=())

    @property
    def between_edges(self) -> list[Pair]:
        """All pairs of clients of different edges: where a message between two edges is looked for."""
        home = self.home
        return [(sender, other) for sender in self.senders for other in home if home[sender] != home[other]]

    @property
    def senders(self) -> list[str]:
        """Who may have sent: `suspects`, or all."""
        return list(self.suspects or self.home)

    def idle(self, client: str) -> "np.ndarray[Any, Any]":
        """Where packets of a client that sends no message end: the share of each edge."""
        return self.spread_cover / len(self.edges) + self.own_cover * self._is_home(client)

    def replaced(self, client: str) -> "np.ndarray[Any, Any]":
        """Where the packets would have ended in whose place real ones go: those of idle slots."""
        spread = np.full(len(self.edges), 1 / len(self.edges))
        return spread if self.spread_cover else self._is_home(client)

    def _is_home(self, client: str) -> "np.ndarray[Any, Any]":
        return np.array([float(edge == self.home[client]) for edge in self.edges])


@dataclass(frozen=True)
class Scores:
    """A score for every pair."""

    by_pair: Mapping[Pair, float]

    def rank(self, true: Pair, among: Collection[Pair] | None = None) -> float:
        """The share of other pairs that score lower than the true one, equal ones half: the AUC of one trial.

        `among`: the pairs that come into question; all without it.
        """
        scores = self.by_pair
        asked = scores if among is None else among
        return midrank(scores[true], [scores[pair] for pair in asked if pair != true])

    def senders(self) -> dict[str, float]:
        """The most suspicious pair of each sender."""
        best: dict[str, float] = {}
        for (sender, _), score in self.by_pair.items():
            best[sender] = max(score, best.get(sender, float("-inf")))
        return best

    def sender_rank(self, sender: str, among: Sequence[str]) -> float:
        """The share of `among` that is more suspicious than `sender`, equal ones half: 0.5 by chance, 0 if exposed."""
        senders = self.senders()
        return 1 - midrank(senders[sender], [senders[other] for other in among if other != sender])


def midrank(value: float, others: Sequence[float]) -> float:
    """The share of `others` below `value`, equal ones half. 0.5 where there are none."""
    if not others:
        return 0.5
    return sum((other < value) + 0.5 * (other == value) for other in others) / len(others)


def column(rows: Rows, name: str) -> "np.ndarray[Any, Any]":
    """A column of `rows` for NumPy, without a copy."""
    return np.asarray(getattr(rows, name))


def chosen(
    rows: Rows,
    direction: Direction,
    *,
    source: str | None = None,
    target: str | None = None,
    size_class: int | None = None,
) -> "np.ndarray[Any, Any]":
    """The times of these rows, in order."""
    mask = column(rows, "direction") == direction
    for name, end in (("source", source), ("target", target)):
        if end is not None:
            mask &= column(rows, name) == (rows.names.index(end) if end in rows.names else -1)
    if size_class is not None:
        mask &= column(rows, "size_class") == size_class
    return np.sort(column(rows, "time")[mask])


def sent_by(rows: Rows, client: str) -> "np.ndarray[Any, Any]":
    """When packets of this client reached its edge."""
    return chosen(rows, Direction.UP, source=client, size_class=SizeClass.REGULAR)
