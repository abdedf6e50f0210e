"""What every driver of the ledger does, seen through `ILedger`."""

from typing import Any

import pytest
from ledger_world import ALICE, BOB, CAROL, CHAIN, REDEEMERS, SIGNERS, WATCHERS, bond, deposit, release

from zope.interface.verify import verifyObject

from nymtw.errors import EncodingError, LedgerError, ProofError, TransactionRefused
from nymtw.interfaces import ILedger
from nymtw.ledger import clients
from nymtw.ledger.machine.kinds.new_account import NewAccount
from nymtw.ledger.machine.kinds.transfer import Transfer
from nymtw.ledger.machine.kinds.unbond import Unbond
from nymtw.ledger.machine.kinds.withdraw import Withdraw
from nymtw.ledger.machine.merkle import verify
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.state import Account, Bond, Totals
from nymtw.ledger.machine.transactions import encode_transaction, transaction_id


class LedgerUnderTest:
    """One ledger of `some_genesis()`, made for one test."""

    ledger: Any  # ILedger

    def wait(self, answer: Any) -> Any:
        """The result of a Deferred or a coroutine, once time has passed for it."""
        raise NotImplementedError

    def pause(self) -> None:
        """Let a block's time go by."""
        raise NotImplementedError

    def restart(self) -> None:
        """End what keeps the ledger, and start it again over the same files."""
        raise NotImplementedError

    def confirm(self, height: int, root: bytes) -> None:
        """Raises `ProofError` unless the validators have signed that the state of this height has this root."""
        raise NotImplementedError


