"""What is common to attacks that change a client's stream and look where the change comes out."""

from collections.abc import Sequence

import numpy as np

from nymtw.testing.attacks.evidence import gather
from nymtw.testing.attacks.scene import Scene, Scores
from nymtw.testing.rows import Rows

Spans = Sequence[tuple[float, float]]
"""From when to when, in seconds, the attacker interfered."""


def matched(rows: Rows, tampered: Rows, scene: Scene, client: str) -> Scores:
    """How well each edge's lines fit what is missing: `tampered` has the client's packets as the attacker let them on.

    `rows` are all that was seen. Pairs of this client alone: nobody else was interfered with.
    """
    plain = gather(rows, scene, scene.start, scene.end)
    changed = gather(tampered, scene, scene.start, scene.end)
    place = plain.clients.index(client)
    score = np.zeros(len(scene.edges))
    for seen, before, after in zip(plain.seen, plain.expected, changed.expected, strict=True):
        template = after[place] - before[place]
        template = template - template.mean()
        norm = np.linalg.norm(template)
        if norm:
            spread = np.sqrt(np.maximum(seen.mean(axis=1), 1e-9))
            score += (seen - seen.mean(axis=1, keepdims=True)) @ (template / norm) / spread
    by_edge = dict(zip(scene.edges, score, strict=True))
    return Scores({(client, other): float(by_edge[edge]) for other, edge in scene.home.items() if other != client})
