"""What moves money, and every way to cheat that we know of. After each block all money is counted."""

from typing import Any

import cbor2
import pytest
from ledger_world import (
    ALICE,
    BOB,
    CAROL,
    CHAIN,
    REDEEMERS,
    SIGNERS,
    VALIDATORS,
    WATCHERS,
    LedgerWorld,
    bond,
    deposit,
    release,
    some_parameters,
)

from nymtw.errors import TransactionRefused
from nymtw.ledger.machine.kinds import KINDS
from nymtw.ledger.machine.kinds.new_account import NewAccount
from nymtw.ledger.machine.kinds.parameters import ChangeParameters
from nymtw.ledger.machine.kinds.transfer import Transfer
from nymtw.ledger.machine.kinds.unbond import Unbond
from nymtw.ledger.machine.kinds.withdraw import Withdraw
from nymtw.ledger.machine.parameters import MAX_AMOUNT
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.signatures import AccountKey, address_text
from nymtw.ledger.machine.state import Account, Bond, Totals, bond_key, identity_key, withdrawal_key
from nymtw.ledger.machine.transactions import decode_transaction, encode_transaction, seal

MILLION = 10**24  # a million tokens of 10**18 units


@pytest.fixture
def world() -> LedgerWorld:
    world = LedgerWorld()
    world.fund(ALICE, MILLION)
    world.open(BOB)
    return world


def totals(world: LedgerWorld) -> Totals:
    found: Totals = world.get(b"totals")
    return found


def test_a_deposit_counts_once_enough_watchers_report_it() -> None:
    world = LedgerWorld()
    assert world.do(WATCHERS[0], "notarise-deposit", deposit(ALICE.address, 5)) == 0
    assert world.account(ALICE) == Account(0, 0)
    assert world.do(WATCHERS[1], "notarise-deposit", deposit(ALICE.address, 5)) == 0
    assert world.account(ALICE).balance == 5
    assert world.do(WATCHERS[2], "notarise-deposit", deposit(ALICE.address, 5)) == Refusal.ALREADY_DONE
    assert totals(world) == Totals(notarised=5, balances=5)


def test_one_watcher_counts_once() -> None:
    world = LedgerWorld()
    assert world.do(WATCHERS[0], "notarise-deposit", deposit(ALICE.address, 5)) == 0
    for _ in range(3):
        assert world.do(WATCHERS[0], "notarise-deposit", deposit(ALICE.address, 5)) == Refusal.ALREADY_DONE
    assert world.account(ALICE).balance == 0


@pytest.mark.parametrize(
    "other", [{"amount": 6}, {"account": BOB.address}, {"block": b"b" * 32}, {"amount": 6, "account": BOB.address}]
)
def test_the_last_voter_cannot_change_anything(other: dict[str, Any]) -> None:
    world = LedgerWorld()
    first = {"account": ALICE.address, "amount": 5}
    assert world.do(WATCHERS[0], "notarise-deposit", deposit(**first)) == 0
    assert world.do(WATCHERS[1], "notarise-deposit", deposit(**{**first, **other})) == 0
    assert world.account(ALICE).balance == world.account(BOB).balance == 0
    # Who agrees decides between them; the other content never counts after.
    assert world.do(WATCHERS[2], "notarise-deposit", deposit(**first)) == 0
    assert (world.account(ALICE).balance, world.account(BOB).balance) == (5, 0)
    assert world.do(WATCHERS[0], "notarise-deposit", deposit(**{**first, **other})) == Refusal.ALREADY_DONE


def test_a_watcher_who_changes_its_mind_still_counts_once() -> None:
    world = LedgerWorld()
    for amount in (5, 6, 5, 7):
        assert world.do(WATCHERS[0], "notarise-deposit", deposit(ALICE.address, amount)) == 0
    # All three amounts have been named, each by the same one: one more vote for the first is one in all.
    assert world.do(WATCHERS[1], "notarise-deposit", deposit(ALICE.address, 5)) == 0
    assert world.account(ALICE).balance == 0
    assert world.do(WATCHERS[1], "notarise-deposit", deposit(ALICE.address, 7)) == 0
    assert world.account(ALICE).balance == 7


def test_a_deposit_moved_by_a_reorganisation_is_not_credited_again(world: LedgerWorld) -> None:
    moved = deposit(ALICE.address, MILLION, block=b"x" * 32)
    for watcher in WATCHERS:
        assert world.do(watcher, "notarise-deposit", moved) == Refusal.ALREADY_DONE
    assert totals(world).notarised == MILLION


