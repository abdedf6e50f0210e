"""What a client has yet to send: whole messages in the store, their fragments given out one at a time.

Applications get a fair share (one lane each, served in turn). A fragment that is not acknowledged in time waits here
for the sending stream again, like any other. What `post` takes is not in the store: it goes with the process.
"""

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import count
from typing import Any

from twisted.internet.interfaces import IReactorTime

from nymtw.client.sending.fair_queue import FairQueue
from nymtw.client.sending.message_trace import MessageTrace
from nymtw.client.sending.messages import OutMessage, Progress, State, Waiting
from nymtw.client.store import CHUNK, ClientStore, OutboxRow, StoredBytes
from nymtw.encoding import KEY_LENGTH
from nymtw.errors import MessageTooLong, QueueFull
from nymtw.message.arq import Action, Event, transition
from nymtw.message.fragments import MAX_CUT_LENGTH, ByteSource, FragmentKind, Fragments, fragment_count
from nymtw.message.round_trip import RoundTrips

FLUSH = 0.25  # seconds between writes of which fragments are acknowledged; a kill in between costs repeats, not data
REMEMBERED = 1000  # messages whose end is remembered
RECONNECT_GRACE = 3.0  # seconds that acks which waited in the mailbox have before fragments are sent again


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """What `send` refuses to go beyond: bytes and messages in all, fragments in one lane."""

    size: int = 256 * 1024 * 1024
    messages: int = 10_000
    lane: int = 150_000


