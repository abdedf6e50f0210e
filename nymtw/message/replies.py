"""Replies to anonymous senders: making reply blocks, using them, and reading replies.

The *asker* makes blocks, gives them out under a tag, and reads the replies. The *replier* keeps blocks by tag, and uses
each once. No ack section fits into a reply, so the asker itself reports arrivals (receipts). It gives out more blocks
on request.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from random import Random
from typing import Final

from nymtw.interfaces import IDelayStrategy, IRouteStrategy
from nymtw.message.block_pool import OUTSTANDING
from nymtw.message.envelope import MAX_BLOCKS, ReplyBlock
from nymtw.message.fragments import Fragment, FragmentKind
from nymtw.message.packets import draw_hops
from nymtw.sphinx import SURB, Hop, SURBRecord
from nymtw.topology.address import Address
from nymtw.topology.document import Topology

RECEIPT_INTERVAL: Final = 1.0  # seconds between two receipts for one reply
OUTSTANDING_SECONDS: Final = 60.0  # seconds after which a block that has not returned counts as lost
_IDENTIFIER_LENGTH: Final = 16
_DELAYS_THERE: Final = 4  # three mixnodes and the asker's provider
_DELAYS_BACK: Final = 3


@dataclass(frozen=True, slots=True)
class ReplyPacket:
    """A reply to send now: `packet` (2,413 bytes) to `first_hop` (identity), in a frame of key epoch `epoch`."""

    epoch: int
    first_hop: bytes
    packet: bytes


def make_reply_block(
    topology: Topology, own: Address, routes: IRouteStrategy, delays: IDelayStrategy, random: Random
) -> tuple[ReplyBlock, SURBRecord]:
    """A block to give out, and the record for reading its reply (keep it under `record.alpha`).

    The route: three mixnodes, the own provider as a forward hop whose next address is the mailbox, the client itself.
    The SURB carries only the seed of that last hop. Raises `TopologyIncomplete`.
    """
    hops = [*draw_hops(topology, own.provider, routes, random), Hop(own.mailbox, own.encryption_key)]
    surb, record = SURB.create(
        hops,
        delays.draw(len(hops) - 1, random),
        own.mailbox,
        random.randbytes(_IDENTIFIER_LENGTH),
        single_seed=True,
        random=random,
    )
    return ReplyBlock(topology.epoch, surb.to_bytes()), record


def build_reply_packet(block: ReplyBlock, fragment: Fragment) -> ReplyPacket:
    """Use `block` for one fragment of kind REPLY. The block must not be used again."""
    if fragment.kind is not FragmentKind.REPLY:
        raise ValueError("a reply block only carries fragments of kind REPLY")
    first_hop, packet = block.open().use(fragment.encode())
    return ReplyPacket(block.epoch, first_hop, packet)


def reply_alpha(packet: bytes) -> bytes:
    """The first 32 bytes of a reply packet, by which its record is found."""
    return packet[:32]


def open_reply(packet: bytes, record: SURBRecord) -> Fragment:
    """The fragment in a reply packet. `record` must not be used again.

    Raises `PacketRejected` for a packet that is not the reply to this record, or was changed, and `EncodingError` for
    invalid content.
    """
    return Fragment.parse(record.open_packet(packet))


def expected_reply_round_trip(mean_delay: float) -> float:
    """Expected seconds until a replier has the receipt for a fragment. `mean_delay`: seconds of a hop.

    Only the asker knows the delays of a block, so the mean is used.
    """
    return (_DELAYS_THERE + _DELAYS_BACK) * mean_delay + RECEIPT_INTERVAL


class Grants:
    """Limits the blocks that the asker gives to each correspondent.

    A block is outstanding until it returns with a reply; after `seconds` it counts as lost.
    """

    def __init__(self, limit: int = OUTSTANDING, seconds: float = OUTSTANDING_SECONDS) -> None:
        self._limit, self._seconds = limit, seconds
        self._given: dict[bytes, deque[tuple[float, int]]] = {}  # time, and blocks of that time still outstanding

    def allowed(self, tag: bytes, wanted: int, now: float) -> int:
        """The number of blocks that a correspondent gets at time `now` (seconds) if it asks for `wanted`."""
        given = self._given.get(tag, deque())
        while given and now - given[0][0] >= self._seconds:
            given.popleft()
        if not given:
            self._given.pop(tag, None)
        return max(0, min(wanted, MAX_BLOCKS, self._limit - sum(left for _, left in given)))

    def given(self, tag: bytes, count: int, now: float) -> None:
        """Count `count` blocks that were sent to a correspondent at time `now`."""
        self._given.setdefault(tag, deque()).append((now, count))

    def used(self, tag: bytes) -> None:
        """Count out one of the oldest blocks: a block has returned with a reply."""
        given = self._given.get(tag)
        if given:
            when, left = given.popleft()
            if left > 1:
                given.appendleft((when, left - 1))

    def forget(self, tag: bytes) -> None:
        """Forget a correspondent."""
        self._given.pop(tag, None)


class ReceiptSchedule:
    """Schedules the receipts for replies: at once for a complete reply, otherwise one each interval."""

    def __init__(self, interval: float = RECEIPT_INTERVAL) -> None:
        self._interval = interval
        self._due: dict[tuple[bytes, bytes], tuple[float, int]] = {}
        self._last: OrderedDict[tuple[bytes, bytes], float] = OrderedDict()

    def arrived(self, tag: bytes, fragment: Fragment, now: float, complete: bool = False) -> None:
        """Note a fragment of a reply, new or repeated (then its receipt was lost). `complete`: nothing is missing."""
        key = (tag, fragment.message_id)
        at = now if complete else max(now, self._last.get(key, now) + self._interval)
        self._due[key] = (min(at, self._due.get(key, (at, 0))[0]), fragment.count)

    def due(self, now: float) -> list[tuple[bytes, bytes, int]]:
        """The receipts to send now, as (tag, message id, number of fragments); each once."""
        ready = [(key, count) for key, (at, count) in self._due.items() if at <= now]
        for key, _ in ready:
            del self._due[key]
            self._last[key] = now
            self._last.move_to_end(key)
        while self._last and now - next(iter(self._last.values())) >= self._interval:
            self._last.popitem(last=False)
        return [(tag, message_id, count) for (tag, message_id), count in ready]

    @property
    def next_due(self) -> float | None:
        """The time of the next receipt, in seconds of the caller's clock; None if nothing waits."""
        return min((at for at, _ in self._due.values()), default=None)
