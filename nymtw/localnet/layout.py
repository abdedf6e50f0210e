"""What a localnet consists of: each component's ports and command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nymtw.encoding import key_text
from nymtw.localnet.ports import LOOPBACK, PortPicker
from nymtw.localnet.processes import Component
from nymtw.node.home import NodeHome
from nymtw.node.keys import load_or_create_identity

DIRECTORY_PORT = 8080
NODE_PORT = 1789
CLIENT_PORT = 9000  # of the first provider; then the others and the gateways
CLIENT_SOCKET_PORT = 1977
CLIENTS = ("alice", "bob")
WEBPROXY = "webproxy"
LAYERS = (1, 2, 3)
# What this network's clients are told: a file should not take minutes, and a start not either.
SENDING_RATE = 100
# A client at that rate gets its own loops, their acks, and what others send: more than 300 items a second, 16 a pull.
FETCH_RATE = 30
# Slots a second from a gateway: as many as a provider answers pulls with. On a machine that has other things to do a
# gateway comes too late for some of its frames, and what follows from the rates above leaves no room for that.
DOWNLINK_RATE = 500
# Packets a second to a gateway: whoever tries a client at other rates here is not to be held to those above.
CLIENT_RATE = 400
REFRESH = 2
# Packets a second that a node sizes its replay filter for: two clients at their fastest, and room.
NODE_RATE = 300


@dataclass(frozen=True, slots=True)
class Layout:
    """The components in the order in which they are started, and where to reach those that we speak to."""

    components: tuple[Component, ...]
    directory_url: str
    directory_key: str
    node_ports: Mapping[str, int] = field(default_factory=dict)
    client_ports: Mapping[str, int] = field(default_factory=dict)


def lay_out(home: Path, mixnodes_per_layer: int, providers: int, gateways: int) -> Layout:
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
            message_sending_rate=SENDING_RATE,
            fetch_message_rate=FETCH_RATE,
        ),
        url,
    )
    common = {"host": LOOPBACK, "directory": url, "directory_key": key}
    ports: dict[str, int] = {}
    nodes: list[Component] = []
    for layer in LAYERS:
        for number in range(1, mixnodes_per_layer + 1):
            name = f"mixnode-{layer}-{number}"
            ports[name] = port = next(node_ports)
            command = _command("nym-mixnode", id=name, port=port, layer=layer, rate=NODE_RATE, **common)
            nodes.append(Component(name, command, f"{LOOPBACK}:{port}, layer {layer}"))
    names = [f"provider-{number}" for number in range(1, providers + 1)]
    for name in names:
        ports[name], door = next(node_ports), next(door_ports)
        command = _command("nym-provider", id=name, port=ports[name], client_port=door, rate=NODE_RATE, **common)
        nodes.append(Component(name, command, f"{LOOPBACK}:{ports[name]}, clients {LOOPBACK}:{door}"))
    ports[WEBPROXY] = port = next(node_ports)
    # Everything of this network is on this machine, and so are the pages that somebody tries it with.
    command = _command("nym-provider", id=WEBPROXY, impl=WEBPROXY, port=port, rate=NODE_RATE, web_ports="all", **common)
    nodes.append(Component(WEBPROXY, (*command, "--web-private"), f"{LOOPBACK}:{port}, fetches web pages"))
    for number in range(1, gateways + 1):
        name = f"gateway-{number}"
        ports[name], door = next(node_ports), next(door_ports)
        options = {"id": name, "mode": "exit", "port": ports[name], "client_port": door, "rate": NODE_RATE, **common}
        options |= {"downlink_rate": DOWNLINK_RATE, "client_rate": CLIENT_RATE}
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
