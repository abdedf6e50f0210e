"""How fast `nymtw.credentials` is: each step in milliseconds and beside two bare X25519, and the same checks in Rust.

Needs `nymtw[credentials]` and cargo. Prints a table and the bars, writes JSON, and exits 1 where a bar is missed. What
is measured is processor time, in many short rounds that take turns, so that a busy machine slows all alike; the best
counts.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from comparison import Row, RustProgram, best_of, print_ratios, ratios_object, rust_version
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from machine import processor
from nacl.bindings import crypto_scalarmult

from nymtw.credentials import coconut, ecash
from nymtw.credentials.blind import aggregate, unblind
from nymtw.credentials.coconut.showing import show_statement
from nymtw.credentials.curve import (
    G1_BASE,
    G2_BASE,
    Base,
    decode_g1,
    decode_g2,
    hash_to_g1,
    pairings_cancel,
    random_scalar,
    scalar,
)
from nymtw.credentials.keys import deal
from nymtw.credentials.proofs import challenge_of, holds
from nymtw.sphinx import generate_keypair

HERE = Path(__file__).resolve().parent
INTEROP = HERE.parent / "tests" / "interop" / "credentials"
SEED = 2016
FLOOR = "floor: two bare X25519"
MANY = 32
RUST_ROUNDS = 1
# What is compared with the floor: the measure, how many it does at once, at most so many floors each.
BARS = {
    "coconut: show": (1, 26),
    "coconut: verify": (1, 45),
    f"coconut: verify {MANY} at once": (MANY, 35),
    "coconut: blind sign": (1, 30),
    "coconut: unblind and check a share": (1, 38),
    "e-cash: spend 1 ticket": (1, 65),
    "e-cash: verify 1 ticket": (1, 105),
    "e-cash: identify": (1, 10),
}
PROCESSES_BAR = 1.8


def timed(operation: Callable[[], object], count: int) -> Callable[[], float]:
    """A measure: the processor seconds of one `operation`, of `count` in a row after one that warms the caches."""

    def measure() -> float:
        operation()
        started = time.thread_time()
        for _ in range(count):
            operation()
        return (time.thread_time() - started) / count

    return measure


class Coconut:
    """Two private and two public attributes, three of five issuers."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.parameters = coconut.parameters(2, 2)
        self.dealt = deal(4, 5, 3, source)
        self.key = self.dealt.key.with_tables()
        self.private = [random_scalar(source), random_scalar(source)]
        self.public = [scalar(1), scalar(20_500)]
        self.asked, self.pending = self.request()
        self.answers = [self.sign(index) for index in range(3)]
        self.shares = [self.check(index) for index in range(3)]
        self.credential = coconut.credential(self.pending, self.shares, 3)
        self.context = coconut.Context(b"nymtw-1", bytes(20), bytes(16))
        self.shown = self.show()
        self.many = [(self.show(), self.context) for _ in range(MANY)]

    def request(self) -> Any:
        return coconut.request(self.parameters, self.private, self.public, b"account", self.source)

    def sign(self, index: int) -> Any:
        return coconut.blind_sign(self.parameters, self.dealt.secrets[index], self.asked, b"account")

    def check(self, index: int) -> Any:
        return unblind(self.dealt.issuers[index], self.pending, self.answers[index])

    def show(self) -> Any:
        return coconut.show(self.parameters, self.key, self.credential, self.context, self.source)

    def verify(self) -> None:
        coconut.verify_show(self.parameters, self.key, self.shown, self.context)

    def verify_many(self) -> None:
        assert not any(coconut.verify_shows(self.parameters, self.key, self.many, self.source))

    def measures(self) -> dict[str, Callable[[], float]]:
        data = self.shown.to_bytes()
        return {
            "coconut: request": timed(self.request, 4),
            "coconut: blind sign": timed(lambda: self.sign(0), 4),
            "coconut: unblind and check a share": timed(lambda: self.check(0), 4),
            "coconut: aggregate 3 shares": timed(lambda: aggregate(self.shares, 3), 8),
            "coconut: show": timed(self.show, 4),
            "coconut: parse a show": timed(lambda: coconut.Show.from_bytes(data), 8),
            "coconut: verify": timed(self.verify, 4),
            f"coconut: verify {MANY} at once": timed(self.verify_many, 1),
        }

    def parts(self) -> dict[str, Callable[[], float]]:
        """What a verification is made of."""
        shown, key = self.shown.shown, self.key
        statement = show_statement(self.parameters, key, shown, self.context)
        message = shown.kappa + key.part(2, shown.public)
        value = shown.signature.value + shown.nu
        pairs = [(shown.signature.base, message), (-value, G2_BASE.point)]
        factor, g2 = random_scalar(self.source), Base(shown.kappa)
        return {
            "the whole": timed(self.verify, 4),
            "two pairings": timed(lambda: pairings_cancel(pairs), 4),
            "the proof": timed(lambda: holds(statement, self.shown.proof), 4),
            "of it: a multiplication in G2": timed(lambda: g2 * factor, 4),
            "of it: three in G2 with tables": timed(lambda: key.part(0, [factor] * 2) + G2_BASE * factor, 4),
            "of it: three in G1": timed(lambda: [shown.nu * factor for _ in range(3)], 4),
            "of it: one in G1 with a table": timed(lambda: self.parameters.nullifier_base * factor, 4),
            "of it: the hash": timed(lambda: challenge_of(statement, []), 4),
            "the statement": timed(lambda: show_statement(self.parameters, key, shown, self.context), 4),
            "the public attributes": timed(lambda: key.part(2, shown.public), 4),
        }


