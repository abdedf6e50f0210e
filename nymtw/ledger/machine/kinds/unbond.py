"""unbond: part of a bond, or all of it, comes back after the unbonding epochs; until then it can be slashed."""

from nymtw.ledger.machine.kinds.kind import Fields, Kind, check_amount, refuse_unless
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.state import Bond, State, bond_key, identity_key, unbonding_key


class Unbond(Fields, frozen=True):
    """How much."""

    amount: int


def check(state: State, sender: bytes, fields: Unbond) -> None:
    bond: Bond | None = state.get(bond_key(sender))
    check_amount(fields.amount)
    bonded = bond.amount if bond else 0
    refuse_unless(bonded >= fields.amount, Refusal.INSUFFICIENT, f"{bonded} is bonded, not {fields.amount}")
    left = bonded - fields.amount
    enough = left == 0 or left >= state.parameters.minimum_bond
    refuse_unless(enough, Refusal.BAD_AMOUNT, "less than the least bond would be left")


def effect(state: State, sender: bytes, fields: Unbond) -> None:
    bond: Bond = state.get(bond_key(sender))
    state.put(bond_key(sender), bond._replace(amount=bond.amount - fields.amount, leaving=bond.leaving + fields.amount))
    state.shift(fields.amount, "bonded", "unbonding")
    due = unbonding_key(state.height + state.parameters.unbonding_blocks)
    state.put(due, [*(state.get(due) or []), [sender, fields.amount]])


def mature(state: State) -> None:
    """Pay out what is due in this block; a bond of nothing is no bond."""
    for owner, amount in state.get(unbonding_key(state.height)) or []:
        bond: Bond = state.get(bond_key(owner))
        bond = bond._replace(leaving=bond.leaving - amount)
        state.credit(owner, amount, "unbonding")
        if bond.amount or bond.leaving:
            state.put(bond_key(owner), bond)
        else:
            state.put(bond_key(owner), None)
            state.put(identity_key(bond.identity), None)
    if state.get(unbonding_key(state.height)) is not None:
        state.put(unbonding_key(state.height), None)


KIND = Kind("unbond", Unbond, check, effect)
