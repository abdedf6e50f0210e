"""The node's handle of one worker: starts its process, exchanges messages with it, and restarts it if it dies."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel

from nymtw.drop_reasons import DropReason
from nymtw.errors import EncodingError
from nymtw.mixnode.workers.core import LONGEST_WAIT, MARGIN, MOST_RECORDS
from nymtw.mixnode.workers.counts import CountTransfer, WorkerCounts
from nymtw.mixnode.workers.replay_coordinator import ReplayCoordinator
from nymtw.mixnode.workers.wire import (
    END,
    HOLD,
    PASS,
    Event,
    Kind,
    Linked,
    Neighbours,
    check_records,
    control_frame,
    frame,
    hold_record,
    read_control,
    records,
    verdict_byte,
)
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.sphinx import FinalHop

FIRST_PAUSE: Final = 0.5  # seconds before a worker that died twice is restarted; doubled each time
LONGEST_PAUSE: Final = 60.0
GOOD_LIFE: Final = 60.0  # a worker that lived for so many seconds is restarted at once
HUNG: Final = 30.0  # seconds without a beat, until a worker is killed
_EPOCH_BITS: Final = 0xFFFFFFFF  # of a key's number
BACKLOG: Final = 16 << 20  # bytes of packets that may wait for a worker that does not read


# Next node, time at which the packet is due (nanoseconds), HOLD record.
Passed = tuple[bytes, int, bytes]


class WorkerProcess(Protocol):
    """A running worker: `nymtw.mixnode.workers.spawn.SpawnedWorker`, or a test's replacement."""

    counts: WorkerCounts

    def write(self, data: bytes) -> None:
        """Write to the pipe."""

    def hand_over(self, connection: Any) -> bool:
        """Pass an accepted socket to the worker. False if the worker takes none."""

    def kill(self) -> None:
        """End the process at once; `WorkerHandle.ended` follows."""


class Pool(Protocol):
    """The part of `nymtw.mixnode.workers.pool.WorkerPool` that a handle uses."""

    clock: Any
    coordinator: ReplayCoordinator
    counters: PacketCounters
    stopping: bool
    launch: Callable[["WorkerHandle"], WorkerProcess]

    def initial_messages(self) -> list[Any]:
        """The first control messages to a new worker."""

    def assign(self) -> None:
        """Distribute the next nodes among the running workers."""

    def relay(self, passed: list[Passed]) -> None:
        """Send packets to the workers that have the links."""

    def linked(self, handle: "WorkerHandle", message: Linked) -> None:
        """A peer has connected to this worker."""

    def unlinked(self, handle: "WorkerHandle") -> None:
        """This worker has lost all its connections."""

    def drop(self, reasons: Mapping[DropReason, int]) -> None:
        """Count packets that the node drops."""

    def add_up(self) -> None:
        """Update the node's counters."""


