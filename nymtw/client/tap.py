"""`twistd nym-client`."""

from twisted.application.service import IService

from nymtw.client.options import Options, configure
from nymtw.node.tap import run_or_exit

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """The client that the command line means."""

    def build(reactor: object) -> IService:
        from nymtw.client.service import ClientService, Socket

        home, config = configure(options)
        socket = None
        if options["socket"] != "none":
            socket = Socket(options["socket"], options["port"], options["recipient"], bool(options["open-socket"]))
        return ClientService.from_config(reactor, home, config, socket)

    return run_or_exit("nym-client", options, build)
