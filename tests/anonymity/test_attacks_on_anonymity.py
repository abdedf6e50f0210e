"""Each attack succeeds where it should: on builds without a defence. And not where there is one."""

import os
import random

import numpy as np
import pytest
from watched_network import Watched

from nymtw.simulate.run import Plan, run
from nymtw.simulate.workload import MessageSection, NetworkSection, Workload
from nymtw.testing.attacks import PASSIVE
from nymtw.testing.attacks.delay import delay, held
from nymtw.testing.attacks.drop import drop, without
from nymtw.testing.attacks.figures import Figures, auc, bootstrap, figures
from nymtw.testing.attacks.intersection import intersection
from nymtw.testing.attacks.n_minus_one import crossing, n_minus_one
from nymtw.testing.attacks.scene import Scores, column, midrank
from nymtw.testing.model import Interference, Network, Transfer, simulate
from nymtw.testing.rows import Rows

# The first test waits for runs that others look at too.
pytestmark = pytest.mark.timeout(900)

SUCCESS = 0.9
MOST = 0.55
MOST_UPPER_END = 0.6
LEAST_SENDER_RANK = 0.4
WAIT = 0.015  # seconds: what lines are padded for


def tried(
    attack: str,
    trials: int,
    *,
    seconds: float = 34.0,
    cover: str = "drops",
    wait: float = WAIT,
    clients: int = 20,
    edges: int = 2,
    kind: str = "message",
    service_rate: float = 0.0,
) -> Figures:
    network = NetworkSection(line_wait=wait, service_rate=service_rate)
    before = min(600.0, max(10.0, seconds))
    message = MessageSection(seconds=seconds, before=before, kind=kind)  # type: ignore[arg-type]
    plan = Plan(clients, edges, 2, Workload(network=network, message=message), (attack,), cover=cover)
    ranks = [trial.ranks[attack] for trial in run(plan, range(1, trials + 1))]
    return figures([rank for rank, _ in ranks], [rank for _, rank in ranks])


def chance(trials: int) -> float:
    """What the mean of so many ranks, each anything from 0 to 1 alike, exceeds once in a thousand times."""
    return 0.5 + 3.09 * (1 / 12 / trials) ** 0.5


# The positive controls: a build without one of the defences.


def test_loops_in_idle_slots_name_sender_and_edge() -> None:
    found = tried("ml", 10, cover="loops", wait=0.0)
    assert found.auc >= SUCCESS
    assert found.sender_rank <= 0.1


def test_two_seconds_are_enough_to_do_better_than_chance() -> None:
    assert tried("ml", 20, seconds=2.0, cover="loops", wait=0.0).low > chance(20)


def test_lines_that_are_not_padded_name_sender_and_edge() -> None:
    assert tried("ml", 10, wait=0.0).auc >= SUCCESS


def test_correlation_needs_no_law_of_cover() -> None:
    assert tried("correlation", 10, cover="loops", wait=0.0).auc >= SUCCESS


def test_loops_in_idle_slots_are_in_the_own_edges_ledger_even_where_lines_are_padded() -> None:
    found = tried("ledger", 10, cover="loops")
    assert found.auc >= SUCCESS
    assert found.sender_rank == 0


def test_without_cover_everybody_sees_who_sends() -> None:
    assert tried("ledger", 5, seconds=10.0, cover="none").sender_rank == 0


def test_the_real_services_give_the_pair_away_where_loops_fill_idle_slots(looping: Watched) -> None:
    scene = looping.scene(own_cover=1.0)
    for attack in ("ml", "ledger"):
        scores = PASSIVE[attack](looping.rows, scene)
        # Dave is at the same edge as bob: no attack on lines tells them apart.
        assert scores.rank(("alice", "bob"), scene.between_edges) >= SUCCESS, attack
        assert scores.sender_rank("alice", ["alice", "carol"]) == 0


# What the defences make of the same attacks. With NYMTW_FULL all situations, with hundreds of trials each.

