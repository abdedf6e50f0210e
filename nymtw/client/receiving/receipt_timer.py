"""A timer for receipts: it wakes when the next one of a schedule is due."""

from collections.abc import Callable
from typing import Any

from nymtw.message.replies import ReceiptSchedule


class ReceiptTimer:
    """Calls `send(tag, message_id, count)` for each receipt of `schedule` that is due."""

    def __init__(self, clock: Any, schedule: ReceiptSchedule, send: Callable[[bytes, bytes, int], None]) -> None:
        self._clock, self._schedule, self._send = clock, schedule, send
        self._call: Any = None

    def arm(self) -> None:
        """Wake when the next receipt is due; call this after a change of the schedule."""
        due = self._schedule.next_due
        if self._call is not None:
            if due is not None and self._call.getTime() <= due:
                return
            self.stop()
        if due is not None:
            self._call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._wake)

    def stop(self) -> None:
        """Leave no timer."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _wake(self) -> None:
        self._call = None
        for tag, message_id, count in self._schedule.due(self._clock.seconds()):
            self._send(tag, message_id, count)
        self.arm()
