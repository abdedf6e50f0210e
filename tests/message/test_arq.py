"""The states of a fragment that waits for its ack, as a table."""

import pytest

from nymtw.message.arq import (
    LONGEST_WAIT,
    MAX_ATTEMPTS,
    Action,
    ArqState,
    Event,
    Phase,
    retry_after,
    transition,
)

QUEUED, IN_FLIGHT, DELIVERED, GIVEN_UP = Phase.QUEUED, Phase.IN_FLIGHT, Phase.DELIVERED, Phase.GIVEN_UP
SENT, ACKED, TIMEOUT = Event.SENT, Event.ACKED, Event.TIMEOUT

# phase, attempts, deadline | event, now | phase, attempts, deadline | actions; the expected round trip is 2 s
TABLE = [
    # the way of a fragment that needs one transmission
    (QUEUED, 0, 0.0, SENT, 10.0, IN_FLIGHT, 1, 14.5, [Action.WAIT]),
    (IN_FLIGHT, 1, 14.5, ACKED, 12.0, DELIVERED, 1, 14.5, [Action.DELIVERED]),
    # no ack in time: again, each wait 1.25 times as long
    (IN_FLIGHT, 1, 14.5, TIMEOUT, 14.5, QUEUED, 1, 14.5, [Action.QUEUE]),
    (QUEUED, 1, 14.5, SENT, 20.0, IN_FLIGHT, 2, 25.625, [Action.WAIT]),
    (QUEUED, 2, 0.0, SENT, 30.0, IN_FLIGHT, 3, 37.03125, [Action.WAIT]),
    (QUEUED, 60, 0.0, SENT, 30.0, IN_FLIGHT, 61, 60.0, [Action.WAIT]),
    # the ack of an earlier transmission comes while it waits to be sent again
    (QUEUED, 1, 14.5, ACKED, 16.0, DELIVERED, 1, 14.5, [Action.DELIVERED]),
    # the last transmission
    (QUEUED, MAX_ATTEMPTS - 1, 0.0, SENT, 0.0, IN_FLIGHT, MAX_ATTEMPTS, 30.0, [Action.WAIT]),
    (IN_FLIGHT, MAX_ATTEMPTS - 1, 5.0, TIMEOUT, 5.0, QUEUED, MAX_ATTEMPTS - 1, 5.0, [Action.QUEUE]),
    (IN_FLIGHT, MAX_ATTEMPTS, 5.0, TIMEOUT, 5.0, GIVEN_UP, MAX_ATTEMPTS, 5.0, [Action.GIVE_UP]),
    # what means nothing changes nothing
    (IN_FLIGHT, 1, 14.5, TIMEOUT, 14.4, IN_FLIGHT, 1, 14.5, []),
    (IN_FLIGHT, 1, 14.5, SENT, 13.0, IN_FLIGHT, 1, 14.5, []),
    (QUEUED, 1, 14.5, TIMEOUT, 99.0, QUEUED, 1, 14.5, []),
    (DELIVERED, 1, 14.5, ACKED, 99.0, DELIVERED, 1, 14.5, []),
    (DELIVERED, 1, 14.5, TIMEOUT, 99.0, DELIVERED, 1, 14.5, []),
    (DELIVERED, 1, 14.5, SENT, 99.0, DELIVERED, 1, 14.5, []),
    (GIVEN_UP, 1, 14.5, ACKED, 99.0, GIVEN_UP, 1, 14.5, []),
    (GIVEN_UP, 1, 14.5, TIMEOUT, 99.0, GIVEN_UP, 1, 14.5, []),
    (GIVEN_UP, 1, 14.5, SENT, 99.0, GIVEN_UP, 1, 14.5, []),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0].value}-{row[1]}-{row[3].value}-at-{row[4]}")
def test_transition(row):
    phase, attempts, deadline, event, now, next_phase, next_attempts, next_deadline, actions = row
    state, done = transition(ArqState(phase, attempts, deadline), event, now, expected_round_trip=2.0)
    assert state == ArqState(next_phase, next_attempts, next_deadline)
    assert list(done) == actions


def test_the_table_has_every_phase_with_every_event():
    assert {(row[0], row[3]) for row in TABLE} == {(phase, event) for phase in Phase for event in Event}


def test_waits_grow_and_end():
    waits = [retry_after(0.35, attempt) for attempt in range(1, MAX_ATTEMPTS + 1)]
    assert waits[0] == pytest.approx(1.5 * 0.35 + 1.5)
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT
    assert 45 * 60 < sum(waits) < 75 * 60


def test_no_wait_is_shorter_than_the_round_trip_asks_for():
    assert retry_after(600.0, 1) == retry_after(600.0, 50) == 901.5


def test_a_fragment_that_is_never_acknowledged_is_sent_so_often_and_given_up():
    state, now, sent = ArqState(), 0.0, 0
    while state.phase is not GIVEN_UP:
        if state.phase is QUEUED:
            state, _ = transition(state, SENT, now, 0.35)
            sent += 1
        else:
            now = state.deadline
            state, _ = transition(state, TIMEOUT, now)
    assert sent == MAX_ATTEMPTS
