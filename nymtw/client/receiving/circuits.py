"""Ways to a service and back that end with the process: each has a sender tag of its own and reply blocks in memory.

The service cannot link what comes under two tags. Nothing here is written down: what a circuit carries is of no use to
the next run, and neither are the blocks that were given out for it.
"""

from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from nymtw.client.receiving.receipt_timer import ReceiptTimer
from nymtw.client.sending.messages import OutMessage, State
from nymtw.client.sending.outbox import Outbox
from nymtw.errors import EncodingError, MailboxFull, NymtwError, PacketRejected, TopologyError
from nymtw.message.block_pool import OUTSTANDING
from nymtw.message.envelope import (
    BLOCK_LENGTH,
    ENVELOPE_OVERHEAD,
    Envelope,
    EnvelopeKind,
    ReplyBlock,
    ReplyReceipt,
    parse_request,
)
from nymtw.message.fragments import FRAGMENT_CAPACITY, MESSAGE_ID_LENGTH, full_bitmap
from nymtw.message.reassembly import Reassembler, ReassemblyLimits
from nymtw.message.replies import Grants, ReceiptSchedule, open_reply, reply_alpha
from nymtw.sphinx import SURBRecord

TAG_LENGTH: Final = 16
ENOUGH: Final = 60  # reply blocks that a service has while it has nothing to say; it asks when it needs more
FEW: Final = 30  # of which it is given more, unasked
AT_ONCE: Final = 3  # made in one turn of the reactor: more would hold up the streams
TOGETHER: Final = 15  # in one message: they fill four packets, and the service need not wait for more than those
RECORDS: Final = 4000  # of one circuit: the oldest are forgotten
_LIMITS: Final = ReassemblyLimits(size=64 * 2**20, idle=300.0, remember=3600.0, remembered=2**15)
_EXPIRE_INTERVAL: Final = 60.0

MakeBlock = Callable[[], tuple[ReplyBlock, SURBRecord]]


class Circuit:
    """One of them, to `recipient` (a packed address); `received(data)` is given what comes back, in any order."""

    def __init__(self, circuits: "Circuits", recipient: bytes, tag: bytes, received: Callable[[bytes], None]) -> None:
        self._circuits = circuits
        self.recipient, self.tag, self.received = recipient, tag, received
        self.signs: Callable[[], None] = lambda: None  # called when something of this circuit arrived at the service
        self.records: dict[bytes, tuple[int, SURBRecord]] = {}
        self.posted: dict[OutMessage, Callable[[State], None] | None] = {}
        self.owed = 0  # blocks that are being made for it

    def post(
        self,
        data: bytes,
        lane: Hashable,
        *,
        blocks: int = 0,
        taken: Callable[[], None] | None = None,
        ended: Callable[[State], None] | None = None,
    ) -> OutMessage:
        """Send a message; `blocks` go with it at least, more where the service has few and they cost no packet.

        `taken` is called when its last packet leaves for the first time, `ended` with how it ended. Raises `QueueFull`,
        `MessageTooLong`, or `TopologyError` where `blocks` cannot be made.
        """
        message = self._circuits.post(self, data, lane, blocks)
        message.taken = taken
        self.posted[message] = ended
        return message

    def stock(self, blocks: int) -> None:
        """See that the service has so many reply blocks soon, in messages of their own, as far as it may have them."""
        self._circuits.stock(self, blocks)

    def cancel(self, message: OutMessage) -> None:
        """Send no more of a message."""
        self._circuits.cancel(self, message)

    def close(self) -> None:
        """Take nothing more; what is on its way is not sent again."""
        self._circuits.close(self)


