"""From Ethereum to the ledger: a wallet's transfer to the pipe, followed until the account has it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from nymtw.errors import ConfigError, EthereumError, EthereumRefused, LedgerError
from nymtw.ethereum.contracts import (
    address_word,
    call_data,
    number_word,
    pipe_deposits,
    read_address,
    read_number,
)
from nymtw.ethereum.node import EthereumNode, Receipt, hex_text
from nymtw.ethereum.transactions import Signed, TransactionSender
from nymtw.ledger import clients
from nymtw.ledger.machine.signatures import AccountKey, address_text

_ASK: Final = 0.5  # seconds
_AGAIN: Final = 5.0  # seconds after which a transaction in no block is handed in again: its node may have lost it
_NOWHERE: Final = "It is in no block on Ethereum"
_LAST_NEWS: Final = 64  # confirmations: where watchers still say nothing, more of them are no news


class PipeIn:
    """One transfer. `show(text)` is told how it goes on."""

    def __init__(
        self,
        clock: Any,
        node: EthereumNode,
        ledger: Any,
        key: AccountKey,
        patience: float,
        show: Callable[[str], object],
    ) -> None:
        """`patience`: seconds without any news after which it is given up waiting."""
        self._clock = clock
        self._node = node
        self._ledger = ledger
        self._key = key
        self._patience = patience
        self._show = show

    async def send(self, amount: int, account: bytes) -> tuple[bytes, int]:
        """Transfer `amount` (smallest units) for `account`, and wait until the ledger has it; returns the
        transaction's hash and the height of the ledger's block with the deposit. Raises `NymtwError`.
        """
        parameters = await clients.parameters(self._ledger)
        chain = await self._node.chain()
        if chain != parameters.ethereum_chain:
            raise ConfigError(f"the Ethereum node is of chain {chain}, the pipe on {parameters.ethereum_chain}")
        token = read_address(await self._node.call(parameters.pipe, call_data("token()")))
        await self._check_balance(token, amount)
        sender = TransactionSender(self._clock, self._node, self._key, chain)
        if account == self._key.address:
            words = address_word(parameters.pipe), number_word(amount)
            signed = await sender.send(token, call_data("transfer(address,uint256)", *words))
        else:
            await self._approve(sender, token, parameters.pipe, amount)
            words = address_word(account), number_word(amount)
            signed = await sender.send(parameters.pipe, call_data("pipe(address,uint256)", *words))
        self._show(f"Sent {hex_text(signed.hash)}; waiting for its block on Ethereum")
        return signed.hash, await self._follow(sender, signed, parameters.pipe, token)

    async def _check_balance(self, token: bytes, amount: int) -> None:
        data = call_data("balanceOf(address)", address_word(self._key.address))
        has = read_number(await self._node.call(token, data))
        if has < amount:
            address = address_text(self._key.address)
            raise ConfigError(f"{address} has {has} of the token's smallest units on Ethereum, not {amount}")

    async def _approve(self, sender: TransactionSender, token: bytes, pipe: bytes, amount: int) -> None:
        words = address_word(self._key.address), address_word(pipe)
        if read_number(await self._node.call(token, call_data("allowance(address,address)", *words))) < amount:
            self._show("Letting the pipe take the tokens")
            data = call_data("approve(address,uint256)", address_word(pipe), number_word(amount))
            await sender.wait(await sender.send(token, data))

    async def _follow(self, sender: TransactionSender, signed: Signed, pipe: bytes, token: bytes) -> int:
        transaction, said = signed.hash, ""
        until = self._clock.seconds() + self._patience
        again = self._clock.seconds() + _AGAIN
        while self._clock.seconds() < until:
            try:
                news, height = await self._look(transaction, sender.chain, pipe, token)
                if news == _NOWHERE and self._clock.seconds() >= again:
                    again = self._clock.seconds() + _AGAIN
                    with suppress(EthereumRefused):  # it has it; or it will not take it, and the receipt says why
                        await sender.submit(signed)
            except (EthereumError, LedgerError) as error:
                news, height = f"Asking again: {error}", None
            if height is not None:
                self._show("The watchers have notarised it")
                return height
            if news != said:
                self._show(news)
                said = news
                until = self._clock.seconds() + self._patience
            await _sleep(self._clock, _ASK)
        raise LedgerError(
            f"nothing new for {self._patience:g} seconds; once the watchers notarise {hex_text(transaction)} the "
            "account has it"
        )

    async def _look(self, transaction: bytes, chain: int, pipe: bytes, token: bytes) -> tuple[str, int | None]:
        """How things are, in words, and the height of the deposit on the ledger if it is there."""
        receipt: Receipt | None = await self._node.receipt(transaction)
        if receipt is None:
            return _NOWHERE, None
        if not receipt.success:
            raise ConfigError(f"the transaction {hex_text(transaction)} has failed on Ethereum")
        for each in pipe_deposits(receipt.logs, pipe, token):
            found = await clients.deposit(self._ledger, chain, transaction, each.log_index)
            if found is not None:
                return "", found.height
        above = min(max(0, await self._node.head() - receipt.number), _LAST_NEWS)
        return f"In block {receipt.number} on Ethereum, {above} block{'' if above == 1 else 's'} above it", None


def _sleep(clock: Any, seconds: float) -> "Deferred[None]":
    return deferLater(clock, seconds, lambda: None)
