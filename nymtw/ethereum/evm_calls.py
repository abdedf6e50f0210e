"""JSON-RPC of a `DevelopmentChain`: what the ledger's roles and usual wallets ask (execution-apis), and `evm_mine`."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from nymtw.errors import EncodingError, EthereumError
from nymtw.ethereum.contracts import keccak
from nymtw.ethereum.evm import DevelopmentChain, Reverted
from nymtw.ethereum.node import HASH, hex_text, octets, quantity
from nymtw.ledger.machine.signatures import address_text

_TIP: Final = 10**9  # wei
_MOST_CALLS: Final = 1000  # in one request
_MOST_MINED: Final = 1000
_INVALID, _UNKNOWN, _FAILED, _REVERTED = -32600, -32601, -32000, 3


class EVMCalls:
    """Answers requests. `submitted()` is called when a transaction waits for a block."""

    def __init__(self, chain: DevelopmentChain, submitted: Callable[[], object] = lambda: None) -> None:
        self._chain = chain
        self._submitted = submitted
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: "nymtw/py-evm",
            "net_version": lambda: str(chain.chain_id),
            "eth_chainId": lambda: hex(chain.chain_id),
            "eth_syncing": lambda: False,
            "eth_accounts": lambda: [address_text(each) for each in chain.keys],
            "eth_blockNumber": lambda: hex(chain.head),
            "eth_gasPrice": lambda: hex(chain.base_fee + _TIP),
            "eth_maxPriorityFeePerGas": lambda: hex(_TIP),
            "eth_getBalance": lambda address, at="latest": hex(self._state(at).get_balance(octets(address, 20))),
            "eth_getCode": lambda address, at="latest": hex_text(self._state(at).get_code(octets(address, 20))),
            "eth_getTransactionCount": self._nonce,
            "eth_getBlockByNumber": lambda at, full=False: self._block(self._number(at), full),
            "eth_getTransactionReceipt": self._receipt,
            "eth_getBlockReceipts": self._block_receipts,
            "eth_getLogs": self._logs,
            "eth_call": lambda call, at="latest": hex_text(chain.call(_call(call), self._number(at))),
            "eth_estimateGas": lambda call, at="latest": hex(chain.gas(_call(call))),
            "eth_sendTransaction": lambda call: self._took(chain.submit_from(_call(call))),
            "eth_sendRawTransaction": lambda raw: self._took(chain.submit(octets(raw))),
            "evm_mine": self._mine,
            "evm_rollback": lambda count: chain.rollback(quantity(count)),
        }

    def answer(self, body: bytes) -> bytes:
        """The answer, JSON, to a request: one call or a list of them."""
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return json.dumps(_error(None, -32700, "not JSON")).encode()
        if isinstance(asked, list):
            if not 0 < len(asked) <= _MOST_CALLS:
                return json.dumps(_error(None, _INVALID, f"1 to {_MOST_CALLS} calls at once")).encode()
            return json.dumps([self._one(each) for each in asked]).encode()
        return json.dumps(self._one(asked)).encode()

    def _one(self, asked: Any) -> dict[str, Any]:
        if not isinstance(asked, dict) or not isinstance(asked.get("params", []), list):
            return _error(None, _INVALID, "a call is an object with method and params")
        number = asked.get("id")
        method = self._methods.get(str(asked.get("method")))
        if method is None:
            return _error(number, _UNKNOWN, "there is no such method")
        try:
            return {"jsonrpc": "2.0", "id": number, "result": method(*asked.get("params", []))}
        except Reverted as error:
            return _error(number, _REVERTED, str(error))
        except (EthereumError, EncodingError) as error:
            return _error(number, _FAILED, str(error))
        except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
            return _error(number, -32602, f"these are not the parameters of the method: {error}"[:300])

    def _number(self, at: Any) -> int:
        if at in ("latest", "pending", "safe", "finalized"):
            return self._chain.head
        return 0 if at == "earliest" else quantity(at)

    def _state(self, at: Any) -> Any:
        return self._chain.state(self._number(at))

    def _nonce(self, address: Any, at: Any = "latest") -> str:
        account = octets(address, 20)
        return hex(self._chain.nonce(account) if at == "pending" else self._state(at).get_nonce(account))

    def _took(self, identity: bytes) -> str:
        self._submitted()
        return hex_text(identity)

    def _mine(self, count: Any = "0x1") -> str:
        number = count if isinstance(count, int) else quantity(count)
        if not 0 < number <= _MOST_MINED:
            raise EthereumError(f"1 to {_MOST_MINED} blocks at once")
        for _ in range(number):
            self._chain.mine()
        return hex(self._chain.head)

    def _block(self, number: int, full: Any) -> dict[str, Any] | None:
        if full:
            raise EthereumError("blocks are shown with the hashes of their transactions alone")
        block = self._chain.block(number)
        if block is None:
            return None
        header: Any = block.header
        return {
            "number": hex(header.block_number),
            "hash": hex_text(header.hash),
            "parentHash": hex_text(header.parent_hash),
            "timestamp": hex(header.timestamp),
            "logsBloom": hex_text(header.bloom.to_bytes(256)),
            "stateRoot": hex_text(header.state_root),
            "receiptsRoot": hex_text(header.receipt_root),
            "transactionsRoot": hex_text(header.transaction_root),
            "miner": hex_text(header.coinbase),
            "gasLimit": hex(header.gas_limit),
            "gasUsed": hex(header.gas_used),
            "baseFeePerGas": hex(header.base_fee_per_gas),
            "extraData": hex_text(header.extra_data),
            "transactions": [hex_text(each.hash) for each in block.transactions],
            "uncles": [],
        }

    def _receipt(self, identity: Any) -> dict[str, Any] | None:
        found = self._chain.place(octets(identity, HASH))
        if found is None:
            return None
        block, place = found
        receipts = self._chain.receipts(block)
        transaction: Any = block.transactions[place]
        before = receipts[place - 1].gas_used if place else 0
        return {
            "transactionHash": hex_text(transaction.hash),
            "transactionIndex": hex(place),
            "blockHash": hex_text(block.hash),
            "blockNumber": hex(block.number),
            "from": address_text(transaction.sender),
            "to": address_text(transaction.to) if transaction.to else None,
            "status": "0x1" if receipts[place].state_root == b"\x01" else "0x0",
            "gasUsed": hex(receipts[place].gas_used - before),
            "cumulativeGasUsed": hex(receipts[place].gas_used),
            "contractAddress": None if transaction.to else address_text(_contract(transaction)),
            "logs": self._logs_of(block)[place],
        }

    def _block_receipts(self, at: Any) -> list[dict[str, Any] | None] | None:
        block = self._chain.block(self._number(at))
        return None if block is None else [self._receipt(hex_text(each.hash)) for each in block.transactions]

    def _logs(self, asked: Any) -> list[dict[str, Any]]:
        first, last = self._number(asked.get("fromBlock", "latest")), self._number(asked.get("toBlock", "latest"))
        if first > self._chain.head:
            raise EthereumError("fromBlock is above the head")
        addresses = asked.get("address")
        wanted = [addresses] if isinstance(addresses, str) else addresses
        among = None if wanted is None else {octets(each, 20) for each in wanted}
        topics = [_alternatives(each) for each in asked.get("topics") or []]
        found = []
        for number in range(first, min(last, self._chain.head) + 1):
            block = self._chain.block(number)
            if block is not None and block.transactions:
                found += [log for logs in self._logs_of(block) for log in logs if _fits(log, among, topics)]
        return found

    def _logs_of(self, block: Any) -> list[list[dict[str, Any]]]:
        """The logs of each of the block's transactions."""
        shown: list[list[dict[str, Any]]] = []
        index = 0
        for place, receipt in enumerate(self._chain.receipts(block)):
            logs = []
            for log in receipt.logs:
                logs.append(
                    {
                        "address": address_text(log.address),
                        "topics": [hex_text(each.to_bytes(HASH)) for each in log.topics],
                        "data": hex_text(log.data),
                        "blockHash": hex_text(block.hash),
                        "blockNumber": hex(block.number),
                        "transactionHash": hex_text(block.transactions[place].hash),
                        "transactionIndex": hex(place),
                        "logIndex": hex(index),
                        "removed": False,
                    }
                )
                index += 1
            shown.append(logs)
        return shown


