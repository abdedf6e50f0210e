"""What a kind of transaction is: the shape of its fields, when it may take effect, and its effect."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cbor2
import msgspec

from nymtw.errors import TransactionRefused
from nymtw.ledger.machine.parameters import MAX_AMOUNT
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.state import Account, State


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The base of every kind's fields: a CBOR array in the order in which they are declared."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. Chain, signature and nonce have been checked before.

    `check(state, sender, fields)` raises `TransactionRefused` and changes nothing; `effect(state, sender, fields)`
    cannot fail after a check on the same state. `opens_account`: the sender need not have an account yet.
    """

    name: str
    schema: type[Fields]
    check: Callable[[State, bytes, Any], None]
    effect: Callable[[State, bytes, Any], None]
    opens_account: bool = False


def refuse_unless(right: bool, code: Refusal, text: str) -> None:
    """Raises `TransactionRefused` with `code` and `text` unless `right`."""
    if not right:
        raise TransactionRefused(code, text)


def check_amount(amount: int, least: int = 1) -> None:
    """Raises `TransactionRefused` (BAD_AMOUNT)."""
    refuse_unless(least <= amount <= MAX_AMOUNT, Refusal.BAD_AMOUNT, f"an amount is from {least} to {MAX_AMOUNT}")


def check_balance(state: State, address: bytes, amount: int) -> None:
    """Raises `TransactionRefused` (INSUFFICIENT)."""
    balance = (state.account(address) or Account(0, 0)).balance
    refuse_unless(balance >= amount, Refusal.INSUFFICIENT, f"the account has {balance}, not {amount}")


def content_of(fields: Fields) -> bytes:
    """What a vote for these fields is for: all of them, in canonical CBOR."""
    return cbor2.dumps(msgspec.to_builtins(fields, builtin_types=(bytes,)), canonical=True)