class Bank:
    """Books of 50 tickets, three of five issuers."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.parameters = ecash.parameters()
        self.dealt = deal(4, 5, 3, source)
        self.key = self.dealt.key.with_tables()
        self.owner = random_scalar(source)
        self.asked, self.pending = self.withdraw()
        self.answers = [self.issue(index) for index in range(3)]
        self.book = ecash.ticket_book(self.pending, [self.check(index) for index in range(3)], 3)
        self.indices, dates = ecash.Indices(50), ecash.Dates(20_500, 20_494)
        self.share = self.sign_indices()
        self.helpers = ecash.Helpers(*(self.signed(subject) for subject in (self.indices, dates)))
        self.infos = [ecash.PaymentInfo(bytes(32), 1_771_200_000 + number, bytes(16)) for number in range(2)]
        self.one, self.again = (self.pay(1, info) for info in self.infos)
        self.ten = self.pay(10, self.infos[0])

    def withdraw(self) -> Any:
        return ecash.withdraw(self.parameters, self.owner, 20_500, 1, b"deposit", self.source)

    def issue(self, index: int) -> Any:
        return ecash.issue(self.parameters, self.dealt.secrets[index], self.asked, b"deposit")

    def check(self, index: int) -> Any:
        return unblind(self.dealt.issuers[index], self.pending, self.answers[index])

    def sign_indices(self) -> Any:
        return ecash.sign_helpers(self.dealt.secrets[0], self.indices)

    def signed(self, subject: Any) -> Any:
        shares = [ecash.sign_helpers(secret, subject) for secret in self.dealt.secrets[:3]]
        return ecash.aggregate_helpers(self.dealt.issuers, subject, shares, self.source)[0]

    def pay(self, tickets: int, info: Any) -> Any:
        return ecash.pay(self.parameters, self.key, self.book, tickets, self.helpers, info, 20_494, self.source)[0]

    def verify(self, payment: Any) -> None:
        ecash.verify_payment(self.parameters, self.key, payment, self.infos[0], 20_494, self.source)

    def measures(self) -> dict[str, Callable[[], float]]:
        data = self.one.to_bytes()
        key = self.dealt.issuers[0].key
        return {
            "e-cash: withdraw": timed(self.withdraw, 4),
            "e-cash: issue": timed(lambda: self.issue(0), 4),
            "e-cash: unblind and check a share": timed(lambda: self.check(0), 4),
            "e-cash: an issuer's 50 index signatures": timed(self.sign_indices, 1),
            "e-cash: check an issuer's 50 index signatures": timed(
                lambda: ecash.check_helpers(key, self.share, self.source), 1
            ),
            "e-cash: spend 1 ticket": timed(lambda: self.pay(1, self.infos[0]), 2),
            "e-cash: spend 10 tickets": timed(lambda: self.pay(10, self.infos[0]), 1),
            "e-cash: parse 1 ticket": timed(lambda: ecash.Payment.from_bytes(data), 4),
            "e-cash: verify 1 ticket": timed(lambda: self.verify(self.one), 2),
            "e-cash: verify 10 tickets": timed(lambda: self.verify(self.ten), 1),
            "e-cash: identify": timed(lambda: ecash.identify(self.one, self.infos[0], self.again, self.infos[1]), 8),
        }


def basics(source: random.Random) -> dict[str, Callable[[], float]]:
    """The floor, and the operations that all else is made of."""
    key_object, point = X25519PrivateKey.from_private_bytes(source.randbytes(32)), generate_keypair(source)[1]
    secret, factor = source.randbytes(32), random_scalar(source)
    g1, g2 = G1_BASE * random_scalar(source), G2_BASE * random_scalar(source)
    data1, data2 = Base(g1).encoded, Base(g2).encoded

    def floor() -> None:
        key_object.exchange(X25519PublicKey.from_public_bytes(point))
        crypto_scalarmult(secret, point)

    return {
        FLOOR: timed(floor, 50),
        "a multiplication in G1": timed(lambda: g1 * factor, 20),
        "with a table": timed(lambda: G1_BASE * factor, 20),
        "a multiplication in G2": timed(lambda: g2 * factor, 10),
        "with a table in G2": timed(lambda: G2_BASE * factor, 20),
        "hash to G1": timed(lambda: hash_to_g1(b"x"), 10),
        "decode a point of G1": timed(lambda: decode_g1(data1), 10),
        "decode a point of G2": timed(lambda: decode_g2(data2), 10),
        "two pairings": timed(lambda: pairings_cancel([(g1, g2), (-g1, g2)]), 4),
    }


def resident() -> int:
    """The memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def weigh_tables(pipe: Any) -> None:
    """Make five tables of each group in this fresh process, and send the time and memory of one."""
    source = random.Random(SEED)
    found = {}
    for name, generator in (("G1", G1_BASE), ("G2", G2_BASE)):
        bases = [Base(generator.point * random_scalar(source), table=True) for _ in range(6)]
        factor = scalar(3)
        _ = bases.pop() * factor
        before, started = resident(), time.thread_time()
        for base in bases:
            _ = base * factor
        found[name] = {
            "seconds": (time.thread_time() - started) / len(bases),
            "bytes": (resident() - before) / len(bases),
        }
    pipe.send(found)


