"""One redeemer's rounds: an approval for each withdrawal, and payments on Ethereum of those with enough of them."""

from collections.abc import Sequence
from typing import Any, Final

from twisted.logger import Logger

from nymtw.errors import EthereumError, EthereumRefused, LedgerError
from nymtw.ethereum.contracts import call_data, number_word, read_number, release_call
from nymtw.ethereum.node import EthereumNode
from nymtw.ethereum.transactions import Signed, TransactionSender
from nymtw.ledger import clients
from nymtw.ledger.machine.kinds.release import Release
from nymtw.ledger.machine.parameters import Parameters
from nymtw.ledger.machine.signatures import AccountKey, address_text, release_digest
from nymtw.ledger.machine.state import Withdrawal
from nymtw.pipe.redeemer.paid import Paid
from nymtw.pipe.votes import vote

TURN: Final = 30.0  # seconds for a redeemer to pay before it is the next one's turn
_STUCK: Final = 60.0  # seconds after which a transaction that is in no block is sent again for more
_AT_ONCE: Final = 200  # withdrawals in one round


class Redeeming:
    """What a redeemer knows and does."""

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        node: EthereumNode,
        ledger: Any,
        key: AccountKey,
        paid: Paid,
        *,
        confirmations: int,
        pays: bool = True,
    ) -> None:
        self._clock = clock
        self._node = node
        self._ledger = ledger
        self._key = key
        self._confirmations = confirmations
        self._pays = pays
        self._first_seen: dict[int, float] = {}  # released on the ledger, not paid yet
        self._sent: dict[int, tuple[Signed, float]] = {}
        self.paid = paid
        self.approvals = 0
        self.payments = 0
        self.refused = 0

    @property
    def open(self) -> int:
        """Withdrawals that are approved and not paid yet."""
        return len(self._first_seen)

    async def round(self) -> None:
        """Approve and pay what there is. Raises `EthereumError`, `LedgerError`."""
        parameters = await clients.parameters(self._ledger)
        if self._key.address not in parameters.redeemers:
            raise LedgerError(f"{address_text(self._key.address)} is no redeemer of this ledger")
        last = await clients.withdrawals(self._ledger)
        first = self.paid.below + 1
        open_ones = {}
        for number in range(first, min(last, first + _AT_ONCE - 1) + 1):
            found = None if number in self.paid.above else await clients.withdrawal(self._ledger, number)
            if found is not None:
                open_ones[number] = found
        await self._approve(open_ones, parameters)
        await self._pay({number: each for number, each in open_ones.items() if each.released}, parameters)

    async def _approve(self, withdrawals: dict[int, Withdrawal], parameters: Parameters) -> None:
        votes = []
        for number, each in withdrawals.items():
            if each.released or any(redeemer == self._key.address for redeemer, _ in each.approvals):
                continue
            digest = release_digest(parameters.ethereum_chain, parameters.pipe, number, each.recipient, each.amount)
            votes.append(Release(number, each.recipient, each.amount, self._key.sign(digest)))
        self.approvals += await vote(self._ledger, self._key, "release", votes)

    async def _pay(self, withdrawals: dict[int, Withdrawal], parameters: Parameters) -> None:
        if not withdrawals:
            return
        chain = await self._node.chain()
        if chain != parameters.ethereum_chain:
            raise EthereumError(f"the Ethereum node is of chain {chain}, the pipe on {parameters.ethereum_chain}")
        head = await self._node.head()
        safe = head - self._confirmations
        trouble: EthereumError | None = None
        for number, each in withdrawals.items():
            if safe >= 0 and await self._is_paid(parameters.pipe, number, safe):
                self.paid.add(number)
                self._first_seen.pop(number, None)
                self._sent.pop(number, None)
            elif not await self._is_paid(parameters.pipe, number, "latest"):
                try:
                    await self._pay_one(number, each, parameters)
                except EthereumRefused as error:
                    self.refused += 1
                    trouble = error
        if trouble is not None:
            raise trouble

    async def _is_paid(self, pipe: bytes, number: int, at: int | str) -> bool:
        return read_number(await self._node.call(pipe, call_data("released(uint256)", number_word(number)), at)) == 1

    async def _pay_one(self, number: int, each: Withdrawal, parameters: Parameters) -> None:
        now = self._clock.seconds()
        since = self._first_seen.setdefault(number, now)
        if not self._pays or now < since + TURN * self._turn(number, parameters.redeemers):
            return
        sender = TransactionSender(self._clock, self._node, self._key, parameters.ethereum_chain)
        signed, at = self._sent.get(number, (None, now))
        if signed is not None and now < at + _STUCK:
            return
        needed = read_number(await self._node.call(parameters.pipe, call_data("threshold()")))
        approvals = [(redeemer, signature) for redeemer, signature in each.approvals][:needed]
        data = release_call(number, each.recipient, each.amount, approvals)
        signed = await sender.sign(parameters.pipe, data, before=signed)
        self._sent[number] = (signed, now)
        await sender.submit(signed)
        self.payments += 1
        self._log.info("withdrawal {number} is being paid by 0x{hash}", number=number, hash=signed.hash.hex())

    def _turn(self, number: int, redeemers: Sequence[bytes]) -> int:
        """How many redeemers have their turn before this one."""
        return (sorted(redeemers).index(self._key.address) - number) % len(redeemers)
