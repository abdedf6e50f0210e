"""When a fragment is sent again: a pure transition function over one fragment's state. Times are in seconds.

After 1.5 x the expected round trip + 1.5 s without an ack, or as much more as acks were found to take
(`nymtw.message.round_trip`), it is sent again, over a new route; each further wait is 1.25 times as long, up to 30 s.
After 128 transmissions, about an hour, it is given up. At 20 % loss on each of nine links an ack comes back for one
transmission in seven, and one fragment in a hundred million is given up for nothing. Sending again waits for the
Poisson stream like anything else.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

ROUND_TRIPS: Final = 1.5
SLACK: Final = 1.5
GROWTH: Final = 1.25
LONGEST_WAIT: Final = 30.0
MAX_ATTEMPTS: Final = 128


class Phase(Enum):
    """Where a fragment is."""

    QUEUED = "queued"  # it waits for the sending stream
    IN_FLIGHT = "in flight"  # it was sent; its ack has until the deadline
    DELIVERED = "delivered"  # acknowledged
    GIVEN_UP = "given up"  # sent too often without an ack


class Event(Enum):
    """What happens to a fragment."""

    SENT = "sent"  # the stream took it; the expected round trip goes with it
    ACKED = "acked"  # an ack of any of its transmissions came
    TIMEOUT = "timeout"  # the clock reached the deadline, or says so


class Action(Enum):
    """What the caller has to do."""

    QUEUE = "queue"  # put it back into the queue of the sending stream
    WAIT = "wait"  # wake at the state's deadline, with TIMEOUT
    DELIVERED = "delivered"  # forget the fragment: it is stored at the recipient's provider
    GIVE_UP = "give up"  # forget the fragment, and tell the application


@dataclass(frozen=True, slots=True)
class ArqState:
    """One fragment: its phase, how often it was sent, and until when an ack is waited for (IN_FLIGHT)."""

    phase: Phase = Phase.QUEUED
    attempts: int = 0
    deadline: float = 0.0


def retry_after(expected_round_trip: float, attempt: int, slack: float = SLACK) -> float:
    """How long to wait for the ack of transmission `attempt` (from 1).

    Never shorter than 1.5 x the round trip (the drawn delays) + `slack` (what acks take beyond those), however long
    that is.
    """
    first = ROUND_TRIPS * expected_round_trip + slack
    if first >= LONGEST_WAIT:
        return first
    return min(first * GROWTH ** min(attempt - 1, MAX_ATTEMPTS), LONGEST_WAIT)


def transition(
    state: ArqState, event: Event, now: float, expected_round_trip: float = 0.0, slack: float = SLACK
) -> tuple[ArqState, tuple[Action, ...]]:
    """The next state of a fragment, and what to do about it.

    `expected_round_trip` and `slack` go with SENT. An event that means nothing in a phase (a late ack, an early
    timeout) changes nothing.
    """
    match state.phase, event:
        case Phase.QUEUED, Event.SENT:
            attempts = state.attempts + 1
            deadline = now + retry_after(expected_round_trip, attempts, slack)
            return ArqState(Phase.IN_FLIGHT, attempts, deadline), (Action.WAIT,)
        case Phase.IN_FLIGHT, Event.TIMEOUT if now >= state.deadline:
            if state.attempts >= MAX_ATTEMPTS:
                return replace(state, phase=Phase.GIVEN_UP), (Action.GIVE_UP,)
            return replace(state, phase=Phase.QUEUED), (Action.QUEUE,)
        case ((Phase.QUEUED | Phase.IN_FLIGHT), Event.ACKED):
            return replace(state, phase=Phase.DELIVERED), (Action.DELIVERED,)
        case _:
            return state, ()