def _call(asked: Any) -> dict[str, Any]:
    """A call's fields as bytes and numbers."""
    found: dict[str, Any] = {}
    for name in ("from", "to"):
        if asked.get(name):
            found[name] = octets(asked[name], 20)
    for name in ("value", "gas"):
        if asked.get(name) is not None:
            found[name] = quantity(asked[name])
    data = asked.get("data") or asked.get("input")
    if data:
        found["data"] = octets(data)
    return found


def _alternatives(topic: Any) -> set[bytes] | None:
    if topic is None:
        return None
    return {octets(each, HASH) for each in ([topic] if isinstance(topic, str) else topic)}


def _fits(log: dict[str, Any], addresses: set[bytes] | None, topics: Sequence[set[bytes] | None]) -> bool:
    if addresses is not None and octets(log["address"]) not in addresses:
        return False
    if len(topics) > len(log["topics"]):
        return False
    return all(wanted is None or octets(has) in wanted for wanted, has in zip(topics, log["topics"], strict=False))


def _contract(transaction: Any) -> bytes:
    """The address of what the transaction deploys: of its sender and nonce (yellow paper, section 7)."""
    import rlp

    return keccak(rlp.encode([transaction.sender, transaction.nonce]))[-20:]


def _error(number: Any, code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}}
