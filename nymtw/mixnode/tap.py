"""`twistd nym-mixnode`."""

from twisted.application.service import IService

from nymtw.mixnode.options import Options, configure
from nymtw.node.tap import run_or_exit

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """The mixnode that the command line means."""

    def build(reactor: object) -> IService:
        from nymtw.mixnode.service import MixnodeService

        service = MixnodeService.from_config(reactor, *configure(options))
        service.reread = lambda: configure(options)[1].node
        return service

    return run_or_exit("nym-mixnode", options, build)
