"""Whether a client's loops come back: the sign that every node has learnt of every other one. Pure."""

from collections import deque

WINDOW = 1.0  # seconds over which is counted
ENOUGH = 0.85  # of the loops that were sent
FEWEST = 20  # loops that say something


class LoopFlow:
    """What one client says of its loops, again and again."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, sent: int, returned: int) -> None:
        """At `now` (seconds) so many loops had been sent and had returned since the client started."""
        self._seen.append((now, sent, returned))
        while len(self._seen) > 1 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()

    @property
    def flows(self) -> bool:
        """Whether nearly as many have come back as have been sent, over a whole window."""
        if len(self._seen) < 2:
            return False
        (start, sent, returned), (end, sent_now, returned_now) = self._seen[0], self._seen[-1]
        sent, returned = sent_now - sent, returned_now - returned
        return end - start >= WINDOW and sent >= FEWEST and returned >= ENOUGH * sent
