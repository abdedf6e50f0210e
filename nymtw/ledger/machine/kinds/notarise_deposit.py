"""notarise-deposit: a watcher says that tokens came to the pipe on Ethereum; enough of them make it so."""

from typing import Annotated

from msgspec import Meta

from nymtw.ledger.machine.kinds.kind import Fields, Kind, check_amount, content_of, refuse_unless
from nymtw.ledger.machine.parameters import MAX_AMOUNT, Address, Key
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.state import Deposit, State, deposit_key
from nymtw.ledger.machine.voting import check_vote, close_ballot, count_vote, topic


class NotariseDeposit(Fields, frozen=True):
    """One transfer to the pipe. `log_index` is the place of its log among those of its transaction, from 0: unlike the
    place in the block it stays the same when a reorganisation moves the transaction.
    """

    chain: Annotated[int, Meta(ge=0, le=2**53)]
    block: Key
    transaction: Key
    log_index: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    account: Address
    amount: int


def check(state: State, sender: bytes, fields: NotariseDeposit) -> None:
    parameters = state.parameters
    refuse_unless(sender in parameters.watchers, Refusal.NOT_AUTHORISED, "the sender is no watcher")
    right = fields.chain == parameters.ethereum_chain
    refuse_unless(right, Refusal.WRONG_CHAIN, f"the pipe is on chain {parameters.ethereum_chain}")
    check_amount(fields.amount)
    done = state.get(_key(fields)) is not None
    refuse_unless(not done, Refusal.ALREADY_DONE, "this deposit has been notarised")
    fits = state.totals.notarised + fields.amount <= MAX_AMOUNT
    refuse_unless(fits, Refusal.BAD_AMOUNT, f"more than {MAX_AMOUNT} in all")
    check_vote(state, _topic(fields), sender, content_of(fields))


def effect(state: State, sender: bytes, fields: NotariseDeposit) -> None:
    parameters = state.parameters
    weights = dict.fromkeys(parameters.watchers, 1)
    agreed = count_vote(state, _topic(fields), sender, content_of(fields), weights)
    if agreed >= parameters.watcher_threshold:
        close_ballot(state, _topic(fields))
        state.put(_key(fields), Deposit(fields.account, fields.amount, state.height))
        state.credit(fields.account, fields.amount, "notarised")


def _key(fields: NotariseDeposit) -> bytes:
    return deposit_key(fields.chain, fields.transaction, fields.log_index)


def _topic(fields: NotariseDeposit) -> bytes:
    return topic("deposit", fields.chain, fields.transaction, fields.log_index)


KIND = Kind("notarise-deposit", NotariseDeposit, check, effect)
