"""What a localnet consists of: each component's ports and command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nymtw.encoding import key_text
from nymtw.localnet.ports import LOOPBACK, PortPicker
from nymtw.localnet.processes import Component
from nymtw.localnet.rates import Rates
from nymtw.node.home import NodeHome
from nymtw.node.keys import load_or_create_identity

DIRECTORY_PORT = 8080
NODE_PORT = 1789
CLIENT_PORT = 9000  # of the first provider; then the others and the gateways
CLIENT_SOCKET_PORT = 1977
CLIENTS = ("alice", "bob")
WEBPROXY = "webproxy"
LAYERS = (1, 2, 3)
REFRESH = 2
# Seconds of a key epoch: a mixnet that somebody leaves running keeps small replay filters, and changes keys.
EPOCH = 6 * 3600


@dataclass(frozen=True, slots=True)
class Layout:
    """The components in the order in which they are started, and where to reach those that we speak to."""

    components: tuple[Component, ...]
    directory_url: str
    directory_key: str
    node_ports: Mapping[str, int] = field(default_factory=dict)
    client_ports: Mapping[str, int] = field(default_factory=dict)


def lay_out(home: Path, mixnodes_per_layer: int, providers: int, gateways: int, rates: Rates) -> Layout:
    """Choose ports, and make the identity keys that others must know before their owners have started.

    alice is at the first gateway, if there is one: so each message between her and bob crosses both kinds of edges.
    Raises `KeyFileError`, `ConfigError` and `ListenError`.
    """
    picker = PortPicker()
    [directory_port] = picker.pick(DIRECTORY_PORT)
    node_ports = iter(picker.pick(NODE_PORT, len(LAYERS) * mixnodes_per_layer + providers + 1 + gateways))
    door_ports = iter(picker.pick(CLIENT_PORT, providers + gateways))
    socket_ports = picker.pick(CLIENT_SOCKET_PORT, len(CLIENTS))
    url = f"http://{LOOPBACK}:{directory_port}"
    key = _identity("directory", "directory", home)

    directory = Component(
        "directory",
        _command(
            "nym-directory",
            id="directory",
            host=LOOPBACK,
            port=directory_port,
            refresh=REFRESH,
            epoch_seconds=EPOCH,
            message_sending_rate=rates.sending,
            loop_cover_traffic_rate=rates.loops,
            fetch_message_rate=rates.fetching,
        ),
        url,
    )
    common = {"host": LOOPBACK, "directory": url, "directory_key": key, "rate": rates.node}
    ports: dict[str, int] = {}
    nodes: list[Component] = []
    for layer in LAYERS:
        for number in range(1, mixnodes_per_layer + 1):
            name = f"mixnode-{layer}-{number}"
            ports[name] = port = next(node_ports)
            command = _command("nym-mixnode", id=name, port=port, layer=layer, loop_rate=rates.mix_loops, **common)
            nodes.append(Component(name, command, f"{LOOPBACK}:{port}, layer {layer}"))
    names = [f"provider-{number}" for number in range(1, providers + 1)]
    for name in names:
        ports[name], door = next(node_ports), next(door_ports)
        command = _command("nym-provider", id=name, port=ports[name], client_port=door, **common)
        nodes.append(Component(name, command, f"{LOOPBACK}:{ports[name]}, clients {LOOPBACK}:{door}"))
    ports[WEBPROXY] = port = next(node_ports)
    # Everything of this network is on this machine, and so are the pages that somebody tries it with.
    service = {"impl": WEBPROXY, "stream_rate": rates.service, "web_ports": "all"}
    command = _command("nym-provider", id=WEBPROXY, port=port, **service, **common)
    nodes.append(Component(WEBPROXY, (*command, "--web-private"), f"{LOOPBACK}:{port}, fetches web pages"))
    for number in range(1, gateways + 1):
        name = f"gateway-{number}"
        ports[name], door = next(node_ports), next(door_ports)
        options = {"id": name, "mode": "exit", "port": ports[name], "client_port": door, **common}
        options |= {"downlink_rate": rates.downlink, "client_rate": rates.client, "stream_rate": rates.service}
        where = f"{LOOPBACK}:{ports[name]}, clients {LOOPBACK}:{door}, an exit too"
        nodes.append(Component(name, (*_command("nym-gateway", **options), "--exit-private"), where))
    clients: list[Component] = []
    for number, (name, port) in enumerate(zip(CLIENTS, socket_ports, strict=True)):
        role, edge = ("gateway", "gateway-1") if gateways and not number else ("provider", names[number % providers])
        options = {"id": name, role: _identity(role, edge, home), "directory": url, "directory_key": key}
        command = _command("nym-client", **options, socket="tcp", port=port)
        clients.append(Component(name, command, f"{LOOPBACK}:{port} (TCP socket), at {edge}"))
    return Layout((directory, *nodes, *clients), url, key, ports, dict(zip(CLIENTS, socket_ports, strict=True)))


def table(layout: Layout) -> str:
    """Who runs where."""
    width = max(len(component.name) for component in layout.components)
    return "\n".join(f"  {component.name:{width}}  {component.where}" for component in layout.components)


def _command(role: str, **options: object) -> tuple[str, ...]:
    return (role, *(f"--{name.replace('_', '-')}={value}" for name, value in options.items()))


def _identity(role: str, name: str, base: Path) -> str:
    """The text of a node's identity key, which is made if it is not there."""
    home = NodeHome(role, name, base)
    home.create()
    return key_text(bytes(load_or_create_identity(home).verify_key))
