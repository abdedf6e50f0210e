"""A worker's packet engine: unwraps packets, has the node check their tags, holds and sends them. No sockets.

A packet enters the delay queue once the node has answered that its tag is fresh and written. If it is due by then, it
leaves at once. A packet for a link of another worker goes there through the node, and waits there. So all packets for
one link are mixed in one queue, no matter which worker unwrapped them.
"""

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nymtw.drop_reasons import DropReason
from nymtw.errors import EncodingError
from nymtw.link.frames import Frame
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.mixnode.core import MixnodeCore
from nymtw.mixnode.workers.counts import WorkerCounts
from nymtw.mixnode.workers.wire import CHECK, END, HOLD, PASS, Kind, Neighbours, frame, hold_record, records, verdict
from nymtw.node.engine.neighbours import EpochNeighbours
from nymtw.node.engine.neighbours import Neighbours as NodeNeighbours
from nymtw.sphinx import FinalHop, ForwardHop, Unwrapper
from nymtw.topology.document import NodeRecord

# Tags are sent when the first packet among them is due within MARGIN, or has waited for LONGEST_WAIT (seconds). MARGIN
# is slightly more than a turn of a worker's reactor, so that the answer is there when the packet may leave.
MARGIN: Final = 0.0035
LONGEST_WAIT: Final = 0.02
BATCH_BYTES: Final = 1 << 20  # bytes of packets for other workers, with which a batch is sent at once
MOST_RECORDS: Final = 256  # records with packets in one frame
_NANOSECOND: Final = 1e-9


class _TagNotes(ReplayGuard):
    """Takes the place of an engine's replay guard: notes the key of each tag, and leaves the check to the node."""

    def __init__(self) -> None:
        super().__init__(None, capacity=0)
        self.key_of: dict[bytes, int] = {}

    def fresh(self, epoch: int, tag: bytes) -> bool:
        self.key_of[tag] = epoch
        return True


