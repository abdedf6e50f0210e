"""Random transactions, crashes and partitions over four nodes in memory, from one seed."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_comet import STEPS, Consensus, Node
from ledger_world import (
    ALICE,
    BOB,
    CAROL,
    CHAIN,
    REDEEMERS,
    SIGNERS,
    VALIDATORS,
    WATCHERS,
    bond,
    deposit,
    release,
)

from nymtw.ledger.machine.kinds.new_account import NewAccount
from nymtw.ledger.machine.kinds.parameters import ChangeParameters
from nymtw.ledger.machine.kinds.transfer import Transfer
from nymtw.ledger.machine.kinds.unbond import Unbond
from nymtw.ledger.machine.kinds.withdraw import Withdraw
from nymtw.ledger.machine.state import TOTALS, Deposit, Totals, Withdrawal, audit, decode_record
from nymtw.ledger.machine.transactions import decode_transaction, encode_transaction
from nymtw.ledger.storage.store import Keep

SEEDS = int(os.environ.get("NYMTW_SOAK_SEEDS", "4"))
ROUNDS = 25
PEOPLE = [ALICE, BOB, CAROL]


class Traffic:
    """Transactions of everybody, honest and not: most fit, some are replays, doubles, too much, nothing or nonsense."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._sent: list[bytes] = []

    def next(self, node: Node) -> bytes:
        chance = self._chance
        if self._sent and chance.random() < 0.1:
            return chance.choice(self._sent)
        if chance.random() < 0.03:
            return chance.randbytes(chance.randrange(100))
        key, kind, fields = self._some()
        nonce = node.replica.next_nonce(key.address)
        if chance.random() < 0.1:
            nonce += chance.choice([-1, 1, 5])
        data = encode_transaction(key, CHAIN, kind, max(0, nonce), fields)
        self._sent.append(data)
        return data

    def _some(self) -> tuple[Any, str, Any]:
        chance = self._chance
        person, amount = chance.choice(PEOPLE), chance.choice([0, 1, 5, 30, 2**127])
        signer = chance.choice(SIGNERS)
        number = chance.randrange(1, 4)
        voter = chance.choice([*VALIDATORS, person])
        return chance.choice(
            [
                (person, "new-account", NewAccount()),
                (person, "transfer", Transfer(chance.choice(PEOPLE).address, amount)),
                (person, "withdraw", Withdraw(b"e" * 20, amount)),
                (person, "bond", bond(person, signer, amount)),
                (person, "unbond", Unbond(amount)),
                (
                    voter,
                    "parameters",
                    ChangeParameters(chance.randrange(1, 3), {"minimum_bond": chance.randrange(1, 3)}),
                ),
                (r := chance.choice([*REDEEMERS, person]), "release", release(r, number, b"e" * 20, amount or 5)),
                *[self._notarised(person) for _ in range(6)],
            ]
        )

    def _notarised(self, person: Any) -> tuple[Any, str, Any]:
        chance = self._chance
        watcher = chance.choice([*WATCHERS, *WATCHERS, person])
        fields = deposit(
            chance.choice(PEOPLE).address,
            chance.choice([20, 20, 21]),
            chance.randrange(12),
            log_index=chance.choice([0, 0, 1]),
        )
        return watcher, "notarise-deposit", fields


class Recount:
    """Votes counted once more, from what the blocks say took effect, by other code than the rules'."""

    def __init__(self) -> None:
        self.votes: dict[Any, dict[bytes, Any]] = {}
        self.credited: dict[Any, Any] = {}
        self.approvals: dict[int, set[bytes]] = {}

    def add(self, data: bytes) -> None:
        done = decode_transaction(data, CHAIN)
        if done.kind == "notarise-deposit":
            place = (done.fields.transaction, done.fields.log_index)
            assert place not in self.credited
            stated = self.votes.setdefault(place, {})
            stated[done.sender] = done.fields
            same = [watcher for watcher, fields in stated.items() if fields == done.fields]
            if len(same) >= 2:
                self.credited[place] = done.fields
        elif done.kind == "release":
            before = self.approvals.setdefault(done.fields.withdrawal, set())
            assert done.sender not in before
            before.add(done.sender)
            assert len(before) <= 2


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    made = [Node(number, tmp_path / f"{number}.sqlite", Keep(states=10), snapshot_every=5) for number in range(4)]
    yield made
    for node in made:
        node.stop()


@pytest.mark.parametrize("number", range(SEEDS))
def test_any_seed(nodes: list[Node], seed: int, number: int) -> None:
    run = seed * 1_000_003 + number
    chance = random.Random(run)
    consensus = Consensus(nodes)
    for node in nodes:
        consensus.start(node)
    traffic, recount = Traffic(chance), Recount()
    try:
        for _ in range(ROUNDS):
            one_round(consensus, nodes, chance, traffic)
        for node in nodes:
            node.crash_at = ""
            if not node.alive:
                consensus.start(node)
            consensus.catch_up(node)
        assert_same(consensus, nodes, recount)
    except BaseException:
        print(f"the run of number {number} with --seed={seed} (random.Random({run}))")
        raise


def one_round(consensus: Consensus, nodes: list[Node], chance: random.Random, traffic: Traffic) -> None:
    for node in nodes:
        node.crash_at = chance.choice(STEPS) if chance.random() < 0.12 else ""
        if not node.alive and chance.random() < 0.6:
            node.crash_at = ""
            consensus.start(node)
    up = [node for node in nodes if node.alive]
    for node in up:
        for _ in range(chance.randrange(4)):
            data = traffic.next(node)
            for other in up:  # gossip, which may not reach everybody
                if other is node or chance.random() < 0.7:
                    other.check(data)
    together = nodes if chance.random() < 0.8 else chance.sample(nodes, chance.randrange(1, 4))
    block = consensus.make_block(together, chance)
    if block is not None:
        height = len(consensus.blocks)
        for node in nodes:
            if node.alive and node.replica.height == height:
                node.replica.audit()
                break


def assert_same(consensus: Consensus, nodes: list[Node], recount: Recount) -> None:
    """Everybody has the same state, money is conserved, and each vote was counted once."""
    top = len(consensus.blocks)
    assert top > 0
    assert {(node.replica.height, node.replica.root) for node in nodes} == {(top, consensus.hashes[top])}
    assert all(node.broken == [] for node in nodes)
    first = nodes[0]
    for block in first.store.blocks(0, 10_000):
        for data, (code, _) in zip(block.transactions, block.outcomes, strict=True):
            assert code == 0  # honest proposers leave out what is refused
            recount.add(data)
    items = dict(first.store.items(first.replica.root))
    totals = audit(items.items())
    assert totals == decode_record(TOTALS, items.get(TOTALS)) or totals == Totals()
    records = [decode_record(key, value) for key, value in items.items()]
    deposits = sorted((each.account, each.amount) for each in records if isinstance(each, Deposit))
    assert deposits == sorted((fields.account, fields.amount) for fields in recount.credited.values())
    assert totals.notarised == sum(fields.amount for fields in recount.credited.values())
    for key, record in ((key, decode_record(key, value)) for key, value in items.items()):
        if isinstance(record, Withdrawal):
            approved = recount.approvals.get(int.from_bytes(key.split(b"/", 1)[1]), set())
            assert {address for address, _ in record.approvals} == approved
            assert record.released == (len(approved) == 2)