def test_two_logs_of_one_transaction_are_two_deposits(world: LedgerWorld) -> None:
    for watcher in WATCHERS[:2]:
        assert world.do(watcher, "notarise-deposit", deposit(BOB.address, 3, log_index=1)) == 0
    assert world.account(BOB).balance == 3


@pytest.mark.parametrize(
    ("sender", "other", "code"),
    [
        (ALICE, {}, Refusal.NOT_AUTHORISED),
        (REDEEMERS[0], {}, Refusal.NOT_AUTHORISED),
        (WATCHERS[0], {"chain": 1}, Refusal.WRONG_CHAIN),
        (WATCHERS[0], {"amount": 0}, Refusal.BAD_AMOUNT),
        (WATCHERS[0], {"amount": -1}, Refusal.BAD_AMOUNT),
        (WATCHERS[0], {"amount": MAX_AMOUNT + 1}, Refusal.BAD_AMOUNT),
        (WATCHERS[0], {"amount": MAX_AMOUNT}, Refusal.BAD_AMOUNT),  # with the million it would be too much
        (WATCHERS[0], {"amount": MAX_AMOUNT - MILLION}, 0),
    ],
)
def test_who_may_notarise_and_what(world: LedgerWorld, sender: Any, other: dict[str, Any], code: int) -> None:
    fields = {"account": ALICE.address, "amount": 5, "number": 2, **other}
    assert world.do(sender, "notarise-deposit", deposit(**fields)) == code


def test_transfers(world: LedgerWorld) -> None:
    assert world.pay(ALICE, BOB, 7) == 0
    assert world.pay(ALICE, ALICE, MILLION - 7) == 0
    assert world.account(ALICE) == Account(MILLION - 7, 2)
    assert world.account(BOB) == Account(7, 1)  # new-account was its first


@pytest.mark.parametrize(
    ("sender", "recipient", "amount", "code"),
    [
        (ALICE, BOB, 0, Refusal.BAD_AMOUNT),
        (ALICE, BOB, -1, Refusal.BAD_AMOUNT),
        (ALICE, BOB, MAX_AMOUNT + 1, Refusal.BAD_AMOUNT),
        (ALICE, BOB, MILLION + 1, Refusal.INSUFFICIENT),
        (ALICE, BOB, MILLION, 0),
        (ALICE, CAROL, 1, Refusal.UNKNOWN_ACCOUNT),
        (CAROL, BOB, 1, Refusal.UNKNOWN_ACCOUNT),
        (BOB, ALICE, 1, Refusal.INSUFFICIENT),
    ],
)
def test_limits_of_a_transfer(world: LedgerWorld, sender: Any, recipient: Any, amount: int, code: int) -> None:
    before = (world.account(sender), world.account(recipient), totals(world))
    assert world.pay(sender, recipient, amount) == code
    if code:
        assert (world.account(sender), world.account(recipient), totals(world)) == before


def test_a_replay_does_nothing(world: LedgerWorld) -> None:
    paid = world.transaction(ALICE, "transfer", Transfer(BOB.address, 5))
    assert [each.code for each in world.block(paid, paid)] == [0, Refusal.WRONG_NONCE]
    assert [each.code for each in world.block(paid)] == [Refusal.WRONG_NONCE]
    assert world.account(BOB).balance == 5


def test_nonces_count_one_by_one(world: LedgerWorld) -> None:
    one, two, three = (world.transaction(ALICE, "transfer", Transfer(BOB.address, 1), nonce) for nonce in (0, 1, 2))
    codes = [outcome.code for outcome in world.block(three, two, one, two, three)]
    assert codes == [Refusal.WRONG_NONCE, Refusal.WRONG_NONCE, 0, 0, 0]


def test_two_transfers_cannot_spend_the_same_money(world: LedgerWorld) -> None:
    first = world.transaction(ALICE, "transfer", Transfer(BOB.address, MILLION), 0)
    second = world.transaction(ALICE, "transfer", Transfer(BOB.address, 1), 1)
    assert [each.code for each in world.block(first, second)] == [0, Refusal.INSUFFICIENT]


