"""Attacks on anonymity: functions from what an observer saw to a score for every pair; higher is more suspicious.

    scores = likelihood(rows, scene)
    scores.rank(("client-1", "client-2"))   # the share of other pairs that look less suspicious

`scene` is what everybody knows. None of them reads the columns of truth. They need the extra `nymtw[lab]`.
"""

from collections.abc import Callable, Mapping
from typing import Final

from nymtw.testing.attacks.correlation import correlation
from nymtw.testing.attacks.ledger import ledger
from nymtw.testing.attacks.likelihood import likelihood
from nymtw.testing.attacks.scene import Scene, Scores
from nymtw.testing.rows import Rows

# Those that a run of one message can be judged by; the others need days, or somebody who interferes.
PASSIVE: Final[Mapping[str, Callable[[Rows, Scene], Scores]]] = {
    "ml": likelihood,
    "correlation": correlation,
    "ledger": ledger,
}
