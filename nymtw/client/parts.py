"""What a client core is made with, and the parts that it is made of."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nymtw.client.config import DebugSection
from nymtw.client.loop_watch import ClientPolicy, LoopWatch
from nymtw.client.receiving.circuits import Circuits
from nymtw.client.receiving.mail_handler import MailHandler
from nymtw.client.receiving.replies import Replies
from nymtw.client.sending.cover import CoverLedger
from nymtw.client.sending.hop_watch import AvoidingRoutes, HopWatch
from nymtw.client.sending.idle import DropCover, NoCover
from nymtw.client.sending.messages import Progress
from nymtw.client.sending.outbox import Outbox, OutboxLimits
from nymtw.client.sending.packet_sender import PacketSender
from nymtw.client.sending.streams import Streams
from nymtw.client.store import ClientStore
from nymtw.interfaces import ICoverStrategy, IRouteStrategy
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.message.envelope import Envelope, ReplyBlock
from nymtw.message.round_trip import RoundTrips
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.routes import UniformRoutes
from nymtw.mixing.strategies import DelayFactory
from nymtw.sphinx import SURBRecord
from nymtw.topology.address import Address
from nymtw.topology.document import Recommended, Topology

INBOX_LIMIT: Final = 1024 * 1024 * 1024  # bytes of messages that no application has taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a client is: the network's id, its mailbox and X25519 keys, 32 bytes each."""

    network: bytes
    mailbox: bytes
    private_key: bytes = field(repr=False)
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategies:
    """What a client decides by; None is what every client does.

    `routes` chooses mixnodes, `delays` makes the delay strategy for a mean in seconds, `idle` fills slots in which no
    packet waits, `policy` is an `ICoverPolicy` (`nymtw.client.loop_watch`).
    """

    routes: IRouteStrategy | None = None
    delays: DelayFactory | None = None
    idle: ICoverStrategy | None = None
    cryptography: Cryptography = SPHINX
    policy: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client keeps at most. Past `inbox` bytes that nobody takes, messages stay where they are kept."""

    outbox: OutboxLimits = field(default_factory=OutboxLimits)
    inbox: int = INBOX_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkControl:
    """What a client asks of its link: `drop` begins a new session, `change` goes to another edge, `trouble` says why
    there is none."""

    drop: Callable[[], None] = lambda: None
    change: Callable[[], None] = lambda: None
    trouble: Callable[[], str] = lambda: ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """What the parts ask of the core, or tell it.

    `topology()` is the one that packets can cross, or None; `report(trouble)` tells why no packet can be built.
    """

    topology: Callable[[], Topology | None]
    address: Callable[[], Address]
    changed: Callable[[Progress], None]
    report: Callable[[str], None]
    make_block: Callable[[], tuple[ReplyBlock, SURBRecord]]
    send: Callable[[Envelope, bytes], Coroutine[Deferred[Any], Any, Any]]
    leave: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one client, each made whole."""

    cover: CoverLedger
    outbox: Outbox
    routes: IRouteStrategy
    circuits: Circuits
    mail_handler: MailHandler
    packet_sender: PacketSender
    streams: Streams
    loop_watch: LoopWatch


def make_parts(
    clock: IReactorTime,
    random: Random,
    wall_clock: Callable[[], float],
    store: ClientStore,
    *,
    identity: Identity,
    strategies: Strategies,
    limits: Limits,
    link: LinkControl,
    debug: DebugSection,
    core: Callbacks,
) -> Parts:
    """The parts; none of them calls `core` before the client starts."""
    cover, round_trips = CoverLedger(clock.seconds), RoundTrips()
    hops = HopWatch(clock.seconds, round_trips)
    routes = AvoidingRoutes(strategies.routes or UniformRoutes(), hops)
    outbox = Outbox(store, clock, changed=core.changed, limits=limits.outbox, round_trips=round_trips)
    circuits = Circuits(clock, random, outbox=outbox, make_block=core.make_block)
    mail_handler = MailHandler(
        store,
        clock,
        wall_clock,
        private_key=identity.private_key,
        public_key=identity.public_key,
        outbox=outbox,
        cover=cover,
        hops=hops,
        inbox_limit=limits.inbox,
        begin_again=link.drop,
        circuits=circuits,
        replies=partial(Replies, store, clock, random, outbox=outbox, make_block=core.make_block, send=core.send),
        cryptography=strategies.cryptography,
    )
    mean_delay = Recommended().average_packet_delay
    packet_sender = PacketSender(
        clock,
        random,
        topology=core.topology,
        address=core.address,
        report=core.report,
        outbox=outbox,
        cover=cover,
        hops=hops,
        replies=mail_handler.replies,
        routes=routes,
        delays=(strategies.delays or ExponentialDelays)(mean_delay),
        mean_delay=mean_delay,
        idle=_idle(strategies, debug),
        cryptography=strategies.cryptography,
    )
    streams = Streams(
        clock,
        random,
        send=packet_sender.send_next,
        loop=packet_sender.send_loop,
        drop=packet_sender.send_drop,
        fetch=mail_handler.fetch,
    )
    policy = strategies.policy or ClientPolicy()
    return Parts(
        cover=cover,
        outbox=outbox,
        routes=routes,
        circuits=circuits,
        mail_handler=mail_handler,
        packet_sender=packet_sender,
        streams=streams,
        loop_watch=LoopWatch(clock, cover, policy, hold=packet_sender.hold, leave=core.leave),
    )


def _idle(strategies: Strategies, debug: DebugSection) -> ICoverStrategy:
    if strategies.idle is not None:
        return strategies.idle
    return NoCover() if debug.rate_compliant_cover_messages_disabled else DropCover()
