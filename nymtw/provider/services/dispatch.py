"""What an implementation has to send: replies over reply blocks, and messages to addresses, as one Poisson stream.

Correspondents are served in turn. What is not acknowledged is sent again (`nymtw.message.arq`), after as long as acks
and receipts were found to take (`nymtw.message.round_trip`). All of it is kept in memory, within bounds, and given up
when nothing of it has arrived for a while.
"""

import heapq
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred

from nymtw.errors import (
    EncodingError,
    MessageTooLong,
    NymtwError,
    QueueFull,
    SphinxInputError,
    TopologyError,
)
from nymtw.message.arq import Action, ArqState, Event, transition
from nymtw.message.block_pool import BlockPool
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.message.envelope import (
    ENVELOPE_OVERHEAD,
    Envelope,
    EnvelopeKind,
    ReplyBlock,
    ReplyReceipt,
    encode_request,
)
from nymtw.message.fragments import MAX_MESSAGE_LENGTH, FragmentKind, fragment
from nymtw.message.packets import build_data_packet, build_reply_cover
from nymtw.message.replies import build_reply_packet, expected_reply_round_trip
from nymtw.message.round_trip import RoundTrips
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.poisson import PoissonStream
from nymtw.mixing.routes import UniformRoutes
from nymtw.provider.api import ServiceLimits
from nymtw.provider.services.correspondents import Correspondent, Message
from nymtw.topology.address import Address
from nymtw.topology.document import Recommended, Topology

DEFAULT_RATE: Final = 300.0  # packets a second, where the topology recommends none
PATIENCE: Final = 120.0  # seconds without a sign of life from a correspondent
PATIENCE_WHEN_FULL: Final = 10.0  # where others want the room
AHEAD: Final = 500  # reply blocks to have or to have asked for, of one correspondent
BATCH: Final = 100  # reply blocks asked for at once
SPARE: Final = 10  # reply blocks kept to ask for more with, at most; less where few were given
ASK_PATIENCE: Final = 5.0  # seconds after which blocks that were asked for count as lost
_SWEEP: Final = 1.0
_OVERHEAD: Final = 1024  # bytes that a message costs besides its own
_ID_LENGTH: Final = 16


