"""(n-1): all packets but one are kept from a mixnode, so that what leaves it must be that one.

A pair is a packet that enters the node and one that leaves it, by their places among the node's rows. The score is the
probability that they are one packet, by their times alone: exponential delays, every packet that is inside alike.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nymtw.sphinx import SizeClass
from nymtw.testing.attacks.scene import column
from nymtw.testing.rows import Direction, Rows

_REACH = 12  # mean delays after which a packet has left
_ENTER = (Direction.IN, Direction.ACROSS)
_LEAVE = (Direction.ACROSS, Direction.OUT)


@dataclass(frozen=True)
class Crossing:
    """The rows (indices) that enter a node and leave it, in order of time, both of one size class."""

    entering: "np.ndarray[Any, Any]"
    leaving: "np.ndarray[Any, Any]"
    times: "np.ndarray[Any, Any]"


def crossing(rows: Rows, node: str, size_class: int = SizeClass.REGULAR) -> Crossing:
    """What crosses `node`."""
    number = rows.names.index(node)
    direction, times = column(rows, "direction"), column(rows, "time")
    size = column(rows, "size_class") == size_class
    entering = size & np.isin(direction, _ENTER) & (column(rows, "target") == number)
    leaving = size & np.isin(direction, _LEAVE) & (column(rows, "source") == number)
    found = [np.flatnonzero(mask) for mask in (entering, leaving)]
    entering, leaving = (rows_of[np.argsort(times[rows_of], kind="stable")] for rows_of in found)
    return Crossing(entering, leaving, times)


def n_minus_one(
    rows: Rows, node: str, start: float, end: float, mean_delay: float = 0.05, size_class: int = SizeClass.REGULAR
) -> dict[tuple[int, int], float]:
    """The score of every pair (entering row, leaving row) that may be one packet, of packets that leave in time."""
    across = crossing(rows, node, size_class)
    scores: dict[tuple[int, int], float] = {}
    for leaving, inside, weights in _posteriors(across, mean_delay):
        if start <= across.times[leaving] < end:
            scores.update(
                ((int(entering), int(leaving)), float(weight)) for entering, weight in zip(inside, weights, strict=True)
            )
    return scores


def entropies(rows: Rows, node: str, mean_delay: float, size_class: int = SizeClass.REGULAR) -> "np.ndarray[Any, Any]":
    """For each packet that leaves, in bits: how uncertain it is which of those that entered it was (Loopix, 4.2)."""
    found = []
    for _, _, weights in _posteriors(crossing(rows, node, size_class), mean_delay):
        positive = weights[weights > 0]
        found.append(float(-(positive @ np.log2(positive))))
    return np.array(found)


def _posteriors(across: Crossing, mean_delay: float) -> "Iterator[tuple[Any, Any, Any]]":
    """For each packet that leaves: its row, the rows of those that may be inside, and their probabilities.

    Exponential delays have no memory: each packet inside is as likely to be the next. Which are inside is known only in
    part: what left before was one of those inside then, with the probabilities found then.
    """
    inside: list[Any] = []
    weight: list[float] = []
    arrived: list[float] = []
    next_one = 0
    entering, times = across.entering, across.times
    for leaving in across.leaving:
        now = times[leaving]
        while next_one < len(entering) and times[entering[next_one]] <= now:
            inside.append(entering[next_one])
            arrived.append(float(times[entering[next_one]]))
            weight.append(1.0)
            next_one += 1
        total = sum(weight)
        if total <= 0:
            continue
        share = np.array(weight) / total
        yield leaving, list(inside), share
        # One of `total` has left, each as likely as any other that is inside.
        weight = [one * max(0.0, 1 - 1 / total) for one in weight]
        kept = [
            place
            for place, one in enumerate(weight)
            if one > 1e-6 and now - arrived[place] < _REACH * max(mean_delay, 1e-9) * math.sqrt(2)
        ]
        inside, weight, arrived = ([values[place] for place in kept] for values in (inside, weight, arrived))
