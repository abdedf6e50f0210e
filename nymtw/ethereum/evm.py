"""A chain to try things on: py-evm with blocks of its own, no peers and no proof of anything. Needs `nymtw[evm]`.

Pure but for its journal: blocks in RLP, one behind the other, each with its length in four bytes before it. A chain
that is opened again executes them, and is the same, hash by hash.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import rlp
from eth.abc import BlockAPI, BlockHeaderAPI, SignedTransactionAPI
from eth.chains.base import MiningChain
from eth.constants import POST_MERGE_DIFFICULTY, POST_MERGE_MIX_HASH, POST_MERGE_NONCE
from eth.db import get_db_backend
from eth.exceptions import VMError
from eth.vm.forks import ShanghaiVM
from eth.vm.spoof import SpoofTransaction
from eth_keys import keys

from nymtw.errors import DiskError, EthereumError, NymtwError

CHAIN: Final = 1337
ACCOUNTS: Final = 10  # with a million ether each; their private keys are the numbers from 1
_WEALTH: Final = 10**6 * 10**18
_GAS_LIMIT: Final = 30_000_000
_MOST_WAITING: Final = 1000  # transactions
_BEGIN: Final = 1_735_689_600  # the time of block 0, seconds since 1970: the same for every chain of this kind


class Reverted(NymtwError):
    """The contract refuses the call."""


class DevelopmentChain:
    """Blocks come when `mine` is called. Numbers of blocks above the head are errors, as `EthereumError`."""

    def __init__(self, wall_clock: Callable[[], float], journal: Path | None = None, chain: int = CHAIN) -> None:
        """`journal`: the file that keeps its blocks. Raises `EthereumError`, `DiskError`."""
        self.chain_id = chain
        self.keys = {
            key.public_key.to_canonical_address(): key
            for key in (keys.PrivateKey((number + 1).to_bytes(32)) for number in range(ACCOUNTS))
        }
        self._wall_clock = wall_clock
        self._journal = journal
        self._waiting: list[SignedTransactionAPI] = []
        self._places: dict[bytes, tuple[BlockAPI, int]] = {}  # transaction -> its block, its place there
        self._used = 0  # the last block with a transaction
        kind: Any = type("Chain", (_Chain,), {"chain_id": chain, "vm_configuration": ((0, ShanghaiVM),)})
        rich = {"balance": _WEALTH, "storage": {}, "code": b"", "nonce": 0}
        self._alloc = dict.fromkeys(self.keys, rich)
        self._chain: Any = kind.from_genesis(get_db_backend(), dict(_GENESIS), self._alloc)
        for body in _read(journal):
            block = rlp.decode(body, sedes=self._chain.get_vm().get_block_class())
            self._chain.import_block(block)
            self._took(block)

    @property
    def head(self) -> int:
        """Of the last block."""
        return int(self._chain.get_canonical_head().block_number)

    @property
    def base_fee(self) -> int:
        """Wei for each unit of gas, as of the last block."""
        return int(self._chain.get_canonical_head().base_fee_per_gas)

    @property
    def waiting(self) -> int:
        """Transactions that are in no block."""
        return len(self._waiting)

    @property
    def settled(self) -> int:
        """How many blocks there are behind the last one with a transaction."""
        return self.head - self._used

    def header(self, number: int) -> BlockHeaderAPI | None:
        """Of the block of this number."""
        return self._chain.get_canonical_block_header_by_number(number) if 0 <= number <= self.head else None

    def block(self, number: int) -> BlockAPI | None:
        """The block of this number."""
        return self._chain.get_canonical_block_by_number(number) if 0 <= number <= self.head else None

    def receipts(self, block: BlockAPI) -> tuple[Any, ...]:
        """One for each of the block's transactions."""
        return tuple(block.get_receipts(self._chain.chaindb))

    def place(self, transaction: bytes) -> tuple[BlockAPI, int] | None:
        """The block that a transaction is in, and its place there."""
        return self._places.get(transaction)

    def state(self, number: int) -> Any:
        """After the block of this number: balances, nonces, code."""
        header = self.header(number)
        if header is None:
            raise EthereumError(f"there is no block {number}")
        return self._chain.get_vm(at_header=header).state

    def nonce(self, address: bytes) -> int:
        """Of the address's next transaction, behind those that wait."""
        return int(self.state(self.head).get_nonce(address)) + sum(each.sender == address for each in self._waiting)

    def submit(self, raw: bytes) -> bytes:
        """Take a signed transaction for the next block; returns its hash. Raises `EthereumError`."""
        try:
            transaction = self._builder.decode(raw)
            transaction.check_signature_validity()
            transaction.validate()
            sender = transaction.sender
        except Exception as error:  # py-evm and rlp raise many kinds of error
            raise EthereumError(f"not a transaction: {error}") from None
        if transaction.hash in self._places or any(each.hash == transaction.hash for each in self._waiting):
            raise EthereumError("already known")
        if getattr(transaction, "chain_id", self.chain_id) != self.chain_id:
            raise EthereumError(f"the transaction is for another chain than {self.chain_id}")
        replaced = [each for each in self._waiting if (each.sender, each.nonce) == (sender, transaction.nonce)]
        if replaced:
            self._waiting.remove(replaced[0])
        elif transaction.nonce != self.nonce(sender):
            raise EthereumError(f"the account's next nonce is {self.nonce(sender)}, not {transaction.nonce}")
        if len(self._waiting) >= _MOST_WAITING:
            raise EthereumError("too many transactions wait")
        self._waiting.append(transaction)
        return bytes(transaction.hash)

    def submit_from(self, call: Mapping[str, Any]) -> bytes:
        """Take a transaction of one of the accounts with money: `from`, `to`, `data`, `value`, `gas`."""
        sender = call.get("from", next(iter(self.keys)))
        if sender not in self.keys:
            raise EthereumError("this account's key is not here")
        gas = call.get("gas") or self.gas(call)
        unsigned = self._unsigned({**call, "gas": gas, "nonce": self.nonce(sender)})
        return self.submit(unsigned.as_signed_transaction(self.keys[sender]).encode())

    def call(self, call: Mapping[str, Any], number: int) -> bytes:
        """What a contract answers after block `number`. Raises `Reverted`, `EthereumError`."""
        return self._run(call, number, lambda spoof, header: self._chain.get_transaction_result(spoof, header))

    def gas(self, call: Mapping[str, Any]) -> int:
        """What a transaction would use now. Raises `Reverted`, `EthereumError`."""
        self.call(call, self.head)  # says why where it fails
        return int(self._run(call, self.head, lambda spoof, header: self._chain.estimate_gas(spoof, header)))

    def mine(self) -> int:
        """Put what waits into a block; what does not fit the state any more is dropped. Returns the block's number."""
        last = self._chain.get_canonical_head()
        self._chain.set_header_timestamp(max(int(self._wall_clock()), last.timestamp + 1))
        left = self._waiting
        self._waiting = []
        for place, transaction in enumerate(left):
            if self._chain.header.gas_used + transaction.gas > _GAS_LIMIT:
                self._waiting = left[place:]
                break
            with suppress(Exception):  # py-evm raises many kinds of error for what cannot be in a block
                self._chain.apply_transaction(transaction)
        block = self._chain.mine_block()
        self._took(block)
        if self._journal is not None:
            _append(self._journal, rlp.encode(block))
        return int(block.number)

    def rollback(self, count: int) -> None:
        """Take the last `count` blocks back, as a reorganisation does: what was in them is gone."""
        keep = self.head - count
        if not 0 <= count <= self.head:
            raise EthereumError(f"there are {self.head} blocks to take back")
        blocks = [self._chain.get_canonical_block_by_number(number) for number in range(1, keep + 1)]
        # Into a database of its own: py-evm follows the longer chain where it knows both.
        self._chain = type(self._chain).from_genesis(get_db_backend(), dict(_GENESIS), self._alloc)
        self._places.clear()
        self._used = 0
        for block in blocks:
            self._chain.import_block(block)
            self._took(block)
        if self._journal is not None:
            self._journal.unlink(missing_ok=True)
            for block in blocks:
                _append(self._journal, rlp.encode(block))

    @property
    def _builder(self) -> Any:
        return self._chain.get_vm().get_transaction_builder()

    def _took(self, block: BlockAPI) -> None:
        for place, transaction in enumerate(block.transactions):
            self._places[transaction.hash] = (block, place)
            self._used = int(block.number)

    def _unsigned(self, call: Mapping[str, Any]) -> Any:
        header = self._chain.get_canonical_head()
        return self._builder.new_unsigned_dynamic_fee_transaction(
            chain_id=self.chain_id,
            nonce=call.get("nonce", 0),
            max_priority_fee_per_gas=10**9,
            max_fee_per_gas=2 * header.base_fee_per_gas + 10**9,
            gas=call.get("gas") or _GAS_LIMIT,
            to=call.get("to") or b"",
            value=call.get("value", 0),
            data=call.get("data", b""),
            access_list=(),
        )

    def _run(self, call: Mapping[str, Any], number: int, run: Callable[[Any, BlockHeaderAPI], Any]) -> Any:
        header = self.header(number)
        if header is None:
            raise EthereumError(f"there is no block {number}")
        # Of the old kind: what costs nothing to try has a gas price that can be set to 0.
        sender = call.get("from", next(iter(self.keys)))
        free = self._chain.create_unsigned_transaction(
            nonce=self.state(number).get_nonce(sender),
            gas_price=0,
            gas=call.get("gas") or _GAS_LIMIT,
            to=call.get("to") or b"",
            value=call.get("value", 0),
            data=call.get("data", b""),
        )
        spoof = SpoofTransaction(free, from_=sender)
        try:
            return run(spoof, header)
        except VMError as error:
            raise Reverted(f"execution reverted: {error}") from None
        except Exception as error:  # py-evm raises many kinds of error for what cannot be called
            raise EthereumError(f"{type(error).__name__}: {error}") from None