class Dispatch:
    """`submit(first_hop, epoch, packet)` passes on one packet; `own` is the address that acks come back to."""

    def __init__(
        self,
        clock: Any,
        random: Random,
        own: Address,
        *,
        topology: Callable[[], Topology | None],
        submit: Callable[[bytes, int, bytes], None],
        limits: ServiceLimits | None = None,
        rate: float | None = None,
        cryptography: Cryptography = SPHINX,
    ) -> None:
        """`rate`: packets a second, at most what the topology recommends; None is that."""
        self._clock, self._random, self.own = clock, random, own
        self._topology, self._submit = topology, submit
        self.limits = limits or ServiceLimits()
        self._routes, self._cryptography = UniformRoutes(), cryptography
        self._delays = ExponentialDelays(Recommended().average_packet_delay)
        self._rate = rate
        self._stream = PoissonStream(clock, DEFAULT_RATE if rate is None else rate, self._fire, random)
        self._leaving = False
        self._covered = False  # whether cover is sent where there is nothing else
        self._pool: BlockPool[None] = BlockPool()
        self._correspondents: dict[bytes, Correspondent] = {}
        self._turn: deque[Correspondent] = deque()
        self._asked: dict[bytes, tuple[int, float]] = {}  # by tag: how many blocks are awaited, and until when
        self._by_ack: dict[bytes, tuple[Message, int, float]] = {}  # and when the ack is to come
        self._round_trips = RoundTrips()
        self._heap: list[tuple[float, int, Message, int]] = []
        self._order = count()
        self._sweep: Any = None
        self._stopped = False
        self.size = 0
        self.packets = self.again = self.cover = 0

    # in

    def reply(self, tag: bytes, data: bytes) -> "Deferred[bool]":
        """As `IProviderContext.reply`."""
        if not self._pool.count(tag) and tag not in self._correspondents:
            raise NymtwError("there is no reply block for this sender: none was given, or they are used up")
        return self._enqueue(tag, None, data, FragmentKind.REPLY)

    def send(self, data: bytes, recipient: Address) -> "Deferred[bool]":
        """As `IProviderContext.send`."""
        key = recipient.mailbox + recipient.encryption_key + recipient.provider
        return self._enqueue(key, recipient, data, FragmentKind.MESSAGE)

    def is_full(self, sender: bytes) -> bool:
        """Whether there is as much under way to this sender, or to all, as is kept."""
        correspondent = self._correspondents.get(sender)
        return self.size >= self.limits.total_bytes or (
            correspondent is not None and correspondent.size >= self.limits.reply_bytes
        )

    def _enqueue(self, key: bytes, recipient: Address | None, data: bytes, kind: FragmentKind) -> "Deferred[bool]":
        if self._stopped:
            raise QueueFull("the node is stopping")
        if len(data) > MAX_MESSAGE_LENGTH:
            raise MessageTooLong
        correspondent = self._correspondents.get(key)
        held = 0 if correspondent is None else correspondent.size
        cost = len(data) + _OVERHEAD
        if held and held + cost > self.limits.reply_bytes:
            raise QueueFull(f"{held} bytes are under way to this correspondent already")
        self._make_room(held + cost, cost)
        if self.size and self.size + cost > self.limits.total_bytes:
            raise QueueFull(f"{self.size} bytes are under way already")
        if correspondent is None:
            correspondent = self._correspondents[key] = Correspondent(key, recipient, self._clock.seconds())
        pieces = fragment(Envelope(data=data).encode(), self._random.randbytes(_ID_LENGTH), kind)
        message = Message(correspondent, pieces, set(range(len(pieces))))
        correspondent.messages[pieces.message_id] = message
        heapq.heappush(correspondent.fresh, (len(pieces), next(self._order), message))
        correspondent.size += cost
        self.size += cost
        if len(correspondent.messages) == 1:
            correspondent.progress = self._clock.seconds()
        self._wake(correspondent)
        if self._sweep is None:
            self._sweep = self._clock.callLater(_SWEEP, self._look)
        return message.done

    def _make_room(self, holds: int, cost: int) -> None:
        """Give up who holds most of what is under way, no less than a newcomer will, and has shown no sign of life."""
        while self._correspondents and self.size + cost > self.limits.total_bytes:
            before = self._clock.seconds() - PATIENCE_WHEN_FULL
            still = [each for each in self._correspondents.values() if each.progress <= before and each.size >= holds]
            if not still:
                return
            for message in list(max(still, key=lambda each: each.size).messages.values()):
                self._end(message, False)

    # what comes back

    def take_blocks(self, tag: bytes, blocks: tuple[ReplyBlock, ...]) -> None:
        """The sender behind `tag` gives reply blocks."""
        for block in blocks:
            self._pool.add(tag, block, None)
        asked, until = self._asked.pop(tag, (0, 0.0))
        if asked > len(blocks):
            self._asked[tag] = (asked - len(blocks), until)
        correspondent = self._correspondents.get(tag)
        if correspondent is not None and blocks:
            correspondent.progress = self._clock.seconds()
            self._wake(correspondent)

    def receipt(self, tag: bytes, receipt: ReplyReceipt) -> None:
        """The sender behind `tag` says what of a reply it has."""
        correspondent = self._correspondents.get(tag)
        message = None if correspondent is None else correspondent.messages.get(receipt.message_id)
        if message is not None and receipt.count == len(message.fragments):
            now = self._clock.seconds()
            for number in receipt.received():
                # A receipt does not say for which transmission it is: Karn's rule.
                expected = message.once.pop(number, None)
                if expected is not None:
                    self._round_trips.measured(message.correspondent.edge, now - expected, now)
                self._settle(message, number)

    def acknowledged(self, ack_id: bytes) -> bool:
        """An ack came. False for one that nothing here waits for."""
        found = self._by_ack.pop(ack_id, None)
        if found is None:
            return False
        message, number, expected = found
        now = self._clock.seconds()
        self._round_trips.measured(message.correspondent.edge, now - expected, now)
        self._settle(message, number)
        return True

    def use_topology(self, topology: Topology, is_service: bool = True) -> None:
        """What was built with dead keys is dead; and the stream of a service goes by what is recommended."""
        self._pool.drop_dead(topology.epoch)
        recommended = topology.recommended.service_sending_rate if is_service else 0.0
        self._covered = recommended > 0 and not self._leaving
        own = DEFAULT_RATE if self._rate is None else self._rate
        self._stream.set_rate(min(recommended, own) if recommended > 0 else own)
        if self._covered and not self._stopped:
            self._stream.start()

    def leave(self) -> None:
        """The node begins to stop: send what there is, and no more cover."""
        self._leaving, self._covered = True, False

    def _settle(self, message: Message, number: int) -> None:
        if number not in message.left:
            return
        message.left.discard(number)
        message.states.pop(number, None)
        message.correspondent.progress = self._clock.seconds()
        if not message.left:
            self._end(message, True)

    def _end(self, message: Message, arrived: bool) -> None:
        correspondent = message.correspondent
        del correspondent.messages[message.fragments.message_id]
        cost = len(message.fragments.message) - ENVELOPE_OVERHEAD + _OVERHEAD
        correspondent.size -= cost
        self.size -= cost
        message.left.clear()
        for ack_id in message.acks:
            self._by_ack.pop(ack_id, None)
        if not correspondent.messages:
            self._correspondents.pop(correspondent.key, None)
        message.done.callback(arrived)

    # out

    def _wake(self, correspondent: Correspondent) -> None:
        if not correspondent.in_turn and not self._stopped:
            correspondent.in_turn = True
            self._turn.append(correspondent)
            self._stream.start()

    def _fire(self) -> None:
        """The stream fired: one packet for the next correspondent to whom one can go."""
        topology = self._topology()
        if topology is None:
            return
        for _ in range(len(self._turn)):
            correspondent = self._turn.popleft()
            try:
                sent = self._send_from(correspondent, topology)
            except (TopologyError, EncodingError, SphinxInputError):
                self._turn.append(correspondent)  # what could not be built counts as lost: it is tried again
                continue
            if sent:
                self._turn.append(correspondent)
                return
            correspondent.in_turn = False
        if self._covered:
            self._send_cover(topology)
        elif not self._turn:
            self._stream.stop()

    def _send_cover(self, topology: Topology) -> None:
        self._use_delays(topology)
        with suppress(TopologyError):
            epoch, first_hop, packet = build_reply_cover(
                topology, self._routes, self._delays, self._random, self._cryptography
            )
            self._submit(first_hop, epoch, packet)
            self.cover += 1

    def _use_delays(self, topology: Topology) -> None:
        mean = topology.recommended.average_packet_delay
        if mean != self._delays.mean_seconds:
            self._delays = ExponentialDelays(mean)

    def _send_from(self, correspondent: Correspondent, topology: Topology) -> bool:
        """Send one packet of this correspondent. False if it has none, or no reply block to send it with."""
        if correspondent.recipient is not None:
            return self._send_to_address(correspondent, correspondent.recipient, topology)
        need, have = min(correspondent.waiting(), AHEAD), self._pool.count(correspondent.key)
        correspondent.most = max(correspondent.most, have)
        spare = min(SPARE, correspondent.most // 3)
        asked, _ = self._asked.get(correspondent.key, (0, 0.0))
        missing = need + SPARE - have - asked
        if not need or not have:
            return False
        if missing > 0 and (not asked or missing >= BATCH) and (have > 1 or need > 1):
            return self._ask(correspondent.key, max(SPARE, min(missing, BATCH)), topology.epoch)
        taken = self._pool.take(correspondent.key, topology.epoch, keep=spare)
        if taken is None:
            return False
        found = correspondent.take()
        if found is None:
            self._pool.add(correspondent.key, taken[0], None)
            return False
        message, number = found
        round_trip = expected_reply_round_trip(topology.recommended.average_packet_delay)
        state = self._expect(message, number, round_trip)
        message.once.pop(number, None)
        if state.attempts == 1:
            message.once[number] = self._clock.seconds() + round_trip
        packet = build_reply_packet(taken[0], message.fragments[number])
        self._pass_on(packet.first_hop, packet.epoch, packet.packet)
        return True

    def _ask(self, tag: bytes, wanted: int, epoch: int) -> bool:
        taken = self._pool.take(tag, epoch)
        if taken is None:
            return False
        asked, _ = self._asked.get(tag, (0, 0.0))
        self._asked[tag] = (asked + wanted, self._clock.seconds() + ASK_PATIENCE)
        body = Envelope(EnvelopeKind.REQUEST, encode_request(wanted)).encode()
        piece = fragment(body, self._random.randbytes(_ID_LENGTH), FragmentKind.REPLY)[0]
        packet = build_reply_packet(taken[0], piece)
        self._pass_on(packet.first_hop, packet.epoch, packet.packet)
        return True

    def _send_to_address(self, correspondent: Correspondent, recipient: Address, topology: Topology) -> bool:
        found = correspondent.take()
        if found is None:
            return False
        message, number = found
        self._use_delays(topology)
        self._expect(message, number, 0.0)  # in case no packet can be built
        packet = build_data_packet(
            topology,
            self.own,
            recipient,
            message.fragments[number].encode(),
            self._routes,
            self._delays,
            self._random,
            self._cryptography,
        )
        self._expect(message, number, packet.expected_round_trip, again=False)
        self._by_ack[packet.ack_id] = (message, number, self._clock.seconds() + packet.expected_round_trip)
        message.acks.append(packet.ack_id)
        self._pass_on(packet.first_hop, packet.epoch, packet.packet)
        return True

    def _expect(self, message: Message, number: int, round_trip: float, again: bool = True) -> ArqState:
        """The fragment is under way: time decides when it goes out again."""
        before = message.states.get(number, ArqState())
        if not again:
            before = ArqState(attempts=before.attempts - 1)
        now, slack = self._clock.seconds(), self._round_trips.wait(message.correspondent.edge)
        state, _ = transition(ArqState(attempts=before.attempts), Event.SENT, now, round_trip, slack)
        self.again += again and state.attempts > 1
        message.states[number] = state
        heapq.heappush(self._heap, (state.deadline, next(self._order), message, number))
        return state

    def _pass_on(self, first_hop: bytes, epoch: int, packet: bytes) -> None:
        self.packets += 1
        self._submit(first_hop, epoch, packet)

    # time

    def _look(self) -> None:
        """Once a second while there is something under way: what is late goes out again, who is silent is given up."""
        now = self._clock.seconds()
        while self._heap and self._heap[0][0] <= now:
            _, _, message, number = heapq.heappop(self._heap)
            state = message.states.get(number)
            if number not in message.left or state is None:
                continue
            state, actions = transition(state, Event.TIMEOUT, now)
            message.states[number] = state
            if Action.QUEUE in actions:
                message.correspondent.again.append((message, number))
                self._wake(message.correspondent)
        for tag in [tag for tag, (_, until) in self._asked.items() if now >= until]:
            del self._asked[tag]
            if tag in self._correspondents:
                self._wake(self._correspondents[tag])
        for correspondent in list(self._correspondents.values()):
            if now - correspondent.progress >= PATIENCE:
                for message in list(correspondent.messages.values()):
                    self._end(message, False)
        self._sweep = self._clock.callLater(_SWEEP, self._look) if self._correspondents else None
        if not self._correspondents:
            self._heap.clear()
            self._asked.clear()

    def stop(self) -> None:
        """Give up what is under way; leave no timer."""
        self._stopped = True
        self._stream.stop()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for correspondent in list(self._correspondents.values()):
            for message in list(correspondent.messages.values()):
                self._end(message, False)
