"""The Prometheus metrics of a provider, besides those of every node. No label names a client."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from nymtw.node.metrics import counter, gauge, labelled_counters, labelled_gauges
from nymtw.provider.services.adapter import COUNTS

if TYPE_CHECKING:  # loaded when metrics are first asked for
    from prometheus_client.core import Metric


class Provider(Protocol):
    """The part of `nymtw.provider.service.ProviderService` that is measured."""

    clients: Any

    @property
    def service_hosts(self) -> Sequence[Any]: ...


def provider_metrics(node: Provider) -> "Iterable[Metric]":
    """Mailboxes, sessions, and the counts of the implementations."""
    clients = node.clients
    yield gauge("mailboxes", "Mailboxes.", clients.store.count() if clients is not None and clients.store else 0)
    yield gauge("client_sessions", "Clients that are logged in.", len(clients.sessions) if clients is not None else 0)
    failed = 0 if clients is None else clients.failed_logins
    yield counter("client_logins_failed", "Logins with a wrong mailbox, token or signature.", failed)
    refused = 0 if clients is None else clients.refused_registrations
    yield counter("client_registrations_refused", "Registrations above the limits.", refused)
    counts = labelled_counters("implementation", "What an implementation counts.", labels=["implementation", "count"])
    for hosted in node.service_hosts:
        # A count that appears with its first event would hide that event from queries for growth.
        expected = dict.fromkeys(COUNTS, 0) if hosted.is_service else {}
        for name, number in {**expected, **hosted.metrics.snapshot()}.items():
            counts.add_metric([hosted.name, name], number)
    yield counts
    yield from _services([hosted for hosted in node.service_hosts if hosted.is_service])


def _services(services: Sequence[Any]) -> "Iterable[Metric]":
    labels = ["implementation"]
    requests = labelled_gauges("service_requests", "Requests at a service.", labels=[*labels, "place"])
    size = labelled_gauges("service_bytes_under_way", "Bytes of answers not yet there.", labels=labels)
    sent = labelled_counters("service_packets", "Packets that a service sent.", labels=labels)
    again = labelled_counters("service_packets_again", "Those that were sent again.", labels=labels)
    for hosted in services:
        requests.add_metric([hosted.name, "running"], hosted.provider.running)
        requests.add_metric([hosted.name, "waiting"], hosted.provider.waiting)
        size.add_metric([hosted.name], hosted.dispatch.size)
        sent.add_metric([hosted.name], hosted.dispatch.packets)
        again.add_metric([hosted.name], hosted.dispatch.again)
    yield from (requests, size, sent, again)
