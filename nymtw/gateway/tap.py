"""`twistd nym-gateway`."""

from typing import Any

from twisted.application.service import IService

from nymtw.gateway.options import Options, configure
from nymtw.provider.tap import make_edge

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """Make the gateway for a command line."""

    def gateway() -> Any:
        from nymtw.gateway.service import GatewayService

        return GatewayService

    return make_edge("nym-gateway", options, configure, gateway)
