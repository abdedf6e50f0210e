"""Finding who paid twice with one ticket: two payments that share a serial give the spender's public key."""

from dataclasses import dataclass
from enum import StrEnum

from nymtw.credentials.curve import G1, ONE, Scalar, encode
from nymtw.credentials.ecash.payments import Payment, PaymentInfo, ticket_challenge


class Finding(StrEnum):
    """What two payments are to each other."""

    APART = "apart"  # no serial in common
    REPLAY = "replay"  # the same payment info: one payment handed in twice
    DOUBLE = "double"  # one ticket spent for two payments


@dataclass(frozen=True)
class Comparison:
    """What was found, and with `DOUBLE` the spender's public key pk = sk g1, 48 bytes."""

    finding: Finding
    spender: bytes | None = None


def identify(first: Payment, first_info: PaymentInfo, second: Payment, second_info: PaymentInfo) -> Comparison:
    """Compare two payments that were both verified: pk = (R_1 T_2 - R_2 T_1) / (R_1 - R_2)."""
    places = {serial: place for place, serial in enumerate(first.serials)}
    for place, serial in enumerate(second.serials):
        if serial not in places:
            continue
        if first_info == second_info:
            return Comparison(Finding.REPLAY)
        mine, theirs = ticket_challenge(first_info, places[serial]), ticket_challenge(second_info, place)
        tag, other = first.paid.tickets[places[serial]].tag, second.paid.tickets[place].tag
        return Comparison(Finding.DOUBLE, encode(_spender(tag, other, mine, theirs)))
    return Comparison(Finding.APART)


def _spender(tag: G1, other: G1, mine: Scalar, theirs: Scalar) -> G1:
    inverse = ONE / (mine - theirs)
    return other * (mine * inverse) - tag * (theirs * inverse)
