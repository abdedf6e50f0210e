"""A mixnode's own cover: loops through the rest of the layers, a provider and back (Loopix, section 4.1.2)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.logger import Logger

from nymtw.errors import TopologyError
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.loop_loss import ACTIONS, BLOCKED, GO_ON, LATE, LOSS, LoopLedger, LoopLoss, LoopTimes
from nymtw.mixing.poisson import PoissonStream
from nymtw.mixnode.core import MixnodeCore
from nymtw.node.engine.packet_engine import Links
from nymtw.node.metrics import counter, gauge, labelled_counters
from nymtw.sphinx import Hop
from nymtw.topology.document import LAYERS, NodeRecord, Topology

if TYPE_CHECKING:  # loaded when metrics are first asked for
    from prometheus_client.core import Metric

IDENTIFIER_LENGTH: Final = 16
_LOOK_INTERVAL: Final = 0.25  # seconds
_MOMENT: Final = 1.0  # seconds: at 14 loops a second one without any is chance once in a million
_KINDS: Final = {
    LOSS: "did not come back",
    LATE: "did not come back in time",
    BLOCKED: "came back in a moment in which all were due: somebody may be holding back the packets of others",
}
_NOBODY: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Loop:
    """A packet of four hops that ends where it began; `identifier` (16 bytes) tells it when it is back."""

    epoch: int
    first_hop: bytes
    packet: bytes
    identifier: bytes
    delays: float  # their sum, in seconds


def loop_route(topology: Topology, identity: bytes, random: Random) -> list[NodeRecord]:
    """The layers behind this mixnode, a provider or gateway, the layers before it, and itself.

    Raises `TopologyIncomplete` where a layer is empty, `TopologyError` where the mixnode is not in the topology.
    """
    own = topology.find(identity)
    if own is None or own.layer not in LAYERS:
        raise TopologyError("this mixnode is not in the topology")
    stages = [topology.usable_mixnodes(layer) for layer in LAYERS if layer > own.layer]
    stages.append(topology.usable_edges())
    stages += [topology.usable_mixnodes(layer) for layer in LAYERS if layer < own.layer]
    if not all(stages):
        raise TopologyError("a layer is empty, or there is no provider")
    return [*(random.choice(stage) for stage in stages), own]


def make_loop(topology: Topology, identity: bytes, random: Random, cryptography: Cryptography = SPHINX) -> Loop:
    """A loop of the mixnode `identity`, with the delays that clients draw. Raises like `loop_route`."""
    route = loop_route(topology, identity, random)
    hops = [Hop(node.identity, node.sphinx_key(topology.epoch)) for node in route]
    delays = ExponentialDelays(topology.recommended.average_packet_delay).draw(len(hops) - 1, random)
    identifier = random.randbytes(IDENTIFIER_LENGTH)
    packet = cryptography.build(b"", hops, delays, _NOBODY, identifier, random=random)
    return Loop(topology.epoch, hops[0].address, packet, identifier, sum(delays) / 1e9)


class MixLoops(Service):
    """Sends loops as a Poisson process of `rate` a second, and has `policy` (`ICoverPolicy`) decide on what becomes of
    them: how many are lost in a `window`, how many are late, and whether all are for a moment.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        core: MixnodeCore,
        links: Links,
        topology: Callable[[], Topology],
        policy: Any,
        random: Random,
        *,
        rate: float,
        window: float,
        cryptography: Cryptography = SPHINX,
    ) -> None:
        """`topology` raises `TopologyError` where there is none that can be used. `window` in seconds."""
        self._clock = clock
        self._core = core
        self._links = links
        self._topology = topology
        self._random = random
        self._cryptography = cryptography
        self._stream = PoissonStream(clock, rate, self._send, random)
        self._call: Any = None
        self.policy = policy
        self.ledger = LoopLedger(window)
        self.times = LoopTimes(_MOMENT)
        self.last: LoopLoss | None = None
        self.alarms = dict.fromkeys(_KINDS, 0)  # how often each kind of judgement has led to something
        self._actions = dict.fromkeys(_KINDS, GO_ON)
        core.came_back = self._came_back

    @property
    def action(self) -> str:
        """What is in force: the most that any of the judgements has led to."""
        return max(self._actions.values(), key=ACTIONS.index)

    def set_rate(self, rate: float) -> None:
        """Go on with another rate; 0 sends none."""
        self._stream.set_rate(rate)

    def totals(self) -> tuple[int, int]:
        """How many have left, and how many have come back."""
        return self.ledger.sent, self.ledger.returned

    def startService(self) -> None:
        """Send and judge from now on."""
        super().startService()
        self._stream.start()
        self._call = self._clock.callLater(_LOOK_INTERVAL, self._look)

    def stopService(self) -> None:
        """Send no more."""
        super().stopService()
        self._stream.stop()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _send(self) -> None:
        try:
            loop = make_loop(self._topology(), self._core.own.identity, self._random, self._cryptography)
        except TopologyError:
            return  # this node is not part of a whole network yet, or not any more
        now = self._clock.seconds()
        self.ledger.left(loop.identifier, loop.delays, now)
        # A node that holds packets for longer holds its own loops on their way for longer nowhere but here.
        self.times.left(loop.identifier, loop.delays, now)
        # Like everything that begins here it is in the account as received.
        self._core.counters.received()
        self._links.send(loop.first_hop, loop.epoch, loop.packet)

    def _came_back(self, identifier: bytes) -> bool:
        self.times.came_back(identifier, self._clock.seconds())
        return self.ledger.came_back(identifier)

    def _look(self) -> None:
        self._call = self._clock.callLater(_LOOK_INTERVAL, self._look)
        now = self._clock.seconds()
        for loss in (*self.ledger.finished(now), *self.times.look(now)):
            self._decide(loss)

    def _decide(self, loss: LoopLoss) -> None:
        if loss.kind == LOSS:
            self.last = loss
        action = self.policy.decide(loss)
        if action not in ACTIONS:
            self.log.error(
                "The cover policy says {action!r}, which is none of {actions}", action=action, actions=ACTIONS
            )
            action = GO_ON
        if action != GO_ON:
            self.alarms[loss.kind] += 1
            self.log.warn(
                "{lost} of {sent} loops of this node {what} ({ratio:.1%}): {action}",
                lost="none" if loss.kind == BLOCKED else loss.lost,
                sent=loss.sent,
                what=_KINDS[loss.kind],
                ratio=loss.ratio,
                action=action,
            )
        elif self._actions[loss.kind] != GO_ON:
            self.log.info("Loops come back again: {lost} of {sent} were lost or late", lost=loss.lost, sent=loss.sent)
        before, self._actions[loss.kind] = self.action, action
        if self.action != before:
            self._core.act(self.action)

    def metrics(self) -> "Iterable[Metric]":
        """For Prometheus."""
        ledger, last = self.ledger, self.last
        yield counter("loops_sent", "Loops of this mixnode that have left.", ledger.sent)
        yield counter("loops_returned", "Loops that came back.", ledger.returned)
        yield counter("loops_lost", "Loops that did not, of the windows that are over.", ledger.lost)
        yield gauge("loop_window_loops", "Loops of the last window that is over.", last.sent if last else 0)
        yield gauge("loop_loss_ratio", "The share of them that was lost.", last.ratio if last else 0.0)
        yield gauge("loop_alarm", "1 where the cover policy found too many lost or late.", self.action != GO_ON)
        yield gauge("loop_usual_seconds", "What loops take beyond their drawn delays.", self.times.usual)
        alarms = labelled_counters("loop_alarms", "Judgements that led to something.", labels=["kind"])
        for kind, number in self.alarms.items():
            alarms.add_metric([kind], number)
        yield alarms
