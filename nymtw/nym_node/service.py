"""A node of any role: a mixnode, a gateway, or the role that the directory assigns, and its HTTP API."""

from collections import Counter
from typing import Any, Final

from twisted.logger import Logger

from nymtw.gateway.service import GatewayService
from nymtw.mixnode.service import MixnodeService
from nymtw.node.announce.placement import check_host
from nymtw.node.engine.mix_node import Environment, MixNode
from nymtw.node.home import NodeHome
from nymtw.node.service import Listener
from nymtw.nym_node.api import PREFIX, NodeApi
from nymtw.nym_node.auto import AutoService
from nymtw.nym_node.config import NymNodeConfig
from nymtw.nym_node.options import Options
from nymtw.nym_node.statistics import Statistics
from nymtw.topology.presence import endpoint_text
from nymtw.web.http import RoutesResource, bounded_site

_log = Logger()
MOST_CONNECTIONS: Final = 64  # to the HTTP API, so that descriptors remain for the links


def make_node(
    reactor: Any, home: NodeHome, config: NymNodeConfig, options: Options, environment: Environment | None = None
) -> MixNode:
    """Make the node for a `home`, in the mode of `config`.

    Raises `ConfigError`, `KeyFileError`, `DiskError`, `PluginError`.
    """
    mode = config.node.mode
    node: MixNode
    if mode == "mixnode":
        if (home.data / "store").exists():
            _log.warn("This node was a gateway before: clients cannot fetch their mail from it while it is a mixnode")
        node = MixnodeService.from_config(reactor, home, config.as_mixnode(), environment)
    elif mode == "auto":
        node = AutoService.for_config(reactor, home, config, options, environment)
    else:
        node = GatewayService.from_config(reactor, home, config.as_gateway(), options.factories, options, environment)
    if config.node.http_port:
        add_api(reactor, node, config)
    return node


def add_api(reactor: Any, node: MixNode, config: NymNodeConfig) -> Statistics:
    """Add the HTTP API to `node`."""
    section = config.node
    statistics = node.add(Statistics(reactor, node.parts.environment.wall_clock, node.counters.snapshot))
    asked: Counter[tuple[str, str, int]] = Counter()

    def count(method: str, path: str, code: int) -> None:
        asked[method, path, code] += 1

    resource = RoutesResource(NodeApi(node, section.mode, section, statistics).routes(), count)
    site = bounded_site(resource, reactor, most=MOST_CONNECTIONS)
    node.add(ApiListener(reactor, check_host(section.http_host), section.http_port, site))
    return statistics


class ApiListener(Listener):
    """Listens for the HTTP API, and logs its address."""

    def startService(self) -> None:
        """As `Listener`."""
        super().startService()
        _log.info("The HTTP API is at http://{where}{path}/", where=endpoint_text(self.host, self.port), path=PREFIX)
