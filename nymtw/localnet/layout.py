"""The layout of a localnet: each component's ports and command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nymtw.encoding import key_text, parse_key_text
from nymtw.localnet.components import GATEWAY, NODE_KINDS, PROVIDER, Size, command
from nymtw.localnet.ports import LOOPBACK, PortPicker
from nymtw.localnet.processes import Component
from nymtw.localnet.rates import Rates
from nymtw.node.home import NodeHome
from nymtw.node.keys import load_or_create_identity
from nymtw.node.networks import Network
from nymtw.topology.document import Trust

DIRECTORY_PORT = 8080
NODE_PORT = 1789
CLIENT_PORT = 9000  # of the first provider; then the others and the gateways
CLIENT_SOCKET_PORT = 1977
CLIENTS = ("alice", "bob")
REFRESH = 2
# All of it runs on one machine and hides nothing, and clients are tried at any rate: the lines carry what there is.
UNPADDED = {"line_wait": 0, "service_sending_rate": 0, "mixnode_loop_rate": 1}
# Seconds of a key epoch: a mixnet that somebody leaves running keeps small replay filters, and changes keys.
EPOCH = 6 * 3600


@dataclass(frozen=True, slots=True)
class Layout:
    """The components in the order in which they are started, and the addresses of directory, nodes and clients."""

    components: tuple[Component, ...]
    directory_url: str
    directory_key: str
    node_ports: Mapping[str, int] = field(default_factory=dict)
    client_ports: Mapping[str, int] = field(default_factory=dict)

    def network(self) -> Network:
        """Its directory and whose signature counts."""
        return Network((self.directory_url,), Trust((parse_key_text(self.directory_key),)))


def lay_out(
    home: Path,
    mixnodes_per_layer: int,
    providers: int,
    gateways: int,
    rates: Rates,
    padded: bool = False,
    usual_ports: bool = True,
) -> Layout:
    """Choose ports, and make the identity keys that others must know before their owners have started.

    alice is at the first gateway, if there is one: so each message between her and bob crosses both kinds of edges.
    Raises `KeyFileError`, `ConfigError` and `ListenError`.
    """
    size = Size(mixnodes_per_layer, providers, gateways)
    names = [(kind, name) for kind in NODE_KINDS for name in kind.names(size)]
    picker = PortPicker(usual_ports)
    [directory_port] = picker.pick(DIRECTORY_PORT)
    node_ports = dict(zip((name for _, name in names), picker.pick(NODE_PORT, len(names)), strict=True))
    with_clients = [name for kind, name in names if kind.has_clients]
    edge_ports = dict(zip(with_clients, picker.pick(CLIENT_PORT, len(with_clients)), strict=True))
    socket_ports = dict(zip(CLIENTS, picker.pick(CLIENT_SOCKET_PORT, len(CLIENTS)), strict=True))
    url = f"http://{LOOPBACK}:{directory_port}"
    key = _identity("directory", "directory", home)
    directory = Component(
        "directory",
        command(
            "nym-directory",
            id="directory",
            host=LOOPBACK,
            port=directory_port,
            refresh=REFRESH,
            epoch_seconds=EPOCH,
            message_sending_rate=rates.sending,
            loop_cover_traffic_rate=rates.loops,
            fetch_message_rate=rates.fetching,
            **({} if padded else UNPADDED),
        ),
        url,
    )
    common = {"host": LOOPBACK, "directory": url, "directory_key": key, "rate": rates.node}
    nodes = [kind.component(name, node_ports[name], edge_ports.get(name, 0), rates, common) for kind, name in names]
    clients: list[Component] = []
    for number, (name, port) in enumerate(socket_ports.items()):
        at_gateway = gateways and not number
        role, edge = (GATEWAY, "gateway-1") if at_gateway else (PROVIDER, f"provider-{1 + number % providers}")
        options = {"id": name, role: _identity(role, edge, home), "directory": url, "directory_key": key}
        words = command("nym-client", **options, socket="tcp", port=port)
        clients.append(Component(name, words, f"{LOOPBACK}:{port} (TCP socket), at {edge}"))
    return Layout((directory, *nodes, *clients), url, key, node_ports, socket_ports)


def table(layout: Layout) -> str:
    """A line for each component: its name and addresses."""
    return listed(layout.components)


def listed(components: Sequence[Component]) -> str:
    """The same for any of them."""
    width = max(len(component.name) for component in components)
    return "\n".join(f"  {component.name:{width}}  {component.where}" for component in components)


def _identity(role: str, name: str, base: Path) -> str:
    """The text of a node's identity key, which is made if it is not there."""
    home = NodeHome(role, name, base)
    home.create()
    return key_text(bytes(load_or_create_identity(home).verify_key))
