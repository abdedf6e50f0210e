"""transfer: tokens from the sender's account to another one that is there."""

from nymtw.ledger.machine.kinds.kind import Fields, Kind, check_amount, check_balance, refuse_unless
from nymtw.ledger.machine.parameters import Address
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.state import State


class Transfer(Fields, frozen=True):
    """To whom, and how much."""

    recipient: Address
    amount: int


def check(state: State, sender: bytes, fields: Transfer) -> None:
    check_amount(fields.amount)
    check_balance(state, sender, fields.amount)
    known = state.account(fields.recipient) is not None
    refuse_unless(known, Refusal.UNKNOWN_ACCOUNT, "the recipient has no account on this ledger")


def effect(state: State, sender: bytes, fields: Transfer) -> None:
    state.debit(sender, fields.amount, "balances")
    state.credit(fields.recipient, fields.amount, "balances")


KIND = Kind("transfer", Transfer, check, effect)
