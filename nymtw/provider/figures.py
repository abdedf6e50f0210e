"""What a provider shows to Prometheus besides what every node does. No label names a client."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, Metric

from nymtw.node.figures import gauge

if TYPE_CHECKING:
    from nymtw.provider.service import ProviderService


def provider_figures(node: "ProviderService") -> Iterable[Metric]:
    """Mailboxes, sessions, and what the implementations count."""
    clients = node.clients
    yield gauge("mailboxes", "Mailboxes.", clients.store.count() if clients is not None and clients.store else 0)
    yield gauge("client_sessions", "Clients that are logged in.", len(clients.sessions) if clients is not None else 0)
    counts = CounterMetricFamily(
        "nymtw_implementation", "What an implementation counts.", labels=["implementation", "count"]
    )
    for mount in node.mounts:
        for name, number in mount.metrics.snapshot().items():
            counts.add_metric([mount.name, name], number)
    yield counts
