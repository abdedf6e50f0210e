"""Delay: a client's edge holds its packets in spans of time until their end, and looks where a burst comes out."""

from nymtw.testing.attacks.scene import Scene, Scores, column
from nymtw.testing.attacks.tampering import Spans, matched
from nymtw.testing.rows import Direction, Rows


def delay(rows: Rows, scene: Scene, client: str, spans: Spans) -> Scores:
    """A score for every pair of `client`, whose packets were held in `spans`, each until the end of its span."""
    return matched(rows, held(rows, client, spans), scene, client)


def held(rows: Rows, client: str, spans: Spans) -> Rows:
    """`rows`, the client's packets in each span put off to its end."""
    times = column(rows, "time").copy()
    mine = (column(rows, "direction") == Direction.UP) & (column(rows, "source") == rows.index(client))
    for start, end in spans:
        times[mine & (times >= start) & (times < end)] = end
    return Rows(list(rows.names), **{**rows.columns(), "time": times})
