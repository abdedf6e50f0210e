"""Token and pipe in a real EVM, what their logs say, and that they are what the compiler makes of their source."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("eth_account", reason="needs nymtw[ethereum]")

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nymtw.errors import EthereumError, EthereumRefused
from nymtw.ethereum import contracts
from nymtw.ethereum.contracts import (
    PIPED,
    TRANSFER,
    PipeDeposit,
    address_word,
    artefact,
    call_data,
    deploy_pipe,
    deploy_token,
    may_hold,
    number_word,
    pipe_deposits,
    read_address,
    read_number,
    release_call,
)
from nymtw.ethereum.node import EthereumNode
from nymtw.ethereum.transactions import TransactionSender
from nymtw.ledger.machine.signatures import AccountKey, release_digest

ROOT = Path(__file__).resolve().parents[2]
RICH = AccountKey((1).to_bytes(32))
ALICE, BOB = (AccountKey(bytes([letter]) * 32) for letter in b"ab")
REDEEMERS = [AccountKey(bytes([letter]) * 32) for letter in b"rst"]


class Contracts:
    """Token and pipe on a chain in this process; a block for each transaction."""

    def __init__(self) -> None:
        pytest.importorskip("eth", reason="needs nymtw[evm]")
        from nymtw.ethereum.evm import CHAIN, DevelopmentChain
        from nymtw.ethereum.evm_calls import EVMCalls

        self.chain = DevelopmentChain(lambda: 1_800_000_000.0)
        self._calls = EVMCalls(self.chain, self.chain.mine)
        self.node = EthereumNode(self)
        self.chain_id = CHAIN
        self.token = self.create(deploy_token(10**27))
        self.pipe = self.create(deploy_pipe(self.token, [each.address for each in REDEEMERS], 2))

    async def call(self, method: str, *parameters: Any) -> Any:
        body = json.dumps({"id": 1, "method": method, "params": parameters}).encode()
        answer = json.loads(self._calls.answer(body))
        if "error" in answer:
            raise EthereumRefused(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def sender(self, key: AccountKey = RICH) -> TransactionSender:
        return TransactionSender(Clock(), self.node, key, self.chain_id)

    def create(self, data: bytes) -> bytes:
        found: bytes = run(self.sender().deploy(data))
        return found

    def send(self, to: bytes, data: bytes, key: AccountKey = RICH, value: int = 0) -> Any:
        async def work() -> Any:
            sender = self.sender(key)
            return await sender.wait(await sender.send(to, data, value))

        return run(work())

    def fund(self, key: AccountKey, tokens: int) -> None:
        self.send(key.address, b"", value=10**18)
        if tokens:
            self.send(
                self.token, call_data("transfer(address,uint256)", address_word(key.address), number_word(tokens))
            )

    def balance(self, address: bytes) -> int:
        return read_number(run(self.node.call(self.token, call_data("balanceOf(address)", address_word(address)))))

    def approvals(self, *keys: AccountKey, number: int = 1, amount: int = 5, **other: Any) -> list[tuple[bytes, bytes]]:
        fields = {"chain": self.chain_id, "pipe": self.pipe, "recipient": BOB.address, **other}
        digest = release_digest(fields["chain"], fields["pipe"], number, fields["recipient"], amount)
        return [(key.address, key.sign(digest)) for key in keys]

    def release(self, approvals: Any, number: int = 1, recipient: bytes = BOB.address, amount: int = 5) -> Any:
        return self.send(self.pipe, release_call(number, recipient, amount, approvals))


def run(work: Any) -> Any:
    """What a coroutine that waits for nothing returns."""
    found: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(found.append)
    [result] = found
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


@pytest.fixture(scope="module")
def deployed() -> Contracts:
    return Contracts()


@pytest.fixture
def on(deployed: Contracts) -> Iterator[Contracts]:
    """The contracts as they are at first."""
    height = deployed.chain.head
    yield deployed
    deployed.chain.rollback(deployed.chain.head - height)


@pytest.mark.evm
def test_a_plain_transfer_is_the_senders(on: Contracts) -> None:
    on.fund(ALICE, 10)
    data = call_data("transfer(address,uint256)", address_word(on.pipe), number_word(4))
    receipt = on.send(on.token, data, ALICE)
    assert pipe_deposits(receipt.logs, on.pipe, on.token) == [PipeDeposit(0, ALICE.address, 4)]
    header = run(on.node.header(receipt.number))
    assert may_hold(header.bloom, on.token, TRANSFER, address_word(on.pipe))
    assert not may_hold(header.bloom, PIPED)


@pytest.mark.evm
def test_pipe_names_the_account(on: Contracts) -> None:
    on.fund(ALICE, 10)
    to_bob = call_data("pipe(address,uint256)", address_word(BOB.address), number_word(4))
    with pytest.raises(EthereumRefused):
        on.send(on.pipe, to_bob, ALICE)  # not approved
    on.send(on.token, call_data("approve(address,uint256)", address_word(on.pipe), number_word(7)), ALICE)
    receipt = on.send(on.pipe, to_bob, ALICE)
    assert pipe_deposits(receipt.logs, on.pipe, on.token) == [PipeDeposit(1, BOB.address, 4)]
    assert (on.balance(ALICE.address), on.balance(on.pipe)) == (6, 4)
    for wrong in (
        call_data("pipe(address,uint256)", address_word(BOB.address), number_word(4)),  # more than was approved
        call_data("pipe(address,uint256)", address_word(BOB.address), number_word(0)),
        call_data("pipe(address,uint256)", address_word(bytes(20)), number_word(1)),
    ):
        with pytest.raises(EthereumRefused):
            on.send(on.pipe, wrong, ALICE)
    run(on.node.logs(0, receipt.number, on.token, (TRANSFER, None, address_word(on.pipe))))
    assert run(on.node.block_receipts(receipt.number)) == [receipt]


@pytest.mark.evm
def test_enough_redeemers_release_once(on: Contracts) -> None:
    on.send(on.token, call_data("transfer(address,uint256)", address_word(on.pipe), number_word(12)))
    assert on.release(on.approvals(REDEEMERS[2], REDEEMERS[0])).success
    assert (on.balance(BOB.address), on.balance(on.pipe)) == (5, 7)
    assert read_number(run(on.node.call(on.pipe, call_data("released(uint256)", number_word(1))))) == 1
    with pytest.raises(EthereumRefused):
        on.release(on.approvals(REDEEMERS[1], REDEEMERS[0]))  # a second time
    assert on.release(on.approvals(*REDEEMERS, number=2), number=2).success
    with pytest.raises(EthereumRefused):
        on.release(on.approvals(*REDEEMERS, number=3), number=3)  # more than the pipe has
    assert read_number(run(on.node.call(on.pipe, call_data("released(uint256)", number_word(3))))) == 0


@pytest.mark.evm
def test_what_does_not_release(on: Contracts) -> None:
    on.send(on.token, call_data("transfer(address,uint256)", address_word(on.pipe), number_word(50)))
    first, second, _ = REDEEMERS
    one = on.approvals(first)
    attempts: dict[str, Any] = {
        "too few": one,
        "the same one twice": one * 2,
        "nobody's": [*one, (b"\xff" * 20, bytes(65))],
        "not of a redeemer": [*one, *on.approvals(ALICE)],
        "of another number": on.approvals(first, second, number=2),
        "of another amount": on.approvals(first, second, amount=6),
        "of another recipient": on.approvals(first, second, recipient=ALICE.address),
        "of another pipe": on.approvals(first, second, pipe=ALICE.address),
        "of another chain": on.approvals(first, second, chain=1),
        "too short": [*one, (second.address, on.approvals(second)[0][1][:64])],
        "too long": [*one, (second.address, on.approvals(second)[0][1] + b"\0")],
        "none": [],
    }
    for name, approvals in attempts.items():
        try:
            on.release(approvals)
        except EthereumRefused:
            continue
        pytest.fail(name)
    signed = on.approvals(first, second)
    reordered = release_call(1, BOB.address, 5, [(b"\1", signed[0][1]), (b"\2", signed[1][1])])
    backwards = release_call(1, BOB.address, 5, [(b"\2", signed[0][1]), (b"\1", signed[1][1])])
    outcomes = []
    for data in (reordered, backwards):
        try:
            outcomes.append(on.send(on.pipe, data).success)
        except EthereumRefused:
            outcomes.append(False)
    assert sorted(outcomes) == [False, True]  # in one order alone, so that nobody counts twice


@pytest.mark.evm
@pytest.mark.parametrize(
    ("redeemers", "threshold"),
    [([], 0), ([], 1), ([b"r" * 20], 2), ([b"r" * 20] * 2, 1), ([bytes(20)], 1), ([b"r" * 20], 0)],
)
def test_a_pipe_that_cannot_be(on: Contracts, redeemers: Any, threshold: int) -> None:
    with pytest.raises(EthereumRefused):
        on.create(deploy_pipe(on.token, redeemers, threshold))


@pytest.mark.evm
def test_a_token_that_nobody_makes_more_of(on: Contracts) -> None:
    supply = read_number(run(on.node.call(on.token, call_data("totalSupply()"))))
    on.fund(ALICE, 10)
    assert on.balance(RICH.address) + on.balance(ALICE.address) == supply == 10**27
    for wrong in (
        call_data("transfer(address,uint256)", address_word(BOB.address), number_word(11)),
        call_data("transfer(address,uint256)", address_word(bytes(20)), number_word(1)),
        call_data(
            "transferFrom(address,address,uint256)",
            address_word(RICH.address),
            address_word(ALICE.address),
            number_word(1),
        ),
        call_data("approve(address,uint256)", address_word(bytes(20)), number_word(1)),
    ):
        with pytest.raises(EthereumRefused):
            on.send(on.token, wrong, ALICE)
    on.send(on.token, call_data("approve(address,uint256)", address_word(BOB.address), number_word(2**256 - 1)), ALICE)
    on.fund(BOB, 0)
    words = address_word(ALICE.address), address_word(BOB.address), number_word(3)
    on.send(on.token, call_data("transferFrom(address,address,uint256)", *words), BOB)
    assert on.balance(BOB.address) == 3
    pair = address_word(ALICE.address), address_word(BOB.address)
    assert read_number(run(on.node.call(on.token, call_data("allowance(address,address)", *pair)))) == 2**256 - 1


@pytest.mark.evm
def test_a_transaction_that_is_stuck_is_sent_again_for_more(on: Contracts) -> None:
    async def work() -> Any:
        sender = on.sender()
        first = await sender.sign(BOB.address, value=1)
        second = await sender.sign(BOB.address, value=1, before=first)
        assert second.nonce == first.nonce
        assert (second.fee, second.tip) >= (first.fee * 9 // 8, first.tip * 9 // 8)
        await sender.submit(second)
        receipt = await sender.wait(second)
        with pytest.raises(EthereumRefused):
            await sender.submit(first)
        return receipt

    assert run(work()).success


def test_answers_that_no_contract_gives() -> None:
    for answer in (b"", bytes(31), b"\1" * 32):
        with pytest.raises(EthereumError, match="no address"):
            read_address(answer)
    with pytest.raises(EthereumError, match="no number"):
        read_number(bytes(33))


@pytest.mark.integration
def test_the_artefact_is_what_the_compiler_makes_of_the_source() -> None:
    node = shutil.which("node")
    # Where `npm install` was told to put it; or where node looks by itself.
    paths = [os.environ.get("NYMTW_NODE_MODULES", ""), os.environ.get("NODE_PATH", "")]
    environment = {**os.environ, "NODE_PATH": os.pathsep.join(filter(None, paths))}
    if node is None or subprocess.run([node, "-e", "require('solc')"], env=environment, capture_output=True).returncode:
        pytest.skip(
            "solc is not installed here (npm ci --prefix tools/ethereum; NYMTW_NODE_MODULES names node_modules)"
        )
    made = subprocess.run([node, ROOT / "tools/build-contracts"], env=environment, capture_output=True, check=True)
    again = json.loads(made.stdout)
    if again["compiler"] != artefact()["compiler"]:
        pytest.skip(f"solc {again['compiler']} is installed here, the artefact is of {artefact()['compiler']}")
    assert again == artefact()


def test_only_what_there_is_is_named() -> None:
    listed = {each.get("name") for contract in artefact()["contracts"].values() for each in contract["abi"]}
    assert {"Transfer", "Piped", "Released", "pipe", "release", "released", "token", "redeemers"} <= listed
    assert len(contracts.bytecode("NymPipe")) < 24_576  # what Ethereum takes