FULL = bool(os.environ.get("NYMTW_FULL"))


@pytest.mark.parametrize("attack", ["ml", "correlation", "ledger"])
def test_with_the_defences_attacks_are_at_chance(attack: str) -> None:
    found = tried(attack, 30, seconds=10.0)
    assert found.auc < chance(30)
    assert found.sender_rank > 1 - chance(30)


CASES = {
    "one packet": {"seconds": 0.0},
    "two seconds": {"seconds": 2.0},
    "a megabyte": {"seconds": 34.0},
    "ten minutes": {"seconds": 600.0},
    "an offline recipient": {"seconds": 34.0, "kind": "offline"},
    "a download": {"seconds": 14.0, "kind": "download", "service_rate": 100.0},
}


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("clients", "edges"), [(20, 2), (40, 5)])
@pytest.mark.parametrize("case", CASES if FULL else ["one packet", "two seconds"])
@pytest.mark.parametrize("attack", ["ml", "correlation"])
def test_the_true_pair_stays_at_chance(attack: str, case: str, clients: int, edges: int) -> None:
    # More trials than a hundred where they are cheap: of a hundred, one mean in twenty-five is above 0.55 by chance.
    trials = (100 if case == "ten minutes" else 400) if FULL else 10
    found = tried(attack, trials, clients=clients, edges=edges, **CASES[case])  # type: ignore[arg-type]
    if FULL:
        assert found.auc <= MOST
        assert found.high < MOST_UPPER_END
        assert found.sender_rank >= LEAST_SENDER_RANK
    else:
        assert found.auc < chance(trials)
        assert found.sender_rank > 1 - chance(trials)


# Intersection over days.


def days(always_on: bool, seed: int, count: int = 40) -> tuple[list[Rows], Network]:
    """Alice (0) sends to bob (1) on each day on which she is online; a day is a few seconds."""
    chance = random.Random(seed)
    found = []
    network = Network(clients=10, edges=2, cover="drops", line_wait=0.0)
    for day in range(count):
        away = frozenset() if always_on else frozenset(one for one in (0, *range(2, 10)) if chance.random() < 0.5)
        sends = [] if 0 in away else [Transfer(0, 1, 1.0, 20)]
        today = Network(clients=10, edges=2, line_wait=0.0, offline=away)
        found.append(simulate(today, 4.0, seed * 1000 + day, sends))
    return found, network


def test_days_on_which_somebody_is_away_give_the_sender_away() -> None:
    found, network = days(always_on=False, seed=1)
    scores = intersection(found, network.scene(0.0, 4.0, 1.0))
    to_bob = {sender: score for (sender, recipient), score in scores.by_pair.items() if recipient == "client-2"}
    assert max(to_bob, key=to_bob.__getitem__) == "client-1"
    assert scores.rank(("client-1", "client-2")) >= SUCCESS


def test_who_is_always_online_is_in_no_intersection() -> None:
    found, network = days(always_on=True, seed=1, count=8)
    assert set(intersection(found, network.scene(0.0, 4.0, 1.0)).by_pair.values()) == {0.0}


# Attackers who interfere.

NODE = "mixnode-1-1"


def pair_auc(rows: Rows) -> float:
    """How well the scores tell the same packet, entering and leaving, from two."""
    scores = n_minus_one(rows, NODE, 1.0, 9.0)
    packet = column(rows, "packet")
    same = [score for (entering, leaving), score in scores.items() if packet[entering] == packet[leaving]]
    different = [score for (entering, leaving), score in scores.items() if packet[entering] != packet[leaving]]
    return auc(same, different) if different else 1.0


def guessed(rows: Rows) -> float:
    """How often the likeliest entering packet is the one that leaves."""
    best: dict[int, tuple[float, int]] = {}
    for (entering, leaving), score in n_minus_one(rows, NODE, 1.0, 9.0).items():
        best[leaving] = max(best.get(leaving, (0.0, -1)), (score, entering))
    packet = column(rows, "packet")
    return float(np.mean([packet[entering] == packet[leaving] for leaving, (_, entering) in best.items()]))


