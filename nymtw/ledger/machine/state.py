"""The state as the rules see it: typed records over a Merkle tree's keys, and money that only ever moves.

Changes stay in a layer above what is committed; `changes()` is what a block does to the tree.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import cbor2
import msgspec

from nymtw.errors import LedgerBroken
from nymtw.ledger.machine.parameters import MAX_AMOUNT, Parameters

PARAMETERS: Final = b"parameters"
TOTALS: Final = b"totals"


class Account(NamedTuple):
    """What an address has, and how many of its transactions took effect."""

    balance: int
    nonce: int


class Bond(NamedTuple):
    """What an account stands for its node with; `leaving`: what waits to be unbonded."""

    identity: bytes  # the node's, 32 bytes
    amount: int
    leaving: int


class Deposit(NamedTuple):
    """A transfer on Ethereum that was notarised: it never is again."""

    account: bytes
    amount: int
    height: int


class Withdrawal(NamedTuple):
    """Tokens on their way to Ethereum, and the redeemers' approvals of it (address, signature) so far."""

    account: bytes
    recipient: bytes  # an Ethereum address
    amount: int
    height: int  # of the block that took it from the account
    approvals: list[list[bytes]]
    released: bool


class Totals(NamedTuple):
    """All money there is, by where it is. What came in less what went out is what the other four hold."""

    notarised: int = 0
    released: int = 0
    balances: int = 0
    bonded: int = 0
    unbonding: int = 0
    withdrawing: int = 0

    @property
    def conserved(self) -> bool:
        """Whether nothing was created and nothing lost."""
        held = self.balances + self.bonded + self.unbonding + self.withdrawing
        return held == self.notarised - self.released and min(self) >= 0


class Ballot(NamedTuple):
    """Who has voted on a topic (voter, SHA-256 of the content): one entry for each voter."""

    votes: list[list[bytes]]


_RECORDS: Final[Mapping[bytes, Callable[..., Any]]] = {
    b"account": Account,
    b"bond": Bond,
    b"deposit": Deposit,
    b"withdrawal": Withdrawal,
    b"ballot": Ballot,
    TOTALS: Totals,
}


def account_key(address: bytes) -> bytes:
    return b"account/" + address


def bond_key(address: bytes) -> bytes:
    return b"bond/" + address


def identity_key(identity: bytes) -> bytes:
    """Under it, the address whose bond stands for this node."""
    return b"identity/" + identity


def deposit_key(chain: int, transaction: bytes, index: int) -> bytes:
    return b"deposit/" + chain.to_bytes(8) + transaction + index.to_bytes(4)


def withdrawal_key(number: int) -> bytes:
    return b"withdrawal/" + number.to_bytes(8)


def unbonding_key(height: int) -> bytes:
    """Under it, what is unbonded in the block of this height: a list of address and amount."""
    return b"unbonding/" + height.to_bytes(8)


def ballot_key(topic: bytes) -> bytes:
    return b"ballot/" + topic


def counter_key(name: bytes) -> bytes:
    return b"counter/" + name


