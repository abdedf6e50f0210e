"""One watcher's rounds: new blocks deep enough in the chain, what came to the pipe in them, a vote for each."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from twisted.logger import Logger

from nymtw.errors import EthereumError, EthereumRefused, LedgerError
from nymtw.ethereum.contracts import (
    TRANSFER,
    PipeDeposit,
    address_word,
    call_data,
    may_hold,
    pipe_deposits,
    read_address,
)
from nymtw.ethereum.node import Header, Log, Receipt
from nymtw.ledger import clients
from nymtw.ledger.machine.kinds.notarise_deposit import NotariseDeposit
from nymtw.ledger.machine.parameters import MAX_AMOUNT, Parameters
from nymtw.ledger.machine.signatures import AccountKey, address_text
from nymtw.pipe.votes import vote
from nymtw.pipe.watcher.progress import Progress, Seen

_AT_ONCE: Final = 100  # blocks


class Found(NamedTuple):
    """A deposit, and where it is."""

    header: Header
    transaction: bytes
    deposit: PipeDeposit


class Watching:
    """What a watcher knows and does. `node` is an `EthereumNode` or `AgreedNode`."""

    _log = Logger()

    def __init__(
        self, node: Any, ledger: Any, key: AccountKey, progress: Progress, confirmations: int, finalized: bool = False
    ) -> None:
        """`confirmations`: blocks above one before it is looked at; with `finalized`, what the chain's validators have
        finalised is.
        """
        self._node = node
        self._ledger = ledger
        self._key = key
        self._confirmations = confirmations
        self._finalized = finalized
        self._tokens: dict[bytes, bytes] = {}  # pipe -> its token
        self.progress = progress
        self.head = 0
        self.deposits = 0
        self.votes = 0
        self.reorganisations = 0
        self.vanished = 0
        self.unusable = 0

    async def round(self) -> None:
        """All that is deep enough now. Raises `EthereumError`, `LedgerError`; the next round goes on where it was."""
        parameters = await clients.parameters(self._ledger)
        if self._key.address not in parameters.watchers:
            raise LedgerError(f"{address_text(self._key.address)} is no watcher of this ledger")
        chain = await self._node.chain()
        if chain != parameters.ethereum_chain:
            raise EthereumError(f"the Ethereum node is of chain {chain}, the pipe on {parameters.ethereum_chain}")
        self.head = await self._node.head()
        await self._compare()
        safe = await self._safe()
        while self.progress.last < safe:
            first = self.progress.last + 1
            headers = await self._headers(first, min(safe, first + _AT_ONCE - 1))
            found = await self._deposits(headers, parameters)
            await self._notarise(found, parameters)
            seen = [Seen(each.header.number, each.transaction.hex(), each.deposit.log_index) for each in found]
            self.progress.advance(headers, seen)
            self.deposits += len(found)
        await self._look_for_doubtful()

    async def _safe(self) -> int:
        if not self._finalized:
            return self.head - self._confirmations
        header = await self._node.header("finalized")
        return -1 if header is None else int(header.number)

    async def _compare(self) -> None:
        """Go back to the last block that is still in the chain."""
        known = [each for each in self.progress.blocks() if each[0] <= self.head]
        for number, digest in known:
            header = await self._node.header(number)
            if header is None:
                raise EthereumError(f"the Ethereum node does not have block {number}")
            if header.hash == digest:
                if number != known[0][0]:
                    self._reorganised(number)
                return
        if known:
            self._log.critical("none of the last {count} blocks is in the chain any more", count=len(known))
            self._reorganised(self.progress.start - 1)

    def _reorganised(self, number: int) -> None:
        self.reorganisations += 1
        self._log.error(
            "a reorganisation deeper than what was waited for: reading again from block {first} to {last}",
            first=number + 1,
            last=self.progress.last,
        )
        self.progress.rewind(number)

    async def _headers(self, first: int, last: int) -> list[Header]:
        headers: list[Header] = await self._node.headers(first, last)
        before = self.progress.hash()
        for header in headers:
            if before is not None and header.parent != before:
                raise EthereumError(f"the chain has changed at block {header.number} while it was read")
            before = header.hash
        return headers

    async def _deposits(self, headers: Sequence[Header], parameters: Parameters) -> list[Found]:
        pipe, token = parameters.pipe, await self._token(parameters.pipe)
        by_number = {header.number: header for header in headers}
        logs = await self._logs(headers, token, pipe)
        receipts: dict[bytes, Receipt] = {}
        for log in logs or ():
            header = by_number.get(log.number)
            if header is None or log.block != header.hash or not _is_deposit(log, token, pipe):
                raise EthereumError("the Ethereum node answers with a log that was not asked for, or of another chain")
            receipts[log.transaction] = receipts.get(log.transaction) or await self._receipt(log)
        quiet = set(by_number) - {log.number for log in logs or ()}
        for number in sorted(quiet):
            if may_hold(by_number[number].bloom, token, TRANSFER, address_word(pipe)):
                # The filter errs now and then, a node that leaves out logs as well: the block's receipts tell.
                receipts.update(await self._from_receipts(by_number[number], token, pipe))
        ordered = sorted(receipts.values(), key=lambda each: (each.number, each.logs[0].place if each.logs else 0))
        return [
            Found(by_number[receipt.number], receipt.transaction, deposit)
            for receipt in ordered
            for deposit in pipe_deposits(receipt.logs, pipe, token)
        ]

    async def _logs(self, headers: Sequence[Header], token: bytes, pipe: bytes) -> list[Log] | None:
        """The node's logs, asked for in smaller parts where it refuses; None where it refuses them all."""
        topics = (TRANSFER, None, address_word(pipe))
        try:
            found: list[Log] = await self._node.logs(headers[0].number, headers[-1].number, token, topics)
            return found
        except EthereumRefused:
            if len(headers) == 1:
                return None
        middle = len(headers) // 2
        halves = [await self._logs(part, token, pipe) for part in (headers[:middle], headers[middle:])]
        return [log for half in halves for log in half or ()]

    async def _receipt(self, log: Log) -> Receipt:
        receipt: Receipt | None = await self._node.receipt(log.transaction)
        if receipt is None or receipt.block != log.block or not receipt.success or log not in receipt.logs:
            raise EthereumError("the Ethereum node contradicts itself: a log is not in its transaction's receipt")
        return receipt

    async def _from_receipts(self, header: Header, token: bytes, pipe: bytes) -> dict[bytes, Receipt]:
        try:
            receipts: list[Receipt] = await self._node.block_receipts(header.number)
        except EthereumRefused as error:
            raise EthereumError(f"the node has neither logs nor receipts of block {header.number}: {error}") from None
        if any(receipt.block != header.hash for receipt in receipts):
            raise EthereumError(f"the chain has changed at block {header.number} while it was read")
        return {
            receipt.transaction: receipt
            for receipt in receipts
            if receipt.success and any(_is_deposit(log, token, pipe) for log in receipt.logs)
        }

    async def _notarise(self, found: Sequence[Found], parameters: Parameters) -> None:
        votes = []
        for each in found:
            if each.deposit.amount > MAX_AMOUNT:
                self.unusable += 1
                self._log.error("a deposit is larger than the ledger can count: 0x{tx}", tx=each.transaction.hex())
                continue
            place = parameters.ethereum_chain, each.transaction, each.deposit.log_index
            if await clients.deposit(self._ledger, *place) is None:
                votes.append(
                    NotariseDeposit(
                        chain=parameters.ethereum_chain,
                        block=each.header.hash,
                        transaction=each.transaction,
                        log_index=each.deposit.log_index,
                        account=each.deposit.account,
                        amount=each.deposit.amount,
                    )
                )
        self.votes += await vote(self._ledger, self._key, "notarise-deposit", votes)

    async def _look_for_doubtful(self) -> None:
        """A deposit that was notarised and is in no block any more is money that nobody paid in."""
        left = []
        for each in self.progress.doubtful:
            if each.number > self.progress.last or await self._node.receipt(bytes.fromhex(each.transaction)):
                left.append(each)
                continue
            self.vanished += 1
            self._log.critical(
                "a deposit that was notarised is not in the chain any more: 0x{transaction}",
                transaction=each.transaction,
            )
        self.progress.settle(left)

    async def _token(self, pipe: bytes) -> bytes:
        if pipe not in self._tokens:
            self._tokens = {pipe: read_address(await self._node.call(pipe, call_data("token()")))}
        return self._tokens[pipe]


def _is_deposit(log: Log, token: bytes, pipe: bytes) -> bool:
    return log.address == token and log.topics[:1] == (TRANSFER,) and log.topics[2:] == (address_word(pipe),)
