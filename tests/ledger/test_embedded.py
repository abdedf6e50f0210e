"""The ledger of one process: the contract, blocks in time, restarts, stored state that somebody changed."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded_world import EmbeddedWorld
from ledger_contract import LedgerContract
from ledger_world import ALICE, BOB, CHAIN, SIGNERS, WATCHERS, deposit, some_genesis
from replay import replayed

from nymtw.errors import LedgerBroken, LedgerError, ProofError, TransactionRefused
from nymtw.ledger import clients
from nymtw.ledger.embedded.driver import INTERVAL
from nymtw.ledger.embedded.headers import verify_header
from nymtw.ledger.machine.kinds.new_account import NewAccount
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.transactions import encode_transaction
from nymtw.ledger.storage.replica import WAITING_PER_ACCOUNT, Replica
from nymtw.ledger.storage.store import Keep, LedgerStore


class TestEmbedded(LedgerContract):
    @pytest.fixture(params=[False, True], ids=["in the process", "over HTTP"])
    def under(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedWorld]:
        world = EmbeddedWorld(tmp_path / "ledger.sqlite", request.param)
        yield world
        assert world.broken == []
        replayed(world.store.blocks(0, 10_000))
        world.stop()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EmbeddedWorld]:
    world = EmbeddedWorld(tmp_path / "ledger.sqlite")
    yield world
    world.stop()


def notarised(number: int, nonce: int = 0, watcher: int = 0, amount: int = 5) -> bytes:
    fields = deposit(ALICE.address, amount, number)
    return encode_transaction(WATCHERS[watcher], CHAIN, "notarise-deposit", nonce, fields)


def test_a_block_at_once_and_then_one_each_half_second(world: EmbeddedWorld) -> None:
    world.driver.submit(notarised(1))
    world.clock.advance(0)
    assert world.replica.height == 1
    for number in range(2, 5):
        world.driver.submit(notarised(number, number - 1))
        world.clock.advance(0.1)
    assert world.replica.height == 1
    world.clock.advance(INTERVAL)
    assert world.replica.height == 2
    assert len(world.store.block(2).transactions) == 3  # type: ignore[union-attr]
    world.clock.advance(3600)
    assert world.replica.height == 2  # nothing waits


def test_idle_blocks(tmp_path: Path) -> None:
    world = EmbeddedWorld(tmp_path / "ledger.sqlite", idle=10.0)
    world.clock.advance(35)
    assert world.replica.height == 3
    world.driver.submit(notarised(1))
    world.clock.advance(INTERVAL)
    assert world.replica.height == 4
    world.stop()


def test_one_account_cannot_take_all_the_room(world: EmbeddedWorld) -> None:
    for number in range(WAITING_PER_ACCOUNT):
        world.driver.submit(notarised(number, number))
    with pytest.raises(TransactionRefused) as refused:
        world.driver.submit(notarised(9999, WAITING_PER_ACCOUNT))
    assert refused.value.code == Refusal.TOO_MANY
    world.driver.submit(notarised(1, watcher=1))  # others have theirs
    world.clock.advance(INTERVAL)
    assert world.driver.waiting == 0


def test_a_flood_is_refused_when_the_room_is_full(world: EmbeddedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nymtw.ledger.embedded.driver.MOST_WAITING", 3)
    for number in range(3):
        world.driver.submit(notarised(number, number))
    with pytest.raises(TransactionRefused) as refused:
        world.driver.submit(notarised(9, 3))
    assert refused.value.code == Refusal.TOO_MANY
    world.clock.advance(INTERVAL)
    world.driver.submit(notarised(9, 3))


def test_a_transaction_sent_in_answer_to_a_block_comes_behind_those_that_wait(
    world: EmbeddedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nymtw.ledger.embedded.driver.MOST_IN_BLOCK", 1)
    world.replica.watchers.append(lambda block: world.driver.submit(notarised(50, 3)) if block.height == 1 else None)
    for number in range(3):
        world.driver.submit(notarised(number, number))
    world.clock.advance(5)
    assert world.driver.waiting == 0
    assert [[code for code, _ in block.outcomes] for block in world.store.blocks(0, 10)] == [[0]] * 4


@pytest.mark.parametrize("table", ["nodes", "blocks", "meta"])
def test_a_changed_state_is_noticed(tmp_path: Path, table: str) -> None:
    path = tmp_path / "ledger.sqlite"
    world = EmbeddedWorld(path)
    world.driver.submit(notarised(1))
    world.driver.submit(notarised(1, watcher=1, amount=5))
    world.clock.advance(1)
    other_root = world.store.root_at(0)
    world.stop()
    with sqlite3.connect(path) as database:
        if table == "nodes":
            [(node, body)] = database.execute(
                "SELECT hash, body FROM nodes WHERE instr(body, ?) AND substr(body, 1, 1) = x'00'",
                (b"account/" + ALICE.address,),
            ).fetchall()
            assert body.endswith(b"\x82\x05\x00")
            database.execute("UPDATE nodes SET body=? WHERE hash=?", (body[:-2] + b"\x17\x00", node))
        elif table == "blocks":
            [(body,)] = database.execute("SELECT block FROM blocks WHERE height=1").fetchall()
            database.execute("UPDATE blocks SET block=?", (body.replace(b"nymtw-test", b"nymtw-best"),))
        else:
            database.execute("UPDATE meta SET value=? WHERE name='root'", (b"\x58\x20" + (other_root or b""),))
    store = LedgerStore(path)
    replica = Replica(store, some_genesis())

    def start() -> None:
        replica.audit()
        EmbeddedWorld(path)

    with pytest.raises((LedgerBroken, ProofError)):
        start()
    store.close()


def test_a_change_under_a_running_node_stops_it(world: EmbeddedWorld, tmp_path: Path) -> None:
    world.driver.submit(notarised(1))
    world.driver.submit(notarised(1, watcher=1))
    world.clock.advance(1)
    world.restart()  # nothing is remembered
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        database.execute(
            "UPDATE nodes SET body=CAST(x'00' || substr(body, 2) AS BLOB) WHERE substr(body, 1, 1) = x'01'"
        )
    with pytest.raises(LedgerBroken):
        world.wait(clients.account(world.ledger, ALICE.address))
    assert isinstance(world.broken[0], LedgerBroken)


def test_another_genesis_is_refused(tmp_path: Path) -> None:
    EmbeddedWorld(tmp_path / "ledger.sqlite").stop()
    store = LedgerStore(tmp_path / "ledger.sqlite")
    with pytest.raises(LedgerBroken, match="another genesis"):
        Replica(store, some_genesis(minimum_bond=7))
    store.close()


def test_pruning(tmp_path: Path) -> None:
    world = EmbeddedWorld(tmp_path / "ledger.sqlite", keep=Keep(blocks=5, states=3))
    for number in range(20):
        world.driver.submit(notarised(number, number))
        world.clock.advance(1)
    assert [block.height for block in world.wait(world.ledger.blocks(0))] == [16, 17, 18, 19, 20]
    for height in (17, 18, 19, 20):
        answer = world.wait(world.ledger.query("account/0x" + WATCHERS[0].address.hex(), height))
        assert answer.value == bytes([0x82, 0, height])
    with pytest.raises(LedgerError, match="not kept"):
        world.wait(world.ledger.query("totals", 16))
    world.replica.audit()
    # What is left on disk is what these states are made of.
    reachable: set[bytes] = set()
    for height in (17, 18, 19, 20):
        reachable.update(key + value for key, value in world.store.items(world.store.root_at(height) or b""))
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        [(leaves,)] = database.execute("SELECT count(*) FROM nodes WHERE substr(body, 1, 1) = x'00'").fetchall()
    assert leaves == len(reachable)
    world.stop()


def test_a_forged_header(world: EmbeddedWorld) -> None:
    world.driver.submit(notarised(1))
    world.clock.advance(1)
    signed = world.wait(world.ledger.header(1))
    key = bytes(SIGNERS[0].verify_key)
    assert verify_header(signed.header, signed.signature, key, CHAIN, 1).root == world.replica.root
    for data, signature, who, chain, height in (
        (signed.header + b"\0", signed.signature, key, CHAIN, 1),
        (signed.header, bytes(64), key, CHAIN, 1),
        (signed.header, b"", key, CHAIN, 1),
        (signed.header, signed.signature, bytes(SIGNERS[1].verify_key), CHAIN, 1),
        (signed.header, signed.signature, key, "other", 1),
        (signed.header, signed.signature, key, CHAIN, 2),
    ):
        with pytest.raises(ProofError):
            verify_header(data, signature, who, chain, height)


def test_a_feed_of_blocks_misses_none_and_goes_on_after_errors(
    world: EmbeddedWorld, expected_failures: list[str]
) -> None:
    expected_failures.append("a block could not be taken")
    seen: list[int] = []
    faults = [2]

    def take(block: Any) -> None:
        if block.height in faults:
            faults.remove(block.height)
            raise RuntimeError("once")
        seen.append(block.height)

    feed = clients.BlockFeed(world.clock, world.ledger, take, 0)
    feed.startService()
    for number in range(5):
        world.driver.submit(notarised(number, number))
        world.clock.advance(1.5)
    assert seen == [1, 2, 3, 4, 5]
    feed.stopService()
    world.driver.submit(notarised(9, 5))
    world.clock.advance(1.5)
    assert seen == [1, 2, 3, 4, 5]


def test_two_who_use_one_account_get_both_through(world: EmbeddedWorld) -> None:
    from twisted.internet.defer import Deferred, gatherResults

    sent = [
        Deferred.fromCoroutine(
            clients.send(world.ledger, WATCHERS[0], "notarise-deposit", deposit(BOB.address, 5, number))
        )
        for number in range(2)
    ]
    assert [place.code for place in world.wait(gatherResults(sent))] == [0, 0]


def test_a_transaction_that_does_not_come_into_a_block(world: EmbeddedWorld) -> None:
    world.driver.stopService()
    with pytest.raises(LedgerError, match="stopping"):
        world.wait(clients.send(world.ledger, BOB, "new-account", NewAccount()))