def blocked(rows: Rows, keep_one_in: int) -> Rows:
    """All packets but a few are kept from the node: of those that entered it, every n-th."""
    packet = column(rows, "packet")
    allowed = set(packet[crossing(rows, NODE).entering[::keep_one_in]].tolist())
    mask = np.array([number in allowed for number in packet])
    return Rows(list(rows.names), **{name: np.asarray(values)[mask] for name, values in rows.columns().items()})


def test_n_minus_one_follows_a_packet_through_a_node() -> None:
    rows = simulate(Network(clients=20, edges=2, line_wait=0.0), 10.0, 1)
    alone = blocked(rows, 200)
    assert pair_auc(alone) >= SUCCESS
    assert guessed(alone) >= SUCCESS
    assert guessed(rows) < 0.2


SPANS = [(start, start + 1.0) for start in np.arange(3.0, 33.0, 2.0).tolist()]


def interfered(attack: str, wait: float, trials: int) -> float:
    """The mean rank of the true recipient's edge: client 1 sends, and its own edge interferes with it alone."""
    ranks = []
    for seed in range(trials):
        network = Network(clients=20, edges=4, line_wait=wait)
        recipient = random.Random(seed).choice([1, 2, 3])
        rows = simulate(
            network, 36.0, seed, [Transfer(0, recipient, 3.0, 600)], interference=Interference(0, SPANS, attack)
        )
        scene = network.scene(3.0, 33.0, network.sending / (network.sending + network.loops))
        function = drop if attack == "drop" else delay
        scores = function(rows, scene, "client-1", SPANS)
        by_edge = {scene.home[other]: score for (_, other), score in scores.by_pair.items()}
        names = network.names
        true, own = scene.home[names[recipient]], scene.home["client-1"]
        ranks.append(midrank(by_edge[true], [score for edge, score in by_edge.items() if edge not in (true, own)]))
    return float(np.mean(ranks))


@pytest.mark.parametrize("attack", ["drop", "delay"])
def test_an_edge_that_interferes_sees_where_its_clients_packets_go(attack: str) -> None:
    assert interfered(attack, 0.0, 8) >= SUCCESS


def test_what_an_edge_lets_on_is_what_it_says() -> None:
    rows = simulate(Network(clients=2, edges=2, line_wait=0.0), 4.0, 1)
    up = (column(rows, "direction") == 0) & (column(rows, "source") == 0)
    times = column(rows, "time")[up]
    inside = int(((times >= 1.0) & (times < 2.0)).sum())
    assert inside > 0
    assert len(without(rows, "client-1", [(1.0, 2.0)])) == len(rows) - inside
    later = column(held(rows, "client-1", [(1.0, 2.0)]), "time")[up]
    assert int((later == 2.0).sum()) == inside


# What figures are made of.


def test_ranks_count_ties_as_half() -> None:
    scores = Scores({("a", "b"): 1.0, ("a", "c"): 1.0, ("b", "a"): 0.0, ("b", "c"): 2.0})
    assert scores.rank(("a", "b")) == pytest.approx(1.5 / 3)
    assert scores.sender_rank("b", ["a", "b", "c"][:2]) == 0.0
    assert midrank(1.0, []) == 0.5


def test_an_auc_is_the_probability_of_the_right_order() -> None:
    assert auc([2.0, 3.0], [0.0, 1.0]) == 1.0
    assert auc([1.0], [0.0, 1.0, 2.0]) == 0.5
    with pytest.raises(ValueError, match="both kinds"):
        auc([], [1.0])


def test_the_interval_of_a_mean_holds_it() -> None:
    values = np.random.default_rng(1).random(200).tolist()
    low, high = bootstrap(values)
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(1 / 12 / 200), rel=0.15)
    with pytest.raises(ValueError, match="no trials"):
        figures([], [])
