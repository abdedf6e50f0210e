"""release: a redeemer approves a withdrawal; with enough approvals it counts as gone, and Ethereum pays it out."""

from typing import Annotated

from msgspec import Meta

from nymtw.errors import EncodingError
from nymtw.ledger.machine.kinds.kind import Fields, Kind, refuse_unless
from nymtw.ledger.machine.parameters import Address
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.signatures import SIGNATURE_LENGTH, release_digest, signer
from nymtw.ledger.machine.state import State, Withdrawal, withdrawal_key

Signature = Annotated[bytes, Meta(min_length=SIGNATURE_LENGTH, max_length=SIGNATURE_LENGTH)]


class Release(Fields, frozen=True):
    """The withdrawal's number, what it says, and the redeemer's signature for the pipe contract (`release_digest`)."""

    withdrawal: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    recipient: Address
    amount: int
    approval: Signature


def check(state: State, sender: bytes, fields: Release) -> None:
    parameters = state.parameters
    refuse_unless(sender in parameters.redeemers, Refusal.NOT_AUTHORISED, "the sender is no redeemer")
    found: Withdrawal | None = state.get(withdrawal_key(fields.withdrawal))
    refuse_unless(found is not None, Refusal.UNKNOWN_ACCOUNT, "there is no such withdrawal")
    assert found is not None
    same = (found.recipient, found.amount) == (fields.recipient, fields.amount)
    refuse_unless(same, Refusal.CONTRADICTION, "the withdrawal has another recipient or amount")
    refuse_unless(not found.released, Refusal.ALREADY_DONE, "the withdrawal has been released")
    before = any(address == sender for address, _ in found.approvals)
    refuse_unless(not before, Refusal.ALREADY_DONE, "this redeemer has approved it")
    digest = release_digest(
        parameters.ethereum_chain, parameters.pipe, fields.withdrawal, fields.recipient, fields.amount
    )
    try:
        approves = signer(digest, fields.approval) == sender
    except EncodingError:
        approves = False
    refuse_unless(approves, Refusal.BAD_SIGNATURE, "the approval is not the redeemer's signature for the pipe")


def effect(state: State, sender: bytes, fields: Release) -> None:
    parameters = state.parameters
    found: Withdrawal = state.get(withdrawal_key(fields.withdrawal))
    approvals = [each for each in found.approvals if each[0] in parameters.redeemers]
    approvals = sorted([*approvals, [sender, fields.approval]])
    released = len(approvals) >= parameters.redeemer_threshold
    if released:
        state.shift(found.amount, "withdrawing", "released")
    state.put(withdrawal_key(fields.withdrawal), found._replace(approvals=approvals, released=released))


KIND = Kind("release", Release, check, effect)
