"""The directory's own figures as Prometheus text. No label ever names a client or a node."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nymtw.directory.core import Directory
from nymtw.errors import TopologyError
from nymtw.node.metrics import Metrics, counter, gauge, labelled_counters, labelled_gauges
from nymtw.topology.document import EDGE_ROLES, LAYERS, MIXNODE

if TYPE_CHECKING:  # loaded when metrics are first asked for
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class DirectoryMetrics:
    """Counts the answers, and collects the rest from `directory` when it is asked."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._answers: Counter[tuple[str, str, int]] = Counter()
        self._metrics = Metrics()
        self._metrics.add(self.collect)

    def count(self, method: str, path: str, code: int) -> None:
        """Count an answer."""
        self._answers[method, path, code] += 1

    def text(self) -> bytes:
        """The Prometheus text, format 0.0.4."""
        return self._metrics.text()

    def collect(self) -> "Iterable[Metric]":
        """The metrics, read now."""
        self._directory.publisher.bring_up_to_date()
        nodes = labelled_gauges("directory_nodes", "Nodes that are announced now.", labels=["role", "layer"])
        placed = [self._directory.placed(entry) for entry in self._directory.registry.present()]
        roles = Counter((record.role, record.layer) for record in placed)
        for role, layer in [*((MIXNODE, layer) for layer in LAYERS), *((role, 0) for role in EDGE_ROLES)]:
            nodes.add_metric([role, str(layer) if layer else ""], roles[role, layer])
        yield nodes
        posts = labelled_counters("directory_posts", "Heartbeats and metrics posted.", labels=["path", "result"])
        for (path, accepted), number in sorted(self._directory.posts.items()):
            posts.add_metric([path, "accepted" if accepted else "refused"], number)
        yield posts
        refused = self._directory.gate.refused
        yield counter("directory_posts_over_limit", "Posts refused unread, or before their signature.", refused)
        answers = labelled_counters("directory_answers", "HTTP answers.", labels=["method", "path", "code"])
        for (method, path, code), number in sorted(self._answers.items()):
            answers.add_metric([method, path, str(code)], number)
        yield answers
        try:
            topology, document = self._directory.publisher.topology(), self._directory.publisher.document()
        except TopologyError:  # several directories have not agreed on one yet
            return
        yield gauge("directory_topology_bytes", "Size of the newest signed topology.", value=len(document))
        yield gauge(
            "directory_topology_published_seconds",
            "When the newest signed topology was made, in seconds since 1970.",
            value=topology.published / 1e9,
        )
        yield gauge("directory_key_epoch", "The key epoch of the newest topology.", value=topology.epoch)
        yield gauge(
            "directory_topology_signatures",
            "How many directories have signed the newest topology.",
            value=len(self._directory.publisher.signers()),
        )