class _Chain(MiningChain):
    """With the same gas limit in every block."""

    def create_header_from_parent(self, parent_header: BlockHeaderAPI, **more: Any) -> BlockHeaderAPI:
        """The header that follows."""
        return super().create_header_from_parent(parent_header, **{**more, "gas_limit": parent_header.gas_limit})


_GENESIS: Final[Mapping[str, Any]] = {
    "coinbase": bytes(20),
    "difficulty": POST_MERGE_DIFFICULTY,
    "extra_data": b"",
    "gas_limit": _GAS_LIMIT,
    "mix_hash": POST_MERGE_MIX_HASH,
    "nonce": POST_MERGE_NONCE,
    "timestamp": _BEGIN,
}


def _read(journal: Path | None) -> Iterator[bytes]:
    """The blocks in the file; one at its end that was not written in full is left out."""
    if journal is None or not journal.exists():
        return
    try:
        content = journal.read_bytes()
    except OSError as error:
        raise DiskError(f"{journal}: {error.strerror}") from None
    place = 0
    while place + 4 <= len(content):
        end = place + 4 + int.from_bytes(content[place : place + 4])
        if end > len(content):
            break
        yield content[place + 4 : end]
        place = end
    if place != len(content):
        with open(journal, "r+b") as file:
            file.truncate(place)


def _append(journal: Path, body: bytes) -> None:
    try:
        with open(journal, "ab") as file:
            file.write(len(body).to_bytes(4) + body)
    except OSError as error:
        raise DiskError(f"{journal}: {error.strerror}") from None
