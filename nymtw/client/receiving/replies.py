"""Replies to an anonymous sender: both ends, as a client keeps them.

The asker gives out reply blocks under a tag, one tag for each recipient, opens what comes back, says what has come and
gives more blocks when asked. The replier spends each block once, and asks for more with one that it kept for that.
"""

from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from nymtw.client.receiving.receipt_timer import ReceiptTimer
from nymtw.client.receiving.receiver import Receiver
from nymtw.client.sending.messages import Waiting
from nymtw.client.sending.outbox import Outbox
from nymtw.client.store import ClientStore
from nymtw.errors import EncodingError, NymtwError, PacketRejected
from nymtw.message.block_pool import BlockPool
from nymtw.message.envelope import (
    Envelope,
    EnvelopeKind,
    ReplyBlock,
    ReplyReceipt,
    encode_request,
    parse_request,
)
from nymtw.message.fragments import Fragment, FragmentKind, fragment, full_bitmap
from nymtw.message.reassembly import Arrival
from nymtw.message.replies import (
    Grants,
    ReceiptSchedule,
    ReplyPacket,
    build_reply_packet,
    expected_reply_round_trip,
    open_reply,
    reply_alpha,
)
from nymtw.sphinx import SURBRecord
from nymtw.topology.document import Topology

AT_ONCE = 4  # blocks made in one turn of the reactor: more would hold up the streams
ASK_INTERVAL = 5.0  # seconds between requests for more blocks
SPARE = 2  # blocks kept to ask for more with
TAG_LENGTH = 16

MakeBlock = Callable[[], tuple[ReplyBlock, SURBRecord]]
SendEnvelope = Callable[[Envelope, bytes], Coroutine[Deferred[Any], Any, Any]]


