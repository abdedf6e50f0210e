"""`twistd nym-provider`, and the common part with `twistd nym-gateway`."""

from collections.abc import Callable
from typing import Any

from twisted.application.service import IService

from nymtw.node.tap import run_or_exit
from nymtw.provider.options import Options, configure

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """Make the provider for a command line."""

    def provider() -> Any:
        from nymtw.provider.service import ProviderService

        return ProviderService

    return make_edge("nym-provider", options, configure, provider)


def make_edge(
    program: str, options: Any, configure: Callable[[Any], Any], service_class: Callable[[], Any]
) -> IService:
    """Make a provider or a gateway for a command line. `service_class()` imports its class, when it is built."""

    def build(reactor: object) -> IService:
        from nymtw.provider.services.watchdog import Watchdog

        home, config = configure(options)
        service: Any = service_class().from_config(reactor, home, config, options.factories, options)
        service.reread = lambda: configure(options)[1].node
        service.add(Watchdog(reactor, service.blocked))
        return service

    return run_or_exit(program, options, build)
