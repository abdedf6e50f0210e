"""`twistd nym-provider`."""

from twisted.application.service import IService

from nymtw.node.tap import run_or_exit
from nymtw.provider.options import Options, configure

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """Make the provider for a command line."""

    def build(reactor: object) -> IService:
        from nymtw.provider.service import ProviderService
        from nymtw.provider.services.watchdog import Watchdog

        home, config = configure(options)
        service = ProviderService.from_config(reactor, home, config, options.factories, options)
        service.reread = lambda: configure(options)[1].node
        service.add(Watchdog(reactor, service.blocked))
        return service

    return run_or_exit("nym-provider", options, build)
