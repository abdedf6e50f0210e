"""Sends loops through chosen mixnodes, as a client of an edge, to find the mixnodes that forward packets."""

from collections.abc import Sequence
from random import Random
from typing import Any

from nacl.signing import SigningKey

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from nymtw.errors import NymtwError
from nymtw.interfaces import IRouteStrategy
from nymtw.link.client_link import connect_to_provider
from nymtw.link.control import MailKind
from nymtw.message.fragments import Fragment
from nymtw.message.packets import build_loop_packet
from nymtw.message.sealing import unseal
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.sphinx import generate_keypair
from nymtw.topology.address import Address, mailbox_id
from nymtw.topology.document import LAYERS, NodeRecord, Topology

ROUNDS = 3  # routes through each mixnode, each time with other neighbours
PATIENCE = 15.0  # seconds for a loop to return
_PULL_INTERVAL = 0.2
_AT_ONCE = 50  # packets: half of the number that a gateway accepts at once
_DELAY = 0.02  # seconds at each hop on average


@implementer(IRouteStrategy)
class ChosenRoute:
    """A route strategy that always returns the same mixnodes."""

    def __init__(self, route: Sequence[NodeRecord]) -> None:
        self._route = route

    def draw(self, topology: Topology, random: Random) -> Sequence[NodeRecord]:
        """The chosen mixnodes."""
        return self._route


def routes_through_all(topology: Topology, rounds: int = ROUNDS) -> list[list[NodeRecord]]:
    """Routes that contain every mixnode at least `rounds` times, with different neighbours if possible."""
    layers = [topology.usable_mixnodes(layer) for layer in LAYERS]
    if not all(layers):
        return []
    return [
        [nodes[(turn + number * place) % len(nodes)] for place, nodes in enumerate(layers)]
        for number in range(rounds)
        for turn in range(max(map(len, layers)))
    ]


async def probe(
    reactor: Any, topology: Topology, network: bytes, edge: NodeRecord, security: Any, random: Random
) -> set[bytes]:
    """The identities of the mixnodes through which a loop returned. Registers a new mailbox at `edge`, a provider or
    gateway.

    Raises `NymtwError`, or Twisted's error, if the edge cannot be used.
    """
    key = SigningKey(random.randbytes(32))
    private, public = generate_keypair(random)
    own = Address(mailbox_id(bytes(key.verify_key)), public, edge.identity)
    gone: list[bool] = []
    connecting = connect_to_provider(
        reactor,
        edge.host,
        edge.client_port,
        edge.identity,
        security,
        mailbox_key=key,
        lost=lambda: gone.append(True),
    )
    connecting.addTimeout(PATIENCE, reactor)
    connection = await connecting
    try:
        await connection.login(await connection.register())
        waiting: dict[bytes, list[NodeRecord]] = {}
        for number, route in enumerate(routes_through_all(topology)):
            if number >= _AT_ONCE:
                await deferLater(reactor, _pause(topology), lambda: None)
            loop_id = random.randbytes(16)
            delays = ExponentialDelays(_DELAY)
            packet = build_loop_packet(topology, own, loop_id, ChosenRoute(route), delays, random)
            waiting[loop_id] = route
            connection.submit(packet.first_hop, packet.epoch, packet.packet)
        return await _collect(reactor, connection, waiting, private, gone)
    finally:
        if not gone:
            connection.abort()


def _pause(topology: Topology) -> float:
    """Seconds between two packets of a client at the recommended rates."""
    recommended = topology.recommended
    rate = recommended.message_sending_rate + recommended.loop_cover_traffic_rate + recommended.drop_cover_traffic_rate
    return 1 / max(rate, 1.0)


async def _collect(
    reactor: Any, connection: Any, waiting: dict[bytes, list[NodeRecord]], private: bytes, gone: list[bool]
) -> set[bytes]:
    proven: set[bytes] = set()
    confirm: list[int] = []
    end = reactor.seconds() + PATIENCE
    pushed: list[Any] = []
    if connection.push:
        connection.pushed = pushed.extend
    while waiting and not gone and reactor.seconds() < end:
        if connection.push:
            connection.confirm(confirm)
            items = pushed.copy()
            pushed.clear()
        else:
            pulled: Deferred[Any] = connection.pull(confirm)
            pulled.addTimeout(PATIENCE, reactor)
            items = await pulled
        confirm = [item.number for item in items]
        for item in items:
            if item.kind != MailKind.MESSAGE:
                continue
            try:
                loop_id = Fragment.parse(unseal(item.content, private)).message_id
            except NymtwError:
                continue
            proven.update(node.identity for node in waiting.pop(loop_id, ()))
        await deferLater(reactor, _PULL_INTERVAL, lambda: None)
    return proven
