"""What attacks make of the network: the bars of anonymity that are statistical, each with its seed.

    python benchmarks/anonymity.py [--trials 100] [--seed 1] [--only NAME] [--quick]

Every line is a run of the model of `nymtw.testing.model`; `nymtw simulate` repeats single ones. AUC and rank are 0.5 by
chance. Positive controls leave out one defence: there the same attacks must succeed. Exits with status 1 where a bar is
not met. `--quick`: ten trials of the shorter messages.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from nymtw.simulate.run import Plan, costs, observe, run
from nymtw.simulate.workload import MessageSection, NetworkSection, Workload
from nymtw.testing.attacks.figures import Figures, figures
from nymtw.testing.attacks.ledger import told_apart

MOST_AUC, MOST_UPPER_END, LEAST_RANK, LEAST_CONTROL = 0.55, 0.6, 0.4, 0.9
ENOUGH = 100  # trials; of fewer only the lower end of the interval is judged
LEAST_P = 0.001
WAIT = 0.015  # seconds that a packet waits for a line
MOST_ADDED = 0.03  # seconds, median over all hops
LOADS = (20, 40, 80, 200, 400, 800)  # packets a second that a line is offered
MESSAGES = {
    "one packet": MessageSection(seconds=0.0, before=10.0),
    "2 s": MessageSection(seconds=2.0, before=10.0),
    "34 s": MessageSection(seconds=34.0),
    "34 s, recipient offline": MessageSection(seconds=34.0, kind="offline"),
    "download of 2 MB": MessageSection(seconds=10.0, before=10.0, kind="download"),
    "10 min": MessageSection(seconds=600.0, before=60.0),
}
SIZES = ((20, 2), (40, 5))


@dataclass(frozen=True)
class Case:
    name: str
    plan: Plan
    trials: int
    control: bool = False


def plan_of(
    message: MessageSection, clients: int, edges: int, attack: str, cover: str = "drops", wait: float = WAIT
) -> Plan:
    service = 100.0 if message.kind == "download" else 0.0
    network = NetworkSection(line_wait=wait, service_rate=service)
    return Plan(clients, edges, 2, Workload(network=network, message=message), (attack,), cover=cover)


def cases(trials: int, quick: bool) -> Iterator[Case]:
    for name, message in MESSAGES.items():
        if quick and message.seconds > 34:
            continue
        for clients, edges in SIZES:
            for attack in ("ml", "correlation"):
                plan = plan_of(message, clients, edges, attack)
                yield Case(f"{name}, {clients} clients, {edges} edges, {attack}", plan, trials)
    megabyte = MESSAGES["34 s"]
    controls = (
        ("loops in idle slots, lines not padded", "ml", "loops", 0.0),
        ("loops in idle slots, lines not padded", "correlation", "loops", 0.0),
        ("lines not padded", "ml", "drops", 0.0),
        ("loops in idle slots", "ledger", "loops", WAIT),
        ("cover off", "ledger", "none", WAIT),
    )
    for what, attack, cover, wait in controls:
        yield Case(f"control: {what}, {attack}", plan_of(megabyte, 20, 2, attack, cover, wait), min(trials, 20), True)


def meets(case: Case, found: Figures) -> bool:
    if case.control:
        return found.auc >= LEAST_CONTROL
    if found.trials < ENOUGH:
        return found.low <= MOST_AUC
    return found.auc <= MOST_AUC and found.high < MOST_UPPER_END and found.sender_rank >= LEAST_RANK


def attacks(trials: int, seed: int, quick: bool, only: str) -> bool:
    met = True
    print(f"{'':60} {'trials':>6} {'AUC':>6} {'95 % interval':>15} {'rank':>6}")
    for case in cases(trials, quick):
        if only not in case.name:
            continue
        started = time.process_time()
        [attack] = case.plan.attacks
        ranks = [trial.ranks[attack] for trial in run(case.plan, range(seed, seed + case.trials))]
        found = figures([rank for rank, _ in ranks], [rank for _, rank in ranks])
        good = meets(case, found)
        met &= good
        seconds = time.process_time() - started
        line = f"{case.name:60} {found.trials:6} {found.auc:6.3f} {found.low:7.3f} {found.high:7.3f}"
        print(f"{line} {found.sender_rank:6.3f}  {'' if good else 'NOT MET '}({seconds:.0f} s)", flush=True)
    return met


def ledger(trials: int, seed: int, quick: bool) -> bool:
    """Whether idle and sending are told apart over ten minutes: in how many of so many runs."""
    message = MessageSection(seconds=60.0 if quick else 600.0, before=60.0 if quick else 600.0)
    plan = plan_of(message, 10, 2, "ledger")
    told = 0
    for number in range(seed, seed + trials):
        rows, scene, sender, _ = observe(plan, number)
        told += told_apart(rows, scene, sender) < LEAST_P
    print(f"own edge's ledger, {message.seconds:g} s: told apart at p = {LEAST_P} in {told} of {trials} runs")
    return told <= max(1, trials * LEAST_P * 10)


def lines(seed: int) -> bool:
    """What padding adds, by what a line is offered: 25 packets a second of each client, over two mixnodes."""
    met = True
    print("line offered   median added over all hops   frames over what is no dummy")
    for load in LOADS:
        clients = max(4, round(load * 2 * 2 / 25))
        plan = plan_of(MessageSection(seconds=5.0, before=5.0), clients, 2, "ml")
        spent = costs(observe(plan, seed)[0], plan)
        met &= spent.added <= MOST_ADDED
        print(f"{load:8}/s   {spent.added * 1e3:20.1f} ms   {spent.overhead:25.2f} x")
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="lines whose name has this")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    trials = 10 if options.quick else options.trials
    met = attacks(trials, options.seed, options.quick, options.only)
    if not options.only:
        met &= ledger(3 if options.quick else 10, options.seed, options.quick)
        met &= lines(options.seed)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
