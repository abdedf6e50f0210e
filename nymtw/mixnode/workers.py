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

from nymtw.errors import DropReason
from nymtw.mixnode.worker_judge import Judge
from nymtw.mixnode.worker_seat import Passed, Seat, WorkerProcess
from nymtw.mixnode.worker_wire import (
    Drain,
    End,
    HangUp,
    Keys,
    Linked,
    MaxDelay,
    Neighbours,
    Obey,
    Settings,
    hold_record,
)

SUM_INTERVAL: Final = 0.25  # seconds: how old the node's account may be
CLOSING: Final = 5.0  # seconds from `stop`, until those that are left are killed


class Workers(Service):
    """`count` workers. For the node they are its links: it gives them its neighbours, and packets that it sends itself.

    `launch(seat)` starts a process. `settings` is the first thing that each of them is told.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        judge: Judge,
        *,
        count: int,
        settings: Settings,
        launch: Callable[[Seat], WorkerProcess],
    ) -> None:
        self.clock: Any = clock
        self.judge = judge
        self.account = judge.account
        self.account.update = self.add_up
        self.settings = settings
        self.launch = launch
        self.keys: dict[int, bytes] = {}
        self.stopping = False
        self.seats = [Seat(self, number) for number in range(1, count + 1)]
        self._peers: Mapping[bytes, tuple[str, int]] = {}
        self._owners: dict[bytes, int] = {}  # next node -> number of a seat
        self._linked: dict[bytes, tuple[Seat, int]] = {}
        self._action = ""
        self._dropped: Counter[DropReason] = Counter()  # by the node, not yet in the account
        self._timer: IDelayedCall | None = None
        judge.workers = self

    def startService(self) -> None:
        """Start them."""
        super().startService()
        for seat in self.seats:
            seat.start()
        self.assign()
        self._tick()

    def use_keys(self, private_keys: Mapping[int, bytes]) -> None:
        """Unwrap with these keys from now on."""
        self.keys = dict(private_keys)
        for seat in self.seats:
            seat.tell(Keys(self.keys))

    def obey(self, action: str) -> None:
        """What the cover policy has decided."""
        self._action = action
        for seat in self.seats:
            seat.tell(Obey(action))

    def set_max_delay(self, seconds: float) -> None:
        """Packets that ask for a longer delay are dropped."""
        self.settings = msgspec.structs.replace(self.settings, max_delay=seconds)
        for seat in self.seats:
            seat.tell(MaxDelay(seconds))

    # the links of the node

    def set_peers(self, peers: Mapping[bytes, tuple[str, int]]) -> None:
        """The nodes that packets may be sent to: identity to host and port."""
        self._peers = peers
        allowed = self.judge.allowed_peers
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
        return sum(seat.process.counts.pending for seat in self.seats if seat.process is not None)

    def up(self) -> tuple[int, int]:
        """How many links are up, in and out, a second ago at the most."""
        links = [seat.process.counts.links for seat in self.seats if seat.process is not None]
        return sum(incoming for incoming, _ in links), sum(outgoing for _, outgoing in links)

    def drain(self) -> None:
        """Take no more packets from peers; what is here goes on."""
        for seat in self.seats:
            seat.tell(Drain())

    def stop(self) -> Deferred[None]:
        """End them. A Deferred that fires when none is left."""
        self.stopping = True
        left = [seat.gone for seat in self.seats if seat.gone is not None]
        for seat in self.seats:
            seat.cancel()
            seat.tell(End())
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
        return [self.settings, Keys(self.keys), *([Obey(self._action)] if self._action else [])]

    def next_for_connection(self) -> list[Seat]:
        """Those that run, the one with the fewest connections first."""
        return sorted((seat for seat in self.seats if seat.process is not None), key=lambda seat: seat.connections)

    def assign(self) -> None:
        """Give each next node to a worker that runs, moving as few as possible, and tell all of them."""
        running = [seat for seat in self.seats if seat.process is not None]
        self._owners = assign(self._peers, [seat.number for seat in running], self._owners)
        admitted = sorted(self.judge.allowed_peers)
        for seat in running:
            own = {peer: self._peers[peer] for peer, owner in self._owners.items() if owner == seat.number}
            elsewhere = sorted(peer for peer, owner in self._owners.items() if owner != seat.number)
            seat.use_neighbours(Neighbours(own, elsewhere, admitted))

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
            seat = self.seats[owner - 1]
            if not seat.give([record for _, _, record in theirs], min(due for _, due, _ in theirs)):
                full = seat.process is not None
                self.drop({DropReason.DELAY_QUEUE_FULL if full else DropReason.WORKER_LOST: len(theirs)})

    def linked(self, seat: Seat, message: Linked) -> None:
        """`seat` has a connection of a peer: an older one with another worker ends."""
        older = self._linked.get(message.peer)
        if message.peer in self.judge.allowed_peers:
            self._linked[message.peer] = seat, message.number
        if older is not None and older[0] is not seat:
            older[0].tell(HangUp(message.peer, older[1]))

    def unlinked(self, seat: Seat) -> None:
        """`seat` has no connections any more."""
        self._linked = {peer: where for peer, where in self._linked.items() if where[0] is not seat}

    def drop(self, reasons: Mapping[DropReason, int]) -> None:
        """Count packets that the node drops."""
        self._dropped.update(reasons)

    def add_up(self) -> None:
        """Bring the account up to date: first what has left, then what has come, so that nothing queued is negative."""
        for seat in self.seats:
            seat.take_out()
        for reason, count in self._dropped.items():
            self.account.dropped(reason, count)
        self._dropped.clear()
        for seat in self.seats:
            seat.take_in()

    def _tick(self) -> None:
        self._timer = self.clock.callLater(SUM_INTERVAL, self._tick)
        self.add_up()
        now = self.clock.seconds()
        for seat in self.seats:
            seat.check(now)

    def _kill(self) -> None:
        for seat in self.seats:
            if seat.process is not None:
                self.log.warn("Worker {number} did not end, and is killed", number=seat.number)
                seat.process.kill()


def assign(hops: Collection[bytes], seats: Collection[int], before: Mapping[bytes, int]) -> dict[bytes, int]:
    """A seat for each hop, each having as many as the others or one more; as few as can be leave that of `before`."""
    if not seats:
        return {}
    wanted = set(hops)
    theirs: dict[int, list[bytes]] = {seat: [] for seat in seats}
    for hop in sorted(wanted):
        if before.get(hop) in theirs:
            theirs[before[hop]].append(hop)
    homeless = sorted(wanted.difference(*theirs.values()))
    fewest, more = divmod(len(wanted), len(theirs))
    # Those that have most may be the ones that have one more.
    for place, seat in enumerate(sorted(theirs, key=lambda seat: (-len(theirs[seat]), seat))):
        room = fewest + (place < more)
        homeless += theirs[seat][room:]
        del theirs[seat][room:]
    for hop in homeless:
        theirs[min(theirs, key=lambda seat: (len(theirs[seat]), seat))].append(hop)
    return {hop: seat for seat, their in theirs.items() for hop in their}
