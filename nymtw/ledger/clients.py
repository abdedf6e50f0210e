"""What is asked of any `ILedger`: accounts, parameters, transactions that are waited for, a feed of blocks."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from nymtw.errors import LedgerError, TransactionRefused
from nymtw.ledger.machine.parameters import Parameters
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.signatures import AccountKey, address_text
from nymtw.ledger.machine.state import Account, Bond, Deposit, Totals, Withdrawal, decode_record
from nymtw.ledger.machine.transactions import encode_transaction
from nymtw.ledger.storage.records import TransactionPlace

PATIENCE: Final = 60.0  # seconds for a transaction to come into a block
_ASK: Final = 20.0  # seconds for which a node may hold one question back
_AGAIN: Final = 1.0  # seconds after an error
_TRIES: Final = 3  # where another transaction of the account came between


async def record(ledger: Any, path: str, height: int | None = None, prove: bool = False) -> Any:
    """The record under `path` (see `nymtw.ledger.machine.machine.query_key`), or None. Raises `LedgerError`."""
    answer = await ledger.query(path, height, prove)
    return decode_record(answer.key, answer.value)


async def account(ledger: Any, address: bytes) -> Account | None:
    """Balance and next nonce of `address` (20 bytes); None where it has no account."""
    found: Account | None = await record(ledger, f"account/{address_text(address)}")
    return found


async def bond(ledger: Any, address: bytes) -> Bond | None:
    """What this account has bonded."""
    found: Bond | None = await record(ledger, f"bond/{address_text(address)}")
    return found


async def withdrawal(ledger: Any, number: int) -> Withdrawal | None:
    """The withdrawal of this number, from 1, with its approvals."""
    found: Withdrawal | None = await record(ledger, f"withdrawal/{number}")
    return found


async def withdrawals(ledger: Any) -> int:
    """How many withdrawals there have been; the last one has this number."""
    count: int | None = await record(ledger, "withdrawals")
    return count or 0


async def deposit(ledger: Any, chain: int, transaction: bytes, index: int) -> Deposit | None:
    """The deposit that this log (its place in its transaction) was, if it has been notarised."""
    found: Deposit | None = await record(ledger, f"deposit/{chain}/{transaction.hex()}/{index}")
    return found


async def totals(ledger: Any) -> Totals:
    """All money there is, by where it is."""
    found: Totals | None = await record(ledger, "totals")
    return found or Totals()


async def parameters(ledger: Any) -> Parameters:
    """What the validators have decided."""
    plain = await record(ledger, "parameters")
    if plain is None:
        raise LedgerError("the ledger has no parameters yet")
    return msgspec.convert(plain, Parameters, strict=True, builtin_types=(bytes,))


async def submit_and_wait(ledger: Any, data: bytes, patience: float = PATIENCE) -> TransactionPlace:
    """Hand a transaction in and wait for its block.

    Raises `TransactionRefused`, also where it was refused in the block; `LedgerError` where it has not come into a
    block after `patience` seconds, which it may do yet.
    """
    identity = await ledger.submit(data)
    place: TransactionPlace | None = await ledger.result(identity, patience)
    if place is None:
        raise LedgerError(f"the transaction {identity.hex()} is in no block after {patience:g} seconds")
    if place.code:
        raise TransactionRefused(place.code, place.text)
    return place


async def send(
    ledger: Any, key: AccountKey, kind: str, fields: msgspec.Struct, patience: float = PATIENCE
) -> TransactionPlace:
    """Sign a transaction with the account's next nonce, hand it in and wait. Raises as `submit_and_wait`."""
    for left in reversed(range(_TRIES)):
        status = await ledger.status()
        nonce = await ledger.next_nonce(key.address)
        data = encode_transaction(key, status.chain, kind, nonce, fields)
        try:
            return await submit_and_wait(ledger, data, patience)
        except TransactionRefused as refusal:
            if refusal.code != Refusal.WRONG_NONCE or not left:
                raise
    raise AssertionError


class BlockFeed(Service):
    """Calls `callback(block)` with every block (`BlockRecord`) above a height, in order, while it runs.

    It goes on after errors of the ledger. An error in the callback is logged and the same block comes again, a second
    later: a client that must not miss one keeps the height that it has done.
    """

    _log = Logger()

    def __init__(self, clock: Any, ledger: Any, callback: Callable[[Any], Any], after: int) -> None:
        """`callback` may return a Deferred or a coroutine. `after`: the last height that is known."""
        self._clock = clock
        self._ledger = ledger
        self._callback = callback
        self.height = after
        self._loop: Deferred[None] | None = None

    def startService(self) -> None:
        """Begin to ask."""
        super().startService()
        self._loop = Deferred.fromCoroutine(self._follow())
        self._loop.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def stopService(self) -> Any:
        """Call no more."""
        super().stopService()
        if self._loop is not None:
            self._loop.cancel()
        return self._loop

    async def _follow(self) -> None:
        while self.running:
            try:
                for block in await self._ledger.blocks(self.height, 100, _ASK):
                    done = self._callback(block)
                    if done is not None:
                        await done
                    self.height = block.height
            except LedgerError as error:
                self._log.warn("blocks of the ledger do not come: {error}", error=str(error))
                await deferLater(self._clock, _AGAIN)
            except CancelledError:
                raise
            except Exception:
                self._log.failure("a block could not be taken")
                await deferLater(self._clock, _AGAIN)
