"""Shows that it mixes: what leaves the delay queue has the distributions that the theory of Loopix rests on.

Every measure is also put to a queue that is broken on purpose, and must refuse it.
"""

import math
import random
from collections import Counter
from itertools import pairwise

import pytest

from nymtw.mixing.delay_queue import DelayQueue
from nymtw.mixing.poisson import PoissonStream
from nymtw.testing.clock import FakeClock

pytestmark = pytest.mark.long

PACKETS = 20_000
RATE = 200.0  # packets per second
MEAN = 0.05  # seconds
SEEDS = [1, 2, 3]


def ks_p_value(sample, mean):
    """The asymptotic p-value of the Kolmogorov-Smirnov test against the exponential distribution of this mean."""
    ordered = sorted(sample)
    n = len(ordered)
    distance = 0.0
    for index, value in enumerate(ordered):
        expected = 1 - math.exp(-value / mean)
        distance = max(distance, expected - index / n, (index + 1) / n - expected)
    scaled = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    if scaled < 0.2:  # the series converges slowly there, and its value is 1
        return 1.0
    total = 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * scaled * scaled) for k in range(1, 101))
    return min(1.0, max(0.0, total))


class ClampingQueue(DelayQueue):
    """Broken: no packet waits longer than three mean delays."""

    def add(self, item, delay_ns):
        return super().add(item, min(delay_ns, int(3 * MEAN * 1e9)))


class TickingQueue(DelayQueue):
    """Broken: packets leave at the ticks of 20 milliseconds alone."""

    def add(self, item, delay_ns):
        due = self._clock.seconds() + delay_ns * 1e-9
        return super().add(item, int((math.ceil(due / 0.02) * 0.02 - self._clock.seconds()) * 1e9))


class FirstInFirstOut(DelayQueue):
    """Broken: a packet never leaves before one that came earlier."""

    latest = 0.0

    def add(self, item, delay_ns):
        self.latest = max(self.latest, self._clock.seconds() + delay_ns * 1e-9)
        return super().add(item, int((self.latest - self._clock.seconds()) * 1e9))


def run(queue_type, seed, rate=RATE, mean=MEAN, packets=PACKETS):
    """Poisson arrivals, exponential delays: (arrivals, departures as (time, index)), both in order of time."""
    print(f"seed {seed}")
    clock, rng = FakeClock(), random.Random(seed)
    arrivals, departures = [], []

    def arrive():
        queue.add(len(arrivals), int(rng.expovariate(1 / mean) * 1e9))
        arrivals.append(clock.seconds())
        if len(arrivals) == packets:
            stream.stop()

    def leave(items):
        departures.extend((clock.seconds(), item) for item in items)

    queue = queue_type(clock, leave, rng, packets)
    stream = PoissonStream(clock, rate, arrive, rng)
    stream.start()
    clock.advance(packets / rate * 2)
    assert len(departures) == packets
    return arrivals, departures


def added_delays(arrivals, departures):
    return [when - arrivals[index] for when, index in departures]


def inter_departure_times(arrivals, departures):
    # Only while packets come in and the pool has its usual size.
    times = [when for when, _ in departures if 10 * MEAN < when < arrivals[-1]]
    return [later - earlier for earlier, later in pairwise(times)]


@pytest.mark.parametrize("seed", SEEDS)
def test_added_delays_are_exponential(seed):
    assert ks_p_value(added_delays(*run(DelayQueue, seed)), MEAN) > 0.01


@pytest.mark.parametrize("broken", [ClampingQueue, TickingQueue, FirstInFirstOut])
def test_added_delays_of_a_broken_queue_are_not(broken):
    assert ks_p_value(added_delays(*run(broken, 1)), MEAN) < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_departures_under_poisson_arrivals_are_a_poisson_process(seed):
    assert ks_p_value(inter_departure_times(*run(DelayQueue, seed)), 1 / RATE) > 0.01


@pytest.mark.parametrize("broken", [TickingQueue, FirstInFirstOut])
def test_departures_of_a_broken_queue_are_not(broken):
    assert ks_p_value(inter_departure_times(*run(broken, 1)), 1 / RATE) < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_arrivals_are_a_poisson_process(seed):
    arrivals, _ = run(DelayQueue, seed)
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    assert ks_p_value(gaps, 1 / RATE) > 0.01


def overtaken(arrivals, departures):
    """Of pairs of neighbours that were in the queue together: how many, and in how many the later one left first."""
    left = {index: (when, place) for place, (when, index) in enumerate(departures)}
    pairs = overtakes = 0
    for first in range(0, len(arrivals) - 1, 2):
        second = first + 1
        if left[first][0] > arrivals[second]:
            pairs += 1
            overtakes += left[second][1] < left[first][1]
    return pairs, overtakes


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_departure_says_nothing_about_the_order_of_arrival(seed):
    pairs, overtakes = overtaken(*run(DelayQueue, seed))
    assert pairs > 5000
    assert abs(overtakes - pairs / 2) < 3 * math.sqrt(pairs) / 2  # three standard deviations


def test_the_order_of_departure_gives_a_broken_queue_away():
    # Packets that are due together still leave in random order: the queue that breaks this keeps them apart.
    class StrictlyInOrder(FirstInFirstOut):
        def add(self, item, delay_ns):
            added = super().add(item, delay_ns)
            self.latest += 1e-8
            return added

    pairs, overtakes = overtaken(*run(StrictlyInOrder, 1))
    assert abs(overtakes - pairs / 2) > 10 * math.sqrt(pairs) / 2


def mean_entropy(arrivals, departures):
    """The adversary's uncertainty (bits) about which arrival a departing packet was, averaged over departures.

    He sees all times. By the exponential's lack of memory each packet in the pool is as likely to leave as any other,
    so that the entropy follows from the one at the departure before (Loopix, section 4.3.2 and figure 4).
    """
    events = sorted([(when, 0) for when in arrivals] + [(when, 1) for when, _ in departures])
    new = old = 0
    entropy, total, count = 0.0, 0.0, 0
    warm = arrivals[len(arrivals) // 20]
    for when, is_departure in events:
        if not is_departure:
            new += 1
            continue
        share = new / (new + old)
        mixed = share * math.log2(new) + (1 - share) * entropy if new else entropy
        for part in (share, 1 - share):
            if part > 0:
                mixed -= part * math.log2(part)
        entropy = mixed
        new, old = 0, new + old - 1
        if warm < when < arrivals[-1]:
            total += entropy
            count += 1
    return total / count


@pytest.mark.parametrize("pool", [5, 10, 20, 50])
def test_the_entropy_of_one_node_is_that_of_the_theory(pool):
    mean = pool / RATE
    entropy = mean_entropy(*run(DelayQueue, 1, RATE, mean))
    assert entropy == pytest.approx(math.log2(math.e * RATE * mean), abs=0.1)


def test_one_seed_gives_one_run_and_another_seed_another():
    one, same, other = run(DelayQueue, 1), run(DelayQueue, 1), run(DelayQueue, 2)
    assert one == same
    assert one != other


def test_packets_due_together_are_shuffled_evenly():
    """All 24 orders of four packets come up, as often as chance has it (chi-square, 23 degrees of freedom)."""
    orders = Counter()
    clock, rng = FakeClock(), random.Random(1)
    queue = DelayQueue(clock, lambda items: orders.update([tuple(items)]), rng, 10)
    for _ in range(4800):
        for name in "abcd":
            queue.add(name, 1000)
        clock.advance(0.001)
    expected = 4800 / 24
    assert sum((orders[order] - expected) ** 2 / expected for order in orders) + (24 - len(orders)) * expected < 49.7
