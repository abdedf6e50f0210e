"""A node measures what it carries, and refuses to promise more."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from nymtw.errors import ConfigError
from nymtw.mixnode.options import MixnodeSection
from nymtw.node.engine.capacity import CARRIED_SHARE, carried_rate, unwraps_per_second
from nymtw.node.engine.mix_node import Environment, MixParts
from nymtw.node.home import NodeHome
from nymtw.testing.security import MemorySecurity
from nymtw.topology.document import Trust

KEY = "A" * 43 + "="


def stopwatch(*rounds: float) -> Iterator[float]:
    """Readings of a clock on which the rounds of a measurement take so long, with a second between them."""
    now = 0.0
    for seconds in rounds:
        yield now
        now += seconds
        yield now
        now += 1.0


def test_the_best_round_counts() -> None:
    readings = stopwatch(0.5, 0.25, 0.005, 0.1, 2.0)
    assert unwraps_per_second(random.Random(1), readings.__next__) == pytest.approx(50 / 0.005)
    assert next(readings, None) is None  # five rounds, no more


def test_the_real_clock_gives_a_sane_speed() -> None:
    assert 100 < unwraps_per_second(random.Random(1)) < 1_000_000


def test_a_rate_that_cannot_be_reached_is_refused_in_one_line() -> None:
    assert carried_rate(12_000.0, 6000, 1) == 6000
    with pytest.raises(ConfigError) as refused:
        carried_rate(12_000.0, 6001, 1)
    assert str(refused.value) == (
        "this machine carries 6000 packets a second (an unwrap takes 83 microseconds), and 6001 are configured: "
        "lower --rate, or rate in config.toml"
    )
    assert carried_rate(12_000.0, 6001, 2) == 12_000


def parts(folder: Path, speed: float | None, rate: int) -> MixParts:
    key = SigningKey(bytes(32))
    environment = Environment(
        random=random.Random(1),
        wall_clock=count().__next__,
        directory=None,  # type: ignore[arg-type]  # nobody asks it
        trust=Trust((bytes(key.verify_key),)),
        security=lambda key: MemorySecurity(bytes(key.verify_key), random.Random(1)),
        speed=None if speed is None else lambda: speed,
    )
    return MixParts.at(
        NodeHome("mixnode", "m", folder), MixnodeSection(id="m", directory_key="", rate=rate), environment
    )


def test_queues_are_sized_by_what_is_carried(tmp_path: Path) -> None:
    made = parts(tmp_path, 10_000.0, 100)
    carried = int(10_000 * CARRIED_SHARE)
    assert made.carried == carried
    assert made.engine(None, made.record("mixnode"))["capacity"] == carried * 30
    limits = made.limits()
    assert limits.queue_bytes == carried * 10 * 2413
    assert limits.queue_bytes_per_peer == limits.queue_bytes // 8


def test_a_refused_node_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this machine carries 500 packets"):
        parts(tmp_path, 1000.0, 501)
    assert list(tmp_path.iterdir()) == []


def test_where_time_is_not_real_nothing_is_measured(tmp_path: Path) -> None:
    assert parts(tmp_path, None, 123).carried == 123


@pytest.mark.parametrize("program", ["nym-mixnode", "nym-provider"])
def test_the_command_ends_with_one_line_and_status_1(tmp_path: Path, program: str) -> None:
    code = f"import sys; from nymtw.{program[4:]}.commands import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "--host=127.0.0.1", "--port=0", "--rate=1000000", f"--directory-key={KEY}"],
        env={**os.environ, "NYMTW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{program}: this machine carries ")
    assert line.endswith("and 1000000 are configured: lower --rate, or rate in config.toml")
