"""What a node of Ethereum is asked, and its answers as records: everything of the right form, or `EthereumError`."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nymtw.errors import EthereumError

HASH: Final = 32  # bytes
ADDRESS: Final = 20
BLOOM: Final = 256
_BATCH: Final = 100  # headers in one request
_MOST_LOGS: Final = 20_000  # in one answer
_MOST_TOPICS: Final = 4
_LARGEST_DATA: Final = 2**20


class Header(NamedTuple):
    """A block's header, as far as it is needed. `time`: seconds since 1970; `bloom`: 256 bytes, of all its logs."""

    number: int
    hash: bytes
    parent: bytes
    time: int
    bloom: bytes
    base_fee: int


class Log(NamedTuple):
    """An event of a contract. `place`: its index among the logs of its block."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block: bytes
    number: int
    transaction: bytes
    place: int


class Receipt(NamedTuple):
    """What became of a transaction that is in a block. `contract`: the address of what it deployed."""

    transaction: bytes
    block: bytes
    number: int
    success: bool
    contract: bytes | None
    logs: tuple[Log, ...]


class EthereumNode:
    """One node. Every method raises `EthereumError`; `rpc` (an `EthereumRPC`) asks."""

    def __init__(self, rpc: Any) -> None:
        self.rpc = rpc

    async def chain(self) -> int:
        """The chain's id."""
        return quantity(await self.rpc.call("eth_chainId"))

    async def head(self) -> int:
        """The number of the last block that the node knows."""
        return quantity(await self.rpc.call("eth_blockNumber"))

    async def header(self, at: int | str) -> Header | None:
        """Of the block `at`: a number, or "latest", "safe", "finalized"; None where the node has none."""
        return read_header(await self.rpc.call("eth_getBlockByNumber", block_text(at), False))

    async def headers(self, first: int, last: int) -> list[Header]:
        """Of the blocks from `first` to `last`, all of which the node must have."""
        found: list[Header] = []
        for start in range(first, last + 1, _BATCH):
            numbers = range(start, min(start + _BATCH, last + 1))
            answers = await self.rpc.batch([("eth_getBlockByNumber", (hex(number), False)) for number in numbers])
            for number, answer in zip(numbers, answers, strict=True):
                header = read_header(answer)
                if header is None or header.number != number:
                    raise EthereumError(f"the Ethereum node does not have block {number}")
                found.append(header)
        return found

    async def logs(self, first: int, last: int, address: bytes, topics: Sequence[bytes | None]) -> list[Log]:
        """A contract's logs with these topics (None: any) in the blocks from `first` to `last`."""
        asked = {
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "address": hex_text(address),
            "topics": [None if each is None else hex_text(each) for each in topics],
        }
        return read_logs(await self.rpc.call("eth_getLogs", asked))

    async def block_receipts(self, number: int) -> list[Receipt]:
        """Of all of a block's transactions, in their order."""
        answer = await self.rpc.call("eth_getBlockReceipts", hex(number))
        if not isinstance(answer, list) or len(answer) > _MOST_LOGS:
            raise _nonsense("a block's receipts", answer)
        found = [read_receipt(each) for each in answer]
        if None in found:
            raise _nonsense("receipts", answer)
        return [each for each in found if each is not None]

    async def receipt(self, transaction: bytes) -> Receipt | None:
        """What became of a transaction; None where it is in no block that the node knows."""
        receipt = read_receipt(await self.rpc.call("eth_getTransactionReceipt", hex_text(transaction)))
        if receipt is not None and receipt.transaction != transaction:
            raise EthereumError("the Ethereum node answers with another transaction's receipt")
        return receipt

    async def call(self, to: bytes, data: bytes, at: int | str = "latest", sender: bytes | None = None) -> bytes:
        """What a contract answers, after the block `at`."""
        asked = {"to": hex_text(to), "data": hex_text(data)}
        if sender is not None:
            asked["from"] = hex_text(sender)
        return octets(await self.rpc.call("eth_call", asked, block_text(at)))

    async def balance(self, address: bytes, at: int | str = "latest") -> int:
        """In wei."""
        return quantity(await self.rpc.call("eth_getBalance", hex_text(address), block_text(at)))

    async def nonce(self, address: bytes, at: int | str = "pending") -> int:
        """Of the address's next transaction."""
        return quantity(await self.rpc.call("eth_getTransactionCount", hex_text(address), block_text(at)))

    async def tip(self) -> int:
        """What a block's maker is paid for each unit of gas, in wei, as things are."""
        return quantity(await self.rpc.call("eth_maxPriorityFeePerGas"))

    async def gas(self, sender: bytes, to: bytes | None, data: bytes, value: int) -> int:
        """What the transaction would use. Raises `EthereumRefused` where it would fail."""
        asked = {"from": hex_text(sender), "data": hex_text(data), "value": hex(value)}
        if to is not None:
            asked["to"] = hex_text(to)
        return quantity(await self.rpc.call("eth_estimateGas", asked))

    async def submit(self, raw: bytes) -> bytes:
        """Hand a signed transaction in; returns its hash."""
        return octets(await self.rpc.call("eth_sendRawTransaction", hex_text(raw)), HASH)

    def close(self) -> Any:
        """Close the connections."""
        return self.rpc.close()