def test_a_signature_covers_every_field(world: LedgerWorld) -> None:
    good = world.transaction(ALICE, "transfer", Transfer(BOB.address, 5))
    body, signature = cbor2.loads(good)
    chain, kind, nonce, (recipient, amount) = cbor2.loads(body)
    world.open(CAROL)
    for changed in (
        [chain, kind, nonce, [recipient, amount + 1]],
        [chain, kind, nonce, [CAROL.address, amount]],
        [chain, kind, nonce + 1, [recipient, amount]],
        [chain, "withdraw", nonce, [recipient, amount]],
        ["other", kind, nonce, [recipient, amount]],
    ):
        forged = seal(cbor2.dumps(changed, canonical=True), signature)
        [outcome] = world.block(forged)
        assert outcome.code in (Refusal.UNKNOWN_ACCOUNT, Refusal.WRONG_CHAIN, Refusal.BAD_SIGNATURE)
    assert world.account(ALICE) == Account(MILLION, 0)


def test_a_transaction_has_one_form_only(world: LedgerWorld) -> None:
    good = world.transaction(ALICE, "transfer", Transfer(BOB.address, 5))
    body, signature = cbor2.loads(good)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    mirrored = (order - int.from_bytes(signature[32:64])).to_bytes(32)
    for other in (
        seal(body, signature[:32] + mirrored + bytes([55 - signature[64]])),  # the same signature, the other s
        seal(body, signature[:64] + bytes([signature[64] - 27])),
        seal(body, bytes(64) + b"\x1b"),
        seal(body, signature[:64]),
        good + b"\0",
        b"\x9f" + good[1:] + b"\xff",
        b"\x82\x59\x00" + good[2:],
        b"",
        b"\xff" * 50,
        b"\x81" * 5000,
        cbor2.dumps([body, signature, b""], canonical=True),
    ):
        with pytest.raises(TransactionRefused) as refused:
            decode_transaction(other, CHAIN)
        assert refused.value.code in (Refusal.MALFORMED, Refusal.BAD_SIGNATURE)
    assert decode_transaction(good, CHAIN).sender == ALICE.address


@pytest.mark.parametrize("name", sorted(KINDS))
def test_strange_fields_are_refused(world: LedgerWorld, name: str) -> None:
    for plain in ([], [None] * 9, [1.5, {}], [{"a": [b""]}], [cbor2.undefined], [1, {"watchers": cbor2.undefined}]):
        body = cbor2.dumps([CHAIN, name, 0, plain], canonical=True)
        [outcome] = world.block(seal(body, ALICE.sign(body)))
        assert outcome.code != 0 or (name == "new-account" and plain == [])


def test_too_large() -> None:
    world = LedgerWorld(transaction_bytes=1024)
    vote = ChangeParameters(1, {"watchers": [number.to_bytes(20) for number in range(100)]})
    assert world.do(VALIDATORS[0], "parameters", vote) == Refusal.TOO_LARGE
    with pytest.raises(TransactionRefused) as refused:
        decode_transaction(bytes(48 * 1024 + 1), CHAIN)
    assert refused.value.code == Refusal.TOO_LARGE


def test_new_accounts_are_few_in_a_block() -> None:
    world = LedgerWorld(new_accounts_per_block=2)
    opened = [world.transaction(key, "new-account", NewAccount()) for key in (ALICE, BOB, CAROL)]
    assert [each.code for each in world.block(*opened)] == [0, 0, Refusal.TOO_MANY]
    assert [each.code for each in world.block(opened[2])] == [0]
    assert world.do(ALICE, "new-account", NewAccount()) == Refusal.ALREADY_DONE


def test_a_withdrawal_leaves_once_enough_redeemers_approve(world: LedgerWorld) -> None:
    there = b"e" * 20
    assert world.do(ALICE, "withdraw", Withdraw(there, 100)) == 0
    assert totals(world) == Totals(notarised=MILLION, balances=MILLION - 100, withdrawing=100)
    assert world.do(REDEEMERS[0], "release", release(REDEEMERS[0], 1, there, 100)) == 0
    assert not world.get(withdrawal_key(1)).released
    assert world.do(REDEEMERS[0], "release", release(REDEEMERS[0], 1, there, 100)) == Refusal.ALREADY_DONE
    assert world.do(REDEEMERS[1], "release", release(REDEEMERS[1], 1, there, 100)) == 0
    found = world.get(withdrawal_key(1))
    assert found.released
    assert {address for address, _ in found.approvals} == {REDEEMERS[0].address, REDEEMERS[1].address}
    assert totals(world) == Totals(notarised=MILLION, released=100, balances=MILLION - 100)
    assert world.do(REDEEMERS[2], "release", release(REDEEMERS[2], 1, there, 100)) == Refusal.ALREADY_DONE


