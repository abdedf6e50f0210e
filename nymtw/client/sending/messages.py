"""The records of the outbox: messages on their way, and their fragments."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import StrEnum

from nymtw.client.sending.message_trace import MessageTrace
from nymtw.client.store import OutboxRow
from nymtw.message.arq import ArqState
from nymtw.message.fragments import Fragments


class State(StrEnum):
    """The state of a message."""

    SENDING = "sending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a message: `acknowledged` of `fragments` have been stored at the recipient's provider."""

    message_id: bytes
    state: State
    acknowledged: int
    fragments: int


@dataclass(slots=True, eq=False)
class OutMessage:
    """A message on its way. `taken` is called when its last fragment is given out, `ended` with how it ended."""

    row: OutboxRow
    lane: Hashable
    fragments: Fragments
    acked: bytearray
    explanation: MessageTrace | None = None
    acknowledged: int = 0
    next: int = 0
    waiting: dict[int, "Waiting"] = field(default_factory=dict)
    taken: Callable[[], None] | None = None
    ended: Callable[[State], None] | None = None

    @property
    def message_id(self) -> bytes:
        return self.row.message_id

    @property
    def stored(self) -> bool:
        """Whether the store has it; its rows count from 1."""
        return self.row.number > 0

    def is_acked(self, number: int) -> bool:
        return bool(self.acked[number >> 3] & 1 << (number & 7))

    def take(self) -> "Waiting | None":
        """Its next fragment that was not given out and is not acknowledged."""
        while self.next < len(self.fragments):
            number, self.next = self.next, self.next + 1
            if not self.is_acked(number):
                waiting = self.waiting[number] = Waiting(self, number)
                return waiting
        return None

    def progress(self, state: State = State.SENDING) -> Progress:
        return Progress(self.message_id, state, self.acknowledged, len(self.fragments))


@dataclass(slots=True, eq=False)
class Waiting:
    """A fragment that was given out: it waits for its ack, or to be sent again. `keys` acknowledge it.
    `left` is how often it left; `lost` says that the last time it did not."""

    message: OutMessage
    number: int
    state: ArqState = field(default_factory=ArqState)
    keys: list[bytes] = field(default_factory=list)
    left: int = 0
    lost: bool = False