def hex_text(data: bytes) -> str:
    """0x and two digits for each byte."""
    return "0x" + data.hex()


def block_text(at: int | str) -> str:
    """How JSON-RPC names a block."""
    return at if isinstance(at, str) else hex(at)


def quantity(value: Any) -> int:
    """The number in "0x..." of at most 256 bits. Raises `EthereumError`."""
    if not isinstance(value, str) or value[:2] != "0x" or not 3 <= len(value) <= 66 or "_" in value:
        raise _nonsense("a number", value)
    try:
        return int(value[2:], 16)
    except ValueError:
        raise _nonsense("a number", value) from None


def octets(value: Any, length: int | None = None) -> bytes:
    """The bytes in "0x...", of this length if one is named. Raises `EthereumError`."""
    if not isinstance(value, str) or value[:2] != "0x" or len(value) > 2 * _LARGEST_DATA:
        raise _nonsense("hexadecimal digits", value)
    try:
        found = bytes.fromhex(value[2:])
    except ValueError:
        raise _nonsense("hexadecimal digits", value) from None
    if length is not None and len(found) != length:
        raise _nonsense(f"{length} bytes", value)
    return found


def read_header(answer: Any) -> Header | None:
    """The header in an answer; None for none. Raises `EthereumError`."""
    if answer is None:
        return None
    shown = _object(answer, "a block")
    fee = shown.get("baseFeePerGas")
    return Header(
        quantity(shown.get("number")),
        octets(shown.get("hash"), HASH),
        octets(shown.get("parentHash"), HASH),
        quantity(shown.get("timestamp")),
        octets(shown.get("logsBloom"), BLOOM),
        0 if fee is None else quantity(fee),
    )


def read_logs(answer: Any) -> list[Log]:
    """The logs in an answer. Raises `EthereumError`; also for one that a reorganisation has removed."""
    if not isinstance(answer, list):
        raise _nonsense("a list of logs", answer)
    if len(answer) > _MOST_LOGS:
        raise EthereumError(f"the Ethereum node answers with more than {_MOST_LOGS} logs")
    return list(map(_log, answer))


def read_receipt(answer: Any) -> Receipt | None:
    """The receipt in an answer; None for none, also where the transaction is in no block. Raises `EthereumError`."""
    if answer is None:
        return None
    shown = _object(answer, "a receipt")
    if shown.get("blockHash") is None:
        return None  # it waits
    contract = shown.get("contractAddress")
    return Receipt(
        octets(shown.get("transactionHash"), HASH),
        octets(shown.get("blockHash"), HASH),
        quantity(shown.get("blockNumber")),
        quantity(shown.get("status")) == 1,
        None if contract is None else octets(contract, ADDRESS),
        tuple(read_logs(shown.get("logs"))),
    )


def _log(answer: Any) -> Log:
    shown = _object(answer, "a log")
    topics = shown.get("topics")
    if not isinstance(topics, list) or len(topics) > _MOST_TOPICS:
        raise _nonsense("topics", topics)
    if shown.get("removed"):
        raise EthereumError("the Ethereum node answers with a log that was removed")
    return Log(
        octets(shown.get("address"), ADDRESS),
        tuple(octets(each, HASH) for each in topics),
        octets(shown.get("data")),
        octets(shown.get("blockHash"), HASH),
        quantity(shown.get("blockNumber")),
        octets(shown.get("transactionHash"), HASH),
        quantity(shown.get("logIndex")),
    )


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _nonsense(what, value)
    return value


def _nonsense(what: str, value: Any) -> EthereumError:
    return EthereumError(f"the Ethereum node answers {value!r:.60} where {what} should be")
