"""Drop: a client's edge loses its packets in spans of time, and looks which edge gets fewer a moment later."""

import numpy as np

from nymtw.testing.attacks.scene import Scene, Scores, column
from nymtw.testing.attacks.tampering import Spans, matched
from nymtw.testing.rows import Direction, Rows


def drop(rows: Rows, scene: Scene, client: str, spans: Spans) -> Scores:
    """A score for every pair of `client`, whose packets did not pass in `spans`."""
    return matched(rows, without(rows, client, spans), scene, client)


def without(rows: Rows, client: str, spans: Spans) -> Rows:
    """`rows`, the client's packets in `spans` left out."""
    times = column(rows, "time")
    mine = (column(rows, "direction") == Direction.UP) & (column(rows, "source") == rows.index(client))
    lost = np.zeros(len(times), dtype=bool)
    for start, end in spans:
        lost |= mine & (times >= start) & (times < end)
    return Rows(list(rows.names), **{name: np.asarray(values)[~lost] for name, values in rows.columns().items()})
