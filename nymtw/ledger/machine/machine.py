"""`check(tx)`, `apply(block)`, `query(path)`: what the ledger does with bytes, the same on every node."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nymtw.encoding import parse_key_text
from nymtw.errors import EncodingError, LedgerBroken, TransactionRefused
from nymtw.ledger.machine.kinds import KINDS
from nymtw.ledger.machine.kinds.unbond import mature
from nymtw.ledger.machine.merkle import EMPTY, Tree
from nymtw.ledger.machine.parameters import Genesis, Validator
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.signatures import parse_address
from nymtw.ledger.machine.state import (
    PARAMETERS,
    TOTALS,
    Account,
    State,
    account_key,
    bond_key,
    counter_key,
    deposit_key,
    identity_key,
    unbonding_key,
    withdrawal_key,
)
from nymtw.ledger.machine.transactions import Transaction, decode_transaction


class Outcome(NamedTuple):
    """What became of one transaction: `code` 0 is success, else a `Refusal` and its cause in words."""

    code: int
    text: str = ""


class Applied(NamedTuple):
    """What a block does: an outcome for each transaction, changes of the tree, and the validators if they changed."""

    outcomes: list[Outcome]
    changes: dict[bytes, bytes | None]
    validators: tuple[Validator, ...] | None


class Machine:
    """The rules of one chain. Holds nothing but what it has decoded before."""

    def __init__(self, chain: str, remembered: int = 20_000) -> None:
        """`remembered`: how many decoded transactions are kept, so that a signature is checked once."""
        self.chain = chain
        self._remembered = remembered
        self._decoded: dict[bytes, Transaction] = {}

    def decode(self, data: bytes) -> Transaction:
        """The transaction in `data`. Raises `TransactionRefused`."""
        found = self._decoded.get(data)
        if found is None:
            found = decode_transaction(data, self.chain)
            self._decoded[data] = found
            if len(self._decoded) > self._remembered:
                del self._decoded[next(iter(self._decoded))]
        return found

    def execute(self, state: State, data: bytes) -> Transaction:
        """Check one transaction and let it take effect on `state`. Raises `TransactionRefused`, and changes nothing."""
        transaction = self.decode(data)
        self.check(state, transaction)
        kind = KINDS[transaction.kind]
        kind.effect(state, transaction.sender, transaction.fields)
        state.use_nonce(transaction.sender)
        return transaction

    def check(self, state: State, transaction: Transaction) -> None:
        """Raises `TransactionRefused` where the transaction would be refused now."""
        limit = state.parameters.transaction_bytes
        if len(transaction.data) > limit:
            raise TransactionRefused(Refusal.TOO_LARGE, f"a transaction has at most {limit} bytes")
        kind = KINDS[transaction.kind]
        account = state.account(transaction.sender)
        if account is None:
            if not kind.opens_account:
                raise TransactionRefused(Refusal.UNKNOWN_ACCOUNT, "the sender has no account on this ledger")
            account = Account(0, 0)
        if transaction.nonce != account.nonce:
            raise TransactionRefused(
                Refusal.WRONG_NONCE, f"the account's next nonce is {account.nonce}, not {transaction.nonce}"
            )
        kind.check(state, transaction.sender, transaction.fields)

    def apply(self, load: Callable[[bytes], bytes | None], height: int, block: Sequence[bytes]) -> Applied:
        """Apply the block of this height to the state behind `load(key)`, which stays as it is.

        What is refused changes nothing. Raises `LedgerBroken` where money would be created or lost.
        """
        state = self.begin(load, height)
        outcomes = []
        for data in block:
            try:
                self.execute(state, data)
                outcomes.append(Outcome(0))
            except TransactionRefused as refusal:
                outcomes.append(Outcome(refusal.code, str(refusal)))
        return self._done(load, state, outcomes)

    def begin(self, load: Callable[[bytes], bytes | None], height: int) -> State:
        """The state in which the first transaction of a block is looked at."""
        state = State(load, height)
        mature(state)
        return state

    def select(
        self, load: Callable[[bytes], bytes | None], height: int, waiting: Sequence[bytes], limit: int, cost: int = 0
    ) -> tuple[list[bytes], Applied]:
        """Of those that wait, in order, what a block may hold, and what that block does.

        None of it is refused; at most `limit` bytes in all, each counted with `cost` bytes besides.
        """
        state = self.begin(load, height)
        chosen: list[bytes] = []
        size = 0
        for data in waiting:
            if size + len(data) + cost > limit:
                continue
            try:
                self.execute(state, data)
            except TransactionRefused:
                continue
            chosen.append(data)
            size += len(data) + cost
        return chosen, self._done(load, state, [Outcome(0)] * len(chosen))

    def _done(self, load: Callable[[bytes], bytes | None], state: State, outcomes: list[Outcome]) -> Applied:
        if not state.totals.conserved:
            raise LedgerBroken(f"money would be created or lost: {state.totals}")
        before, after = State(load, state.height).parameters.validators, state.parameters.validators
        return Applied(outcomes, state.changes(), None if after == before else after)


def genesis_changes(genesis: Genesis) -> dict[bytes, bytes | None]:
    """What the first state holds: parameters, and an account without money for each account that they name."""
    state = State(lambda key: None, 0)
    state.set_parameters(genesis.parameters)
    return state.changes()


def genesis_root(genesis: Genesis) -> bytes:
    """Of that state."""
    return Tree(lambda node: None, EMPTY).update(genesis_changes(genesis)).root


def query_key(path: str) -> bytes:
    """The state's key behind a query's path. Raises `EncodingError`.

    parameters, totals, account/ADDRESS, bond/ADDRESS, identity/KEY, deposit/CHAIN/TRANSACTION/INDEX,
    withdrawal/NUMBER, withdrawals (how many there have been), unbonding/HEIGHT.
    """
    name, *rest = path.strip("/").split("/")
    try:
        match [name, *rest]:
            case ["parameters"]:
                return PARAMETERS
            case ["totals"]:
                return TOTALS
            case ["withdrawals"]:
                return counter_key(b"withdrawal")
            case ["account", address]:
                return account_key(parse_address(address))
            case ["bond", address]:
                return bond_key(parse_address(address))
            case ["identity", key]:
                return identity_key(parse_key_text(key))
            case ["withdrawal", number]:
                return withdrawal_key(_number(number))
            case ["unbonding", height]:
                return unbonding_key(_number(height))
            case ["deposit", chain, transaction, index]:
                return deposit_key(_number(chain), _hash(transaction), _number(index))
    except (ValueError, OverflowError) as error:
        raise EncodingError(f"{path:.100}: {error}") from None
    raise EncodingError(f"there is nothing to query under {path:.100}")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise ValueError("not a number")
    return int(text)


def _hash(text: str) -> bytes:
    found = bytes.fromhex(text.removeprefix("0x"))
    if len(found) != 32:
        raise ValueError("a hash is 32 bytes")
    return found
