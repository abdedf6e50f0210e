"""Maximum likelihood: whose packets, sent to which edge, explain best what the lines of all edges show?

Every packet of a client reaches an edge after three exponential delays, and an ack leaves it after one more; so what an
edge's lines carry is a Poisson process whose rate follows from when all clients sent, and where their packets go. The
score of a pair is the logarithm of the ratio of two likelihoods: that the suspect's real packets went to the
recipient's edge, against nobody having sent any. Clients of one edge are not told apart as recipients.
"""

import numpy as np

from nymtw.testing.attacks.evidence import gather
from nymtw.testing.attacks.scene import Scene, Scores
from nymtw.testing.rows import Rows

_LEAST = 1e-6  # packets in a bin: what cannot happen by the model happens now and then


def likelihood(rows: Rows, scene: Scene) -> Scores:
    """A score for every pair of different clients."""
    evidence = gather(rows, scene, scene.start, scene.end)
    clients = evidence.clients
    idle = np.array([scene.idle(client) for client in clients])
    replaced = np.array([scene.replaced(client) for client in clients])
    suspects = [clients.index(client) for client in scene.senders]
    count = len(scene.edges)
    # Gain of each (suspect, edge): where the message is for this edge, and where it is for another one.
    here, elsewhere = np.zeros((len(suspects), count)), np.zeros((len(suspects), count))
    observations = zip(evidence.seen, evidence.expected, evidence.suspected, strict=True)
    for seen, expected, suspected in observations:
        for edge in range(count):
            rate = idle[:, edge] @ expected
            # What is more than clients send, dummies first of all, carries no news: a constant rate is its best model.
            rate = rate + max(0.0, float(seen[edge].mean() - rate.mean())) + _LEAST
            for place, suspect in enumerate(suspects):
                own, gone = suspected[suspect], scene.share * replaced[suspect, edge]
                here[place, edge] += _gain(seen[edge], rate, (scene.share - gone) * own)
                if gone:
                    elsewhere[place, edge] += _gain(seen[edge], rate, -gone * own)
    to_edge = here + elsewhere.sum(axis=1, keepdims=True) - elsewhere
    edge_of = {client: scene.edges.index(edge) for client, edge in scene.home.items()}
    return Scores(
        {
            (sender, recipient): float(to_edge[place, edge_of[recipient]])
            for place, sender in enumerate(scene.senders)
            for recipient in clients
            if recipient != sender
        }
    )


def _gain(
    seen: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    rate: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    change: "np.ndarray[tuple[int], np.dtype[np.float64]]",
) -> float:
    """Logarithm of the ratio of the likelihoods of `seen` at `rate + change` and at `rate`."""
    ratio = np.log(np.maximum(rate + change, _LEAST) / rate)
    return float(seen @ ratio - change.sum())
