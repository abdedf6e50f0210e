"""bond: the sender's tokens stand for the good conduct of a node; again: more of them."""

from typing import Annotated

from msgspec import Meta
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from nymtw.ledger.machine.kinds.kind import Fields, Kind, check_amount, check_balance, refuse_unless
from nymtw.ledger.machine.parameters import Key
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.state import Bond as BondRecord
from nymtw.ledger.machine.state import State, bond_key, identity_key


class Bond(Fields, frozen=True):
    """The node's identity key, its Ed25519 signature of `bond_statement`, and how much."""

    identity: Key
    consent: Annotated[bytes, Meta(min_length=64, max_length=64)]
    amount: int


def bond_statement(owner: bytes) -> bytes:
    """What a node's identity key signs, so that nobody bonds for another's node: whose tokens stand for it."""
    return b"nymtw bond: this node is stood for by " + owner


def check(state: State, sender: bytes, fields: Bond) -> None:
    before: BondRecord | None = state.get(bond_key(sender))
    check_amount(fields.amount, 1 if before else state.parameters.minimum_bond)
    check_balance(state, sender, fields.amount)
    same = before is None or before.identity == fields.identity
    refuse_unless(same, Refusal.CONTRADICTION, "the account's bond is for another node")
    owner = state.get(identity_key(fields.identity))
    refuse_unless(owner in (None, sender), Refusal.ALREADY_DONE, "another account has bonded for this node")
    try:
        VerifyKey(fields.identity).verify(bond_statement(sender), fields.consent)
        consents = True
    except (BadSignatureError, ValueError):
        consents = False
    refuse_unless(consents, Refusal.BAD_SIGNATURE, "the node's identity key has not signed for this account")


def effect(state: State, sender: bytes, fields: Bond) -> None:
    before: BondRecord = state.get(bond_key(sender)) or BondRecord(fields.identity, 0, 0)
    state.debit(sender, fields.amount, "bonded")
    state.put(bond_key(sender), before._replace(amount=before.amount + fields.amount))
    state.put(identity_key(fields.identity), sender)


KIND = Kind("bond", Bond, check, effect)
