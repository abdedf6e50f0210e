"""Cover traffic that is under way: which loops came back, when, and which did not: the client's own measure of the
network.
"""

from collections import deque
from collections.abc import Callable

from nymtw.mixing.loop_loss import LoopTimes

LOST = 60.0  # seconds after which a loop counts as lost


class CoverLedger:
    """Loops by the id in their fragment, cover's acks by theirs. Memory is bounded by rate and `late`."""

    def __init__(self, now: Callable[[], float], late: float = LOST) -> None:
        self._now, self._late = now, late
        self._under_way: dict[bytes, None] = {}
        self._order: deque[tuple[float, bytes]] = deque()
        self._acks: dict[bytes, None] = {}
        self._ack_order: deque[tuple[float, bytes]] = deque()
        self.sent = self.returned = self.lost = self.drops = self.acks = 0
        self._times: LoopTimes | None = None

    def measure(self, times: LoopTimes) -> None:
        """From now on `times` is told of each loop and of the mail that they wait behind."""
        self._times = times

    def loop_sent(self, loop_id: bytes, ack_id: bytes, delays: float = 0.0) -> None:
        """A loop is under way; `delays` is the sum of those drawn for it, in seconds."""
        if self._times is not None:
            self._times.left(loop_id, delays, self._now())
        self.sent += 1
        self._under_way[loop_id] = None
        self._order.append((self._now(), loop_id))
        self._expect(ack_id)

    def drop_sent(self, ack_id: bytes) -> None:
        """A packet that its provider discards is under way: only its ack comes back."""
        self.drops += 1
        self._expect(ack_id)

    def loop_returned(self, loop_id: bytes) -> bool:
        """A loop is back. False for one that is not ours, or not any more."""
        if loop_id not in self._under_way:
            return False
        if self._times is not None:
            self._times.came_back(loop_id, self._now())
        del self._under_way[loop_id]
        self.returned += 1
        return True

    def mail_came(self, is_full: bool) -> None:
        """Some of the waiting mail was fetched; `is_full`: as much of it as comes at once."""
        if self._times is not None:
            self._times.mail(is_full)

    def acknowledged(self, ack_id: bytes) -> bool:
        """An ack is back. False for one that is not cover's."""
        if ack_id not in self._acks:
            return False
        del self._acks[ack_id]
        self.acks += 1
        return True

    def expire(self) -> None:
        """Count what is late as lost."""
        before = self._now() - self._late
        while self._order and self._order[0][0] < before:
            _, loop_id = self._order.popleft()
            if loop_id in self._under_way:
                del self._under_way[loop_id]
                self.lost += 1
        while self._ack_order and self._ack_order[0][0] < before:
            self._acks.pop(self._ack_order.popleft()[1], None)

    def _expect(self, ack_id: bytes) -> None:
        self._acks[ack_id] = None
        self._ack_order.append((self._now(), ack_id))
        self.expire()
