"""One of a mixnode's workers, as the node sees it: started, told, listened to, and started again where it dies."""

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel

from nymtw.drop_reasons import DropReason
from nymtw.errors import EncodingError
from nymtw.mixnode.workers.core import LONGEST_WAIT, MARGIN, MOST_RECORDS
from nymtw.mixnode.workers.counts import Seen, WorkerCounts
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
from nymtw.sphinx import FinalHop

if TYPE_CHECKING:
    from nymtw.mixnode.workers.pool import WorkerPool

FIRST_PAUSE: Final = 0.5  # seconds before a worker that has died twice is started again; doubled each time
LONGEST_PAUSE: Final = 60.0
GOOD_LIFE: Final = 60.0  # a worker that has lived so long is started again at once
HUNG: Final = 30.0  # without a beat, until a worker is killed
_EPOCH_BITS: Final = 0xFFFFFFFF  # of a key's number
BACKLOG: Final = 16 << 20  # bytes of packets that wait for a worker that does not read


# Next node, when it is due (nanoseconds), HOLD record.
Passed = tuple[bytes, int, bytes]


class WorkerProcess(Protocol):
    """A running worker: `nymtw.mixnode.workers.spawn`, or what a test puts in its place."""

    counts: WorkerCounts

    def write(self, data: bytes) -> None:
        """Down the pipe."""

    def hand_over(self, connection: Any) -> bool:
        """Give it an accepted socket. False where it takes none."""

    def kill(self) -> None:
        """End it at once; `Seat.ended` follows."""


class WorkerHandle:
    """One of N workers: its process, as long as there is one, and the next process's start."""

    log = Logger()

    def __init__(self, workers: "WorkerPool", number: int) -> None:
        self.number = number
        self.gone: Deferred[None] | None = None
        self._workers = workers
        self.process: Any = None
        self._seen: Any = None
        self._down = self._up = 0  # packets that the node has given it, and that have come from it
        self._given = 0  # connections
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

    # its life

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
        self._seen = Seen(self.process.counts)
        for message in workers.first_words():
            self.tell(message)

    def cancel(self) -> None:
        """Start no process any more."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def check(self, now: float) -> None:
        """Kill a process that hangs."""
        if self.process is None:
            return
        beats = self.process.counts.beats
        if beats != self._beats:
            self._beats, self._beat_at = beats, now
        elif now - self._beat_at > HUNG:
            self.log.error("Worker {number} hangs, and is killed", number=self.number)
            self._beat_at = now
            self.process.kill()

    def ended(self, how: str) -> None:
        """For the process: it is no more, and everything that it wrote has been `received`."""
        workers = self._workers
        workers.add_up()
        counts = self.process.counts
        left = counts.forwarded_total + counts.dropped_by_reason.total() + self._up
        lost = counts.received_total + self._down - left
        if lost:
            workers.counters.dropped(DropReason.SHUTDOWN if workers.stopping else DropReason.WORKER_LOST, lost)
        self.process = self._seen = None
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
            "Worker {number} has died ({how}) with {lost} packets; it is started again {when}",
            number=self.number,
            how=how,
            lost=lost,
            when=f"in {pause:g} s" if pause else "at once",
        )
        self._retry = workers.clock.callLater(pause, self._start_again)
        if pause:
            workers.assign()

    def _start_again(self) -> None:
        self.start()
        self._workers.assign()

    # to it

    def tell(self, message: Any) -> None:
        """Send a control message."""
        if self.process is not None:
            self._write(control_frame(message))

    def use_neighbours(self, neighbours: Neighbours) -> None:
        """Tell it, if they are not what it was told."""
        if neighbours != self._neighbours:
            self._neighbours = neighbours
            self.tell(neighbours)

    def give(self, records: list[bytes], due: int) -> bool:
        """HOLD records; False where there is no process, or it has too much to read already.

        They go with the next answer, or a little before the first of them is due (nanoseconds): a worker that is not
        woken for them costs less.
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
        """Give it an accepted socket. False where it takes none."""
        if self.process is None or not self.process.hand_over(connection):
            return False
        self._given += 1
        return True

    @property
    def connections(self) -> int:
        """How many it has."""
        return self._given - int(self.process.counts.connections_ended)

    def block(self, blocked: bool) -> None:
        """For the process: whether its pipe is full."""
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

    # from it

    def take_out(self) -> None:
        if self._seen is not None:
            self._seen.take_out(self._workers.counters)

    def take_in(self) -> None:
        if self._seen is not None:
            self._seen.take_in(self._workers.counters)

    def received(self, frames: list[tuple[Kind, bytes]]) -> None:
        """For the process: what has come up the pipe. Raises `EncodingError`."""
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
        if (answers or passed or ended) and not coordinator.tags_are_written():
            refused[DropReason.DISK_ERROR] += len(passed) + len(ended)
            passed, ended = [], []
            # Those that were refused before are refused for their own reason.
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
            raise EncodingError("not from a worker")
