"""The kinds of nodes in a localnet. A new kind is one entry of `NODE_KINDS`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nymtw.localnet.ports import LOOPBACK
from nymtw.localnet.processes import Component
from nymtw.localnet.rates import Rates

Options = Mapping[str, object]
LAYERS: Final = (1, 2, 3)
PROVIDER: Final = "provider"
GATEWAY: Final = "gateway"


@dataclass(frozen=True, slots=True)
class Size:
    """How many nodes a localnet has."""

    mixnodes_per_layer: int
    providers: int
    gateways: int


@dataclass(frozen=True, slots=True)
class NodeKind:
    """One kind of node.

    * `name`: the node's name; numbered from 1 if there is a `count`. A kind without a `count` has one node.
    * `role`: the subcommand of twistd.
    * `options`: those that other kinds do not have, at the rates of the network. `flags`: options without a value.
    * `has_clients`: whether it has a port for clients.
    * `where`: shown to the user, after the addresses.
    """

    name: str
    role: str
    count: Callable[[Size], int] | None = None
    options: Callable[[Rates], Options] = lambda rates: {}
    flags: tuple[str, ...] = ()
    has_clients: bool = False
    where: str = ""

    def names(self, size: Size) -> Sequence[str]:
        """The names of its nodes in a localnet of this size."""
        if self.count is None:
            return [self.name]
        return [f"{self.name}-{number}" for number in range(1, self.count(size) + 1)]

    def component(self, name: str, port: int, client_port: int, rates: Rates, common: Options) -> Component:
        """The node `name`, on these ports. `common`: the options of every node."""
        clients = {"client_port": client_port} if self.has_clients else {}
        words = command(self.role, id=name, port=port, **clients, **self.options(rates), **common)
        addresses = f"{LOOPBACK}:{port}" + (f", clients {LOOPBACK}:{client_port}" if self.has_clients else "")
        return Component(name, (*words, *self.flags), addresses + (f", {self.where}" if self.where else ""))


def _mixnode(layer: int) -> NodeKind:
    return NodeKind(
        f"mixnode-{layer}",
        "nym-mixnode",
        count=lambda size: size.mixnodes_per_layer,
        options=lambda rates: {"layer": layer, "loop_rate": rates.mix_loops},
        where=f"layer {layer}",
    )


NODE_KINDS: Final = (
    *map(_mixnode, LAYERS),
    NodeKind(
        PROVIDER,
        "nym-provider",
        count=lambda size: size.providers,
        options=lambda rates: {"client_rate": rates.client},
        has_clients=True,
    ),
    NodeKind(
        "webproxy",
        "nym-provider",
        # Everything of this network is on this machine, and so are the pages that somebody tries it with.
        options=lambda rates: {"impl": "webproxy", "stream_rate": rates.service, "web_ports": "all"},
        flags=("--web-private",),
        where="fetches web pages",
    ),
    NodeKind(
        GATEWAY,
        "nym-gateway",
        count=lambda size: size.gateways,
        options=lambda rates: {
            "mode": "exit",
            "downlink_rate": rates.downlink,
            "client_rate": rates.client,
            "stream_rate": rates.service,
        },
        flags=("--exit-private",),
        has_clients=True,
        where="an exit too",
    ),
)


def command(role: str, **options: object) -> tuple[str, ...]:
    """The words of a command line: the subcommand and its options."""
    return (role, *(f"--{name.replace('_', '-')}={value}" for name, value in options.items()))
