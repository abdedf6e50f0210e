"""`twistd nym-gateway`."""

from twisted.application.service import IService

from nymtw.gateway.options import Options, configure
from nymtw.node.tap import run_or_exit

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """Make the gateway for a command line."""

    def build(reactor: object) -> IService:
        from nymtw.gateway.service import GatewayService
        from nymtw.provider.services.watchdog import Watchdog

        home, config = configure(options)
        service = GatewayService.from_config(reactor, home, config, options.factories, options)
        service.reread = lambda: configure(options)[1].node
        service.add(Watchdog(reactor, service.blocked))
        return service

    return run_or_exit("nym-gateway", options, build)
