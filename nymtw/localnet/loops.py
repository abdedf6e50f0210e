"""Whether a client's loops come back: the sign that every node has learnt of every other one. Pure."""

from collections import deque

WINDOW = 1.0  # seconds over which is counted, at least
ENOUGH = 0.85  # of the loops that were sent
FEWEST = 30  # loops for a judgement: every pair of neighbours has had some of them


class LoopFlow:
    """The loop counts of one client over time."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()
        self.best = 0.0  # the largest share that came back over a window

    def add(self, now: float, sent: int, returned: int) -> None:
        """At `now` (seconds) so many loops had been sent and had returned since the client started."""
        if self._seen and sent < self._seen[-1][1]:
            self._seen.clear()  # it has started again
        self._seen.append((now, sent, returned))
        while len(self._seen) > 1 and _says_something(self._seen[1], self._seen[-1]):
            self._seen.popleft()
        if _says_something(self._seen[0], self._seen[-1]):
            self.best = max(self.best, self._share())

    @property
    def flows(self) -> bool:
        """Whether nearly as many have come back as have been sent, over a whole window."""
        return bool(self._seen) and _says_something(self._seen[0], self._seen[-1]) and self._share() >= ENOUGH

    def _share(self) -> float:
        (_, sent, returned), (_, sent_now, returned_now) = self._seen[0], self._seen[-1]
        return (returned_now - returned) / (sent_now - sent)


def _says_something(first: tuple[float, int, int], last: tuple[float, int, int]) -> bool:
    return last[0] - first[0] >= WINDOW and last[1] - first[1] >= FEWEST