class Outbox:
    """`send` puts a message in, `take` gives a fragment out, `sent`, `acknowledged` and time move it on."""

    def __init__(
        self,
        store: ClientStore,
        clock: IReactorTime,
        *,
        changed: Callable[[Progress], None],
        limits: OutboxLimits | None = None,
        round_trips: RoundTrips | None = None,
    ) -> None:
        """`changed` is told of every step of every message; `round_trips`: how long acks were found to take."""
        self._store, self._clock = store, clock
        self._changed, self.limits = changed, limits or OutboxLimits()
        self._fair_queue = FairQueue()
        self._messages: dict[bytes, OutMessage] = {}
        self._ended: dict[bytes, Progress] = {}
        self._explained: dict[bytes, MessageTrace] = {}
        self._by_key: dict[bytes, Waiting] = {}
        self._refusals: dict[bytes, Waiting] = {}
        self._heap: list[tuple[float, int, Waiting]] = []
        self._order = count()
        self._timer: Any = None
        self._flush: Any = None
        self._dirty: set[OutMessage] = set()
        self._running = False
        self._round_trips = round_trips or RoundTrips()
        self.size = 0
        self.retransmissions = self.acks = self.failures = self.refusals = 0
        for row in store.outbox():
            self._enqueue(row, None, StoredBytes(store, row.number, row.length))

    # -- in

    def check(self, length: int, lane: Hashable, kind: FragmentKind = FragmentKind.MESSAGE) -> None:
        """Raises `QueueFull` or `MessageTooLong` where a message of this length cannot be taken now."""
        if length > MAX_CUT_LENGTH:
            raise MessageTooLong
        limits, queued = self.limits, self.queue_length(lane)
        fragments = fragment_count(length, kind)
        if queued and queued + fragments > limits.lane:
            raise QueueFull(
                f"the queue of this application is full: {queued} packets wait; try again when it is shorter"
            )
        if self._messages and (self.size + length > limits.size or len(self._messages) >= limits.messages):
            raise QueueFull(f"the client's queue is full: {len(self._messages)} messages wait; try again later")

    async def send(
        self,
        data: bytes,
        message_id: bytes,
        recipient: bytes,
        lane: Hashable,
        kind: FragmentKind = FragmentKind.MESSAGE,
        explanation: MessageTrace | None = None,
    ) -> OutMessage:
        """Take a message; returns when it is durable. Raises `QueueFull`, `MessageTooLong` or `StoreError`."""
        self.check(len(data), lane, kind)
        self.size += len(data)  # held while it is written, so that two at once do not pass the limit together
        try:
            row = self._store.begin_message(message_id, recipient, kind, len(data))
            for chunk, start in enumerate(range(0, len(data), CHUNK)):
                self._store.add_chunk(row.number, chunk, data[start : start + CHUNK])
                if start + CHUNK < len(data):
                    await self._store.committed()
            self._store.accept_message(row.number)
            await self._store.committed()
        finally:
            self.size -= len(data)
        return self._enqueue(row, lane, StoredBytes(self._store, row.number, row.length), explanation)

    def post(self, data: bytes, message_id: bytes, recipient: bytes, lane: Hashable) -> OutMessage:
        """Take a message that need not outlive the process. Raises `QueueFull` or `MessageTooLong`."""
        self.check(len(data), lane)
        row = OutboxRow(0, message_id, recipient, FragmentKind.MESSAGE, len(data), b"")
        return self._enqueue(row, lane, data)

    def cancel(self, message: OutMessage) -> None:
        """Send no more of a message, if it is still under way. Its `ended` is not called."""
        if self._messages.get(message.message_id) is message:
            message.taken = message.ended = None
            self._end(message, State.FAILED)

    def _enqueue(
        self, row: OutboxRow, lane: Hashable, data: ByteSource, explanation: MessageTrace | None = None
    ) -> OutMessage:
        fragments = Fragments(data, row.message_id, FragmentKind(row.kind))
        acked = bytearray(row.acked.ljust(-(-len(fragments) // 8), b"\0"))
        message = OutMessage(row, lane, fragments, acked, explanation, sum(byte.bit_count() for byte in acked))
        self._messages[row.message_id] = message
        self.size += row.length
        self._fair_queue.add(message)
        return message

    # -- out

    def take(self) -> Waiting | None:
        """The next fragment to send: of the lanes in turn, first what has to go out again. None if nothing waits."""
        return self._fair_queue.take()

    def put_back(self, waiting: Waiting, first: bool = True) -> None:
        """It could not be sent: it is the next of its lane; the last, if it has to wait for something."""
        self._fair_queue.put_back(waiting, first)

    def sent(
        self,
        waiting: Waiting,
        key: bytes | None,
        expected_round_trip: float,
        *,
        refusal: bytes = b"",
        lost: bool = False,
    ) -> None:
        """It is under way; `key` or a receipt acknowledges it, `refusal` says that the recipient's edge did not keep
        it.

        What is `lost` on its way out waits for `retry` too.
        """
        waiting.lost = lost
        now = self._clock.seconds()
        if key is not None:
            waiting.keys.append(key)
            self._by_key[key] = waiting
        if refusal:
            waiting.keys.append(refusal)
            self._refusals[refusal] = waiting
        slack = self._round_trips.wait(_edge(waiting))
        waiting.state, actions = transition(waiting.state, Event.SENT, now, expected_round_trip, slack)
        if not lost:
            waiting.left += 1
            self.retransmissions += waiting.left > 1
        if Action.WAIT in actions:
            heapq.heappush(self._heap, (waiting.state.deadline, next(self._order), waiting))
            self._arm()

    def retry(self, recipient: bytes, most: int) -> None:
        """What was lost before it left for `recipient` can be sent now: up to `most` of it need not wait longer."""
        self._retry_lost([message for message in self._messages.values() if message.row.recipient == recipient], most)

    def retry_edges(self, is_known: Callable[[bytes], bool]) -> None:
        """What was lost because its edge was not known can be sent where `is_known(edge)` now."""
        stranded = [message for message in self._messages.values() if any(one.lost for one in message.waiting.values())]
        self._retry_lost([one for one in stranded if is_known(one.row.recipient[-KEY_LENGTH:])], self.limits.lane)

    def _retry_lost(self, theirs: list[OutMessage], most: int) -> None:
        for waiting in [one for message in theirs for one in message.waiting.values() if one.lost][:most]:
            waiting.lost = False
            self._time_is_over(waiting, waiting.state.deadline)

    def acknowledged(self, key: bytes) -> bool:
        """An ack came. False if nothing waits for it."""
        waiting = self._by_key.get(key)
        if waiting is None:
            return False
        if waiting.message.explanation is not None:
            waiting.message.explanation.acknowledged(key, self._clock.seconds())
        self._settle(waiting)
        return True

    def refused(self, refusal: bytes) -> bytes:
        """The recipient's edge did not keep it: it is sent again, when time says so. Returns the ack id in whose place
        this came; nothing if nobody waits for it.
        """
        waiting = self._refusals.pop(refusal, None)
        if waiting is None:
            return b""
        self.refusals += 1
        if waiting.message.explanation is not None:
            waiting.message.explanation.refused(refusal, self._clock.seconds())
        return waiting.keys[waiting.keys.index(refusal) - 1]

    def acknowledge_fragment(self, message_id: bytes, number: int) -> bool:
        """The recipient of a reply says that it has this fragment. False if it is not waited for."""
        message = self._messages.get(message_id)
        waiting = None if message is None else message.waiting.get(number)
        if waiting is None:
            return False
        self._settle(waiting)
        return True

    def _settle(self, waiting: Waiting) -> None:
        message, number = waiting.message, waiting.number
        self.acks += 1
        self._forget(waiting)
        message.waiting.pop(number, None)
        message.acked[number >> 3] |= 1 << (number & 7)
        message.acknowledged += 1
        if message.acknowledged == len(message.fragments):
            self._end(message, State.DONE)
            return
        if message.stored:
            self._dirty.add(message)
        if self._flush is None and self._dirty:
            clock: Any = self._clock
            self._flush = clock.callLater(FLUSH, self._write_acked)
        self._changed(message.progress())

    def _forget(self, waiting: Waiting) -> None:
        for key in waiting.keys:
            self._by_key.pop(key, None)
            self._refusals.pop(key, None)

    def _end(self, message: OutMessage, state: State) -> None:
        for waiting in message.waiting.values():
            self._forget(waiting)
        message.waiting.clear()
        del self._messages[message.message_id]
        self.size -= message.row.length
        self._dirty.discard(message)
        self._fair_queue.remove(message)
        if message.stored:
            self._store.remove_message(message.row.number)
        progress = self._ended[message.message_id] = message.progress(state)
        if message.explanation is not None:
            self._explained[message.message_id] = message.explanation
        if len(self._ended) > REMEMBERED:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._explained.pop(oldest, None)
        self._changed(progress)
        if message.ended is not None:
            message.ended(state)

    # -- time

    def resume(self) -> None:
        """Connected: acks can come, time counts. Those that waited in the mailbox have a moment to do so."""
        self._running = True
        soonest = self._clock.seconds() + RECONNECT_GRACE
        self._heap = [(max(due, soonest), order, waiting) for due, order, waiting in self._heap]
        heapq.heapify(self._heap)
        self._arm()

    def pause(self) -> None:
        """Not connected: nothing is late."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abandon(self) -> None:
        """Leave no timer, and give the store nothing more."""
        self.pause()
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None

    def stop(self) -> None:
        """Leave no timer; which fragments are acknowledged is given to the store."""
        self.abandon()
        self._write_acked()

    def _arm(self) -> None:
        if self._timer is not None:
            if not self._heap or self._timer.getTime() <= self._heap[0][0]:
                return
            self._timer.cancel()
            self._timer = None
        if self._heap and self._running:
            clock: Any = self._clock
            self._timer = clock.callLater(max(0.0, self._heap[0][0] - clock.seconds()), self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._heap and self._heap[0][0] <= now:
            waiting = heapq.heappop(self._heap)[2]
            self._time_is_over(waiting, now)
        self._arm()

    def _time_is_over(self, waiting: Waiting, now: float) -> None:
        if waiting.message.waiting.get(waiting.number) is not waiting:
            return
        waiting.state, actions = transition(waiting.state, Event.TIMEOUT, now)
        if Action.QUEUE in actions:
            self.put_back(waiting, first=False)
        elif Action.GIVE_UP in actions:
            self.failures += 1
            self._end(waiting.message, State.FAILED)

    def _write_acked(self) -> None:
        self._flush = None
        for message in self._dirty:
            self._store.set_acked(message.row.number, bytes(message.acked))
        self._dirty.clear()

    # -- to look at

    def queue_length(self, lane: Hashable) -> int:
        """Fragments of this lane that wait for the sending stream."""
        return self._fair_queue.queued(lane)

    @property
    def queued(self) -> int:
        """Fragments of all lanes that wait for the sending stream."""
        return self._fair_queue.queued_in_all

    @property
    def in_flight(self) -> int:
        """Fragments that wait for an ack."""
        return sum(len(message.waiting) for message in self._messages.values())

    def __len__(self) -> int:
        return len(self._messages)

    def find(self, message_id: bytes) -> OutMessage | None:
        """The message on its way with this id, if there is one."""
        return self._messages.get(message_id)

    def explanation(self, message_id: bytes) -> MessageTrace | None:
        """What happened to a message that was sent with one."""
        message = self._messages.get(message_id)
        return self._explained.get(message_id) if message is None else message.explanation

    def progress(self, message_id: bytes) -> Progress | None:
        """How far this message is, or how it ended; None for one that nobody knows."""
        message = self._messages.get(message_id)
        return self._ended.get(message_id) if message is None else message.progress()


def _edge(waiting: Waiting) -> bytes:
    """What tells the edge that a fragment goes to from others: the end of an address, or all of a tag."""
    return waiting.message.row.recipient[-KEY_LENGTH:]
