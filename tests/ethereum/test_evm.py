"""The development chain: blocks that come again from its journal, transactions that wait, bad requests."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.evm
pytest.importorskip("eth_account", reason="needs nymtw[ethereum]")


class World:
    def __init__(self, journal: Path | None = None) -> None:
        pytest.importorskip("eth", reason="needs nymtw[evm]")
        from nymtw.ethereum.evm import DevelopmentChain
        from nymtw.ethereum.evm_calls import EVMCalls

        self.chain = DevelopmentChain(lambda: 1_800_000_000.0, journal)
        self.calls = EVMCalls(self.chain)

    def answer(self, method: str, *parameters: Any) -> Any:
        return json.loads(self.calls.answer(json.dumps({"id": 1, "method": method, "params": parameters}).encode()))

    def ask(self, method: str, *parameters: Any) -> Any:
        return self.answer(method, *parameters)["result"]

    def pay(self, value: int = 1) -> str:
        account = self.ask("eth_accounts")[0]
        return str(self.ask("eth_sendTransaction", {"from": account, "to": "0x" + "11" * 20, "value": hex(value)}))


def test_the_journal_makes_the_same_chain_again(tmp_path: Path) -> None:
    journal = tmp_path / "blocks.rlp"
    first = World(journal)
    for value in (1, 2):
        first.pay(value)
        first.chain.mine()
    with open(journal, "ab") as file:
        file.write(b"\0\0\0\xffcut off")
    again = World(journal)
    assert again.ask("eth_getBlockByNumber", "latest", False) == first.ask("eth_getBlockByNumber", "latest", False)
    assert again.ask("eth_getBalance", "0x" + "11" * 20) == "0x3"
    again.pay()
    again.chain.mine()
    third = World(journal)
    assert third.ask("eth_getBalance", "0x" + "11" * 20) == "0x4"
    third.chain.rollback(2)
    assert World(journal).ask("eth_blockNumber") == "0x1"


def test_transactions_wait_in_order(tmp_path: Path) -> None:
    world = World()
    account = world.ask("eth_accounts")[0]
    hashes = [world.pay(value) for value in (1, 2, 3)]
    assert world.ask("eth_getTransactionCount", account, "pending") == "0x3"
    assert world.ask("eth_getTransactionCount", account, "latest") == "0x0"
    assert world.ask("eth_getTransactionReceipt", hashes[0]) is None
    world.ask("evm_mine")
    receipts = [world.ask("eth_getTransactionReceipt", each) for each in hashes]
    assert [int(each["transactionIndex"], 16) for each in receipts] == [0, 1, 2]
    assert {each["status"] for each in receipts} == {"0x1"}
    assert world.ask("eth_getBlockReceipts", "0x1") == receipts
    assert world.chain.settled == 0


@pytest.mark.parametrize(
    ("method", "parameters", "cause"),
    [
        ("eth_sendRawTransaction", ["0x"], "not a transaction"),
        ("eth_sendRawTransaction", ["0x02c0"], "not a transaction"),
        ("eth_sendRawTransaction", [7], "hexadecimal"),
        ("eth_sendTransaction", [{"from": "0x" + "22" * 20}], "key is not here"),
        ("eth_getBlockByNumber", ["latest", True], "hashes of their transactions"),
        ("eth_getBlockByNumber", ["x", False], "a number"),
        ("eth_getLogs", [{"fromBlock": "0x99"}], "above the head"),
        ("eth_getBalance", ["0x12"], "20 bytes"),
        ("eth_getBalance", [], "parameters"),
        ("eth_call", [{"to": "0x" + "22" * 20}, "0x99"], "no block"),
        ("eth_call", [3], "parameters"),
        ("evm_mine", ["0xffffff"], "at once"),
        ("evm_rollback", ["0x5"], "to take back"),
        ("eth_nothing", [], "no such method"),
    ],
)
def test_bad_calls(method: str, parameters: Any, cause: str) -> None:
    assert cause in World().answer(method, *parameters)["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b'"x"', b'{"method": 1, "params": {}}', b"[" * 10_000, b"[1]"])
def test_bad_requests(body: bytes) -> None:
    found = json.loads(World().calls.answer(body))
    [answer] = found if isinstance(found, list) else [found]
    assert "message" in answer["error"]


def test_several_calls_at_once() -> None:
    body = json.dumps([{"id": number, "method": "eth_chainId", "params": []} for number in (1, 2)]).encode()
    found = json.loads(World().calls.answer(body))
    assert [(each["id"], each["result"]) for each in found] == [(1, "0x539"), (2, "0x539")]
