"""Whole networks with a gateway in memory, and clients that are pushed their mail."""

from typing import Any

from mixing_services import Client, World
from nacl.signing import SigningKey

from nymtw.gateway.options import GatewayConfig, GatewaySection, Options
from nymtw.gateway.service import GatewayService
from nymtw.link.control import MailItem
from nymtw.message.sealing import unseal
from nymtw.node.home import NodeHome
from nymtw.sphinx import generate_keypair


class GatewayWorld(World):
    """`World`, and gateways."""

    def gateway(
        self, name: str = "g", factories: Any = None, verifier: Any = None, argv: tuple[str, ...] = (), **given: Any
    ) -> GatewayService:
        options = Options()
        options.parseOptions(list(argv))
        section = GatewaySection(
            id=name,
            host="127.0.0.1",
            port=0,
            client_port=given.pop("client_port", 0),
            directory_key="",
            rate=1,
            **given,
        )
        more = {} if verifier is None else {"verifier": verifier}
        return self.started(  # type: ignore[no-any-return]
            GatewayService.from_config(
                self.network.host(name),
                NodeHome("gateway", name, self.folder),
                GatewayConfig(node=section),
                factories or options.factories,
                options,
                self.environment(),
                **more,
            )
        )

    def layers(self) -> None:
        for layer in (1, 2, 3):
            self.mixnode(f"m{layer}", layer)

    def network_with_a_gateway(self, **given: Any) -> GatewayService:
        self.layers()
        gateway = self.gateway(**given)
        self.clock.advance(10.0)
        return gateway


class Pushed(Client):
    """A client of a gateway, at a host of its own, that confirms what it gets as soon as it has it, and connects again
    after half a second.
    """

    def __init__(self, world: GatewayWorld, gateway: GatewayService, name: str) -> None:
        self.world, self.name = world, name
        self.mailbox_key = SigningKey(world.random.randbytes(32))
        self.private_key, self.public_key = generate_keypair(world.random)
        self.provider = world.directory.nodes[bytes(gateway.parts.identity.verify_key)]
        self.items: list[MailItem] = []
        self.confirming = True
        self.connection = self.connect()
        self.token = world.clock.wait_for(self.connection.register(), 5.0)
        self.login()

    def login(self) -> None:
        self.world.clock.wait_for(self.connection.login(self.token), 5.0)
        self.connection.pushed = self.take

    def again(self) -> None:
        """A new connection, and a login."""
        self.connection = self.connect()
        self.login()

    def take(self, items: list[MailItem]) -> None:
        self.items += items
        if self.confirming:
            self.connection.confirm([item.number for item in items])

    def texts(self) -> list[bytes]:
        """The messages, in the order in which they came."""
        return [unseal(item.content, self.private_key).rstrip() for item in self.items if item.kind == 1]

    def acks(self) -> list[bytes]:
        return [item.content for item in self.items if item.kind == 2]
