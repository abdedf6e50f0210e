"""new-account: an account without money, for somebody whom nobody has paid yet."""

from nymtw.ledger.machine.kinds.kind import Fields, Kind, refuse_unless
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.state import Account, State, account_key


class NewAccount(Fields, frozen=True):
    """Nothing but the signature: the account is the signer's."""


def check(state: State, sender: bytes, fields: NewAccount) -> None:
    refuse_unless(state.account(sender) is None, Refusal.ALREADY_DONE, "the account is there")
    most = state.parameters.new_accounts_per_block
    refuse_unless(state.new_accounts < most, Refusal.TOO_MANY, f"a block opens at most {most} accounts")


def effect(state: State, sender: bytes, fields: NewAccount) -> None:
    state.put(account_key(sender), Account(0, 0))
    state.new_accounts += 1


KIND = Kind("new-account", NewAccount, check, effect, opens_account=True)
