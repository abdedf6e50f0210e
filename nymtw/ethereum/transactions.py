"""Transactions of an account on Ethereum (EIP-1559): made, signed by eth-account, handed in and waited for."""

from typing import Any, Final, NamedTuple

from eth_account import Account

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from nymtw.errors import EthereumError
from nymtw.ethereum.node import EthereumNode, Receipt
from nymtw.ledger.machine.signatures import AccountKey, address_text

PATIENCE: Final = 120.0  # seconds for a block
_ASK: Final = 0.5  # seconds from one question for a receipt to the next
_MARGIN: Final = 5  # of gas, one part in so many more than was estimated


class Signed(NamedTuple):
    """A transaction that can be handed in, again and again. `fee`: wei for each unit of gas, at most."""

    hash: bytes
    raw: bytes
    nonce: int
    fee: int
    tip: int


class TransactionSender:
    """Sends what one account's key signs."""

    def __init__(self, clock: Any, node: EthereumNode, key: AccountKey, chain: int) -> None:
        """`chain`: the id of the chain that signatures are for."""
        self._clock = clock
        self._node = node
        self._key = key
        self.chain = chain

    async def sign(self, to: bytes | None, data: bytes = b"", value: int = 0, before: Signed | None = None) -> Signed:
        """A signed transaction at the fees of now; `to` None deploys a contract. Raises `EthereumRefused` where it
        would fail.

        `before`: one that does not come into a block, whose place it takes: with its nonce, and for an eighth more,
        which is what nodes ask for.
        """
        address = self._key.address
        gas = await self._node.gas(address, to, data, value)
        latest = await self._node.header("latest")
        if latest is None:
            raise EthereumError("the Ethereum node has no block")
        tip = await self._node.tip()
        nonce = await self._node.nonce(address) if before is None else before.nonce
        fee = 2 * latest.base_fee + tip
        if before is not None:
            tip, fee = (max(now, was + was // 8 + 1) for now, was in ((tip, before.tip), (fee, before.fee)))
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self.chain,
            "nonce": nonce,
            "gas": gas + gas // _MARGIN,
            "maxFeePerGas": fee,
            "maxPriorityFeePerGas": tip,
            "value": value,
            "data": data,
        }
        if to is not None:
            fields["to"] = address_text(to)
        signed = Account.sign_transaction(fields, self._key.secret)
        return Signed(bytes(signed.hash), bytes(signed.raw_transaction), nonce, fee, tip)

    async def submit(self, signed: Signed) -> None:
        """Hand it in. Raises `EthereumError`, also where the node names another hash."""
        if await self._node.submit(signed.raw) != signed.hash:
            raise EthereumError("the Ethereum node has taken another transaction than it was given")

    async def send(self, to: bytes | None, data: bytes = b"", value: int = 0) -> Signed:
        """Sign, and hand in."""
        signed = await self.sign(to, data, value)
        await self.submit(signed)
        return signed

    async def wait(self, signed: Signed, patience: float = PATIENCE) -> Receipt:
        """The receipt, once it is in a block. Raises `EthereumError` where it failed, or is in none in time."""
        end = self._clock.seconds() + patience
        while self._clock.seconds() < end:
            receipt = await self._node.receipt(signed.hash)
            if receipt is not None:
                if not receipt.success:
                    raise EthereumError(f"the transaction 0x{signed.hash.hex()} has failed")
                return receipt
            await _sleep(self._clock, _ASK)
        raise EthereumError(f"the transaction 0x{signed.hash.hex()} is in no block after {patience:g} seconds")

    async def deploy(self, data: bytes) -> bytes:
        """The address of a new contract."""
        receipt = await self.wait(await self.send(None, data))
        if receipt.contract is None:
            raise EthereumError("the Ethereum node does not say where the contract is")
        return receipt.contract


def _sleep(clock: Any, seconds: float) -> "Deferred[None]":
    return deferLater(clock, seconds, lambda: None)