class Replies:
    """`make_block()` makes one for the current topology, `send(envelope, recipient)` puts one in the outbox."""

    log = Logger()

    def __init__(
        self,
        store: ClientStore,
        clock: IReactorTime,
        random: Random,
        *,
        receiver: Receiver,
        outbox: Outbox,
        make_block: MakeBlock,
        send: SendEnvelope,
    ) -> None:
        self._store, self._clock, self._random = store, clock, random
        self._receiver, self._outbox = receiver, outbox
        self._make_block, self._send = make_block, send
        self._tags = dict(store.correspondents())
        self._recipients = {tag: recipient for recipient, tag in self._tags.items()}
        self._pool: BlockPool[int] = BlockPool()
        self._grants, self._receipts = Grants(), ReceiptSchedule()
        self._asked: dict[bytes, float] = {}
        self._giving: Counter[bytes] = Counter()
        self._timer = ReceiptTimer(clock, self._receipts, self._send_receipt)
        self._epoch = 0
        self._work: set[Deferred[Any]] = set()
        for number, tag, block in store.surbs():
            self._keep(tag, ReplyBlock.parse(block), number)

    def __len__(self) -> int:
        """The number of blocks from others."""
        return len(self._pool)

    @property
    def correspondents(self) -> int:
        """The number of recipients that have a tag of this client."""
        return len(self._tags)

    def stop(self) -> None:
        """Leave no timer."""
        self._timer.stop()
        for work in list(self._work):
            work.cancel()

    def use_topology(self, topology: Topology) -> None:
        """Forget reply blocks that were built with keys of past epochs."""
        if topology.epoch != self._epoch:
            self._epoch = topology.epoch
            for number in self._pool.drop_dead(topology.epoch):
                self._store.remove_surb(number)
            self._store.forget_records(topology.epoch - 1)
            self._forget_correspondents(topology.epoch - 1)

    def _forget_correspondents(self, before: int) -> None:
        """Those who have no reply block of this client any more: the next one gets another tag."""
        alive = self._store.tags_with_records(before)
        for tag in [tag for tag in self._recipients if tag not in alive and tag not in self._giving]:
            recipient = self._recipients.pop(tag)
            del self._tags[recipient]
            self._grants.forget(tag)
            self._store.remove_correspondent(recipient)

    # -- the asker

    async def blocks_for(self, recipient: bytes, count: int) -> tuple[bytes, tuple[ReplyBlock, ...]]:
        """The tag for a recipient (96 bytes), and `count` new blocks. Raises `TopologyError`."""
        tag = self._tags.get(recipient)
        if tag is None:
            tag = self._random.randbytes(TAG_LENGTH)
            self._tags[recipient], self._recipients[tag] = tag, recipient
            self._store.add_correspondent(recipient, tag)
        blocks = []
        self._giving[tag] += 1  # it is not forgotten meanwhile
        try:
            for number in range(count):
                if number % AT_ONCE == AT_ONCE - 1:
                    await deferLater(self._clock, 0)
                block, record = self._make_block()
                self._store.add_surb_record(record.alpha, block.epoch, tag, record.to_bytes())
                blocks.append(block)
        finally:
            self._giving -= Counter([tag])
        self._grants.given(tag, count, self._clock.seconds())
        return tag, tuple(blocks)

    def packet(self, packet: bytes) -> bool:
        """A reply came. False if it is none that this client waits for: there is nothing to be written then."""
        alpha = reply_alpha(packet)
        found = self._store.surb_record(alpha)
        if found is None:
            return False
        tag, record = found
        try:
            piece = open_reply(packet, SURBRecord.from_bytes(record))
        except (PacketRejected, EncodingError):
            self._receiver.malformed += 1
            return False
        self._store.remove_surb_record(alpha)
        self._grants.used(tag)
        arrival = self._receiver.fragment(piece, piece.encode(), tag)
        # Only what is kept is said to have come: the replier sends the rest again.
        if arrival not in (Arrival.REFUSED, Arrival.GIVEN_UP, Arrival.CONTRADICTION):
            whole = self._receiver.received(tag + piece.message_id, piece.count) == full_bitmap(piece.count)
            self._receipts.arrived(tag, piece, self._clock.seconds(), whole)
            self._timer.arm()
        return True

    def requested(self, tag: bytes, data: bytes) -> None:
        """A replier asks for more blocks."""
        recipient = self._recipients.get(tag)
        try:
            wanted = parse_request(data)
        except EncodingError:
            return
        count = self._grants.allowed(tag, wanted, self._clock.seconds())
        if recipient is not None and count:
            self._start(self._give(recipient, count))

    async def _give(self, recipient: bytes, count: int) -> None:
        tag, blocks = await self.blocks_for(recipient, count)
        await self._send(Envelope(EnvelopeKind.BLOCKS, b"", tag, blocks), recipient)

    def _send_receipt(self, tag: bytes, message_id: bytes, count: int) -> None:
        recipient = self._recipients.get(tag)
        if recipient is not None:
            receipt = ReplyReceipt(message_id, count, self._receiver.received(tag + message_id, count))
            self._start(self._send(Envelope(EnvelopeKind.RECEIPT, receipt.encode(), tag), recipient))

    # -- the replier

    def take_blocks(self, envelope: Envelope) -> None:
        """Keep the blocks that came with a message."""
        if envelope.tag is not None:
            for block in envelope.blocks:
                self._keep(envelope.tag, block, self._store.add_surb(envelope.tag, block.encode()))
            if envelope.blocks:
                self._outbox.retry(envelope.tag, self._pool.count(envelope.tag))

    def receipt(self, envelope: Envelope) -> None:
        """The asker says what of a reply it has."""
        try:
            receipt = ReplyReceipt.parse(envelope.data)
        except EncodingError:
            return
        message = self._outbox.find(receipt.message_id)
        if message is None or message.row.recipient != envelope.tag or receipt.count != len(message.fragments):
            return
        for number in receipt.received():
            self._outbox.acknowledge_fragment(receipt.message_id, number)

    def check(self, tag: bytes) -> None:
        """Raises `NymtwError` where there is no way to reply to `tag`."""
        if not self._pool.count(tag):
            raise NymtwError("there is no reply block for this tag: its sender has given none, or they are used up")

    def next_packet(self, waiting: Waiting, epoch: int) -> tuple[ReplyPacket | None, bool]:
        """(a packet for this fragment or None, whether it is a request for more blocks instead of the fragment)."""
        tag = waiting.message.row.recipient
        message = waiting.message
        need = len(message.fragments) - message.acknowledged
        have = self._pool.count(tag)
        now = self._clock.seconds()
        if have < need and now - self._asked.get(tag, -ASK_INTERVAL) >= ASK_INTERVAL:
            taken = self._pool.take(tag, epoch)
            if taken is not None:
                self._asked[tag] = now
                # The one that carries the request is spent too.
                return self._spend(taken, self._request(need - have + 1 + SPARE)), True
        taken = self._pool.take(tag, epoch, keep=0 if have >= need or have == 1 else SPARE)
        if taken is None:
            return None, False
        return self._spend(taken, message.fragments[waiting.number]), False

    @staticmethod
    def round_trip(mean_delay: float) -> float:
        """Seconds until the receipt for a fragment can be here."""
        return expected_reply_round_trip(mean_delay)

    def _request(self, wanted: int) -> Fragment:
        body = Envelope(EnvelopeKind.REQUEST, encode_request(wanted)).encode()
        return fragment(body, self._random.randbytes(16), FragmentKind.REPLY)[0]

    def _spend(self, taken: tuple[ReplyBlock, int], piece: Fragment) -> ReplyPacket:
        block, number = taken
        self._store.remove_surb(number)
        return build_reply_packet(block, piece)

    def _keep(self, tag: bytes, block: ReplyBlock, number: int) -> None:
        for lost in self._pool.add(tag, block, number):
            self._store.remove_surb(lost)

    def _start(self, work: Coroutine[Deferred[Any], Any, Any]) -> None:
        """Let something run by itself: what cannot be done now is asked for again by the other end."""
        deferred = Deferred.fromCoroutine(work)
        self._work.add(deferred)
        deferred.addErrback(lambda failure: failure.trap(NymtwError, CancelledError))
        deferred.addErrback(lambda failure: self.log.failure("Handling a reply failed", failure))
        deferred.addBoth(lambda _: self._work.discard(deferred))
