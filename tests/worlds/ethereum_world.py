"""An Ethereum node in memory, as its JSON-RPC shows it: blocks made by hand, reorganisations, and every kind of lie."""

import copy
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from nymtw.errors import EthereumError, EthereumRefused
from nymtw.ethereum.contracts import PIPED, TRANSFER, address_word, call_data, keccak, number_word
from nymtw.ethereum.node import EthereumNode, hex_text

CHAIN = 1337
PIPE = b"p" * 20
TOKEN = b"t" * 20


def transfer(sender: bytes, amount: int, recipient: bytes = PIPE, token: bytes = TOKEN) -> dict[str, Any]:
    """The log of a token's transfer."""
    topics = [TRANSFER, address_word(sender), address_word(recipient)]
    return {"address": token, "topics": topics, "data": number_word(amount)}


def piped(sender: bytes, account: bytes, amount: int) -> list[dict[str, Any]]:
    """The logs of the pipe contract's `pipe`."""
    topics = [PIPED, address_word(sender), address_word(account)]
    return [transfer(sender, amount), {"address": PIPE, "topics": topics, "data": number_word(amount)}]


class FakeEthereum:
    """One chain, and the calls of one node of it. `lies`: method -> what it answers instead of the truth."""

    def __init__(self, chain: int = CHAIN) -> None:
        self.chain = chain
        self.blocks: list[dict[str, Any]] = []
        self.made = 0
        self.released: set[int] = set()
        self.lies: dict[str, Callable[[Any], Any]] = {}
        self.down = False
        self.asked: list[str] = []
        self.finalized = 0
        self.mine()

    @property
    def node(self) -> EthereumNode:
        return EthereumNode(self)

    @property
    def head(self) -> int:
        return len(self.blocks) - 1

    def copy(self) -> "FakeEthereum":
        """Another node, which knows the same blocks."""
        other = FakeEthereum(self.chain)
        other.blocks = copy.deepcopy(self.blocks)
        return other

    def mine(self, *transactions: tuple[bytes, list[dict[str, Any]]], count: int = 1) -> int:
        """A block with these (hash, logs), then `count` - 1 empty ones; returns its number."""
        number = len(self.blocks)
        for place in range(count):
            self._mine(transactions if place == 0 else ())
        return number

    def roll_back(self, number: int) -> None:
        """The blocks above this one are gone."""
        del self.blocks[number + 1 :]

    def _mine(self, transactions: Any) -> None:
        number, self.made = len(self.blocks), self.made + 1
        digest = sha256(f"block {number} {self.made}".encode()).digest()
        receipts, bloom, index = [], 0, 0
        for identity, logs in transactions:
            shown = []
            for log in logs:
                bloom |= _bloom(log["address"], *log["topics"])
                shown.append(
                    {
                        "address": hex_text(log["address"]),
                        "topics": [hex_text(each) for each in log["topics"]],
                        "data": hex_text(log["data"]),
                        "blockHash": hex_text(digest),
                        "blockNumber": hex(number),
                        "transactionHash": hex_text(identity),
                        "logIndex": hex(index),
                        "removed": False,
                    }
                )
                index += 1
            receipts.append(
                {
                    "transactionHash": hex_text(identity),
                    "blockHash": hex_text(digest),
                    "blockNumber": hex(number),
                    "status": "0x1",
                    "contractAddress": None,
                    "logs": shown,
                }
            )
        header = {
            "number": hex(number),
            "hash": hex_text(digest),
            "parentHash": self.blocks[-1]["header"]["hash"] if self.blocks else hex_text(bytes(32)),
            "timestamp": hex(number),
            "logsBloom": hex_text(bloom.to_bytes(256)),
            "baseFeePerGas": "0x7",
        }
        self.blocks.append({"header": header, "receipts": receipts})

    async def call(self, method: str, *parameters: Any) -> Any:
        self.asked.append(method)
        if self.down:
            raise EthereumError("nobody answers")
        truth = self._answer(method, parameters)
        return self.lies[method](truth) if method in self.lies else truth

    async def batch(self, calls: Any) -> list[Any]:
        return [await self.call(method, *parameters) for method, parameters in calls]

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, method: str, parameters: Any) -> Any:
        match method, parameters:
            case "eth_chainId", ():
                return hex(self.chain)
            case "eth_blockNumber", ():
                return hex(self.head)
            case "eth_getBlockByNumber", ("finalized", _):
                return self.blocks[self.finalized]["header"]
            case "eth_getBlockByNumber", (at, _):
                number = self.head if at == "latest" else int(at, 16)
                return self.blocks[number]["header"] if number <= self.head else None
            case "eth_getBlockReceipts", (at,):
                return self.blocks[int(at, 16)]["receipts"]
            case "eth_getTransactionReceipt", (identity,):
                found = [each for block in self.blocks for each in block["receipts"]]
                return next((each for each in found if each["transactionHash"] == identity), None)
            case "eth_getLogs", (asked,):
                return self._logs(asked)
            case "eth_call", ({"data": data}, at):
                return self._contract(data, at)
        raise EthereumRefused(-32601, f"no method {method}")

    def _logs(self, asked: Any) -> list[Any]:
        first, last = int(asked["fromBlock"], 16), int(asked["toBlock"], 16)
        if first > self.head:
            raise EthereumRefused(-32000, "block range extends beyond current head block")
        found = [
            log for block in self.blocks[first : last + 1] for receipt in block["receipts"] for log in receipt["logs"]
        ]
        return [
            log
            for log in found
            if log["address"] == asked["address"]
            and all(want in (None, has) for want, has in zip(asked["topics"], log["topics"], strict=False))
        ]

    def _contract(self, data: str, at: str) -> str:
        if data == hex_text(call_data("token()")):
            return hex_text(address_word(TOKEN))
        if data == hex_text(call_data("threshold()")):
            return hex_text(number_word(2))
        if data.startswith(hex_text(call_data("released(uint256)"))):
            return hex_text(number_word(int(int(data[10:], 16) in self.released)))
        raise EthereumRefused(3, "execution reverted")


def _bloom(*values: bytes) -> int:
    found = 0
    for value in values:
        digest = keccak(value)
        for pair in (0, 2, 4):
            found |= 1 << (int.from_bytes(digest[pair : pair + 2]) & 2047)
    return found
