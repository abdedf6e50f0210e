"""The own edge's ledger: what it counts of a client, submits and items of each kind, before a message and during it.

Each of them is a Poisson process. Two tests for each: whether its rate changed, and whether the gaps come from one law
(Kolmogorov-Smirnov). The smallest p-value counts, corrected for their number (Bonferroni).
"""

import math
from typing import Any

import numpy as np
from scipy import special

from nymtw.sphinx import SizeClass
from nymtw.testing.attacks.scene import Scene, Scores, chosen, sent_by
from nymtw.testing.rows import Direction, Rows

_LEAST_P = 1e-300


def ledger(rows: Rows, scene: Scene) -> Scores:
    """-log10 p of every sender, for any recipient: this edge sees no other one."""
    suspicion = {sender: -math.log10(max(_LEAST_P, told_apart(rows, scene, sender))) for sender in scene.senders}
    return Scores(
        {(sender, other): score for sender, score in suspicion.items() for other in scene.home if other != sender}
    )


def told_apart(rows: Rows, scene: Scene, client: str) -> float:
    """The p-value of the client having done the same from `before` to `start` and from `start` to `end`."""
    edge = scene.home[client]
    accounts = [sent_by(rows, client)]
    accounts += [
        chosen(rows, Direction.KEPT, source=edge, target=client, size_class=size)
        for size in (SizeClass.REGULAR, SizeClass.ACK)
    ]
    values: list[float] = []
    for times in accounts:
        idle = times[(times >= scene.before) & (times < scene.start)]
        suspect = times[(times >= scene.start) & (times < scene.end)]
        values.append(_same_rate(len(idle), scene.start - scene.before, len(suspect), scene.end - scene.start))
        if len(idle) > 2 and len(suspect) > 2:
            values.append(two_samples(np.diff(idle), np.diff(suspect)))
    return min(1.0, min(values) * len(values))


def _same_rate(one: int, seconds: float, other: int, other_seconds: float) -> float:
    """The p-value of two Poisson counts having one rate: given their sum, the first is binomial (exact, two-sided)."""
    total = one + other
    if not total:
        return 1.0
    share = seconds / (seconds + other_seconds)
    below = float(special.bdtr(one, total, share))
    above = 1.0 if one == 0 else float(special.bdtrc(one - 1, total, share))
    return min(1.0, 2 * min(below, above))


def one_sample(values: "np.ndarray[Any, Any]", rate: float) -> float:
    """The p-value of `values` being exponential with `rate` (Kolmogorov-Smirnov, asymptotic; Stephens 1970)."""
    ordered = np.sort(values)
    size = len(ordered)
    law = 1 - np.exp(-rate * ordered)
    steps = np.arange(size + 1) / size
    distance = max(float(np.max(steps[1:] - law)), float(np.max(law - steps[:-1])))
    return _kolmogorov(distance, size)


def two_samples(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> float:
    """The p-value of both coming from one law (Kolmogorov-Smirnov, asymptotic)."""
    one, other = np.sort(one), np.sort(other)
    everything = np.concatenate((one, other))
    first = np.searchsorted(one, everything, side="right") / len(one)
    second = np.searchsorted(other, everything, side="right") / len(other)
    return _kolmogorov(float(np.max(np.abs(first - second))), len(one) * len(other) / (len(one) + len(other)))


def _kolmogorov(distance: float, size: float) -> float:
    root = math.sqrt(size)
    return float(special.kolmogorov(distance * (root + 0.12 + 0.11 / root)))
