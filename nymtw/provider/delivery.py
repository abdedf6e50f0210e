"""What a provider's implementation is given: one packet that ended at it, and the bounds within which it may answer."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.drop_reasons import DropReason
from nymtw.errors import DiskError, EncodingError, MailboxFull, UnknownDestination
from nymtw.interfaces import IProvider

TIMEOUT: Final = 30.0
LIMIT: Final = 10_000
_KINDS_OF_FAULT: Final = 100


class MailKind(IntEnum):
    """What a delivery is; the numbers are those of the slots in the answer to a pull."""

    MESSAGE = 1
    """1,580 bytes, sealed to the recipient."""
    ACK = 2
    """21 bytes that mean something to the recipient alone."""
    REPLY = 3
    """A whole packet (2,413 bytes), whose last hop is the recipient."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One packet that ended here: for whom (32 bytes), and what its kind says about the bytes of `content`."""

    destination: bytes
    kind: MailKind
    content: bytes


class Deliveries:
    """Hands deliveries to an implementation that may fail, wait, or never answer, and says what became of each.

    At most `limit` wait at once, each at most `timeout` seconds; what the implementation does after that is ignored.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, provider: IProvider, *, timeout: float = TIMEOUT, limit: int = LIMIT
    ) -> None:
        self._clock: Any = clock
        self._provider = provider
        self._timeout = timeout
        self._limit = limit
        # By number, so in the order of their deadlines: one timer is enough.
        self._waiting: dict[int, tuple[float, Deferred[Any], Callable[[DropReason | None], None]]] = {}
        self._count = 0
        self._timer: Any = None
        self._faults: set[str] = set()

    def __len__(self) -> int:
        """How many wait for their answer."""
        return len(self._waiting)

    def hand(self, delivery: Delivery, done: Callable[[DropReason | None], None]) -> None:
        """Call the implementation, and `done` exactly once: with None where it took the delivery, else the reason."""
        if len(self._waiting) >= self._limit:
            done(DropReason.PROVIDER_BUSY)
            return
        try:
            answer = self._provider.deliver(delivery)
            if inspect.iscoroutine(answer):
                answer = Deferred.fromCoroutine(answer)
        except Exception:
            done(self._reason(Failure()))
            return
        if not isinstance(answer, Deferred):
            done(None)
            return
        self._count += 1
        number = self._count
        self._waiting[number] = (self._clock.seconds() + self._timeout, answer, done)
        if self._timer is None:
            self._timer = self._clock.callLater(self._timeout, self._expire)
        answer.addCallbacks(self._taken, self._refused, callbackArgs=(number,), errbackArgs=(number,))

    def stop(self) -> None:
        """Give up on those that wait; they end as `SHUTDOWN`."""
        self._end(lambda deadline: True, DropReason.SHUTDOWN)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _taken(self, _: object, number: int) -> None:
        self._finish(number, None)

    def _refused(self, failure: Failure, number: int) -> None:
        # A delivery that was given up is counted and cancelled already: its error is no fault.
        if number in self._waiting:
            self._finish(number, self._reason(failure))

    def _finish(self, number: int, reason: DropReason | None) -> None:
        entry = self._waiting.pop(number, None)
        if entry is not None:
            entry[2](reason)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if self._end(lambda deadline: deadline <= now, DropReason.PROVIDER_ERROR):
            self._log_fault("did not answer in time")
        if self._waiting:
            earliest = next(iter(self._waiting.values()))[0]
            self._timer = self._clock.callLater(max(0.0, earliest - now), self._expire)

    def _end(self, over: Callable[[float], bool], reason: DropReason) -> int:
        """Count those whose deadline is `over`, then cancel them. How many they were."""
        ended = []
        for number, entry in list(self._waiting.items()):
            if not over(entry[0]):
                break
            ended.append(self._waiting.pop(number))
        for _, answer, done in ended:
            done(reason)
            try:
                answer.cancel()
            except Exception as error:
                self._log_fault(f"raised {type(error).__name__} when it was cancelled")
        return len(ended)

    def _reason(self, failure: Failure) -> DropReason:
        if failure.check(UnknownDestination):
            return DropReason.UNKNOWN_DESTINATION
        if failure.check(MailboxFull):
            return DropReason.MAILBOX_FULL
        if failure.check(EncodingError):
            return DropReason.MALFORMED_PAYLOAD
        if failure.check(DiskError):
            self._log_fault(f"says {failure.value}")
            return DropReason.DISK_ERROR
        # The text of the error may hold what the packet held: only its type and its place are said.
        frames = failure.frames
        where = f" ({frames[-1][1]}:{frames[-1][2]})" if frames else ""
        self._log_fault(f"raised {failure.type.__name__ if failure.type else 'an error'}{where}")
        return DropReason.PROVIDER_ERROR

    def _log_fault(self, fault: str) -> None:
        """Log each kind of fault once: senders of packets must not be able to fill the log."""
        if fault not in self._faults and len(self._faults) < _KINDS_OF_FAULT:
            self._faults.add(fault)
            self._log.error(
                "The implementation {name} {fault}; from now on this is only counted",
                name=type(self._provider).__name__,
                fault=fault,
            )
