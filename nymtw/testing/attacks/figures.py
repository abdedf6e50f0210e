"""What many trials of one attack add up to: AUC with its confidence interval, and the sender's rank. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Figures:
    """`auc` is the mean rank of the true pair among all, with the bounds of its 95 % interval; `sender_rank` the mean
    rank of the sender among the clients of its edge: both are 0.5 by chance.
    """

    trials: int
    auc: float
    low: float
    high: float
    sender_rank: float


def figures(ranks: Sequence[float], sender_ranks: Sequence[float], seed: int = 0) -> Figures:
    """The figures of trials, with a bootstrap over them (percentiles). Raises `ValueError` for none."""
    if not ranks:
        raise ValueError("no trials")
    low, high = bootstrap(ranks, seed)
    return Figures(len(ranks), float(np.mean(ranks)), low, high, float(np.mean(sender_ranks)))


def bootstrap(values: Sequence[float], seed: int = 0, share: float = 0.95) -> tuple[float, float]:
    """The bounds of the interval that holds the mean with probability `share`: percentiles of resampled means."""
    source = np.random.default_rng(seed)
    sample = np.asarray(values, dtype=float)
    means = sample[source.integers(0, len(sample), (RESAMPLES, len(sample)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The probability that a score of the first kind is higher than one of the second, equal ones half."""
    if not positive or not negative:
        raise ValueError("an AUC needs scores of both kinds")
    ordered = np.sort(np.asarray(negative, dtype=float))
    values = np.asarray(positive, dtype=float)
    below = np.searchsorted(ordered, values, side="left")
    equal = np.searchsorted(ordered, values, side="right") - below
    return float(np.mean((below + equal / 2) / len(ordered)))
