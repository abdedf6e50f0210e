"""Poisson streams: their rate does not drift, and they stop when told to."""

import random

import pytest

from twisted.internet.task import Clock

from nymtw.mixing.poisson import TOLERANCE, PoissonStream
from nymtw.testing.clock import FakeClock


def make(clock, rate, seed=1):
    fired = []
    stream = PoissonStream(clock, rate, lambda: fired.append(clock.seconds()), random.Random(seed))
    return stream, fired


def test_the_number_of_events_is_that_of_the_rate():
    clock = FakeClock()
    stream, fired = make(clock, 20.0)
    stream.start()
    clock.advance(1000)
    assert len(fired) == pytest.approx(20_000, abs=4 * 20_000**0.5)  # four standard deviations
    stream.stop()
    assert clock.getDelayedCalls() == []


def test_timers_that_are_a_little_late_do_not_lower_the_rate():
    clock = Clock()
    stream, fired = make(clock, 100.0)
    stream.start()
    while clock.seconds() < 100:
        clock.advance(0.9 * TOLERANCE)
    assert len(fired) == pytest.approx(10_000, abs=500)
    assert stream.skipped == 0


def test_a_stream_that_is_late_skips_and_sends_no_burst():
    clock = Clock()
    stream, fired = make(clock, 100.0)
    stream.start()
    most = 0
    for _ in range(2000):
        before = len(fired)
        clock.advance(0.05)  # five events are due at each turn
        clock.advance(0)
        most = max(most, len(fired) - before)
    # One that is late, and those of the last 5 ms: at 100/s fewer than one turn in 10^7 has so many.
    assert most <= 9
    assert 2000 < stream.skipped < 9000
    assert stream.fired == len(fired)
    assert stream.fired + stream.skipped == pytest.approx(10_000, abs=500)


def test_a_machine_that_slept_does_not_make_up_for_it():
    clock = Clock()
    stream, fired = make(clock, 10.0)
    stream.start()
    clock.advance(3600)
    clock.advance(0)
    assert len(fired) <= 2
    assert stream.skipped == pytest.approx(36_000, abs=100)
    before = len(fired)
    for _ in range(100_000):
        clock.advance(0.001)
    assert len(fired) - before == pytest.approx(1000, abs=130)


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_no_rate_never_fires(rate):
    clock = FakeClock()
    stream, fired = make(clock, rate)
    stream.start()
    clock.advance(1e6)
    assert fired == []
    assert clock.getDelayedCalls() == []


def test_a_new_rate_holds_from_now_on():
    clock = FakeClock()
    stream, fired = make(clock, 1.0)
    stream.start()
    clock.advance(100)
    few = len(fired)
    stream.set_rate(100.0)
    clock.advance(100)
    assert few == pytest.approx(100, abs=50)
    assert len(fired) - few == pytest.approx(10_000, abs=500)
    stream.set_rate(0.0)
    now = len(fired)
    clock.advance(100)
    assert len(fired) == now
    stream.set_rate(10.0)
    clock.advance(100)
    assert len(fired) > now
    assert stream.rate == 10.0
    stream.stop()


def test_start_twice_is_one_stream_and_stop_twice_is_harmless():
    clock = FakeClock()
    stream, fired = make(clock, 10.0)
    stream.start()
    stream.start()
    assert len(clock.getDelayedCalls()) == 1
    stream.stop()
    stream.stop()
    clock.advance(100)
    assert fired == []


def test_a_stream_may_be_stopped_by_its_own_event():
    clock = FakeClock()
    fired = []

    def fire():
        fired.append(1)
        stream.stop()

    stream = PoissonStream(clock, 10.0, fire, random.Random(1))
    stream.start()
    clock.advance(100)
    assert fired == [1]
    assert clock.getDelayedCalls() == []


def test_a_stream_survives_an_error_in_its_event():
    clock = FakeClock()
    calls = []

    def fire():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("broken")

    stream = PoissonStream(clock, 10.0, fire, random.Random(1))
    stream.start()
    with pytest.raises(ValueError, match="broken"):
        clock.advance(10)
    clock.advance(10)
    assert len(calls) > 50
    stream.stop()


def test_one_seed_gives_one_stream():
    runs = []
    for _ in range(2):
        clock = FakeClock()
        stream, fired = make(clock, 5.0, seed=42)
        stream.start()
        clock.advance(50)
        runs.append(fired)
    assert runs[0] == runs[1]
