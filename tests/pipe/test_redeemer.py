"""A redeemer's rounds: approvals on the ledger, payments by a real EVM, turns, faults."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("eth_account", reason="needs nymtw[ethereum]")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ethereum"))

from embedded_world import EmbeddedWorld
from ethereum_world import FakeEthereum
from ledger_world import ALICE, REDEEMERS, WATCHERS, deposit

from nymtw.errors import ConfigError, EthereumError, EthereumRefused, LedgerError
from nymtw.ledger import clients
from nymtw.ledger.machine.kinds.withdraw import Withdraw
from nymtw.pipe.redeemer.paid import Paid
from nymtw.pipe.redeemer.redeeming import TURN, Redeeming

DEPTH = 2


class Payments(FakeEthereum):
    """Takes what redeemers send; `mine` lets it happen."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[bytes] = []
        self.sent = 0
        self.poor = False

    def _answer(self, method: str, parameters: Any) -> Any:
        match method:
            case "eth_estimateGas":
                if self.poor:
                    raise EthereumRefused(-32000, "insufficient funds for transfer")
                return "0x5208"
            case "eth_maxPriorityFeePerGas":
                return "0x1"
            case "eth_getTransactionCount":
                return hex(self.sent)
            case "eth_sendRawTransaction":
                from nymtw.ethereum.contracts import keccak
                from nymtw.ethereum.node import hex_text, octets

                raw = octets(parameters[0])
                self.waiting.append(raw)
                self.sent += 1
                return hex_text(keccak(raw))
        return super()._answer(method, parameters)


