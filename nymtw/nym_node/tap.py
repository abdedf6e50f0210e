"""`twistd nym-node`."""

from twisted.application.service import IService

from nymtw.node.tap import run_or_exit
from nymtw.nym_node.options import Options, configure

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """Make the node for a command line."""

    def build(reactor: object) -> IService:
        from nymtw.nym_node.service import make_node
        from nymtw.provider.service import ProviderService
        from nymtw.provider.services.watchdog import Watchdog

        service = make_node(reactor, *configure(options), options)
        service.reread = lambda: configure(options)[1].section()
        if isinstance(service, ProviderService):
            service.add(Watchdog(reactor, service.blocked))
        return service

    return run_or_exit("nym-node", options, build)