def verify_for(seconds: float, start: Any, counts: Any) -> None:
    """Verify shows for so long, once all processes are ready; put how many a second."""
    bench = Coconut(random.Random(SEED))
    bench.verify()
    start.wait()
    done, started = 0, time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        bench.verify()
        done += 1
    counts.put(done / passed)


def rate(processes: int, seconds: float) -> float:
    """Verifications a second of so many processes together."""
    context = multiprocessing.get_context("spawn")
    start, counts = context.Barrier(processes), context.Queue()
    running = [context.Process(target=verify_for, args=(seconds, start, counts)) for _ in range(processes)]
    for process in running:
        process.start()
    total = sum(counts.get() for _ in running)
    for process in running:
        process.join()
    return total


def tables() -> Any:
    """Time and memory of a table in each group."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(False)
    process = context.Process(target=weigh_tables, args=(sender,))
    process.start()
    found = receiver.recv()
    process.join()
    return found


def bars(best: dict[str, float], rates: dict[int, float]) -> list[Row]:
    """(what is compared, its ratio, the bar, whether it is met)."""
    rows = []
    for name, (count, limit) in BARS.items():
        ratio = best[name] / count / best[FLOOR]
        rows.append((f"{name}{', each' if count > 1 else ''} / floor", ratio, f"at most {limit} x", ratio <= limit))
    scale = rates[2] / rates[1]
    name = "coconut: verifications a second of 2 processes / 1"
    return [*rows, (name, scale, f"at least {PROCESSES_BAR} x", scale >= PROCESSES_BAR)]


def report(best: dict[str, float], pieces: dict[str, float], weighed: Any, rates: dict[int, float]) -> None:
    """Print all but the bars."""
    print("\n| step | ms | floors |\n|---|--:|--:|")
    for name, seconds in best.items():
        print(f"| {name} | {seconds * 1e3:.3f} | {seconds / best[FLOOR]:.1f} |")
    print("\n| a verification of a show is made of | ms |\n|---|--:|")
    for name, seconds in pieces.items():
        print(f"| {name} | {seconds * 1e3:.3f} |")
    print("\n| a table of 32 x 256 multiples | ms to make | MB |\n|---|--:|--:|")
    for group, each in weighed.items():
        print(f"| {group} | {each['seconds'] * 1e3:.1f} | {each['bytes'] / 1e6:.2f} |")
    print("\n| processes | verifications of a show a second |\n|---|--:|")
    for processes, each in rates.items():
        print(f"| {processes} | {each:.0f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60, help="rounds of each measure (default: 60)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long the processes verify (default: 4)")
    parser.add_argument("--json", type=Path, default=HERE / "credentials.json", help="where the result goes")
    parser.add_argument("--first", action="store_true", help="as root: let other programs wait")
    arguments = parser.parse_args()

    if arguments.first:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    pairs = [(rate(1, arguments.seconds), rate(2, arguments.seconds)) for _ in range(3)]
    rates = {1: max(one for one, _ in pairs), 2: max(two for _, two in pairs)}
    weighed = tables()
    source = random.Random(SEED)
    rust = RustProgram(INTEROP, "credentials-interop", INTEROP / "target")
    if hasattr(os, "sched_setaffinity"):
        core = {max(os.sched_getaffinity(0))}
        for process in (0, rust.process.pid):
            os.sched_setaffinity(process, core)
    show, bank = Coconut(source), Bank(source)
    measures = basics(source) | show.measures() | bank.measures()
    words = (2, 2, show.key.to_bytes(), show.shown.to_bytes(), show.context.to_bytes())
    measures["coconut: parse and verify in Rust"] = partial(rust.seconds, "bench-show", RUST_ROUNDS, *words)
    for name, payment in (("1 ticket", bank.one), ("10 tickets", bank.ten)):
        words = (50, bank.key.to_bytes(), payment.to_bytes(), bank.infos[0].to_bytes(), 20_494)
        measures[f"e-cash: parse and verify {name} in Rust"] = partial(
            rust.seconds, "bench-payment", RUST_ROUNDS, *words
        )
    best = best_of(measures, arguments.rounds)
    pieces = best_of(show.parts(), arguments.rounds)
    rust.close()

    machine = {
        "processor": processor(),
        "processors": os.cpu_count(),
        "load average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "py_arkworks_bls12381": version("py_arkworks_bls12381"),
        "rustc": rust_version(),
    }
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    report(best, pieces, weighed, rates)
    rows = bars(best, rates)
    print_ratios(rows)
    result = {
        "machine": machine,
        "rounds": arguments.rounds,
        "seconds": best,
        "verification_of_a_show": pieces,
        "tables": weighed,
        "verifications_a_second": {str(processes): each for processes, each in rates.items()},
        "sizes": {
            "show, 2 private and 2 public": len(show.shown.to_bytes()),
            "payment, 1 ticket": len(bank.one.to_bytes()),
            "payment, 10 tickets": len(bank.ten.to_bytes()),
        },
        "ratios": ratios_object(rows),
    }
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(met for *_, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
