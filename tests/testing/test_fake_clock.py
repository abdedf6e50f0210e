"""The fake clock: Twisted's delayed calls, made in order and on time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface.verify import verifyObject

from nymtw.testing.clock import WALL_CLOCK_START, FakeClock


def test_interfaces() -> None:
    clock = FakeClock()
    assert verifyObject(IReactorTime, clock)
    assert verifyObject(IDelayedCall, clock.callLater(1, list))


def test_calls_are_made_in_order_each_at_its_own_time() -> None:
    clock = FakeClock()
    seen = []
    for delay in (3, 1, 2, 1):
        clock.callLater(delay, lambda due: seen.append((due, clock.seconds())), delay)
    clock.advance(2.5)
    assert seen == [(1, 1), (1, 1), (2, 2)]
    assert clock.seconds() == 2.5
    clock.advance(0.5)
    assert seen[-1] == (3, 3)


def test_a_timer_that_starts_a_timer_runs_within_one_advance() -> None:
    clock = FakeClock()
    times = []

    def tick() -> None:
        times.append(clock.seconds())
        clock.callLater(1, tick)

    tick()
    clock.advance(3)
    assert times == [0, 1, 2, 3]


def test_cancel_reset_and_delay() -> None:
    clock = FakeClock()
    seen = []
    cancelled = clock.callLater(1, seen.append, "cancelled")
    later = clock.callLater(1, seen.append, "later")
    sooner = clock.callLater(5, seen.append, "sooner")
    cancelled.cancel()
    later.delay(2)
    sooner.reset(2)
    assert (later.getTime(), sooner.getTime()) == (3, 2)
    assert not cancelled.active()
    assert sorted(call.getTime() for call in clock.getDelayedCalls()) == [2, 3]
    clock.advance(10)
    assert seen == ["sooner", "later"]
    with pytest.raises(AlreadyCancelled):
        cancelled.cancel()
    for change in (later.cancel, lambda: later.reset(1), lambda: later.delay(1)):
        with pytest.raises(AlreadyCalled):
            change()


def test_put_off_and_back_again() -> None:
    clock = FakeClock()
    seen = []
    call = clock.callLater(5, seen.append, 1)
    call.reset(10)
    call.reset(7)
    clock.advance(6.9)
    assert seen == []
    clock.advance(0.2)
    assert seen == [1]
    clock.advance(20)
    assert seen == [1]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("delay", [-1, float("nan")])
def test_a_delay_is_not_negative(delay: float) -> None:
    with pytest.raises(ValueError, match="not a delay"):
        FakeClock().callLater(delay, list)


def test_an_error_reaches_the_test() -> None:
    clock = FakeClock()
    clock.callLater(1, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        clock.advance(2)


def test_waiting_for_a_condition_or_a_result() -> None:
    clock = FakeClock()
    seen: list[int] = []
    clock.callLater(2, seen.append, 1)
    assert clock.advance_until(lambda: bool(seen), 10) == 2
    with pytest.raises(TimeoutError):
        clock.advance_until(lambda: len(seen) == 2, 10)
    fires: Deferred[str] = Deferred()
    clock.callLater(1, fires.callback, "done")
    assert clock.wait_for(fires, 5) == "done"
    fails: Deferred[str] = Deferred()
    clock.callLater(1, fails.errback, KeyError("x"))
    with pytest.raises(KeyError):
        clock.wait_for(fails, 5)


def test_the_wall_clock_starts_in_our_time() -> None:
    clock = FakeClock()
    clock.advance(1.5)
    assert clock.wall_clock() == WALL_CLOCK_START + 1.5


def test_cancelled_calls_do_not_pile_up() -> None:
    clock = FakeClock()
    kept = clock.callLater(1000, list)
    for _ in range(10_000):
        clock.callLater(500, list).cancel()
    assert clock.entries < 200
    assert clock.getDelayedCalls() == [kept]


@given(st.lists(st.tuples(st.sampled_from(["new", "cancel", "reset", "delay", "advance"]), st.integers(0, 20))))
def test_the_same_calls_as_a_plain_model(steps: list[tuple[str, int]]) -> None:
    """Against a list of (time, number) that is searched from the front."""
    clock, made, expected = FakeClock(), [], []
    waiting: dict[int, float] = {}
    calls = {}
    now = 0.0
    for number, (what, amount) in enumerate(steps):
        if what == "new":
            calls[number] = clock.callLater(amount, made.append, number)
            waiting[number] = now + amount
        elif what == "advance":
            now += amount
            clock.advance(amount)
            due = sorted((time, each) for each, time in waiting.items() if time <= now)
            expected += [each for _, each in due]
            for _, each in due:
                del waiting[each]
        elif waiting:
            each = sorted(waiting)[amount % len(waiting)]
            if what == "cancel":
                calls[each].cancel()
                del waiting[each]
            elif what == "reset":
                calls[each].reset(amount)
                waiting[each] = now + amount
            else:
                calls[each].delay(amount)
                waiting[each] += amount
    # Those due at one time may change places when they have been moved.
    assert sorted(made) == sorted(expected)
    assert {call.getTime() for call in clock.getDelayedCalls()} == set(waiting.values())
