"""Loops judged by their time: attacks of seconds are noticed, machines that are slow or held up are not accused."""

import random

import pytest

from nymtw.mixing.loop_loss import (
    BLOCKED,
    FEWEST_DUE,
    GO_ON,
    GRACE,
    LATE,
    LATE_WINDOW,
    MOST_USUAL,
    PAUSE,
    WARN,
    ByChance,
    LoopLoss,
    LoopTimes,
)

LOOK = 0.25


class Run:
    """A node's loops at `rate` a second, looked at four times a second; `hold(at, loop)` says what an attacker adds to
    the loop that would be back at `at`, None: it is lost."""

    def __init__(self, rate=14.0, moment=1.0, seed=1, usual=0.05, hold=lambda at, number: 0.0):
        self.random = random.Random(seed)
        self.times = LoopTimes(moment)
        self.rate, self.usual, self.hold = rate, usual, hold
        self.policy = ByChance()
        self.found = []  # (when, kind, decision)
        self.now = 0.0

    def run(self, seconds, stalls=()):
        """Let time pass; during each of `stalls` (from, to) nothing here is done, and all of it at the end."""
        events = []
        at, number = self.now, 0
        while at < self.now + seconds:
            at += self.random.expovariate(self.rate)
            number += 1
            delays = sum(self.random.expovariate(1 / 0.05) for _ in range(4))
            loop = b"%d %f" % (number, at)
            events.append((at, 0, loop, delays))
            # Links take what they take; slots of lines and machines add a little more or less.
            back = at + delays + self.usual + self.random.expovariate(1 / 0.04)
            more = self.hold(back, number)
            if more is not None and self.random.random() >= 0.001:
                events.append((back + more, 1, loop, delays))
        events += [(self.now + LOOK * step, 2, b"", 0.0) for step in range(int(seconds / LOOK))]
        moved = []
        for when, kind, loop, delays in events:
            for begin, end in stalls:
                if begin <= when < end:
                    when = end
            moved.append((when, kind, loop, delays))
        for when, kind, loop, delays in sorted(moved):
            if kind == 0:
                self.times.left(loop, delays, when)
            elif kind == 1:
                self.times.came_back(loop, when)
            else:
                for loss in self.times.look(when):
                    self.found.append((when, loss.kind, self.policy.decide(loss)))
        self.now += seconds

    def alarms(self, kind):
        return [when for when, of, decision in self.found if of == kind and decision != GO_ON]


@pytest.mark.parametrize("drops", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_an_attack_of_two_seconds_is_noticed_in_ten(drops, seed):
    def hold(at, number):
        if 100 <= at < 102:
            return None if drops else 102 - at
        return 0.0

    run = Run(seed=seed, hold=hold)
    run.run(130)
    first = min(run.alarms(BLOCKED))
    assert 100 < first < 110
    assert [decision for _, kind, decision in run.found if kind == BLOCKED][-1] == GO_ON, "it says when that is over"


@pytest.mark.parametrize(("rate", "moment"), [(14.0, 1.0), (5.0, 3.0)])
def test_a_mixnode_that_delays_by_five_seconds_is_noticed_within_a_minute(rate, moment):
    run = Run(rate, moment, hold=lambda at, number: 5.0 if at >= 100 and number % 4 == 0 else 0.0)
    run.run(180)
    assert 100 < min(run.alarms(LATE)) < 160


def test_an_edge_that_drops_everything_of_one_client_is_noticed_within_a_minute():
    run = Run(5.0, 3.0, hold=lambda at, number: None if at >= 100 else 0.0)
    run.run(180)
    assert 100 < min(run.alarms(BLOCKED)) < 106
    assert 100 < min(run.alarms(LATE)) < 150


@pytest.mark.parametrize("usual", [0.02, 0.3])
def test_an_hour_without_an_attack_passes_without_an_alarm(usual):
    run = Run(usual=usual)
    run.run(3600)
    assert run.alarms(LATE) == run.alarms(BLOCKED) == []
    assert run.times.usual == pytest.approx(usual, abs=0.1)


def test_who_is_held_up_himself_accuses_nobody():
    run = Run()
    run.run(200, stalls=[(50, 53), (90, 120), (150, 150.7)])
    assert run.alarms(LATE) == run.alarms(BLOCKED) == []


def test_slowing_loops_gradually_has_a_limit():
    run = Run(hold=lambda at, number: min(at / 200, 4.0))
    run.run(800)
    assert run.times.usual <= MOST_USUAL
    assert min(run.alarms(LATE)) < 200 * (MOST_USUAL + GRACE) + 60


def test_loops_that_wait_behind_a_full_mailbox_accuse_nobody():
    run = Run(5.0, 3.0, hold=lambda at, number: 8.0 if 100 <= at < 130 else 0.0)
    look = run.times.look

    def full(now):
        for _ in range(9):
            run.times.mail(100 <= now < 139)
        return look(now)

    run.times.look = full
    run.run(200)
    assert run.alarms(LATE) == run.alarms(BLOCKED) == []


def test_after_a_reset_nothing_is_owed():
    run = Run()
    run.run(30)
    run.times.reset()
    assert [loss for at in range(1000) for loss in run.times.look(30 + at * LOOK) if loss.sent] == []


def test_what_the_policy_makes_of_it():
    policy = ByChance(PAUSE)
    assert policy.decide(LoopLoss(FEWEST_DUE, 0, 1.0, BLOCKED)) == PAUSE
    assert policy.decide(LoopLoss(FEWEST_DUE - 1, 0, 1.0, BLOCKED)) == GO_ON
    assert policy.decide(LoopLoss(FEWEST_DUE, 1, 1.0, BLOCKED)) == GO_ON
    assert ByChance().decide(LoopLoss(280, 264, LATE_WINDOW, LATE)) == WARN
    assert ByChance().decide(LoopLoss(280, 266, LATE_WINDOW, LATE)) == GO_ON
