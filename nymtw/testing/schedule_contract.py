"""The contract of `ILinkSchedule`, which `nymtw.testing.contracts` has with all others."""

import random
from typing import Any

import pytest

from zope.interface.verify import verifyObject

from nymtw.interfaces import ILinkSchedule


class LinkScheduleContract:
    """What every `ILinkSchedule` does."""

    def make_schedule(self) -> Any:
        raise NotImplementedError

    def slots(self, rate: float, seconds: float, seed: int = 1) -> list[tuple[float, int]]:
        """When the slots of so many seconds are, and how many frames each has."""
        found: list[tuple[float, int]] = []
        at = 0.0
        for gap, frames in self.make_schedule().slots(rate, random.Random(seed)):
            at += gap
            if at > seconds:
                return found
            found.append((at, frames))
        raise AssertionError("the slots have an end")

    def test_interface(self) -> None:
        assert verifyObject(ILinkSchedule, self.make_schedule())

    @pytest.mark.parametrize("rate", [1.0, 35.0, 200.0, 3000.0])
    def test_the_rate_is_kept(self, rate: float) -> None:
        seconds = 10_000 / rate
        frames = sum(count for _, count in self.slots(rate, seconds))
        assert frames == pytest.approx(10_000, abs=4 * 100 + 10)  # four deviations of a Poisson process, and a slot

    def test_every_slot_has_a_frame_and_none_comes_before_the_one_before(self) -> None:
        slots = self.slots(35.0, 100.0)
        assert all(frames >= 1 for _, frames in slots)
        assert [at for at, _ in slots] == sorted(at for at, _ in slots)

    def test_a_seed_repeats_them_and_two_lines_are_not_in_step(self) -> None:
        assert self.slots(35.0, 10.0) == self.slots(35.0, 10.0)
        assert self.slots(35.0, 10.0) != self.slots(35.0, 10.0, seed=2)