class WorkerCore(MixnodeCore):
    """A worker's engine. `send_up(data)` gets frames for the node. While blocked, the node reads none; packets wait."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        random: Random,
        counts: WorkerCounts,
        capacity: int,
        max_delay: float,
        own: NodeRecord,
        send_up: Callable[[bytes], None],
    ) -> None:
        self._notes = _TagNotes()
        counters: Any = counts  # has the methods of a node's counters; the node adds them up
        super().__init__(
            clock=clock,
            random=random,
            unwrapper=Unwrapper({}),
            guard=self._notes,
            counters=counters,
            own=own,
            capacity=capacity,
            max_delay=max_delay,
        )
        self._clock: Any = clock
        self._capacity = capacity
        self._send_up = send_up
        self._elsewhere: frozenset[bytes] = frozenset()
        self._blocked = False
        self._ended = False
        self._checks: list[bytes] = []
        self._kept: list[tuple[int, bytes, int, bytes]] = []  # due, next node, key epoch, packet: one for each check
        self._passes: list[bytes] = []
        self._ends: list[bytes] = []
        self._batch_bytes = 0
        self._asked: deque[list[tuple[int, bytes, int, bytes]]] = deque()  # `_kept` of each CHECK frame
        self._asked_count = 0
        self._timer: IDelayedCall | None = None
        self._armed_for = 0.0

    def use_neighbours(self, neighbours: Neighbours) -> None:
        """Take over the neighbours, as `use_topology` does for a whole node. The caller sets up the links."""
        self._elsewhere = frozenset(neighbours.elsewhere)
        by_epoch = {
            epoch: EpochNeighbours(frozenset(next_hops), frozenset(unauthenticated))
            for epoch, (next_hops, unauthenticated) in neighbours.epochs.items()
        }
        self._neighbours = NodeNeighbours(by_epoch, frozenset(neighbours.admitted))

    @property
    def waiting(self) -> int:
        """The number of packets whose tags the node has not checked yet."""
        return len(self._kept) + len(self._passes) + len(self._ends) + self._asked_count

    def receive(self, peer: bytes, frames: Sequence[Frame]) -> None:
        """Handle all packets of one read from one peer."""
        super().receive(peer, frames)
        self._notes.key_of.clear()

    def ends_here(self, hop: ForwardHop | FinalHop) -> None:
        """Drop a packet to a node that this one may not send to. Packets that end here go to the node instead."""
        self.counters.dropped(DropReason.UNKNOWN_NEXT_HOP, 1)

    def answered(self, verdicts: bytes) -> None:
        """Handle the node's answer to the oldest CHECK frame without one. Raises `EncodingError`."""
        if not self._asked or len(self._asked[0]) != len(verdicts):
            raise EncodingError("these verdicts answer no CHECK frame")
        kept = self._asked.popleft()
        self._asked_count -= len(kept)
        now = self._now()
        for number, (due, next_hop, epoch, packet) in zip(verdicts, kept, strict=True):
            reason = verdict(number)
            if reason is not None:
                self.counters.dropped(reason, 1)
            else:
                self._hold_until(now, due, (next_hop, epoch, packet))

    def hold_records(self, body: bytes) -> None:
        """Hold the packets of a HOLD frame, which are for links of this worker. Raises `EncodingError`."""
        now = self._now()
        for epoch, due, next_hop, packet in records(HOLD, body):
            self._hold_until(now, due, (next_hop, epoch, packet))

    def pass_on(self, next_hop: bytes, epoch: int, packet: bytes) -> bool:
        """Pass a packet that is due to the worker that has the link now. False if no worker has it."""
        if next_hop not in self._elsewhere:
            return False
        self._send_up(frame(Kind.HOLD, hold_record(epoch, self._now(), next_hop, packet)))
        return True

    def block(self, blocked: bool) -> None:
        """Called when the node stops reading, and when it reads again."""
        self._blocked = blocked
        if not blocked:
            self._ask()

    def stop(self) -> None:
        """Drop the packets that are still here."""
        super().stop()
        self._ended = True
        self.counters.dropped(DropReason.SHUTDOWN, self.waiting)
        for waiting in self._checks, self._kept, self._passes, self._ends, self._asked:
            waiting.clear()
        self._asked_count = 0
        self._disarm()

    def _now(self) -> int:
        return int(self._clock.seconds() * 1e9)

    def _hold_until(self, now: int, due: int, item: tuple[bytes, int, bytes]) -> None:
        if self._ended:
            self.counters.dropped(DropReason.SHUTDOWN, 1)
        elif not self._queue.add(item, max(0, due - now)):
            self.counters.dropped(DropReason.DELAY_QUEUE_FULL, 1)

    def forward(self, peer: bytes, epoch: int, hop: ForwardHop) -> None:
        """Have its tag checked, and hold it meanwhile; with the tag it goes to the worker that has the link."""
        if self._is_full():
            return
        if hop.delay > self._max_delay:
            self.counters.dropped(DropReason.DELAY_TOO_LONG, 1)
            return
        seconds = self._clock.seconds()
        delay = hop.delay * self.stretch
        due = int(seconds * 1e9) + delay
        tag, key = hop.replay_tag[:16], self._notes.key_of[hop.replay_tag]
        if hop.next_address in self._elsewhere:
            self._passes.append(PASS.pack(key, tag, peer, due, hop.next_address, len(hop.packet)) + hop.packet)
            self._batch_bytes += len(hop.packet)
        else:
            self._checks.append(CHECK.pack(key, tag, peer))
            self._kept.append((due, hop.next_address, epoch, hop.packet))
        self._ask_within(seconds, min(delay * _NANOSECOND - MARGIN, LONGEST_WAIT))

    def end(self, peer: bytes, hop: ForwardHop | FinalHop) -> None:
        """Give a packet that ends at this node to the node."""
        if not isinstance(hop, FinalHop):
            self.ends_here(hop)
            return
        if self._is_full():
            return
        tag, key = hop.replay_tag[:16], self._notes.key_of[hop.replay_tag]
        head = END.pack(key, tag, peer, hop.destination, hop.identifier, hop.version, len(hop.payload))
        self._ends.append(head + hop.payload)
        self._batch_bytes += len(hop.payload)
        self._ask_within(self._clock.seconds(), LONGEST_WAIT)

    def _is_full(self) -> bool:
        """Whether no packet more can be held: then it is counted as dropped."""
        full = len(self._queue) + self.waiting >= self._capacity
        if full:
            self.counters.dropped(DropReason.DELAY_QUEUE_FULL, 1)
        return full

    def _ask_within(self, now: float, wait: float) -> None:
        """Send the batch `wait` seconds from now at the latest, in the next turn of the reactor at the earliest."""
        wait = 0.0 if self._batch_bytes >= BATCH_BYTES else max(wait, 0.0)
        if self._timer is None or now + wait < self._armed_for:
            self._disarm()
            self._armed_for = now + wait
            self._timer = self._clock.callLater(wait, self._ask)

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _ask(self) -> None:
        """Send all new tags, and the packets for the node and other workers, in one write."""
        self._disarm()
        if self._blocked or self._ended:
            return
        frames = []
        if self._checks:
            frames.append(frame(Kind.CHECK, b"".join(self._checks)))
            self._asked.append(self._kept)
            self._asked_count += len(self._kept)
            self._checks, self._kept = [], []
        for kind, waiting in (Kind.PASS, self._passes), (Kind.END, self._ends):
            for start in range(0, len(waiting), MOST_RECORDS):
                frames.append(frame(kind, b"".join(waiting[start : start + MOST_RECORDS])))
            waiting.clear()
        self._batch_bytes = 0
        if frames:
            self._send_up(b"".join(frames))
