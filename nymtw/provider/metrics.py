"""What a provider shows to Prometheus besides what every node does. No label names a client."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from nymtw.node.metrics import counter, gauge
from nymtw.provider.services.adapter import COUNTS

if TYPE_CHECKING:
    from nymtw.provider.service import ProviderService


def provider_metrics(node: "ProviderService") -> Iterable[Metric]:
    """Mailboxes, sessions, and what the implementations count."""
    clients = node.clients
    yield gauge("mailboxes", "Mailboxes.", clients.store.count() if clients is not None and clients.store else 0)
    yield gauge("client_sessions", "Clients that are logged in.", len(clients.sessions) if clients is not None else 0)
    failed = 0 if clients is None else clients.failed_logins
    yield counter("client_logins_failed", "Logins with a wrong mailbox, token or signature.", failed)
    counts = CounterMetricFamily(
        "nymtw_implementation", "What an implementation counts.", labels=["implementation", "count"]
    )
    for service_host in node.service_hosts:
        # A count that appears with its first event hides that event from who asks for the growth.
        expected = dict.fromkeys(COUNTS, 0) if service_host.is_service else {}
        for name, number in {**expected, **service_host.metrics.snapshot()}.items():
            counts.add_metric([service_host.name, name], number)
    yield counts
    yield from _services([service_host for service_host in node.service_hosts if service_host.is_service])


def _services(service_hosts: Sequence[Any]) -> Iterable[Metric]:
    labels = ["implementation"]
    requests = GaugeMetricFamily("nymtw_service_requests", "Requests at a service.", labels=[*labels, "place"])
    size = GaugeMetricFamily("nymtw_service_bytes_under_way", "Bytes of answers not yet there.", labels=labels)
    sent = CounterMetricFamily("nymtw_service_packets", "Packets that a service sent.", labels=labels)
    again = CounterMetricFamily("nymtw_service_packets_again", "Those that were sent again.", labels=labels)
    for service_host in service_hosts:
        requests.add_metric([service_host.name, "running"], service_host.provider.running)
        requests.add_metric([service_host.name, "waiting"], service_host.provider.waiting)
        size.add_metric([service_host.name], service_host.dispatch.size)
        sent.add_metric([service_host.name], service_host.dispatch.packets)
        again.add_metric([service_host.name], service_host.dispatch.again)
    yield from (requests, size, sent, again)
