"""Intersection over days: who is online whenever somebody gets mail? (Statistical disclosure, Danezis 2003.)

Rows of a day say who was online; the recipient's own edge also counts what it keeps for each of its clients. A score is
how much more a recipient gets on days on which the sender is online, in standard errors.
"""

import math
from collections.abc import Sequence

import numpy as np

from nymtw.sphinx import SizeClass
from nymtw.testing.attacks.scene import Scene, Scores, chosen, sent_by
from nymtw.testing.rows import Direction, Rows


def intersection(days: Sequence[Rows], scene: Scene) -> Scores:
    """A score for every pair of different clients. 0 where a sender was always, or never, online."""
    clients = list(scene.home)
    online = np.array([[len(sent_by(rows, client)) > 0 for client in clients] for rows in days])
    received = np.array(
        [
            [len(chosen(rows, Direction.KEPT, target=client, size_class=SizeClass.REGULAR)) for client in clients]
            for rows in days
        ],
        dtype=float,
    )
    scores = {}
    for sender in scene.senders:
        there = online[:, clients.index(sender)]
        for place, recipient in enumerate(clients):
            if recipient != sender:
                scores[sender, recipient] = _gain(received[there, place], received[~there, place])
    return Scores(scores)


def _gain(
    there: "np.ndarray[tuple[int], np.dtype[np.float64]]", away: "np.ndarray[tuple[int], np.dtype[np.float64]]"
) -> float:
    """Welch's t of two samples."""
    if len(there) < 2 or len(away) < 2:
        return 0.0
    error = math.sqrt(there.var(ddof=1) / len(there) + away.var(ddof=1) / len(away))
    return float(there.mean() - away.mean()) / error if error else 0.0