class LedgerContract:
    """Derive, and define the fixture `under`."""

    @pytest.fixture
    def ledger(self, under: LedgerUnderTest) -> Any:
        return under.ledger

    def send(self, under: LedgerUnderTest, key: Any, kind: str, fields: Any) -> Any:
        return under.wait(clients.send(under.ledger, key, kind, fields))

    def fund(self, under: LedgerUnderTest, *amounts: tuple[Any, int]) -> None:
        for number, (key, amount) in enumerate(amounts, 1):
            for watcher in WATCHERS[:2]:
                self.send(under, watcher, "notarise-deposit", deposit(key.address, amount, number))

    def balance(self, under: LedgerUnderTest, key: Any) -> int:
        found = under.wait(clients.account(under.ledger, key.address))
        return found.balance if found else 0

    def test_who_is_bonded(self, under: LedgerUnderTest, ledger: Any) -> None:
        assert under.wait(ledger.bonds()) == []
        self.fund(under, (ALICE, 10), (BOB, 10), (CAROL, 10))
        for place, key in enumerate((ALICE, BOB, CAROL)):
            self.send(under, key, "bond", bond(key, SIGNERS[place], place + 1))
        keys = sorted((ALICE, BOB, CAROL), key=lambda key: key.address)
        listed = under.wait(ledger.bonds())
        assert [address for address, _ in listed] == [key.address for key in keys]
        assert dict(listed)[BOB.address] == Bond(bytes(SIGNERS[1].verify_key), 2, 0)
        assert under.wait(ledger.bonds(b"", 2)) == listed[:2]
        assert under.wait(ledger.bonds(keys[0].address)) == listed[1:]
        under.restart()
        assert under.wait(under.ledger.bonds()) == listed
        self.send(under, ALICE, "unbond", Unbond(1))
        for _ in range(6):  # blocks until it is paid out
            self.send(under, BOB, "transfer", Transfer(CAROL.address, 1))
        assert ALICE.address not in dict(under.wait(under.ledger.bonds()))

    def test_interface(self, ledger: Any) -> None:
        assert verifyObject(ILedger, ledger)

    def test_a_new_ledger(self, under: LedgerUnderTest) -> None:
        status = under.wait(under.ledger.status())
        assert status.chain == CHAIN
        assert under.wait(clients.totals(under.ledger)) == Totals()
        assert under.wait(clients.account(under.ledger, ALICE.address)) is None
        assert under.wait(clients.account(under.ledger, WATCHERS[0].address)) == Account(0, 0)
        assert under.wait(clients.parameters(under.ledger)).watcher_threshold == 2

    def test_money_comes_in_moves_and_goes_out(self, under: LedgerUnderTest) -> None:
        self.fund(under, (ALICE, 100))
        self.send(under, BOB, "new-account", NewAccount())
        place = self.send(under, ALICE, "transfer", Transfer(BOB.address, 30))
        assert place.code == 0
        assert (self.balance(under, ALICE), self.balance(under, BOB)) == (70, 30)
        self.send(under, BOB, "withdraw", Withdraw(b"e" * 20, 20))
        assert under.wait(clients.withdrawals(under.ledger)) == 1
        for redeemer in REDEEMERS[:2]:
            self.send(under, redeemer, "release", release(redeemer, 1, b"e" * 20, 20))
        found = under.wait(clients.withdrawal(under.ledger, 1))
        assert found.released
        assert len(found.approvals) == 2
        assert under.wait(clients.totals(under.ledger)) == Totals(notarised=100, released=20, balances=80)

    def test_refusals_come_with_their_code(self, under: LedgerUnderTest) -> None:
        self.fund(under, (ALICE, 100))
        for data, code in (
            (b"nonsense", Refusal.MALFORMED),
            (encode_transaction(ALICE, "another", "transfer", 0, Transfer(ALICE.address, 1)), Refusal.WRONG_CHAIN),
            (encode_transaction(ALICE, CHAIN, "transfer", 5, Transfer(ALICE.address, 1)), Refusal.WRONG_NONCE),
            (encode_transaction(ALICE, CHAIN, "transfer", 0, Transfer(ALICE.address, 101)), Refusal.INSUFFICIENT),
            (encode_transaction(CAROL, CHAIN, "transfer", 0, Transfer(ALICE.address, 1)), Refusal.UNKNOWN_ACCOUNT),
        ):
            with pytest.raises(TransactionRefused) as refused:
                under.wait(under.ledger.submit(data))
            assert refused.value.code == code
            assert str(refused.value)

    def test_the_same_transaction_again_is_the_same(self, under: LedgerUnderTest) -> None:
        self.fund(under, (ALICE, 100))
        data = encode_transaction(ALICE, CHAIN, "transfer", 0, Transfer(ALICE.address, 1))
        first = under.wait(under.ledger.submit(data))
        assert first == transaction_id(data) == under.wait(under.ledger.submit(data))
        assert under.wait(under.ledger.result(first, 30.0)).code == 0
        assert under.wait(clients.account(under.ledger, ALICE.address)).nonce == 1

    def test_several_of_one_account_in_a_row(self, under: LedgerUnderTest) -> None:
        self.fund(under, (ALICE, 100))
        rows = [encode_transaction(ALICE, CHAIN, "transfer", nonce, Transfer(ALICE.address, 1)) for nonce in range(5)]
        names = [under.wait(under.ledger.submit(data)) for data in rows]
        places = [under.wait(under.ledger.result(name, 30.0)) for name in names]
        assert [place.code for place in places] == [0] * 5
        assert sorted((place.height, place.position) for place in places) == [
            (place.height, place.position) for place in places
        ]

    def test_what_is_in_no_block(self, under: LedgerUnderTest) -> None:
        assert under.wait(under.ledger.result(bytes(32))) is None
        assert under.wait(under.ledger.result(bytes(32), 1.0)) is None

    def test_blocks_come_in_order_and_hold_everything(self, under: LedgerUnderTest) -> None:
        self.fund(under, (ALICE, 100), (BOB, 5))
        blocks = under.wait(under.ledger.blocks(0))
        heights = [block.height for block in blocks]
        assert heights == list(range(1, len(heights) + 1))
        assert sum(len(block.transactions) for block in blocks) == 4
        assert under.wait(under.ledger.blocks(heights[0], 1)) == (blocks[1],)
        assert all(code == 0 for block in blocks for code, _ in block.outcomes)

    def test_a_waiting_client_is_told_of_a_block(self, under: LedgerUnderTest) -> None:
        height = under.wait(under.ledger.status()).height
        data = encode_transaction(WATCHERS[0], CHAIN, "notarise-deposit", 0, deposit(ALICE.address, 5))
        name = under.wait(under.ledger.submit(data))
        found: list[bytes] = []
        while not found:  # a node that many sign with may have an empty block on the way
            blocks = under.wait(under.ledger.blocks(height, wait=25.0))
            assert blocks
            height = blocks[-1].height
            found = [transaction_id(each) for block in blocks for each in block.transactions]
        assert found == [name]

    def test_proofs_lead_to_what_validators_have_signed(self, under: LedgerUnderTest) -> None:
        self.fund(under, (ALICE, 100))
        self.send(under, BOB, "new-account", NewAccount())
        height = under.wait(under.ledger.status()).height
        for path in (f"account/0x{ALICE.address.hex()}", f"account/0x{CAROL.address.hex()}", "totals"):
            answer = under.wait(under.ledger.query(path, height, True))
            assert answer.height == height
            assert (answer.value is None) == path.endswith(CAROL.address.hex())
            under.confirm(height, answer.root)
            verify(answer.root, answer.key, answer.value, answer.proof)
            with pytest.raises(ProofError):
                under.confirm(height, bytes(32))

    def test_questions_that_cannot_be_answered(self, under: LedgerUnderTest) -> None:
        for path in ("", "nothing", "account/0x12", "withdrawal/x", "account/" + "0x" + "g" * 40):
            with pytest.raises(EncodingError):
                under.wait(under.ledger.query(path))
        with pytest.raises(LedgerError):
            under.wait(under.ledger.query("totals", 10**9))
        with pytest.raises(LedgerError):
            under.wait(under.ledger.header(10**9))

    def test_what_is_in_a_block_survives(self, under: LedgerUnderTest) -> None:
        self.fund(under, (ALICE, 100))
        before = under.wait(under.ledger.status())
        blocks = under.wait(under.ledger.blocks(0))
        under.restart()
        after = under.wait(under.ledger.status())
        assert after.height >= before.height
        assert after.root == before.root
        assert under.wait(under.ledger.blocks(0))[: len(blocks)] == blocks
        self.send(under, BOB, "new-account", NewAccount())
        self.send(under, ALICE, "transfer", Transfer(BOB.address, 1))
        assert self.balance(under, BOB) == 1
