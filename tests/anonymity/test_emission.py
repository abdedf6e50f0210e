"""A client's line says nothing: gaps come from one exponential law, whatever its applications do."""

import os

import numpy as np
import pytest
from watched_network import RATE, Watched, watch

from nymtw.client.sending.idle import DropCover
from nymtw.sphinx import SizeClass
from nymtw.testing.attacks.ledger import one_sample, told_apart, two_samples
from nymtw.testing.rows import Direction

# The first test waits for runs that others look at too.
pytestmark = pytest.mark.timeout(900)

FULL = bool(os.environ.get("NYMTW_FULL"))
LEAST_P = 0.001
SECONDS = 100.0 if FULL else 40.0
SENDER, RECIPIENT = "alice", "bob"


def phases(seen: Watched, client: str) -> dict[str, np.ndarray]:
    return {
        "idle": seen.gaps(client, seen.began, seen.start),
        "at work": seen.gaps(client, seen.start, seen.end),
        "all the time": seen.gaps(client, 0.0, seen.over),
    }


@pytest.mark.parametrize("client", [SENDER, RECIPIENT])
def test_gaps_are_exponential_at_the_nominal_rate(covered: Watched, client: str) -> None:
    for phase, gaps in phases(covered, client).items():
        assert one_sample(gaps, RATE) > LEAST_P, phase


@pytest.mark.parametrize("client", [SENDER, RECIPIENT])
def test_nobody_tells_idle_from_sending_or_receiving(covered: Watched, client: str) -> None:
    found = phases(covered, client)
    assert two_samples(found["idle"], found["at work"]) > LEAST_P


def test_without_cover_both_tests_fail(silent: Watched) -> None:
    found = phases(silent, SENDER)
    assert one_sample(found["idle"], RATE) < LEAST_P
    assert two_samples(found["idle"], found["at work"]) < LEAST_P


def test_a_client_sends_one_size(covered: Watched) -> None:
    times = [covered.times(Direction.UP, size, source=SENDER) for size in (SizeClass.ACK, SizeClass.EXTENDED_8)]
    assert [len(one) for one in times] == [0, 0]
    assert len(covered.times(Direction.UP, source=SENDER)) > 0


@pytest.mark.parametrize("client", ["alice", "carol"])
def test_the_own_edge_counts_the_same_while_its_client_sends(covered: Watched, client: str) -> None:
    assert told_apart(covered.rows, covered.scene(), client) > LEAST_P


def test_loops_in_idle_slots_tell_the_own_edge_who_sends(looping: Watched) -> None:
    scene = looping.scene(own_cover=1.0)
    assert told_apart(looping.rows, scene, "alice") < 1e-9
    assert told_apart(looping.rows, scene, "carol") > LEAST_P


@pytest.mark.long
@pytest.mark.parametrize("loss", [0.0, 0.2] if FULL else [0.2])
def test_a_thousand_events_keep_to_the_law(loss: float, seed: int) -> None:
    """Two thousand and more, idle and sending each, where everything runs in full."""
    seen = watch(seed, before=SECONDS, sending=SECONDS, loss=loss, idle=DropCover())
    for client in (SENDER, RECIPIENT):
        found = phases(seen, client)
        assert len(found["idle"]) > 0.8 * RATE * SECONDS
        assert one_sample(found["idle"], RATE) > LEAST_P
        assert one_sample(found["at work"], RATE) > LEAST_P
        assert two_samples(found["idle"], found["at work"]) > LEAST_P


@pytest.mark.long
def test_the_own_edges_ledger_over_minutes(seed: int) -> None:
    """Ten of them where everything runs in full."""
    seconds = 600.0 if FULL else 30.0
    seen = watch(seed, before=seconds, sending=seconds, idle=DropCover())
    assert told_apart(seen.rows, seen.scene(), "alice") > LEAST_P
