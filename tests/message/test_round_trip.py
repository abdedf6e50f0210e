"""What is learned of the round trip, from tables: RFC 6298 on top of the drawn delays."""

import random

import pytest

from nymtw.message.arq import retry_after
from nymtw.message.round_trip import JUMP, LEAST, MOST, MOST_EDGES, SPACING, Excess, RoundTrips

EDGE, OTHER = b"edge", b"other"

# measurements, a second apart | smoothed, deviation, wait, by the formulas of RFC 6298
TABLE = [
    ([], None, 0.0, LEAST),
    ([0.2], 0.2, 0.1, LEAST),
    ([2.0], 2.0, 1.0, 6.0),
    ([2.0, 2.0], 2.0, 0.75, 5.0),
    ([2.0, 4.0], 2.25, 1.25, 7.25),
    ([4.0, 4.0, 4.0, 4.0], 4.0, 0.84375, 7.375),
    ([-1.0], 0.0, 0.0, LEAST),  # sooner than was drawn
    ([1e9], JUMP * LEAST, JUMP * LEAST / 2, 3 * JUMP * LEAST),
]


@pytest.mark.parametrize(("measurements", "smoothed", "deviation", "wait"), TABLE)
def test_measurements(measurements: list[float], smoothed: float | None, deviation: float, wait: float) -> None:
    known = Excess()
    for second, each in enumerate(measurements):
        known = known.measured(each, float(second))
    assert known.smoothed == (None if smoothed is None else pytest.approx(smoothed))
    assert known.deviation == pytest.approx(deviation)
    assert known.wait == pytest.approx(wait)


def test_a_fast_network_is_waited_for_as_before() -> None:
    trips = RoundTrips()
    for second in range(100):
        trips.measured(EDGE, 0.05, second)
    assert retry_after(0.35, 1, trips.wait(EDGE)) == retry_after(0.35, 1)


@pytest.mark.parametrize("excess", [3.0, 10.0, 25.0])
def test_on_a_slow_network_nothing_goes_out_twice_once_it_is_known(excess: float) -> None:
    """Every ack is late by `excess`, a little more or less: how often is it sent until the ack is there?"""
    trips, source, now, sent = RoundTrips(), random.Random(1), 0.0, []
    for _ in range(40):
        took = source.uniform(0.95, 1.05) * excess
        transmissions, waited = 1, retry_after(0.35, 1, trips.wait(EDGE))
        while waited < 0.35 + took:
            transmissions += 1
            waited += retry_after(0.35, transmissions, trips.wait(EDGE))
        now += took + SPACING
        trips.measured(EDGE, took, now)
        sent.append(transmissions)
    assert sent[0] > 1
    assert sent[4:] == [1] * 36


def test_the_acks_of_a_stall_are_one_measurement_and_soon_forgotten() -> None:
    trips = RoundTrips()
    for second in range(30):
        trips.measured(EDGE, 0.1, second)
    for number in range(500):
        trips.measured(EDGE, 60.0 - number / 20, 60.0 + number * 1e-6)
    assert trips.wait(EDGE) < 2 * JUMP * LEAST
    for second in range(61, 70):
        trips.measured(EDGE, 0.1, float(second) + 0.1)
    assert trips.wait(EDGE) < 2 * LEAST


def test_no_wait_is_without_bounds() -> None:
    trips = RoundTrips()
    for second in range(100):
        trips.measured(EDGE, 1e6, second)
    assert trips.wait(EDGE) == MOST


def test_each_edge_has_its_own_and_a_new_one_is_as_all_are() -> None:
    trips = RoundTrips()
    for second in range(0, 60, 2):
        trips.measured(EDGE, 8.0, second)
    slow = trips.wait(OTHER)
    assert slow > 8.0
    for second in range(1, 61, 2):
        trips.measured(OTHER, 0.0, 60 + second)
    assert trips.wait(OTHER) == LEAST
    assert trips.wait(EDGE) > 8.0


def test_memory_is_bounded() -> None:
    trips = RoundTrips()
    for number in range(2 * MOST_EDGES):
        trips.measured(number.to_bytes(2, "big"), 9.0, float(number))
    assert trips.wait((0).to_bytes(2, "big")) == trips.wait(b"never seen")