def test_a_redeemer_cannot_release_anything_else(world: LedgerWorld) -> None:
    there = b"e" * 20
    world.do(ALICE, "withdraw", Withdraw(there, 100))
    for forged, code in (
        (release(REDEEMERS[0], 1, BOB.address, 100), Refusal.CONTRADICTION),
        (release(REDEEMERS[0], 1, there, 101), Refusal.CONTRADICTION),
        (release(REDEEMERS[0], 2, there, 100), Refusal.UNKNOWN_ACCOUNT),
        (release(REDEEMERS[1], 1, there, 100), Refusal.BAD_SIGNATURE),  # another's approval, handed in as its own
    ):
        assert world.do(REDEEMERS[0], "release", forged) == code
    assert world.do(ALICE, "release", release(ALICE, 1, there, 100)) == Refusal.NOT_AUTHORISED
    assert totals(world).withdrawing == 100


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (Withdraw(b"e" * 20, 9), Refusal.BAD_AMOUNT),
        (Withdraw(bytes(20), 10), Refusal.UNKNOWN_ACCOUNT),
        (Withdraw(b"e" * 20, MILLION + 1), Refusal.INSUFFICIENT),
        (Withdraw(b"e" * 20, MILLION), 0),
    ],
)
def test_limits_of_a_withdrawal(fields: Withdraw, code: int) -> None:
    world = LedgerWorld(minimum_withdrawal=10)
    world.fund(ALICE, MILLION)
    assert world.do(ALICE, "withdraw", fields) == code


def test_a_bond_comes_back_after_the_unbonding_epochs(world: LedgerWorld) -> None:
    node = SIGNERS[0]
    assert world.do(ALICE, "bond", bond(ALICE, node, 50)) == 0
    assert world.do(ALICE, "bond", bond(ALICE, node, 20)) == 0
    assert world.do(ALICE, "unbond", Unbond(30)) == 0
    assert world.do(ALICE, "unbond", Unbond(40)) == 0
    assert world.get(bond_key(ALICE.address)) == Bond(bytes(node.verify_key), 0, 70)
    assert totals(world) == Totals(notarised=MILLION, balances=MILLION - 70, unbonding=70)
    assert world.do(ALICE, "unbond", Unbond(1)) == Refusal.INSUFFICIENT
    world.block()
    world.block()  # four blocks after the first
    assert world.get(bond_key(ALICE.address)) == Bond(bytes(node.verify_key), 0, 40)
    world.block()
    assert world.get(bond_key(ALICE.address)) is None
    assert world.get(identity_key(bytes(node.verify_key))) is None
    assert world.account(ALICE).balance == MILLION


def test_a_node_has_one_bond_and_must_want_it(world: LedgerWorld) -> None:
    node, other = SIGNERS[:2]
    world.pay(ALICE, BOB, 100)
    stolen = bond(ALICE, node, 10)
    assert world.do(BOB, "bond", stolen) == Refusal.BAD_SIGNATURE
    assert world.do(ALICE, "bond", stolen) == 0
    assert world.do(BOB, "bond", bond(BOB, node, 10)) == Refusal.ALREADY_DONE
    assert world.do(ALICE, "bond", bond(ALICE, other, 10)) == Refusal.CONTRADICTION
    assert world.do(BOB, "bond", bond(BOB, other, 101)) == Refusal.INSUFFICIENT
    assert world.do(BOB, "bond", bond(BOB, other, 0)) == Refusal.BAD_AMOUNT


def test_the_least_bond() -> None:
    world = LedgerWorld(minimum_bond=100)
    world.fund(ALICE, 1000)
    assert world.do(ALICE, "bond", bond(ALICE, SIGNERS[0], 99)) == Refusal.BAD_AMOUNT
    assert world.do(ALICE, "bond", bond(ALICE, SIGNERS[0], 100)) == 0
    assert world.do(ALICE, "bond", bond(ALICE, SIGNERS[0], 1)) == 0
    assert world.do(ALICE, "unbond", Unbond(2)) == Refusal.BAD_AMOUNT
    assert world.do(ALICE, "unbond", Unbond(101)) == 0


def test_parameters_change_with_more_than_two_thirds(world: LedgerWorld) -> None:
    vote = ChangeParameters(1, {"watcher_threshold": 1})
    for validator in VALIDATORS[:2]:
        assert world.do(validator, "parameters", vote) == 0
    assert world.do(VALIDATORS[1], "parameters", vote) == Refusal.ALREADY_DONE
    assert world.do(VALIDATORS[2], "parameters", ChangeParameters(1, {"watcher_threshold": 3})) == 0
    assert world.get(b"parameters")["watcher_threshold"] == 2
    assert world.do(VALIDATORS[3], "parameters", vote) == 0
    found = world.get(b"parameters")
    assert (found["watcher_threshold"], found["version"]) == (1, 1)
    # What was voted for then cannot be voted for again.
    assert world.do(VALIDATORS[0], "parameters", vote) == Refusal.CONTRADICTION
    assert world.do(WATCHERS[0], "notarise-deposit", deposit(BOB.address, 1, 2)) == 0
    assert world.account(BOB).balance == 1