class Circuits:
    """`make_block()` makes one for the current topology."""

    log = Logger()

    def __init__(self, clock: IReactorTime, random: Random, *, outbox: Outbox, make_block: MakeBlock) -> None:
        self._clock, self._random = clock, random
        self._outbox, self.make_block = outbox, make_block
        self._by_tag: dict[bytes, Circuit] = {}
        self._by_alpha: dict[bytes, Circuit] = {}
        self._reassembler = Reassembler(_LIMITS)
        self._grants, self._receipts = Grants(), ReceiptSchedule()
        self._timer = ReceiptTimer(clock, self._receipts, self._send_receipt)
        self._expiry: Any = None
        self._work: set[Deferred[Any]] = set()
        self.malformed = 0

    def __len__(self) -> int:
        return len(self._by_tag)

    def stop(self) -> None:
        """Close all; leave no timer."""
        for circuit in list(self._by_tag.values()):
            self.close(circuit)
        for work in list(self._work):
            work.cancel()

    def use_epoch(self, epoch: int) -> None:
        """Forget reply blocks that were built with keys of past epochs."""
        for circuit in self._by_tag.values():
            for alpha in [alpha for alpha, (built, _) in circuit.records.items() if built < epoch - 1]:
                self._forget(circuit, alpha)

    # -- out

    def open(self, recipient: bytes, received: Callable[[bytes], None]) -> Circuit:
        """A new one, to a packed address (96 bytes)."""
        circuit = Circuit(self, recipient, self._random.randbytes(TAG_LENGTH), received)
        self._by_tag[circuit.tag] = circuit
        if self._expiry is None:
            self._expire()
        return circuit

    def close(self, circuit: Circuit) -> None:
        """As `Circuit.close`."""
        if self._by_tag.pop(circuit.tag, None) is None:
            return
        for alpha in list(circuit.records):
            self._forget(circuit, alpha)
        self._grants.forget(circuit.tag)
        for message in list(circuit.posted):
            self._outbox.cancel(message)
        circuit.posted.clear()
        if not self._by_tag:
            self._timer.stop()
            if self._expiry is not None:
                self._expiry.cancel()
                self._expiry = None

    def post(self, circuit: Circuit, data: bytes, lane: Hashable, least: int) -> OutMessage:
        """As `Circuit.post`."""
        blocks = self._blocks(circuit, least)
        have = OUTSTANDING - self._room(circuit)
        if have < FEW:
            length = len(data) + ENVELOPE_OVERHEAD + least * BLOCK_LENGTH
            free = -length % FRAGMENT_CAPACITY // BLOCK_LENGTH
            with suppress(TopologyError):  # the message goes without them
                blocks += self._blocks(circuit, min(free, AT_ONCE))
            self.give(circuit, ENOUGH - OUTSTANDING + self._room(circuit))
        return self._post(circuit, Envelope(EnvelopeKind.DATA, data, circuit.tag, blocks), lane)

    def stock(self, circuit: Circuit, blocks: int) -> None:
        """As `Circuit.stock`."""
        self.give(circuit, blocks - OUTSTANDING + self._room(circuit))

    def cancel(self, circuit: Circuit, message: OutMessage) -> None:
        """As `Circuit.cancel`."""
        circuit.posted.pop(message, None)
        self._outbox.cancel(message)

    def _post(self, circuit: Circuit, envelope: Envelope, lane: Hashable = None) -> OutMessage:
        """Without a `lane` the message has one for itself: downloads go on beside any number of uploads."""
        message_id = self._random.randbytes(MESSAGE_ID_LENGTH)
        lane = message_id if lane is None else lane
        message = self._outbox.post(envelope.encode(), message_id, circuit.recipient, lane)
        circuit.posted[message] = None
        message.ended = partial(self._ended, circuit, message)
        return message

    def _ended(self, circuit: Circuit, message: OutMessage, state: State) -> None:
        ended = circuit.posted.pop(message, None)
        if state is State.DONE:
            circuit.signs()
        if ended is not None:
            ended(state)

    def _blocks(self, circuit: Circuit, count: int) -> tuple[ReplyBlock, ...]:
        blocks = []
        for _ in range(count):
            block, record = self.make_block()
            blocks.append(block)
            circuit.records[record.alpha] = (block.epoch, record)
            self._by_alpha[record.alpha] = circuit
            if len(circuit.records) > RECORDS:
                self._forget(circuit, next(iter(circuit.records)))
        if count:
            self._grants.given(circuit.tag, count, self._clock.seconds())
        return tuple(blocks)

    def _forget(self, circuit: Circuit, alpha: bytes) -> SURBRecord:
        del self._by_alpha[alpha]
        return circuit.records.pop(alpha)[1]

    # -- blocks, in messages of their own

    def _room(self, circuit: Circuit) -> int:
        """The number of blocks that it may still get."""
        return self._grants.allowed(circuit.tag, OUTSTANDING, self._clock.seconds()) - circuit.owed

    def give(self, circuit: Circuit, wanted: int) -> None:
        """Send the service up to `wanted` blocks, as far as there is room."""
        count = min(wanted, self._room(circuit))
        if count > 0:
            circuit.owed += count
            if circuit.owed == count:
                self._start(self._give_in_turns(circuit))

    async def _give_in_turns(self, circuit: Circuit) -> None:
        try:
            while circuit.owed:
                blocks: tuple[ReplyBlock, ...] = ()
                while circuit.owed and len(blocks) < TOGETHER:
                    await deferLater(self._clock, 0)
                    if circuit.tag not in self._by_tag:
                        return
                    count = min(AT_ONCE, circuit.owed, TOGETHER - len(blocks))
                    blocks += self._blocks(circuit, count)
                    circuit.owed -= count
                self._post(circuit, Envelope(EnvelopeKind.BLOCKS, b"", circuit.tag, blocks))
        finally:
            circuit.owed = 0

    def _start(self, work: Coroutine[Deferred[Any], Any, Any]) -> None:
        """Let something run by itself: what cannot be done now is asked for again by the service."""
        deferred = Deferred.fromCoroutine(work)
        self._work.add(deferred)
        deferred.addErrback(lambda failure: failure.trap(NymtwError, CancelledError))
        deferred.addErrback(lambda failure: self.log.failure("Sending reply blocks failed", failure))
        deferred.addBoth(lambda _: self._work.discard(deferred))

    # -- in

    def packet(self, packet: bytes) -> bool:
        """A reply came. False if it belongs to no circuit."""
        alpha = reply_alpha(packet)
        circuit = self._by_alpha.get(alpha)
        if circuit is None:
            return False
        record = self._forget(circuit, alpha)
        self._grants.used(circuit.tag)
        try:
            piece = open_reply(packet, record)
        except (PacketRejected, EncodingError):
            self.malformed += 1
            return True
        circuit.signs()
        if circuit.tag not in self._by_tag:
            return True  # the message closed it
        now = self._clock.seconds()
        try:
            body = self._reassembler.add(piece, now, circuit.tag)
        except MailboxFull:
            return True  # nothing says that it has come: the service sends it again
        bitmap = self._reassembler.ledger.received(circuit.tag + piece.message_id, piece.count)
        if any(bitmap):
            self._receipts.arrived(circuit.tag, piece, now, bitmap == full_bitmap(piece.count))
            self._timer.arm()
        if body is not None:
            self._whole(circuit, body)
        return True

    def _whole(self, circuit: Circuit, body: bytes) -> None:
        try:
            envelope = Envelope.parse(body)
            wanted = parse_request(envelope.data) if envelope.kind is EnvelopeKind.REQUEST else 0
        except EncodingError:
            self.malformed += 1
            return
        if wanted:
            self.give(circuit, wanted)
        elif envelope.kind is EnvelopeKind.DATA:
            circuit.received(envelope.data)

    def _send_receipt(self, tag: bytes, message_id: bytes, count: int) -> None:
        circuit = self._by_tag.get(tag)
        if circuit is not None:
            bitmap = self._reassembler.ledger.received(tag + message_id, count)
            receipt = ReplyReceipt(message_id, count, bitmap).encode()
            with suppress(NymtwError):  # the service sends again what it thinks is lost
                self._post(circuit, Envelope(EnvelopeKind.RECEIPT, receipt, circuit.tag))

    def _expire(self) -> None:
        clock: Any = self._clock
        self._expiry = clock.callLater(_EXPIRE_INTERVAL, self._expire)
        self._reassembler.expire(self._clock.seconds())
