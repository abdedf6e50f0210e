"""The delay queue: every packet leaves when it is due, in random order among those due together; one timer."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted.internet.task import Clock

from nymtw.mixing.delay_queue import BEAT, BUSY, DelayQueue
from nymtw.testing.clock import FakeClock

MS = 1_000_000  # nanoseconds


def make(clock, capacity=1000, seed=1):
    released = []
    queue = DelayQueue(
        clock, lambda items: released.extend((clock.seconds(), item) for item in items), random.Random(seed), capacity
    )
    return queue, released


def test_a_packet_leaves_when_it_is_due_and_not_before():
    clock = Clock()
    queue, released = make(clock)
    assert queue.add("packet", 50 * MS)
    clock.advance(0.0499)
    assert released == []
    assert len(queue) == 1
    clock.advance(0.0001)
    assert [item for _, item in released] == ["packet"]
    assert len(queue) == 0
    assert clock.getDelayedCalls() == []


def test_no_delay_still_goes_through_the_reactor():
    clock = Clock()
    queue, released = make(clock)
    queue.add("packet", 0)
    assert released == []  # never released from within `add`
    clock.advance(0)
    assert len(released) == 1


def test_one_timer_is_armed_however_many_wait():
    clock = Clock()
    queue, _ = make(clock)
    for delay in (500, 400, 900, 100, 300):
        queue.add(delay, delay * MS)
        assert len(clock.getDelayedCalls()) == 1
    assert clock.getDelayedCalls()[0].getTime() == pytest.approx(0.1)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**12), max_size=60), st.floats(0, 2e9))
def test_every_packet_leaves_at_its_time_whatever_the_clock_reads(delays, start):
    clock = FakeClock(start)
    queue, released = make(clock)
    for delay in delays:
        queue.add(delay, delay)
    clock.advance(1001)
    assert sorted(item for _, item in released) == sorted(delays)
    for when, delay in released:
        assert when == pytest.approx(start + delay * 1e-9, rel=1e-15, abs=1e-6)
    assert clock.getDelayedCalls() == []


def test_a_long_queue_releases_in_beats_none_early_and_none_later_than_a_beat():
    clock, random_source = FakeClock(1e6), random.Random(20)
    queue, released = make(clock, capacity=10_000)
    due = []
    for number in range(4 * BUSY):
        due.append(clock.seconds() + random_source.randrange(50 * MS) * 1e-9)
        queue.add(number, round((due[-1] - clock.seconds()) * 1e9))
        assert len(clock.getDelayedCalls()) == 1
        clock.advance(random_source.random() * 1e-4)
    clock.advance(1)
    late = [when - due[number] for when, number in released]
    assert sorted(number for _, number in released) == list(range(4 * BUSY))
    assert min(late) >= -1e-6
    assert max(late) <= BEAT + 1e-6
    busy = [when for place, (when, _) in enumerate(released) if BUSY < len(released) - place < 3 * BUSY]
    apart = [after - before for before, after in pairwise(busy) if after != before]
    assert len(apart) > 3
    assert min(apart) >= BEAT - 1e-6
    assert clock.getDelayedCalls() == []


def test_packets_due_together_leave_in_random_order():
    orders = set()
    for seed in range(20):
        clock = Clock()
        queue, released = make(clock, seed=seed)
        for name in range(8):
            queue.add(name, MS)
        clock.advance(0.001)
        orders.add(tuple(item for _, item in released))
    assert len(orders) > 15
    assert tuple(range(8)) not in orders


def test_a_full_queue_refuses_and_says_so():
    clock = Clock()
    queue, released = make(clock, capacity=2)
    assert [queue.add(name, MS) for name in "abc"] == [True, True, False]
    clock.advance(0.001)
    assert sorted(item for _, item in released) == ["a", "b"]
    assert queue.add("d", MS)


def test_drain_gives_back_everything_and_leaves_no_timer():
    clock = Clock()
    queue, released = make(clock)
    for name in range(100):
        queue.add(name, name * MS)
    drained = queue.drain()
    assert sorted(drained) == list(range(100))
    assert drained != list(range(100))
    assert (len(queue), clock.getDelayedCalls(), released) == (0, [], [])
    assert queue.drain() == []


def test_an_error_in_release_does_not_stop_the_queue():
    clock = Clock()
    released = []

    def release(items):
        if "bad" in items:
            raise ValueError("the one who takes them is broken")
        released.extend(items)

    queue = DelayQueue(clock, release, random.Random(1), 10)
    queue.add("bad", MS)
    queue.add("good", 2 * MS)
    with pytest.raises(ValueError, match="broken"):
        clock.advance(0.001)
    clock.advance(0.001)
    assert released == ["good"]


def test_a_packet_added_while_packets_leave_is_not_lost():
    clock = Clock()
    seen = []

    def release(items):
        seen.extend(items)
        if len(seen) < 5:
            queue.add("again", 0)

    queue = DelayQueue(clock, release, random.Random(1), 10)
    queue.add("first", MS)
    queue.add("later", 3 * MS)
    clock.advance(0.001)
    clock.advance(0.003)
    for _ in range(6):
        clock.advance(0)
    assert seen.count("later") == 1
    assert len(seen) >= 5
    assert clock.getDelayedCalls() == []


def test_a_paused_queue_takes_packets_and_releases_none_until_it_goes_on():
    clock, left = FakeClock(), []
    queue = DelayQueue(clock, left.extend, random.Random(1), 3)
    queue.add("early", 1_000_000_000)
    queue.pause()
    queue.add("later", 2_000_000_000)
    assert clock.getDelayedCalls() == []
    clock.advance(1.5)
    assert queue.add("last", 5_000_000_000)
    assert not queue.add("too many", 0)
    clock.advance(1.5)
    assert (left, len(queue)) == ([], 3)
    queue.resume()
    clock.advance(0.0)
    assert sorted(left) == ["early", "later"]
    queue.resume()
    clock.advance(4.0)
    assert left[-1] == "last"
    queue.pause()
    queue.resume()
    assert clock.getDelayedCalls() == []


def make_impatient(clock, patience=5.0):
    released, late = [], []
    queue = DelayQueue(clock, released.extend, random.Random(1), 1000, patience, late.append)
    return queue, released, late


def test_a_queue_that_is_late_drops_what_is_oldest():
    clock = Clock()
    queue, released, late = make_impatient(clock)
    for second in range(20):
        queue.add(second, second * 1000 * MS)
    clock.advance(19.5)  # in one step: the process slept, and its timer fires that late
    assert late == [15]  # those that fell due before 14.5
    assert sorted(released) == [15, 16, 17, 18, 19]
    assert len(queue) == 0


def test_a_queue_that_is_a_little_late_drops_nothing():
    clock = Clock()
    queue, released, late = make_impatient(clock)
    for second in range(5):
        queue.add(second, second * 1000 * MS)
    clock.advance(4.9)
    assert sorted(released) == [0, 1, 2, 3, 4]
    assert late == []


def test_what_fell_due_in_a_pause_was_not_late():
    clock = Clock()
    queue, released, late = make_impatient(clock)
    queue.add("packet", 1000 * MS)
    queue.pause()
    clock.advance(60)
    queue.resume()
    clock.advance(0)
    assert released == ["packet"]
    assert late == []
