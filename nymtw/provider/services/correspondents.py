"""What waits for each correspondent of a service."""

import heapq
from collections import deque
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from nymtw.message.arq import ArqState
from nymtw.message.fragments import Fragments
from nymtw.topology.address import Address


@dataclass(slots=True, eq=False)
class Message:
    """A message on its way: its fragments, which of them are not acknowledged, and how each was sent."""

    correspondent: "Correspondent"
    fragments: Fragments
    left: set[int]
    states: dict[int, ArqState] = field(default_factory=dict)
    once: dict[int, float] = field(default_factory=dict)  # when the receipt of what went out once was to come
    acks: list[bytes] = field(default_factory=list)
    next: int = 0
    done: "Deferred[bool]" = field(default_factory=Deferred)


@dataclass(slots=True, eq=False)
class Correspondent:
    """One correspondent: by a tag (16 bytes), or at an address."""

    key: bytes
    recipient: Address | None
    progress: float
    fresh: list[tuple[int, int, Message]] = field(default_factory=list)  # a heap: short ones pass long ones
    again: deque[tuple[Message, int]] = field(default_factory=deque)
    messages: dict[bytes, Message] = field(default_factory=dict)
    size: int = 0
    most: int = 0
    in_turn: bool = False

    @property
    def edge(self) -> bytes:
        """What round trips are learned for: the recipient's edge, or the tag, behind which an unknown one is."""
        return self.key if self.recipient is None else self.recipient.provider

    def waiting(self) -> int:
        """How many fragments wait to be sent, about."""
        return len(self.again) + sum(length - message.next for length, _, message in self.fresh if message.left)

    def take(self) -> tuple[Message, int] | None:
        """The next fragment to send."""
        while self.again:
            message, number = self.again.popleft()
            if number in message.left:
                return message, number
        while self.fresh:
            length, _, message = self.fresh[0]
            number, message.next = message.next, message.next + 1
            if message.next >= length or not message.left:
                heapq.heappop(self.fresh)
            if number in message.left:
                return message, number
        return None
