"""The node's pool of workers: keeps N of them running, distributes next nodes among them, and adds up their counts.

The node has the identity, the presence, the metrics and the replay guard. The workers have the sockets, the
cryptography, the packets and the links. Each next node belongs to one worker, so that there is one link to it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from nymtw.drop_reasons import DropReason
from nymtw.link.padding import PaddingCounts
from nymtw.mixnode.workers.handle import Passed, WorkerHandle, WorkerProcess
from nymtw.mixnode.workers.replay_coordinator import ReplayCoordinator
from nymtw.mixnode.workers.wire import (
    CloseLink,
    Command,
    Drain,
    End,
    Keys,
    Linked,
    MaxDelay,
    Neighbours,
    Settings,
    hold_record,
)

SUM_INTERVAL: Final = 0.25  # seconds between two updates of the node's counters
CLOSING: Final = 5.0  # seconds from `stop` until the remaining workers are killed


class WorkerPool(Service):
    """`count` workers, which are the node's links: it gives them its neighbours, and the packets that it sends itself.

    `launch(handle)` starts a process. `settings` is the first message to each worker.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        coordinator: ReplayCoordinator,
        *,
        count: int,
        settings: Settings,
        launch: Callable[[WorkerHandle], WorkerProcess],
    ) -> None:
        self.clock: Any = clock
        self.coordinator = coordinator
        self.counters = coordinator.counters
        self.counters.update = self.add_up
        self.settings = settings
        self.launch = launch
        self.keys: dict[int, bytes] = {}
        self.stopping = False
        self.handles = [WorkerHandle(self, number) for number in range(1, count + 1)]
        self._peers: Mapping[bytes, tuple[str, int]] = {}
        self._lines: Mapping[bytes, Mapping[int, float]] = {}
        self.owners: dict[bytes, int] = {}  # next node -> number of its worker
        self._linked: dict[bytes, tuple[WorkerHandle, int]] = {}
        self._action = ""
        self._dropped: Counter[DropReason] = Counter()  # by the node, not yet in its counters
        self._timer: IDelayedCall | None = None
        coordinator.workers = self

    def startService(self) -> None:
        """Start the workers."""
        super().startService()
        for handle in self.handles:
            handle.start()
        self.assign()
        self._tick()

    def use_keys(self, private_keys: Mapping[int, bytes]) -> None:
        """Unwrap packets with these keys from now on."""
        self.keys = dict(private_keys)
        for handle in self.handles:
            handle.tell(Keys(self.keys))

    def act(self, action: str) -> None:
        """Apply a decision of the cover policy."""
        self._action = action
        for handle in self.handles:
            handle.tell(Command(action))

    def set_max_delay(self, seconds: float) -> None:
        """Drop packets that ask for a longer delay."""
        self.settings = msgspec.structs.replace(self.settings, max_delay=seconds)
        for handle in self.handles:
            handle.tell(MaxDelay(seconds))

    # the node's links

    def set_peers(self, peers: Mapping[bytes, tuple[str, int]]) -> None:
        """Set the nodes that packets may be sent to: identity to host and port."""
        self._peers = peers
        allowed = self.coordinator.allowed_peers
        self._linked = {peer: where for peer, where in self._linked.items() if peer in allowed}
        self.assign()

    def set_lines(self, lines: Mapping[bytes, Mapping[int, float]]) -> None:
        """Which lines are padded, by peer; `set_peers` follows."""
        self._lines = lines

    @property
    def padding(self) -> PaddingCounts:
        """Of the padded lines of all that run, a second ago at the most."""
        total = PaddingCounts()
        for handle in self.handles:
            if handle.process is not None:
                counts = handle.process.counts.padding
                total.sent += counts.sent
                total.received += counts.received
                total.skipped += counts.skipped
        return total

    def send(self, peer: bytes, epoch: int, packet: bytes) -> None:
        """Send a packet of the node's own, which its counters have as received."""
        self.relay([(peer, 0, hold_record(epoch, 0, peer, packet))])

    def send_many(self, packets: Iterable[tuple[bytes, int, bytes]]) -> None:
        """`send` each of (peer, epoch, packet)."""
        self.relay([(peer, 0, hold_record(epoch, 0, peer, packet)) for peer, epoch, packet in packets])

    @property
    def pending(self) -> int:
        """Packets in the links, at most a second old."""
        return sum(handle.process.counts.pending for handle in self.handles if handle.process is not None)

    def up(self) -> tuple[int, int]:
        """The numbers of links that are up, in and out, at most a second old."""
        links = [handle.process.counts.links for handle in self.handles if handle.process is not None]
        return sum(incoming for incoming, _ in links), sum(outgoing for _, outgoing in links)

    def drain(self) -> None:
        """Take no more packets from peers; the packets that are here go on."""
        for handle in self.handles:
            handle.tell(Drain())

    def stop(self) -> Deferred[None]:
        """End the workers. A Deferred that fires when none is left."""
        self.stopping = True
        left = [handle.gone for handle in self.handles if handle.gone is not None]
        for handle in self.handles:
            handle.cancel()
            handle.tell(End())
        killing = self.clock.callLater(CLOSING, self._kill)

        def finish(result: object) -> None:
            if killing.active():
                killing.cancel()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self.add_up()

        return DeferredList(left).addCallback(finish)

    # for the handles

    def initial_messages(self) -> list[Any]:
        """The first control messages to a new worker."""
        return [self.settings, Keys(self.keys), *([Command(self._action)] if self._action else [])]

    def next_for_connection(self) -> list[WorkerHandle]:
        """The running workers, the one with the fewest connections first."""
        return sorted(
            (handle for handle in self.handles if handle.process is not None), key=lambda handle: handle.connections
        )

    def assign(self) -> None:
        """Give each next node to a running worker, moving as few as possible, and tell all workers."""
        running = [handle for handle in self.handles if handle.process is not None]
        self.owners = assign(self._peers, [handle.number for handle in running], self.owners)
        admitted = sorted(self.coordinator.allowed_peers)
        epochs = {
            epoch: (sorted(each.next_hops), sorted(each.unauthenticated))
            for epoch, each in self.coordinator.neighbours.by_epoch.items()
        }
        for handle in running:
            own = {peer: self._peers[peer] for peer, owner in self.owners.items() if owner == handle.number}
            elsewhere = sorted(peer for peer, owner in self.owners.items() if owner != handle.number)
            lines = {peer: dict(self._lines[peer]) for peer in own if peer in self._lines}
            handle.use_neighbours(Neighbours(own, elsewhere, admitted, lines, epochs))

    def relay(self, passed: list[Passed]) -> None:
        """Send packets to the workers that have the links."""
        by_owner: dict[int, list[Passed]] = {}
        for each in passed:
            by_owner.setdefault(self.owners.get(each[0], 0), []).append(each)
        for owner, theirs in by_owner.items():
            if not owner:
                reason = DropReason.UNKNOWN_NEXT_HOP if self.owners else DropReason.WORKER_LOST
                self.drop({reason: len(theirs)})
                continue
            handle = self.handles[owner - 1]
            if not handle.give([record for _, _, record in theirs], min(due for _, due, _ in theirs)):
                full = handle.process is not None
                self.drop({DropReason.DELAY_QUEUE_FULL if full else DropReason.WORKER_LOST: len(theirs)})

    def linked(self, handle: WorkerHandle, message: Linked) -> None:
        """A peer has connected to this worker: end an older connection of that peer with another worker."""
        older = self._linked.get(message.peer)
        if message.peer in self.coordinator.allowed_peers:
            self._linked[message.peer] = handle, message.number
        if older is not None and older[0] is not handle:
            older[0].tell(CloseLink(message.peer, older[1]))

    def unlinked(self, handle: WorkerHandle) -> None:
        """This worker has lost all its connections."""
        self._linked = {peer: where for peer, where in self._linked.items() if where[0] is not handle}

    def drop(self, reasons: Mapping[DropReason, int]) -> None:
        """Count packets that the node drops."""
        self._dropped.update(reasons)

    def add_up(self) -> None:
        """Update the counters: first departures, then arrivals, so that the queued number is never negative."""
        for handle in self.handles:
            handle.add_departures()
        for reason, count in self._dropped.items():
            self.counters.dropped(reason, count)
        self._dropped.clear()
        for handle in self.handles:
            handle.add_arrivals()

    def _tick(self) -> None:
        self._timer = self.clock.callLater(SUM_INTERVAL, self._tick)
        self.add_up()
        now = self.clock.seconds()
        for handle in self.handles:
            handle.check(now)

    def _kill(self) -> None:
        for handle in self.handles:
            if handle.process is not None:
                self.log.warn("Worker {number} did not end: killing it", number=handle.number)
                handle.process.kill()


def assign(hops: Collection[bytes], handles: Collection[int], before: Mapping[bytes, int]) -> dict[bytes, int]:
    """A worker's number for each hop. Each worker gets as many hops as the others or one more; few hops move."""
    if not handles:
        return {}
    wanted = set(hops)
    theirs: dict[int, list[bytes]] = {handle: [] for handle in handles}
    for hop in sorted(wanted):
        if before.get(hop) in theirs:
            theirs[before[hop]].append(hop)
    homeless = sorted(wanted.difference(*theirs.values()))
    fewest, more = divmod(len(wanted), len(theirs))
    # Workers that have most keep one more, so that fewer hops move.
    for place, handle in enumerate(sorted(theirs, key=lambda handle: (-len(theirs[handle]), handle))):
        share = fewest + (place < more)
        homeless += theirs[handle][share:]
        del theirs[handle][share:]
    for hop in homeless:
        theirs[min(theirs, key=lambda handle: (len(theirs[handle]), handle))].append(hop)
    return {hop: handle for handle, their in theirs.items() for hop in their}
