"""The model in arrays shows what the real services show: the same rates, gaps and times on every kind of link."""

from typing import Any

import numpy as np
import pytest
from watched_network import SENDING, Watched

from nymtw.sphinx import SizeClass
from nymtw.testing.attacks.ledger import two_samples
from nymtw.testing.attacks.scene import column
from nymtw.testing.model import Download, Network, Transfer, simulate
from nymtw.testing.rows import Direction, Kind, Rows

# The first test waits for runs that others look at too.
pytestmark = pytest.mark.timeout(900)

LEAST_P = 0.001
SECONDS = 28.0


@pytest.fixture(scope="module")
def modelled() -> Rows:
    """The same as `watched_network.watch`: four clients, two edges, a message from the 14th second to the 26th."""
    network = Network(clients=4, edges=2, line_wait=0.0)
    return simulate(network, SECONDS, 11, [Transfer(0, 1, 14.0, int(SENDING * 12))])


def per_second(rows: Rows, direction: Direction, size: int, start: float, end: float) -> float:
    times, size_class = column(rows, "time"), column(rows, "size_class")
    mask = (column(rows, "direction") == direction) & (size_class == size) & (times >= start) & (times < end)
    return float(mask.sum()) / (end - start)


@pytest.mark.parametrize("direction", [Direction.UP, Direction.IN, Direction.ACROSS, Direction.OUT, Direction.KEPT])
@pytest.mark.parametrize("size", [SizeClass.REGULAR, SizeClass.ACK])
def test_links_carry_as_much(covered: Watched, modelled: Rows, direction: Direction, size: SizeClass) -> None:
    one = per_second(covered.rows, direction, size, covered.began, covered.end)
    other = per_second(modelled, direction, size, 2.0, SECONDS - 2)
    # Of Poisson counts of 24 seconds: five standard errors of their difference.
    assert abs(one - other) <= 5 * np.sqrt((one + other) / 24) + 1e-9


def seconds_taken(rows: Rows) -> Any:
    """From the client to the mailbox, of packets of every kind."""
    packet, time, direction = (column(rows, name) for name in ("packet", "time", "direction"))
    known = packet >= 0
    up = dict(zip(packet[known & (direction == Direction.UP)], time[known & (direction == Direction.UP)], strict=True))
    kept = known & (direction == Direction.KEPT) & (column(rows, "size_class") == SizeClass.REGULAR)
    return np.array([t - up[p] for p, t in zip(packet[kept], time[kept], strict=True) if p in up])


def test_packets_take_as_long(covered: Watched, modelled: Rows) -> None:
    assert two_samples(seconds_taken(covered.rows), seconds_taken(modelled)) > LEAST_P


def gaps(rows: Rows, direction: Direction, size: int, **ends: str) -> Any:
    mask = (column(rows, "direction") == direction) & (column(rows, "size_class") == size)
    for name, end in ends.items():
        mask &= column(rows, name) == rows.names.index(end)
    return np.diff(np.sort(column(rows, "time")[mask]))


def test_gaps_are_alike(covered: Watched, modelled: Rows) -> None:
    up = [gaps(covered.rows, Direction.UP, 0, source="carol"), gaps(modelled, Direction.UP, 0, source="client-3")]
    assert two_samples(*up) > LEAST_P
    acks = [gaps(rows, Direction.KEPT, SizeClass.ACK, target=name) for rows, name in _carols(covered, modelled)]
    assert two_samples(*acks) > LEAST_P


def _carols(covered: Watched, modelled: Rows) -> list[tuple[Rows, str]]:
    return [(covered.rows, "carol"), (modelled, "client-3")]


@pytest.mark.parametrize("kind", [Kind.REAL, Kind.DROP, Kind.LOOP])
def test_kinds_have_the_same_shares(covered: Watched, modelled: Rows, kind: Kind) -> None:
    def share(rows: Rows, start: float, end: float) -> float:
        time = column(rows, "time")
        up = (column(rows, "direction") == Direction.UP) & (column(rows, "packet") >= 0)
        up &= (time >= start) & (time < end)
        return float(np.mean(column(rows, "kind")[up] == kind))

    assert share(covered.rows, covered.start, covered.end) == pytest.approx(share(modelled, 14.0, 26.0), abs=0.06)


def test_padded_lines_are_the_same_for_every_sender() -> None:
    network = Network(clients=6, edges=2)
    quiet = simulate(network, 10.0, 3)
    busy = simulate(network, 10.0, 4, [Transfer(0, 1, 1.0, 150)])
    for direction in (Direction.IN, Direction.OUT):
        for size in (SizeClass.REGULAR, SizeClass.ACK):
            counts = [per_second(rows, direction, size, 1.0, 9.0) for rows in (quiet, busy)]
            assert counts[0] == pytest.approx(counts[1], rel=0.01)
    kinds = column(busy, "kind")[column(busy, "direction") == Direction.OUT]
    assert (kinds == Kind.DUMMY).any()


def test_padded_lines_add_the_wait_that_they_should() -> None:
    plain, padded = (Network(clients=20, edges=2, line_wait=wait) for wait in (0.0, 0.015))
    times = [np.median(seconds_taken(simulate(network, 20.0, 5))) for network in (plain, padded)]
    assert 0.005 < times[1] - times[0] < 0.03


def test_a_seed_repeats_a_run() -> None:
    network = Network(clients=4, edges=2)
    one, other, third = (simulate(network, 3.0, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(column(one, name), column(other, name)) for name in one.columns())
    assert not np.array_equal(column(one, "time"), column(third, "time"))


def test_a_download_comes_from_its_edge() -> None:
    network = Network(clients=4, edges=2)
    rows = simulate(network, 5.0, 1, downloads=[Download(0, 1, 1.0, 100)])
    kept = (column(rows, "kind") == Kind.REPLY) & (column(rows, "direction") == Direction.KEPT)
    assert kept.sum() == 100
    assert {rows.names[number] for number in column(rows, "target")[kept]} == {"client-1"}


def test_cover_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="cover"):
        simulate(Network(cover="chaff"), 1.0, 1)
