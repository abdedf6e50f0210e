"""Votes of a watcher or redeemer: many at once into the ledger's next block, and sure to be there."""

from collections.abc import Sequence
from typing import Any, Final

from twisted.logger import Logger

from nymtw.errors import LedgerError, TransactionRefused
from nymtw.ledger import clients
from nymtw.ledger.machine.kinds.kind import Fields
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.signatures import AccountKey
from nymtw.ledger.machine.transactions import encode_transaction

AT_ONCE: Final = 100  # less than the ledger lets wait for one account
PATIENCE: Final = 30.0  # seconds for a block
_SETTLED: Final = (Refusal.ALREADY_DONE, Refusal.BAD_AMOUNT)  # saying it again would change nothing
_log = Logger()


async def vote(ledger: Any, key: AccountKey, kind: str, votes: Sequence[Fields]) -> int:
    """Hand `votes` in, each a transaction of this kind; returns how many were new to the ledger.

    One that the ledger has counted before, or can never take, is passed over. Raises `LedgerError` where one was
    refused for another reason, or is in no block in time: some may have been counted then, and all can be said again.
    """
    counted = 0
    for start in range(0, len(votes), AT_ONCE):
        counted += await _some(ledger, key, kind, votes[start : start + AT_ONCE])
    return counted


async def _some(ledger: Any, key: AccountKey, kind: str, votes: Sequence[Fields]) -> int:
    chain = (await ledger.status()).chain
    nonce = await ledger.next_nonce(key.address)
    waiting: list[bytes] = []
    for fields in votes:
        try:
            waiting.append(await ledger.submit(encode_transaction(key, chain, kind, nonce, fields)))
            nonce += 1
        except TransactionRefused as refusal:
            _pass_over(refusal)
    counted = 0
    for identity in waiting:
        place = await ledger.result(identity, PATIENCE)
        if place is None:
            raise LedgerError(f"a vote is in no block after {PATIENCE:g} seconds")
        if place.code:
            _pass_over(TransactionRefused(place.code, place.text))
        else:
            counted += 1
    if counted:
        # A node's word on a transaction is not proved; the account is.
        account = await clients.account(ledger, key.address)
        if account is None or (account.nonce < nonce and counted == len(waiting)):
            raise LedgerError("the ledger does not have the votes that its node says it has")
    return counted


def _pass_over(refusal: TransactionRefused) -> None:
    if refusal.code not in _SETTLED:
        raise refusal
    if refusal.code == Refusal.BAD_AMOUNT:
        _log.error("the ledger can never take a vote: {refusal}", refusal=str(refusal))
