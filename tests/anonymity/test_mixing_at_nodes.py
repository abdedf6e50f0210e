"""What crosses a mixnode: how uncertain its order and its packets are, against the theory of exponential delays."""

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from watched_network import MEAN_DELAY, Watched, watch

from nymtw.message.cryptography import SPHINX
from nymtw.message.payload import PAYLOAD_LENGTH
from nymtw.mixing.at_once import AtOnce
from nymtw.sphinx import SizeClass
from nymtw.testing.attacks.n_minus_one import crossing, entropies
from nymtw.testing.attacks.scene import column
from nymtw.testing.rows import MAIL, PULL, Direction, Rows
from nymtw.testing.simulation import SimulatedNetwork
from nymtw.testing.table import TableCryptography

# The first test waits for runs that others look at too.
pytestmark = pytest.mark.timeout(900)

NODE = "mixnode-2-1"
SEED = 7


@pytest.fixture(scope="module")
def unmixed() -> Watched:
    """A broken build: nodes pass packets on as they come."""
    return watch(SEED, before=4.0, sending=4.0, mixing=AtOnce)


def rate_of(seen: Watched) -> float:
    across = crossing(seen.rows, NODE)
    times = across.times[across.entering]
    return len(times) / float(times[-1] - times[0])


def ideal(rate: float, mean: float, seconds: float, seed: int) -> Rows:
    """A node that holds the packets of a Poisson process for exponential delays: M/M/infinity."""
    source = np.random.default_rng(seed)
    entering = np.cumsum(source.exponential(1 / rate, int(rate * seconds)))
    leaving = entering + source.exponential(mean, len(entering))
    count = len(entering)
    number = np.arange(count)
    ones = np.ones(count, dtype=np.int8)
    return Rows(
        ["before", NODE, "after"],
        time=np.concatenate((entering, leaving)),
        source=np.concatenate((0 * number, 1 + 0 * number)),
        target=np.concatenate((1 + 0 * number, 2 + 0 * number)),
        size_class=np.zeros(2 * count, dtype=np.int8),
        direction=np.concatenate((ones, ones)) * int(Direction.ACROSS),
        packet=np.concatenate((number, number)),
        hop=np.zeros(2 * count),
        delay=np.zeros(2 * count),
        kind=np.zeros(2 * count),
    )


def test_the_entropy_of_a_node_is_that_of_an_ideal_one(covered: Watched) -> None:
    measured = entropies(covered.rows, NODE, MEAN_DELAY)
    theory = entropies(ideal(rate_of(covered), MEAN_DELAY, 60.0, SEED), NODE, MEAN_DELAY)
    assert theory.mean() > 1.0
    assert abs(measured.mean() - theory.mean()) < 0.15 * theory.mean()


def test_a_node_that_does_not_mix_has_none(unmixed: Watched, covered: Watched) -> None:
    measured = entropies(unmixed.rows, NODE, MEAN_DELAY)
    assert measured.mean() < 0.3 * entropies(covered.rows, NODE, MEAN_DELAY).mean()


def overtaken(seen: Watched) -> float:
    """Of packets that entered one after the other, the share that left in the other order; links are up by then."""
    across = crossing(seen.rows, NODE)
    packet = column(seen.rows, "packet")
    left = {int(packet[row]): across.times[row] for row in across.leaving}
    entered = [int(packet[row]) for row in across.entering if across.times[row] >= seen.began]
    return float(np.mean(np.diff([left[number] for number in entered if number in left]) < -1e-9))


def test_packets_overtake_each_other_as_often_as_exponential_delays_make_them(covered: Watched) -> None:
    # One of two that came g seconds apart is the first to leave with probability exp(-g / mean) / 2 the second.
    load = rate_of(covered) * MEAN_DELAY
    expected = load / (1 + load) / 2
    across = crossing(covered.rows, NODE)
    error = 4 * math.sqrt(expected * (1 - expected) / len(across.entering))
    assert abs(overtaken(covered) - expected) < error


def test_nobody_overtakes_in_a_node_that_does_not_mix(unmixed: Watched) -> None:
    assert overtaken(unmixed) == 0


SIZES = {
    Direction.UP: {SizeClass.REGULAR, PULL},
    Direction.IN: {SizeClass.REGULAR, SizeClass.ACK},
    Direction.ACROSS: {SizeClass.REGULAR, SizeClass.ACK},
    Direction.OUT: {SizeClass.REGULAR, SizeClass.ACK},
    Direction.DOWN: {MAIL},
}


def test_links_carry_the_sizes_that_they_should(covered: Watched) -> None:
    assert {direction: covered.sizes(direction) for direction in SIZES} == SIZES


class _Sized(TableCryptography):
    """A broken build: what is no cover goes in longer packets."""

    def build(self, message: bytes, route: Sequence[Any], *rest: Any, **named: Any) -> bytes:
        # The last bytes of cover are zeros.
        if len(message) == PAYLOAD_LENGTH and any(message[-20:]):
            named["size_class"] = SizeClass.EXTENDED_8
        return super().build(message, route, *rest, **named)


def test_a_size_that_depends_on_the_message_is_seen() -> None:
    seen = watch(SEED, before=0.5, sending=2.0, crypto=_Sized(), text=b"x")
    assert seen.sizes(Direction.UP) != SIZES[Direction.UP]


def test_a_network_takes_only_cryptography_that_there_is() -> None:
    with pytest.raises(ValueError, match="crypto"):
        SimulatedNetwork(1, crypto="rot13")


def test_the_table_keeps_to_the_lengths_of_sphinx(seed: int) -> None:
    from nymtw.sphinx import Hop, generate_keypair

    source = random.Random(seed)
    keys = [generate_keypair(source) for _ in range(4)]
    route = [Hop(source.randbytes(32), public) for _, public in keys]
    table = TableCryptography()
    for size in (SizeClass.REGULAR, SizeClass.ACK):
        arguments = (b"hello", route, [1, 2, 3], bytes(32))
        packets = [one.build(*arguments, size_class=size, random=source) for one in (table, SPHINX)]
        assert len(packets[0]) == len(packets[1])
        results = []
        for crypto, packet in zip((table, SPHINX), packets, strict=True):
            for private, _ in keys:
                unwrapper = crypto.unwrapper()
                unwrapper.set_keys({5: private})
                result = unwrapper.unwrap_many([(5, packet)])[0]
                packet = getattr(result, "packet", b"")
                results.append((type(result), getattr(result, "delay", None), getattr(result, "next_address", None)))
        assert results[:4] == results[4:]