class WorkerHandle:
    """One of N workers: its process while there is one, and the start of the next process."""

    log = Logger()

    def __init__(self, workers: Pool, number: int) -> None:
        self.number = number
        self.gone: Deferred[None] | None = None
        self._workers = workers
        self.process: Any = None
        self._transfer: CountTransfer | None = None
        self._down = self._up = 0  # packets given to the worker, and received from it
        self._given = 0  # connections given to the worker
        self._neighbours: Neighbours | None = None
        self._held: list[bytes] = []
        self._timer: IDelayedCall | None = None
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._blocked = False
        self._started = self._beat_at = 0.0
        self._beats = 0
        self._failures = 0
        self._retry: IDelayedCall | None = None

    # the process

    def start(self) -> None:
        """Start a process."""
        workers = self._workers
        self._retry = None
        self._started = self._beat_at = workers.clock.seconds()
        self._down = self._up = self._given = self._beats = 0
        self._neighbours = None
        self._blocked = False
        try:
            self.process = workers.launch(self)
        except OSError as error:
            self._died(f"cannot start: {error.strerror}", 0)
            return
        self.gone = Deferred()
        self._transfer = CountTransfer(self.process.counts)
        for message in workers.initial_messages():
            self.tell(message)

    def cancel(self) -> None:
        """Cancel a planned restart."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def check(self, now: float) -> None:
        """Kill the process if it hangs."""
        if self.process is None:
            return
        beats = self.process.counts.beats
        if beats != self._beats:
            self._beats, self._beat_at = beats, now
        elif now - self._beat_at > HUNG:
            self.log.error("Worker {number} hangs: killing it", number=self.number)
            self._beat_at = now
            self.process.kill()

    def ended(self, how: str) -> None:
        """Called when the process has ended, after `received` has got everything that it wrote."""
        workers = self._workers
        workers.add_up()
        counts = self.process.counts
        left = counts.forwarded_total + counts.dropped_by_reason.total() + self._up
        lost = counts.received_total + self._down - left
        if lost:
            workers.counters.dropped(DropReason.SHUTDOWN if workers.stopping else DropReason.WORKER_LOST, lost)
        self.process = self._transfer = None
        self._disarm()
        self._held.clear()
        self._backlog.clear()
        self._backlog_bytes = 0
        workers.unlinked(self)
        gone, self.gone = self.gone, None
        if not workers.stopping:
            self._died(how, lost)
        if gone is not None:
            gone.callback(None)

    def _died(self, how: str, lost: int) -> None:
        workers = self._workers
        if workers.clock.seconds() - self._started >= GOOD_LIFE:
            self._failures = 0
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._failures - 1)) if self._failures else 0.0
        self._failures += 1
        self.log.error(
            "Worker {number} died ({how}) with {lost} packets; restarting it {when}",
            number=self.number,
            how=how,
            lost=lost,
            when=f"in {pause:g} s" if pause else "at once",
        )
        self._retry = workers.clock.callLater(pause, self._restart)
        if pause:
            workers.assign()

    def _restart(self) -> None:
        self.start()
        self._workers.assign()

    # messages to the worker

    def tell(self, message: Any) -> None:
        """Send a control message."""
        if self.process is not None:
            self._write(control_frame(message))

    def use_neighbours(self, neighbours: Neighbours) -> None:
        """Send the neighbours if they have changed."""
        if neighbours != self._neighbours:
            self._neighbours = neighbours
            self.tell(neighbours)

    def give(self, records: list[bytes], due: int) -> bool:
        """Send HOLD records. False if there is no process, or if it has too much to read already.

        The records go with the next answer, or shortly before the first of them is due (nanoseconds): it is cheaper not
        to wake the worker for them alone.
        """
        if self.process is None or self._backlog_bytes > BACKLOG:
            return False
        self._down += len(records)
        self._held += records
        wait = min(due * 1e-9 - self._workers.clock.seconds() - MARGIN, LONGEST_WAIT)
        if wait <= 0 or len(self._held) >= MOST_RECORDS:
            self._write(b"")
        elif self._timer is None or self._workers.clock.seconds() + wait < self._timer.getTime():
            self._disarm()
            self._timer = self._workers.clock.callLater(wait, self._give_held)
        return True

    def _give_held(self) -> None:
        self._timer = None
        self._write(b"")

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def hand_over(self, connection: Any) -> bool:
        """Pass an accepted socket to the worker. False if the worker takes none."""
        if self.process is None or not self.process.hand_over(connection):
            return False
        self._given += 1
        return True

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._given - int(self.process.counts.connections_ended)

    def block(self, blocked: bool) -> None:
        """Called when the pipe becomes full, or has room again."""
        self._blocked = blocked
        while self._backlog and not self._blocked:
            data = self._backlog.popleft()
            self._backlog_bytes -= len(data)
            self.process.write(data)

    def _write(self, data: bytes) -> None:
        if self._held:
            self._disarm()
            data += frame(Kind.HOLD, b"".join(self._held))
            self._held.clear()
        if self._blocked or self._backlog:
            self._backlog.append(data)
            self._backlog_bytes += len(data)
        elif self.process is not None:
            self.process.write(data)

    # messages from the worker

    def add_departures(self) -> None:
        """Add new departures of packets to the node's counters."""
        if self._transfer is not None:
            self._transfer.add_departures(self._workers.counters)

    def add_arrivals(self) -> None:
        """Add new arrivals of packets to the node's counters."""
        if self._transfer is not None:
            self._transfer.add_arrivals(self._workers.counters)

    def received(self, frames: list[tuple[Kind, bytes]]) -> None:
        """Handle frames from the pipe. Raises `EncodingError`."""
        workers = self._workers
        coordinator = workers.coordinator
        passed: list[Passed] = []
        ended: list[FinalHop] = []
        answers: list[bytearray] = []
        refused: Counter[DropReason] = Counter()
        for kind, body in frames:
            if kind is Kind.CHECK:
                answers.append(bytearray(map(verdict_byte, coordinator.verdicts(check_records(body)))))
            elif kind is Kind.PASS:
                packets = list(records(PASS, body))
                reasons = coordinator.verdicts([fields[:3] for fields in packets])
                for reason, (number, _, _, due, next_hop, packet) in zip(reasons, packets, strict=True):
                    if reason is None:
                        passed.append((next_hop, due, hold_record(number & _EPOCH_BITS, due, next_hop, packet)))
                    else:
                        refused[reason] += 1
            elif kind is Kind.HOLD:
                for epoch, due, next_hop, packet in records(HOLD, body):
                    passed.append((next_hop, due, hold_record(epoch, due, next_hop, packet)))
            elif kind is Kind.END:
                packets = list(records(END, body))
                reasons = coordinator.verdicts([fields[:3] for fields in packets])
                for reason, (_, tag, _, destination, identifier, version, payload) in zip(
                    reasons, packets, strict=True
                ):
                    if reason is None:
                        ended.append(FinalHop(destination, identifier, payload, version, tag))
                    else:
                        refused[reason] += 1
            else:
                self._control(read_control(body))
        self._up += len(passed) + len(ended) + refused.total()
        if (answers or passed or ended) and not coordinator.replays.write():
            refused[DropReason.DISK_ERROR] += len(passed) + len(ended)
            passed, ended = [], []
            # Packets that were refused before keep their own reason.
            disk_error = verdict_byte(DropReason.DISK_ERROR)
            answers = [bytearray(byte or disk_error for byte in answer) for answer in answers]
        for answer in answers:
            self._write(frame(Kind.VERDICTS, answer))
        workers.drop(refused)
        workers.relay(passed)
        if ended:
            workers.add_up()
            for hop in ended:
                coordinator.ends_here(hop)

    def _control(self, message: object) -> None:
        if isinstance(message, Linked):
            self._workers.linked(self, message)
        elif isinstance(message, Event):
            level = getattr(LogLevel, message.level, LogLevel.info)
            self.log.emit(level, "worker {number}: {text}", number=self.number, text=message.text)
        else:
            raise EncodingError("this control message is not one that a worker sends")
