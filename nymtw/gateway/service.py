"""A gateway: a provider that pushes mail to its clients."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nymtw.errors import PluginError
from nymtw.gateway.rates import downlink_rate
from nymtw.link.downlink import Downlink
from nymtw.node.metrics import counter, gauge
from nymtw.provider.service import ProviderService
from nymtw.topology.document import GATEWAY, Recommended, Topology

if TYPE_CHECKING:  # loaded when metrics are first asked for
    from prometheus_client.core import Metric


class GatewayService(ProviderService):
    """A provider with a downlink.

    Make it with `GatewayService.from_config(reactor, home, config, factories, options)` and a `GatewayConfig`.
    `nymtw.gateway.options.MODES` has the implementations of each mode; one of them has mailboxes. `verifier=` takes
    another `ICredentialVerifier` than `OpenAdmission`.
    """

    role = GATEWAY

    def __init__(self, *parts: Any, **links: Any) -> None:
        """The arguments of a provider. Raises `PluginError` if no implementation has mailboxes."""
        super().__init__(*parts, **links)
        if self.clients is None:
            raise PluginError("a gateway needs an implementation with mailboxes, such as 'store'")
        self._clients = self.clients
        section: Any = self.section
        # A client learns its downlink rate at login, so no client may log in before the rate is known.
        self._clients.factory.open = section.downlink_rate is not None
        self.metrics.add(self._gateway_metrics)

    @classmethod
    def link_parts(cls, reactor: Any, section: Any) -> dict[str, Any]:
        """The downlink too. Its rate follows the topology unless the section sets it."""
        rate = downlink_rate(Recommended()) if section.downlink_rate is None else section.downlink_rate
        return {**super().link_parts(reactor, section), "downlink": Downlink(reactor, rate)}

    def use_topology(self, topology: Topology) -> None:
        """Use a new topology, which may recommend other rates."""
        section: Any = self.section
        self._use_downlink(section.downlink_rate, topology.recommended)
        self._clients.factory.open = bool(self.running)
        super().use_topology(topology)

    def apply(self, section: Any) -> frozenset[str]:
        """Apply changed values: those of every provider, and the downlink's rate."""
        topology = self.watch.current
        recommended = Recommended() if topology is None else topology.recommended
        self._use_downlink(section.downlink_rate, recommended)
        return super().apply(section) | {"downlink_rate"}

    def _use_downlink(self, given: float | None, recommended: Recommended) -> None:
        rate = downlink_rate(recommended) if given is None else given
        if self._clients.downlink is None or self._clients.downlink.rate != rate:
            self._clients.downlink = Downlink(self._clients.housekeeper.clock, rate)

    def _gateway_metrics(self) -> "Iterable[Metric]":
        rate = 0.0 if self._clients.downlink is None else self._clients.downlink.rate
        yield gauge("downlink_slots_per_second", "Slots pushed to each client that logs in now; 0: at once.", rate)
        skipped = 0 if self._clients.downlink is None else self._clients.downlink.skipped
        yield counter("downlink_rounds_skipped", "Frames that no client got since the machine was late.", skipped)
