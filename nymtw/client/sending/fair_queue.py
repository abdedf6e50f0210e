"""A fair queue: a lane for each application or stream, served in turn, one fragment at a time."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from nymtw.client.sending.messages import OutMessage, Waiting


@dataclass(slots=True, eq=False)
class _Lane:
    again: deque[Waiting] = field(default_factory=deque)
    messages: deque[OutMessage] = field(default_factory=deque)
    queued: int = 0

    def take(self) -> Waiting | None:
        while self.again:
            again = self.again.popleft()
            self.queued -= 1
            if again.message.waiting.get(again.number) is again:
                return again
        while self.messages:
            message = self.messages[0]
            waiting = message.take()
            if message.next >= len(message.fragments):
                self.messages.popleft()
                if message.taken is not None:
                    message.taken()
            if waiting is not None:
                self.queued -= 1
                return waiting
        return None


class FairQueue:
    """Lanes in turn. Each gives first what has to go out again, then its messages in the order in which they came."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, _Lane] = {}
        self._turn: deque[Hashable] = deque()

    def add(self, message: OutMessage) -> None:
        """A message whose fragments are to be given out, those that are acknowledged left out."""
        lane = self._lane(message.lane)
        lane.messages.append(message)
        lane.queued += len(message.fragments) - message.acknowledged

    def put_back(self, waiting: Waiting, first: bool) -> None:
        """A fragment that was given out waits again: as the next of its lane, or the last."""
        lane = self._lane(waiting.message.lane)
        (lane.again.appendleft if first else lane.again.append)(waiting)
        lane.queued += 1

    def take(self) -> Waiting | None:
        """The next fragment to send. None if nothing waits."""
        for _ in range(len(self._turn)):
            name = self._turn.popleft()
            waiting = self._lanes[name].take()
            if waiting is not None:
                self._turn.append(name)
                return waiting
            del self._lanes[name]
        return None

    def remove(self, message: OutMessage) -> None:
        """Give out no more of this message."""
        lane = self._lanes.get(message.lane)
        if lane is not None and message in lane.messages:
            lane.messages.remove(message)
            lane.queued -= sum(not message.is_acked(number) for number in range(message.next, len(message.fragments)))

    def queued(self, lane: Hashable) -> int:
        """Fragments that wait in this lane."""
        found = self._lanes.get(lane)
        return 0 if found is None else found.queued

    @property
    def queued_in_all(self) -> int:
        """Fragments that wait in all lanes."""
        return sum(lane.queued for lane in self._lanes.values())

    def _lane(self, name: Hashable) -> _Lane:
        found = self._lanes.get(name)
        if found is None:
            found = self._lanes[name] = _Lane()
            self._turn.append(name)
        return found