class State:
    """Reads through `load(key)` to what is committed; keeps changes above it."""

    def __init__(self, load: Callable[[bytes], bytes | None], height: int) -> None:
        """`height`: of the block that is being made."""
        self.height = height
        self._load = load
        self._seen: dict[bytes, Any] = {}
        self._changed: set[bytes] = set()
        self._parameters: Parameters | None = None
        self.new_accounts = 0  # in this block

    def get(self, key: bytes) -> Any:
        """The record under `key`, or None. It must not be changed in place."""
        if key not in self._seen:
            self._seen[key] = decode_record(key, self._load(key))
        return self._seen[key]

    def put(self, key: bytes, record: Any) -> None:
        """Keep `record` under `key`; None removes it."""
        self._seen[key] = record
        self._changed.add(key)

    def changes(self) -> dict[bytes, bytes | None]:
        """Key -> encoded record, or None, of everything that was put."""
        return {key: encode_record(self._seen[key]) for key in self._changed}

    @property
    def parameters(self) -> Parameters:
        if self._parameters is None:
            plain = self.get(PARAMETERS)
            if plain is None:
                raise LedgerBroken("the state has no parameters")
            self._parameters = msgspec.convert(plain, Parameters, strict=True, builtin_types=(bytes,))
        return self._parameters

    def set_parameters(self, parameters: Parameters) -> None:
        """Also gives an account to each party that has none yet."""
        self._parameters = parameters
        self.put(PARAMETERS, msgspec.to_builtins(parameters, builtin_types=(bytes,)))
        voters = [each.address for each in parameters.validators]
        for address in {*voters, *parameters.watchers, *parameters.redeemers}:
            if self.account(address) is None:
                self.put(account_key(address), Account(0, 0))

    @property
    def totals(self) -> Totals:
        totals: Totals = self.get(TOTALS) or Totals()
        return totals

    def account(self, address: bytes) -> Account | None:
        found: Account | None = self.get(account_key(address))
        return found

    def use_nonce(self, address: bytes) -> None:
        """One more transaction of this account has taken effect."""
        account = self._existing(address)
        self.put(account_key(address), account._replace(nonce=account.nonce + 1))

    def credit(self, address: bytes, amount: int, out_of: str) -> None:
        """Give `amount` to the account, made if it is not there, out of another total."""
        account = self.account(address) or Account(0, 0)
        self.put(account_key(address), account._replace(balance=account.balance + amount))
        self.shift(amount, out_of, "balances")

    def debit(self, address: bytes, amount: int, into: str) -> None:
        """Take `amount` from the account into another total."""
        account = self._existing(address)
        self.put(account_key(address), account._replace(balance=account.balance - amount))
        self.shift(amount, "balances", into)

    def shift(self, amount: int, out_of: str, into: str) -> None:
        """Count `amount` in another place. Out of "notarised" and into "released" both count up."""
        if out_of == into:
            return  # from one account to another
        totals = self.totals._asdict()
        totals[out_of] += amount if out_of == "notarised" else -amount
        totals[into] += amount
        self.put(TOTALS, Totals(**totals))

    def next_number(self, name: bytes) -> int:
        """1, 2, 3 and so on."""
        number: int = (self.get(counter_key(name)) or 0) + 1
        self.put(counter_key(name), number)
        return number

    def _existing(self, address: bytes) -> Account:
        account = self.account(address)
        if account is None:
            raise LedgerBroken("a rule took an account that is not there")
        return account


def encode_record(record: Any) -> bytes | None:
    """Canonical CBOR; of None, None."""
    if record is None:
        return None
    return cbor2.dumps(list(record) if isinstance(record, tuple) else record, canonical=True)


def decode_record(key: bytes, value: bytes | None) -> Any:
    """The record that `value` encodes under `key`. Raises `LedgerBroken` for one that it cannot be."""
    if value is None:
        return None
    try:
        plain = cbor2.loads(value)
        kind = _RECORDS.get(key.split(b"/", 1)[0])
        return plain if kind is None else kind(*plain)
    except Exception as error:
        raise LedgerBroken(f"a record of the state cannot be read: {error}") from None


def audit(items: Iterable[tuple[bytes, bytes]]) -> Totals:
    """Count all money in all of a state's `items`. Raises `LedgerBroken` where the state's own totals are others."""
    counted, stated = dict.fromkeys(Totals._fields, 0), Totals()
    for key, value in items:
        record = decode_record(key, value)
        for name, amount in _holds(key, record):
            if not 0 <= amount <= MAX_AMOUNT:
                raise LedgerBroken("an amount of the state is none")
            counted[name] += amount
        if key == TOTALS:
            stated = record
    found = Totals(**counted)
    if found != stated or not found.conserved:
        raise LedgerBroken(f"money was created or lost: the state says {stated}, there is {found}")
    return found


def _holds(key: bytes, record: Any) -> Iterator[tuple[str, int]]:
    """What money a record holds, by total."""
    match record:
        case Account():
            yield "balances", record.balance
        case Bond():
            yield "bonded", record.amount
            yield "unbonding", record.leaving
        case Deposit():
            yield "notarised", record.amount
        case Withdrawal():
            yield "released" if record.released else "withdrawing", record.amount
