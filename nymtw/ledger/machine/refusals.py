"""Why a transaction is refused: one number for each cause, the same on every node and in every answer."""

from enum import IntEnum


class Refusal(IntEnum):
    """The code of a refusal; 0 stands for success."""

    MALFORMED = 1
    BAD_SIGNATURE = 2
    WRONG_CHAIN = 3
    WRONG_NONCE = 4
    UNKNOWN_ACCOUNT = 5
    INSUFFICIENT = 6
    NOT_AUTHORISED = 7
    ALREADY_DONE = 8
    BAD_AMOUNT = 9
    TOO_LARGE = 10
    TOO_MANY = 11
    UNKNOWN_KIND = 12
    CONTRADICTION = 13
