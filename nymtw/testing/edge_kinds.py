"""Providers and gateways of a simulation: the options, configuration and service of each kind of edge."""

from dataclasses import dataclass
from typing import Final

from nymtw.gateway.options import GatewayConfig, GatewaySection
from nymtw.gateway.options import Options as GatewayCommandLine
from nymtw.gateway.service import GatewayService
from nymtw.provider.options import EDGE_GIVEN, EdgeOptions, ProviderConfig, ProviderSection
from nymtw.provider.options import Options as ProviderCommandLine
from nymtw.provider.service import ProviderService


@dataclass(frozen=True, slots=True)
class EdgeKind:
    """How a provider or a gateway is made; `given`: options of its command line that belong to its section."""

    options: type[EdgeOptions]
    section: type[ProviderSection]
    config: type[ProviderConfig]
    service: type[ProviderService]
    given: tuple[str, ...]


PROVIDER_KIND: Final = EdgeKind(ProviderCommandLine, ProviderSection, ProviderConfig, ProviderService, EDGE_GIVEN)
GATEWAY_KIND: Final = EdgeKind(
    GatewayCommandLine, GatewaySection, GatewayConfig, GatewayService, (*EDGE_GIVEN, "downlink-rate")
)
