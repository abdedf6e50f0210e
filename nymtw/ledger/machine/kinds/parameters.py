"""parameters: a validator votes for new parameters; more than two thirds of the power make them so."""

from typing import Any

import msgspec

from nymtw.errors import TransactionRefused
from nymtw.ledger.machine.kinds.kind import Fields, Kind, content_of, refuse_unless
from nymtw.ledger.machine.parameters import Parameters
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.state import State
from nymtw.ledger.machine.voting import check_vote, close_ballot, count_vote, topic


class ChangeParameters(Fields, frozen=True):
    """The version that these would be, one more than the present one, and each value that changes by its name."""

    version: int
    changes: dict[str, Any]


def check(state: State, sender: bytes, fields: ChangeParameters) -> None:
    parameters = state.parameters
    votes = any(each.address == sender for each in parameters.validators)
    refuse_unless(votes, Refusal.NOT_AUTHORISED, "the sender is no validator")
    right = fields.version == parameters.version + 1
    refuse_unless(right, Refusal.CONTRADICTION, f"the next version is {parameters.version + 1}")
    refuse_unless(bool(fields.changes), Refusal.MALFORMED, "nothing is to change")
    _changed(parameters, fields)
    check_vote(state, _topic(fields), sender, content_of(fields))


def effect(state: State, sender: bytes, fields: ChangeParameters) -> None:
    parameters = state.parameters
    weights = {each.address: each.power for each in parameters.validators}
    agreed = count_vote(state, _topic(fields), sender, content_of(fields), weights)
    if 3 * agreed > 2 * parameters.power:
        close_ballot(state, _topic(fields))
        state.set_parameters(_changed(parameters, fields))


def _changed(parameters: Parameters, fields: ChangeParameters) -> Parameters:
    plain = msgspec.to_builtins(parameters, builtin_types=(bytes,))
    unknown = fields.changes.keys() - (plain.keys() - {"version"})
    refuse_unless(not unknown, Refusal.MALFORMED, "there is no such parameter")
    try:
        return msgspec.convert(
            {**plain, **fields.changes, "version": fields.version}, Parameters, strict=True, builtin_types=(bytes,)
        )
    except msgspec.ValidationError as error:
        raise TransactionRefused(Refusal.MALFORMED, f"these cannot be the parameters: {error}") from None


def _topic(fields: ChangeParameters) -> bytes:
    return topic("parameters", fields.version)


KIND = Kind("parameters", ChangeParameters, check, effect)
