"""withdraw: tokens leave the ledger, for an address on Ethereum; redeemers release them there."""

from nymtw.ledger.machine.kinds.kind import Fields, Kind, check_amount, check_balance, refuse_unless
from nymtw.ledger.machine.parameters import Address
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.state import State, Withdrawal, withdrawal_key


class Withdraw(Fields, frozen=True):
    """How much, and for which address on Ethereum, which is not the null address."""

    recipient: Address
    amount: int


def check(state: State, sender: bytes, fields: Withdraw) -> None:
    check_amount(fields.amount, state.parameters.minimum_withdrawal)
    refuse_unless(any(fields.recipient), Refusal.UNKNOWN_ACCOUNT, "nobody can use the null address")
    check_balance(state, sender, fields.amount)


def effect(state: State, sender: bytes, fields: Withdraw) -> None:
    number = state.next_number(b"withdrawal")
    state.put(withdrawal_key(number), Withdrawal(sender, fields.recipient, fields.amount, state.height, [], False))
    state.debit(sender, fields.amount, "withdrawing")


KIND = Kind("withdraw", Withdraw, check, effect)
