"""Cross-correlation: does an edge's line follow a client more closely while the message is sent than before?

It knows no law of delays but their mean, and nothing of cover: what it sees before `scene.start` is its measure.
"""

import numpy as np

from nymtw.testing.attacks.evidence import gather
from nymtw.testing.attacks.scene import Scene, Scores
from nymtw.testing.rows import Rows


def correlation(rows: Rows, scene: Scene) -> Scores:
    """A score for every pair of different clients: the gain in correlation, over that of the average edge."""
    gained = _correlations(rows, scene, scene.start, scene.end)
    if scene.before < scene.start:
        gained = gained - _correlations(rows, scene, scene.before, scene.start)
    # What goes to one edge does not go to the others.
    gained = gained - gained.mean(axis=1, keepdims=True)
    clients = list(scene.home)
    edge_of = {client: scene.edges.index(edge) for client, edge in scene.home.items()}
    return Scores(
        {
            (sender, recipient): float(gained[clients.index(sender), edge_of[recipient]])
            for sender in scene.senders
            for recipient in clients
            if recipient != sender
        }
    )


def _correlations(
    rows: Rows, scene: Scene, start: float, end: float
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Of every client and edge, the mean over both observations."""
    evidence = gather(rows, scene, start, end)
    both = [_standard(sent) @ _standard(seen).T for seen, sent in zip(evidence.seen, evidence.suspected, strict=True)]
    return np.asarray(sum(both) / len(both))


def _standard(
    lines: "np.ndarray[tuple[int, int], np.dtype[np.float64]]",
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    centred = lines - lines.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0))
