"""Keys change with the epoch of the wall clock, whatever that clock does, and old ones are destroyed."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from nymtw.errors import KeyFileError
from nymtw.node.engine.key_rotation import LONGEST_SLEEP, KeyRotation
from nymtw.node.home import NodeHome
from nymtw.node.keys import KeyRing
from nymtw.testing.clock import FakeClock

HOUR = 3600


class Rotating:
    """A rotation whose wall clock can be stepped."""

    def __init__(self, folder: Path) -> None:
        home = NodeHome("mixnode", "m", folder)
        home.create()
        self.clock = FakeClock()
        self.step = 100 * HOUR + 600.0  # ten minutes into epoch 100
        self.used: list[list[int]] = []
        self.ring = KeyRing(home, Random(1))
        self.rotation = KeyRotation(self.clock, lambda: self.clock.seconds() + self.step, self.ring, self.use)
        self.files = home.data / "sphinx_keys"

    def use(self, keys: dict[int, bytes]) -> None:
        self.used.append(sorted(keys))

    def start(self) -> None:
        self.rotation.startService()
        self.rotation.follow(HOUR)

    def epochs(self) -> list[int]:
        return sorted(int(path.stem) for path in self.files.glob("*.pem"))


@pytest.fixture
def made(tmp_path: Path) -> Rotating:
    return Rotating(tmp_path)


def test_there_is_nothing_to_announce_before_the_length_of_an_epoch_is_known(made: Rotating) -> None:
    made.rotation.startService()
    assert (made.rotation.epoch, made.rotation.public_keys(), made.epochs()) == (None, {}, [])
    made.rotation.follow(HOUR)
    assert made.rotation.epoch == 100
    assert sorted(made.rotation.public_keys()) == [100, 101]


def test_the_order_of_starting_and_learning_does_not_matter(made: Rotating) -> None:
    made.rotation.follow(HOUR)
    assert made.rotation.epoch is None
    made.rotation.startService()
    assert made.rotation.epoch == 100


def test_keys_change_at_the_boundary_to_the_second(made: Rotating) -> None:
    made.start()
    made.clock.advance(HOUR - 600 - 0.001)
    assert made.rotation.epoch == 100
    made.clock.advance(0.002)
    assert made.rotation.epoch == 101
    assert made.used == [[100, 101], [100, 101, 102]]


def test_the_previous_key_stays_one_epoch_and_is_then_destroyed(made: Rotating) -> None:
    made.start()
    made.clock.advance(3 * HOUR)
    assert made.used[-1] == made.epochs() == [102, 103, 104]
    assert sorted(made.rotation.public_keys()) == [103, 104]


def test_the_announced_next_key_is_the_one_that_becomes_current(made: Rotating) -> None:
    made.start()
    announced = made.rotation.public_keys()[101]
    made.clock.advance(HOUR)
    assert made.rotation.public_keys()[101] == announced


@pytest.mark.parametrize(("hours", "epoch", "held"), [(1, 101, [100, 101, 102]), (-1, 99, [99, 100, 101])])
def test_a_step_of_the_wall_clock_is_noticed_within_half_a_minute(
    made: Rotating, hours: int, epoch: int, held: list[int]
) -> None:
    made.start()
    made.step += hours * HOUR
    made.clock.advance(LONGEST_SLEEP)
    assert made.rotation.epoch == epoch
    assert made.used[-1] == held


def test_a_full_disk_is_survived(made: Rotating, monkeypatch: pytest.MonkeyPatch) -> None:
    made.start()
    advance: Callable[[int], None] = made.ring.advance

    def refuse(epoch: int) -> None:
        raise KeyFileError("no space left on device")

    monkeypatch.setattr(made.ring, "advance", refuse)
    made.clock.advance(HOUR)
    assert made.rotation.epoch == 100  # the keys that were announced serve on
    monkeypatch.setattr(made.ring, "advance", advance)
    made.clock.advance(2.0)
    assert made.rotation.epoch == 101


def test_stopping_leaves_no_timer(made: Rotating) -> None:
    made.start()
    made.rotation.stopService()
    assert made.clock.getDelayedCalls() == []
