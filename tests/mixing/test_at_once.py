"""`AtOnce` passes items on in order and in the next turn; for the rest it does what every `IMixing` does."""

import random
from typing import Any

import pytest

from zope.interface.verify import verifyObject

from nymtw.errors import PluginError
from nymtw.interfaces import IMixing
from nymtw.mixing.at_once import AtOnce
from nymtw.mixing.delay_queue import DelayQueue
from nymtw.mixing.strategies import mixing_factory
from nymtw.testing.clock import FakeClock

SECOND = 1_000_000_000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def make(clock: FakeClock, factory: Any = AtOnce, capacity: int = 3) -> tuple[Any, list[str]]:
    left: list[str] = []
    return factory(clock, left.extend, random.Random(1), capacity), left


@pytest.mark.parametrize("name", ["at-once", "delays"])
def test_every_bundled_one_is_a_mixing(clock: FakeClock, name: str) -> None:
    mixing, left = make(clock, mixing_factory(name))
    assert verifyObject(IMixing, mixing)
    assert [mixing.add(item, SECOND) for item in "abcd"] == [True, True, True, False]
    assert len(mixing) == 3
    mixing.pause()
    clock.advance(2)
    assert left == []
    mixing.resume()
    clock.advance(0)
    assert sorted(left) == ["a", "b", "c"]
    mixing.add("e", SECOND)
    assert mixing.drain() == ["e"]
    assert len(mixing) == 0
    assert not clock.getDelayedCalls()


def test_it_holds_nothing_back_and_changes_no_order(clock: FakeClock) -> None:
    mixing, left = make(clock)
    for item in "abc":
        mixing.add(item, SECOND)
    assert left == []
    clock.advance(0)
    assert left == ["a", "b", "c"]


def test_names_are_those_of_the_bundled_ones_or_of_a_module() -> None:
    assert mixing_factory("delays") is DelayQueue
    assert mixing_factory("nymtw.mixing.at_once:AtOnce") is AtOnce
    with pytest.raises(PluginError, match="mixing"):
        mixing_factory("stirred")
