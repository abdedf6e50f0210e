"""The node's side of its workers: it keeps N of them running, judges their packets' tags, and makes the sum.

The node has the identity, the presence, the metrics and the replay guard; the workers have the sockets, the
cryptography, the packets and the links. Each next node is given to one worker, so that there is one link to it.
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

SUM_INTERVAL: Final = 0.25  # seconds: how old the node's account may be
CLOSING: Final = 5.0  # seconds from `stop`, until those that are left are killed


class WorkerPool(Service):
    """`count` workers. For the node they are its links: it gives them its neighbours, and packets that it sends itself.

    `launch(seat)` starts a process. `settings` is the first thing that each of them is told.
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
        self._owners: dict[bytes, int] = {}  # next node -> number of a seat
        self._linked: dict[bytes, tuple[WorkerHandle, int]] = {}
        self._action = ""
        self._dropped: Counter[DropReason] = Counter()  # by the node, not yet in the account
        self._timer: IDelayedCall | None = None
        coordinator.workers = self

    def startService(self) -> None:
        """Start them."""
        super().startService()
        for handle in self.handles:
            handle.start()
        self.assign()
        self._tick()

    def use_keys(self, private_keys: Mapping[int, bytes]) -> None:
        """Unwrap with these keys from now on."""
        self.keys = dict(private_keys)
        for handle in self.handles:
            handle.tell(Keys(self.keys))

    def act(self, action: str) -> None:
        """What the cover policy has decided."""
        self._action = action
        for handle in self.handles:
            handle.tell(Command(action))

    def set_max_delay(self, seconds: float) -> None:
        """Packets that ask for a longer delay are dropped."""
        self.settings = msgspec.structs.replace(self.settings, max_delay=seconds)
        for handle in self.handles:
            handle.tell(MaxDelay(seconds))

    # the links of the node

    def set_peers(self, peers: Mapping[bytes, tuple[str, int]]) -> None:
        """The nodes that packets may be sent to: identity to host and port."""
        self._peers = peers
        allowed = self.coordinator.allowed_peers
        self._linked = {peer: where for peer, where in self._linked.items() if peer in allowed}
        self.assign()

    def send(self, peer: bytes, epoch: int, packet: bytes) -> None:
        """A packet of the node's own, which is in its account as received."""
        self.relay([(peer, 0, hold_record(epoch, 0, peer, packet))])

    def send_many(self, packets: Iterable[tuple[bytes, int, bytes]]) -> None:
        """`send` each of (peer, epoch, packet)."""
        self.relay([(peer, 0, hold_record(epoch, 0, peer, packet)) for peer, epoch, packet in packets])

    @property
    def pending(self) -> int:
        """Packets in the links, a second ago at the most."""
        return sum(handle.process.counts.pending for handle in self.handles if handle.process is not None)

    def up(self) -> tuple[int, int]:
        """How many links are up, in and out, a second ago at the most."""
        links = [handle.process.counts.links for handle in self.handles if handle.process is not None]
        return sum(incoming for incoming, _ in links), sum(outgoing for _, outgoing in links)

    def drain(self) -> None:
        """Take no more packets from peers; what is here goes on."""
        for handle in self.handles:
            handle.tell(Drain())

    def stop(self) -> Deferred[None]:
        """End them. A Deferred that fires when none is left."""
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

    # the workers' common matters

    def first_words(self) -> list[Any]:
        """What a new worker is told."""
        return [self.settings, Keys(self.keys), *([Command(self._action)] if self._action else [])]

    def next_for_connection(self) -> list[WorkerHandle]:
        """Those that run, the one with the fewest connections first."""
        return sorted(
            (handle for handle in self.handles if handle.process is not None), key=lambda handle: handle.connections
        )

    def assign(self) -> None:
        """Give each next node to a worker that runs, moving as few as possible, and tell all of them."""
        running = [handle for handle in self.handles if handle.process is not None]
        self._owners = assign(self._peers, [handle.number for handle in running], self._owners)
        admitted = sorted(self.coordinator.allowed_peers)
        for handle in running:
            own = {peer: self._peers[peer] for peer, owner in self._owners.items() if owner == handle.number}
            elsewhere = sorted(peer for peer, owner in self._owners.items() if owner != handle.number)
            handle.use_neighbours(Neighbours(own, elsewhere, admitted))

    def relay(self, passed: list[Passed]) -> None:
        """Give packets to the workers that have the links."""
        by_owner: dict[int, list[Passed]] = {}
        for each in passed:
            by_owner.setdefault(self._owners.get(each[0], 0), []).append(each)
        for owner, theirs in by_owner.items():
            if not owner:
                reason = DropReason.UNKNOWN_NEXT_HOP if self._owners else DropReason.WORKER_LOST
                self.drop({reason: len(theirs)})
                continue
            handle = self.handles[owner - 1]
            if not handle.give([record for _, _, record in theirs], min(due for _, due, _ in theirs)):
                full = handle.process is not None
                self.drop({DropReason.DELAY_QUEUE_FULL if full else DropReason.WORKER_LOST: len(theirs)})

    def linked(self, handle: WorkerHandle, message: Linked) -> None:
        """`seat` has a connection of a peer: an older one with another worker ends."""
        older = self._linked.get(message.peer)
        if message.peer in self.coordinator.allowed_peers:
            self._linked[message.peer] = handle, message.number
        if older is not None and older[0] is not handle:
            older[0].tell(CloseLink(message.peer, older[1]))

    def unlinked(self, handle: WorkerHandle) -> None:
        """`seat` has no connections any more."""
        self._linked = {peer: where for peer, where in self._linked.items() if where[0] is not handle}

    def drop(self, reasons: Mapping[DropReason, int]) -> None:
        """Count packets that the node drops."""
        self._dropped.update(reasons)

    def add_up(self) -> None:
        """Bring the account up to date: first what has left, then what has come, so that nothing queued is negative."""
        for handle in self.handles:
            handle.take_out()
        for reason, count in self._dropped.items():
            self.counters.dropped(reason, count)
        self._dropped.clear()
        for handle in self.handles:
            handle.take_in()

    def _tick(self) -> None:
        self._timer = self.clock.callLater(SUM_INTERVAL, self._tick)
        self.add_up()
        now = self.clock.seconds()
        for handle in self.handles:
            handle.check(now)

    def _kill(self) -> None:
        for handle in self.handles:
            if handle.process is not None:
                self.log.warn("Worker {number} did not end, and is killed", number=handle.number)
                handle.process.kill()


def assign(hops: Collection[bytes], handles: Collection[int], before: Mapping[bytes, int]) -> dict[bytes, int]:
    """A seat for each hop, each having as many as the others or one more; as few as can be leave that of `before`."""
    if not handles:
        return {}
    wanted = set(hops)
    theirs: dict[int, list[bytes]] = {handle: [] for handle in handles}
    for hop in sorted(wanted):
        if before.get(hop) in theirs:
            theirs[before[hop]].append(hop)
    homeless = sorted(wanted.difference(*theirs.values()))
    fewest, more = divmod(len(wanted), len(theirs))
    # Those that have most may be the ones that have one more.
    for place, handle in enumerate(sorted(theirs, key=lambda handle: (-len(theirs[handle]), handle))):
        room = fewest + (place < more)
        homeless += theirs[handle][room:]
        del theirs[handle][room:]
    for hop in homeless:
        theirs[min(theirs, key=lambda handle: (len(theirs[handle]), handle))].append(hop)
    return {hop: handle for handle, their in theirs.items() for hop in their}
