"""What a provider shows to Prometheus besides what every node does. No label names a client."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nymtw.node.figures import counter, counters, gauge, gauges
from nymtw.provider.adapter import COUNTS

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from nymtw.provider.service import ProviderService


def provider_figures(node: "ProviderService") -> "Iterable[Metric]":
    """Mailboxes, sessions, and what the implementations count."""
    clients = node.clients
    yield gauge("mailboxes", "Mailboxes.", clients.store.count() if clients is not None and clients.store else 0)
    yield gauge("client_sessions", "Clients that are logged in.", len(clients.sessions) if clients is not None else 0)
    failed = 0 if clients is None else clients.failed_logins
    yield counter("client_logins_failed", "Logins with a wrong mailbox, token or signature.", failed)
    counts = counters("implementation", "What an implementation counts.", labels=["implementation", "count"])
    for mount in node.mounts:
        # A count that appears with its first event hides that event from who asks for the growth.
        expected = dict.fromkeys(COUNTS, 0) if mount.is_service else {}
        for name, number in {**expected, **mount.metrics.snapshot()}.items():
            counts.add_metric([mount.name, name], number)
    yield counts
    yield from _services([mount for mount in node.mounts if mount.is_service])


def _services(mounts: Sequence[Any]) -> "Iterable[Metric]":
    labels = ["implementation"]
    requests = gauges("service_requests", "Requests at a service.", labels=[*labels, "place"])
    size = gauges("service_bytes_under_way", "Bytes of answers not yet there.", labels=labels)
    sent = counters("service_packets", "Packets that a service sent.", labels=labels)
    again = counters("service_packets_again", "Those that were sent again.", labels=labels)
    for mount in mounts:
        requests.add_metric([mount.name, "running"], mount.provider.running)
        requests.add_metric([mount.name, "waiting"], mount.provider.waiting)
        size.add_metric([mount.name], mount.dispatch.size)
        sent.add_metric([mount.name], mount.dispatch.packets)
        again.add_metric([mount.name], mount.dispatch.again)
    yield from (requests, size, sent, again)