def test_a_vote_of_somebody_who_no_longer_may_weighs_nothing(world: LedgerWorld) -> None:
    assert world.do(WATCHERS[0], "notarise-deposit", deposit(BOB.address, 5, 2)) == 0
    kept = ChangeParameters(1, {"watchers": [key.address for key in WATCHERS[1:]]})
    for validator in VALIDATORS[:3]:
        assert world.do(validator, "parameters", kept) == 0
    assert world.do(WATCHERS[0], "notarise-deposit", deposit(BOB.address, 5, 3)) == Refusal.NOT_AUTHORISED
    assert world.do(WATCHERS[1], "notarise-deposit", deposit(BOB.address, 5, 2)) == 0
    assert world.account(BOB).balance == 0
    assert world.do(WATCHERS[2], "notarise-deposit", deposit(BOB.address, 5, 2)) == 0
    assert world.account(BOB).balance == 5


def test_validators_change_by_vote(world: LedgerWorld) -> None:
    three = some_parameters().validators[:3]
    vote = ChangeParameters(1, {"validators": [list(each) for each in ([v.address, v.key, v.power] for v in three)]})
    for validator in VALIDATORS[1:]:
        assert world.do(validator, "parameters", vote) == 0
    assert world.validators[-1] == three
    assert world.validators[-2] is None
    assert world.do(VALIDATORS[3], "parameters", ChangeParameters(2, {"minimum_bond": 5})) == Refusal.NOT_AUTHORISED


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, Refusal.MALFORMED),
        ({"no_such": 1}, Refusal.MALFORMED),
        ({"version": 7}, Refusal.MALFORMED),
        ({"watcher_threshold": 4}, Refusal.MALFORMED),
        ({"watcher_threshold": 0}, Refusal.MALFORMED),
        ({"watcher_threshold": 2.5}, Refusal.MALFORMED),
        ({"validators": []}, Refusal.MALFORMED),
        ({"watchers": [WATCHERS[0].address] * 2}, Refusal.MALFORMED),
        ({"minimum_bond": 0}, Refusal.MALFORMED),
        ({"minimum_bond": 2**100}, 0),
    ],
)
def test_parameters_that_cannot_be(world: LedgerWorld, changes: dict[str, Any], code: int) -> None:
    assert world.do(VALIDATORS[0], "parameters", ChangeParameters(1, changes)) == code


def test_who_is_no_validator_does_not_vote(world: LedgerWorld) -> None:
    assert world.do(ALICE, "parameters", ChangeParameters(1, {"minimum_bond": 5})) == Refusal.NOT_AUTHORISED


def test_what_a_block_is_chosen_from(world: LedgerWorld) -> None:
    good = [world.transaction(ALICE, "transfer", Transfer(BOB.address, 1), nonce) for nonce in range(4)]
    waiting = [b"nonsense", good[0], good[2], good[1], good[3], good[0]]
    chosen, applied = world.machine.select(world.tree.get, world.height + 1, waiting, 10**6)
    assert chosen == [good[0], good[1]]
    assert applied == world.machine.apply(world.tree.get, world.height + 1, chosen)
    assert all(outcome.code == 0 for outcome in world.block(*chosen))
    room = len(good[2]) + len(good[3]) + 7
    assert world.machine.select(world.tree.get, world.height + 1, good[2:], room, cost=4)[0] == good[2:3]


def test_what_a_wallet_signs() -> None:
    # By eth-account 0.14: Account.sign_message(encode_defunct(primitive=body), key) and Account.from_key(key).address.
    key = AccountKey(b"\x01" * 32)
    data = encode_transaction(key, CHAIN, "transfer", 3, Transfer(b"\x22" * 20, 10**18))
    _, signature = cbor2.loads(data)
    assert address_text(key.address) == "0x1a642f0E3c3aF545E7AcBD38b07251B3990914F1"
    assert signature.hex() == (
        "dba85ec6cafa8c9380b045b0c97d6b2e28590ab0a0019ee54211e804d3161665"
        "01fee0f9108c281347a72a4335f1a99bb14cc1b16798fc2d02c548177124c4ee1b"
    )