class Redeem:
    """Redeemers of one ledger, and one Ethereum."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = EmbeddedWorld(folder / "ledger.sqlite")
        self.ethereum = Payments()
        self.redeemers = [self.redeemer(number) for number in range(3)]
        for watcher in WATCHERS[:2]:
            self.send(watcher, "notarise-deposit", deposit(ALICE.address, 100))

    def redeemer(self, number: int, key: Any = None, pays: bool = True) -> Redeeming:
        """A new process of the same redeemer, as far as its files tell."""
        return Redeeming(
            self.world.clock,
            self.ethereum.node,
            self.world.ledger,
            key or REDEEMERS[number],
            Paid(self.folder / f"paid-{number}.json"),
            confirmations=DEPTH,
            pays=pays,
        )

    def send(self, key: Any, kind: str, fields: Any) -> None:
        self.world.wait(clients.send(self.world.ledger, key, kind, fields))

    def withdraw(self, amount: int = 5) -> None:
        self.send(ALICE, "withdraw", Withdraw(b"e" * 20, amount))

    def round(self, *numbers: int) -> None:
        for number in numbers or (0, 1, 2):
            self.world.wait(self.redeemers[number].round())

    def withdrawal(self, number: int = 1) -> Any:
        return self.world.wait(clients.withdrawal(self.world.ledger, number))

    @property
    def payments(self) -> int:
        return sum(each.payments for each in self.redeemers)


@pytest.fixture
def redeem(tmp_path: Path) -> Iterator[Redeem]:
    redeem = Redeem(tmp_path)
    yield redeem
    redeem.world.replica.audit()
    redeem.world.stop()


def test_enough_approve_and_one_pays(redeem: Redeem) -> None:
    redeem.withdraw()
    redeem.round(0)
    assert len(redeem.withdrawal().approvals) == 1
    assert redeem.payments == 0
    redeem.round(1)
    assert redeem.withdrawal().released
    redeem.round(2)
    redeem.round()
    assert redeem.payments == 1
    redeem.ethereum.released.add(1)
    redeem.ethereum.mine(count=DEPTH)
    redeem.round()
    assert [each.paid.below for each in redeem.redeemers] == [1, 1, 1]
    redeem.withdraw()
    redeem.round()
    assert len(redeem.withdrawal(2).approvals) == 2


def test_who_does_not_pay_is_followed_by_the_next(redeem: Redeem) -> None:
    redeem.withdraw()
    redeem.redeemers = [redeem.redeemer(number, pays=False) for number in range(3)]
    redeem.round()
    redeem.round()
    assert redeem.payments == 0
    order = sorted(range(3), key=lambda number: REDEEMERS[number].address)
    second = order[2]  # it is the turn of order[1] for withdrawal 1
    redeem.redeemers[second] = redeem.redeemer(second)
    redeem.round(second)
    redeem.world.clock.advance(TURN - 5)
    redeem.round(second)
    assert redeem.payments == 0
    redeem.world.clock.advance(10)
    redeem.round(second)
    assert redeem.payments == 1


def test_a_payment_that_is_stuck_is_sent_again_with_its_nonce(redeem: Redeem) -> None:
    redeem.withdraw()
    for _ in range(3):
        redeem.round()
    payer = next(number for number, each in enumerate(redeem.redeemers) if each.payments)
    redeem.round(payer)
    assert redeem.redeemers[payer].payments == 1
    redeem.world.clock.advance(61)
    redeem.round(payer)
    assert redeem.redeemers[payer].payments == 2
    from eth_account.typed_transactions import TypedTransaction
    from hexbytes import HexBytes

    first, second = (TypedTransaction.from_bytes(HexBytes(raw)).as_dict() for raw in redeem.ethereum.waiting)
    assert first["nonce"] == second["nonce"]
    assert second["maxFeePerGas"] > first["maxFeePerGas"]


def test_a_payment_that_a_reorganisation_takes_back_is_made_again(redeem: Redeem) -> None:
    redeem.withdraw()
    for _ in range(3):
        redeem.round()
    assert redeem.payments == 1
    redeem.ethereum.released.add(1)  # in the last block, not deep enough
    redeem.ethereum.mine(count=1)
    redeem.round()
    redeem.ethereum.released.clear()
    redeem.world.clock.advance(61)
    redeem.round()
    assert redeem.payments >= 2


def test_a_restart_asks_ethereum_what_is_paid(redeem: Redeem) -> None:
    redeem.withdraw()
    redeem.withdraw()
    for _ in range(3):
        redeem.round()
    redeem.ethereum.released.add(2)
    redeem.ethereum.mine(count=DEPTH)
    redeem.round()
    assert (redeem.redeemers[0].paid.below, redeem.redeemers[0].paid.above) == (0, {2})
    redeem.redeemers = [redeem.redeemer(number) for number in range(3)]
    assert redeem.redeemers[0].paid.above == {2}
    redeem.ethereum.released.add(1)
    redeem.round()
    assert (redeem.redeemers[0].paid.below, redeem.payments) == (2, 0)


def test_a_node_without_money_or_sense_pays_nothing(redeem: Redeem) -> None:
    redeem.withdraw()
    redeem.ethereum.poor = True
    redeem.round(0)
    redeem.round(1)
    redeem.world.clock.advance(2 * TURN)  # it is anybody's turn, once it is known that there is something to pay
    refusals = []
    for number in (0, 1, 2, 0):
        try:
            redeem.round(number)
        except EthereumRefused as error:
            refusals.append(str(error))
    assert refusals
    assert all("insufficient funds" in each for each in refusals)
    redeem.ethereum.poor = False
    redeem.ethereum.lies["eth_call"] = lambda truth: "0x"
    with pytest.raises(EthereumError, match="no number"):
        redeem.round()
    redeem.ethereum.lies.clear()
    redeem.ethereum.chain = 1
    with pytest.raises(EthereumError, match="is of chain 1"):
        redeem.round()
    assert redeem.payments == 0
    assert redeem.withdrawal().released  # approvals do not wait for Ethereum


def test_many_withdrawals_are_approved_in_few_blocks(redeem: Redeem) -> None:
    for _ in range(20):
        redeem.withdraw(1)
    height = redeem.world.replica.height
    redeem.round(0)
    assert redeem.redeemers[0].approvals == 20
    assert redeem.world.replica.height <= height + 2


def test_who_is_no_redeemer_says_so(redeem: Redeem) -> None:
    with pytest.raises(LedgerError, match="is no redeemer"):
        redeem.world.wait(redeem.redeemer(7, key=ALICE).round())


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "paid.json").write_text("[1]")
    with pytest.raises(ConfigError, match=r"paid\.json"):
        Paid(tmp_path / "paid.json")


@pytest.mark.evm
def test_the_contract_pays_what_the_ledger_has_released(tmp_path: Path) -> None:
    """The approvals that redeemers gave on the ledger, on a real pipe."""
    from test_pipe_contracts import RICH, Contracts, run

    from nymtw.ethereum.contracts import address_word, call_data, deploy_pipe, number_word, release_call
    from nymtw.ledger.machine.signatures import release_digest

    on = Contracts()
    on.pipe = on.create(deploy_pipe(on.token, [each.address for each in REDEEMERS], 2))
    on.send(on.token, call_data("transfer(address,uint256)", address_word(on.pipe), number_word(50)), RICH)
    approvals = [
        (key.address, key.sign(release_digest(on.chain_id, on.pipe, 7, ALICE.address, 5))) for key in REDEEMERS[:2]
    ]
    receipt = on.send(on.pipe, release_call(7, ALICE.address, 5, approvals))
    assert receipt.success
    assert on.balance(ALICE.address) == 5
    assert run(on.node.head()) == receipt.number
