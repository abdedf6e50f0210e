"""How many clients each provider and gateway has: who chooses one knows among how many it hides."""

import time
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from nymtw.client.config import ClientConfig, network_of
from nymtw.encoding import key_text
from nymtw.errors import NymtwError, TopologyError
from nymtw.topology.document import MAX_TOPOLOGY_LENGTH, Topology, verify_topology

PATIENCE = 5.0  # seconds for the directory's answer


def edge_table(topology: Topology) -> str:
    """A line for each provider and gateway that clients can choose, the one with the most clients first."""
    doors = [node for node in topology.edges() if node.client_port]
    doors.sort(key=lambda node: (-(node.clients or 0), node.identity))
    return "\n".join(f"  {node.clients or '?':>6}  {node.role:8}  {key_text(node.identity)}" for node in doors)


def fetch_topology(config: ClientConfig) -> Topology:
    """The signed topology of the first directory that answers. Raises `NymtwError` if none does, or it cannot be used.

    An observer of the line sees the request, like that of a client that starts.
    """
    network = network_of(config)
    trouble = "no directory is configured"
    opener = build_opener(ProxyHandler({}))
    for url in network.directories:
        try:
            with opener.open(f"{url.rstrip('/')}/api/v1/topology", timeout=PATIENCE) as answer:
                return verify_topology(answer.read(MAX_TOPOLOGY_LENGTH), network.trust, time.time())
        except (URLError, OSError, ValueError) as error:
            trouble = f"{url}: {getattr(error, 'reason', error)}"
    raise TopologyError(trouble)


def edges_text(config: ClientConfig) -> str:
    """What `nym-client init` prints: the edges, or why they are not known."""
    try:
        topology = fetch_topology(config)
    except NymtwError as error:
        return f"How many clients each provider and gateway has is not known now: {error}"
    if not (table := edge_table(topology)):
        return "The network has no provider or gateway yet"
    return f"Providers and gateways, with the number of clients among which you are one (rounded up):\n{table}"
