"""A simulated network whose nodes leave their role to the directory."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from nymtw.directory.config import RecommendedSection
from nymtw.encoding import key_text
from nymtw.nym_node.auto import AutoService
from nymtw.nym_node.config import DEFAULT_TAKES, GatewayPart, MixnodePart, NodeSection, NymNodeConfig
from nymtw.nym_node.options import Options
from nymtw.testing.network import LOCALHOST
from nymtw.testing.simulation import NODE_RATE, SimulatedNetwork
from nymtw.topology.document import Topology

EPOCH = 60
REFRESH = 4.0
RATES = RecommendedSection(
    loop_cover_traffic_rate=0.5, message_sending_rate=2.0, fetch_message_rate=1.0, average_packet_delay=1.0
)


class AnyNetwork(SimulatedNetwork):
    """`number` nodes of any role and no other. They are started by `start`; clients `join` where gateways are."""

    def __init__(self, seed: str, number: int, **options: Any) -> None:
        given = {
            "recommended": RATES,
            "refresh": REFRESH,
            "epoch_seconds": EPOCH,
            "expiry": 2 * REFRESH,
            "mixnodes_per_layer": 0,
            "crypto": "none",
        }
        super().__init__(seed, providers=0, clients=(), **{**given, **options})
        # Every run begins at the same moment of an epoch.
        self.clock.advance(EPOCH - self.clock.wall_clock() % EPOCH + 1)
        for each in range(1, number + 1):
            self.add(f"node-{each}", 2000 + each)

    def add(self, name: str, port: int, takes: Iterable[str] = DEFAULT_TAKES, loops: float = 0.2) -> None:
        """One more node, which is not yet started."""
        self._identity("node", name)
        self._makers[name] = self._any_node(name, port, tuple(takes), loops)

    def _any_node(self, name: str, port: int, takes: tuple[str, ...], loops: float) -> Callable[[], AutoService]:
        section = NodeSection(
            id=name, host=LOCALHOST, port=port, directory_key="", rate=NODE_RATE, mode="auto", takes=list(takes)
        )
        config = NymNodeConfig(
            node=section, mixnode=MixnodePart(loop_rate=loops), gateway=GatewayPart(client_port=port + 5000)
        )
        options = Options()
        options.parseOptions(["--mode=auto", f"--takes={','.join(takes)}"])

        def make() -> AutoService:
            home = self.home("node", name)
            return AutoService.for_config(self.network.host(name), home, config, options, self._environment(name))

        return make

    def join(self, name: str, door: str) -> None:
        """A client of the gateway `door`, and let time pass until it is logged in."""
        identity = key_text(self.nodes[door].core.own.identity)
        self._makers[name] = self._client(name, f"gateway-{door}", identity)
        self._start(name)
        self.run_until(self._is_complete, 120)

    @property
    def topology(self) -> Topology:
        return self.directory.publisher.topology()

    @property
    def services(self) -> dict[str, AutoService]:
        return {name: node for name, node in self.nodes.items() if isinstance(node, AutoService)}

    def places(self) -> dict[str, str]:
        """Where everybody is now."""
        topology = self.topology
        found = {name: topology.find(node.core.own.identity) for name, node in self.services.items()}
        return {name: record.place(topology.epoch) for name, record in found.items() if record is not None}

    def counted(self) -> Counter[str]:
        return Counter(self.places().values())

    def gateways(self) -> list[str]:
        return [name for name, place in self.places().items() if place.endswith("gateway")]

    def next_epoch(self) -> None:
        """Let time pass until everybody has heard of the next key epoch."""
        epoch = self.topology.epoch
        self.run_until(lambda: self.topology.epoch > epoch, 2 * EPOCH)
        self.run(2 * REFRESH)

    def dropped(self) -> Counter[str]:
        """What all nodes have dropped, by reason."""
        total: Counter[str] = Counter()
        for counters in self.counters().values():
            total.update({reason.value: number for reason, number in counters.dropped.items()})
        return total
