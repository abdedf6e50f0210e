"""A node's copy of the ledger: what both drivers ask of it. Not a thread and not a clock: calls come one by one."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from nymtw.errors import LedgerBroken, LedgerError, TransactionRefused
from nymtw.ledger.machine.machine import Applied, Machine, Outcome, genesis_changes, query_key
from nymtw.ledger.machine.merkle import EMPTY, Proof, Updated
from nymtw.ledger.machine.parameters import Genesis, Parameters, Validator, genesis_json
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.state import Bond, State, Totals, audit, bond_key
from nymtw.ledger.machine.transactions import Transaction, transaction_id
from nymtw.ledger.storage.records import BlockRecord
from nymtw.ledger.storage.store import LedgerStore

MOST_BONDS: Final = 100  # in one answer
_BOND: Final = bond_key(b"")
_VALUES: Final = 50_000  # records that are kept beside the tree
WAITING_PER_ACCOUNT: Final = 256  # transactions of one sender that wait for a block


class StateAnswer(NamedTuple):
    """What the state of a height says under a key: the record's CBOR, or None, and what proves it."""

    key: bytes
    value: bytes | None
    height: int
    root: bytes
    proof: Proof | None = None


class Finalized(NamedTuple):
    """What a block did; nothing of it is durable before `Replica.commit`."""

    height: int
    transactions: tuple[bytes, ...]
    outcomes: list[Outcome]
    validators: tuple[Validator, ...] | None
    changes: dict[bytes, bytes | None]
    update: Updated

    @property
    def root(self) -> bytes:
        return self.update.root


class Replica:
    """The state machine of one chain over one store."""

    def __init__(self, store: LedgerStore, genesis: Genesis) -> None:
        """Raises `LedgerBroken` where the store is of another genesis."""
        self.store = store
        self.genesis = genesis
        self.machine = Machine(genesis.chain)
        self.watchers: list[Callable[[BlockRecord], object]] = []
        self._values: dict[bytes, bytes | None] = {}  # of the last durable state
        self._executed: tuple[tuple[int, tuple[bytes, ...]], Applied] | None = None
        self._finalized: Finalized | None = None
        self._bonded: set[bytes] | None = None  # who has a bond; None: not looked for yet
        known = store.meta("genesis")
        if known is not None and known != genesis_json(genesis):
            raise LedgerBroken("the ledger's file is of another genesis")
        self.reset_waiting()

    @property
    def begun(self) -> bool:
        """Whether genesis is behind it."""
        return self.store.height is not None

    @property
    def height(self) -> int:
        """Of the last durable block; 0 at genesis."""
        return self.store.height or 0

    @property
    def root(self) -> bytes:
        """Of the state after it."""
        return self.store.root

    @property
    def state(self) -> State:
        """The state after it, to be read."""
        return State(self._load, self.height + 1)

    @property
    def parameters(self) -> Parameters:
        return self.state.parameters if self.begun else self.genesis.parameters

    @property
    def totals(self) -> Totals:
        return self.state.totals

    def begin(self) -> bytes:
        """Write the first state, unless there is one; returns its root."""
        if not self.begun:
            self.store.set_meta("genesis", genesis_json(self.genesis))
            self._values.clear()
            self.store.begin(self.store.tree(EMPTY).update(genesis_changes(self.genesis)), 0)
            self.reset_waiting()
        root = self.store.root_at(0)
        return self.root if root is None else root

    def restored(self) -> None:
        """The store was filled with a state that others have signed."""
        self.store.set_meta("genesis", genesis_json(self.genesis))
        self._executed = self._finalized = self._bonded = None
        self._values.clear()
        self.reset_waiting()

    def audit(self) -> Totals:
        """Read and count all of the state. Raises `LedgerBroken` where something has changed it."""
        bonded: set[bytes] = set()
        totals = audit(_noting(self.store.items(self.root), bonded))
        self._bonded = bonded
        return totals

    def check(self, data: bytes) -> Transaction:
        """Take a transaction among those that wait, behind those that came before. Raises `TransactionRefused`."""
        if self._waiting is None:
            raise LedgerError("the ledger has not begun")
        transaction = self.machine.decode(data)
        if self._waiting_of[transaction.sender] >= WAITING_PER_ACCOUNT:
            raise TransactionRefused(Refusal.TOO_MANY, f"{WAITING_PER_ACCOUNT} transactions of this account wait")
        self.machine.execute(self._waiting, data)
        self._waiting_of[transaction.sender] += 1
        return transaction

    def next_nonce(self, address: bytes) -> int:
        """Of the account's next transaction, behind those that wait."""
        account = None if self._waiting is None else self._waiting.account(address)
        return account.nonce if account else 0

    @property
    def waiting(self) -> int:
        """How many transactions were taken since the last block."""
        return self._waiting_of.total()

    def reset_waiting(self) -> None:
        """None waits any more: those that still do are checked again, one by one."""
        self._waiting = self.machine.begin(self._load, self.height + 1) if self.begun else None
        self._waiting_of: Counter[bytes] = Counter()

    def select(self, waiting: Sequence[bytes], limit: int, cost: int = 0) -> list[bytes]:
        """What the next block may hold of these, see `Machine.select`."""
        chosen, applied = self.machine.select(self._load, self.height + 1, waiting, limit, cost)
        self._executed = ((self.height + 1, tuple(chosen)), applied)
        return chosen

    def accepts(self, transactions: Sequence[bytes]) -> bool:
        """Whether an honest proposer can have put these into the next block: nothing in it is refused."""
        applied = self._apply(self.height + 1, tuple(transactions))
        return all(outcome.code == 0 for outcome in applied.outcomes)

    def finalize(self, height: int, transactions: Sequence[bytes]) -> Finalized:
        """Execute a block that was decided. Raises `LedgerBroken` for one that does not follow."""
        if height != self.height + 1:
            raise LedgerBroken(f"block {height} does not follow block {self.height}")
        block = tuple(transactions)
        applied = self._apply(height, block)
        update = self.store.tree().update(applied.changes)
        self._finalized = Finalized(height, block, applied.outcomes, applied.validators, applied.changes, update)
        return self._finalized

    def commit(
        self, identity: bytes, time: int, header: bytes = b"", signature: bytes = b"", **more: Any
    ) -> BlockRecord:
        """Make the block that was executed last durable. `time`: nanoseconds since 1970."""
        done = self._finalized
        if done is None:
            raise LedgerBroken("there is no block to commit")
        outcomes = tuple((outcome.code, outcome.text) for outcome in done.outcomes)
        block = BlockRecord(done.height, identity, time, done.root, done.transactions, outcomes, header, signature)
        self.store.commit(done.update, block, more)
        for key, value in done.changes.items():
            if key in self._values:
                self._values[key] = value
            if self._bonded is not None and key.startswith(_BOND):
                (self._bonded.discard if value is None else self._bonded.add)(key[len(_BOND) :])
        self._finalized = self._executed = None
        self.reset_waiting()
        return block

    def announce(self, block: BlockRecord) -> None:
        """Tell the watchers of a block that is durable."""
        for watcher in list(self.watchers):
            watcher(block)

    def query(self, path: str, height: int | None = None, prove: bool = False) -> StateAnswer:
        """What the state says under `path` (see `query_key`) after the block of this height, or the last one.

        Raises `EncodingError` for a path that is none, `LedgerError` for a height whose state is not kept.
        """
        key = query_key(path)
        at = self.height if height is None else height
        root = self.store.root_at(at)
        if root is None:
            raise LedgerError(f"the state of height {at} is not kept here; the last one is {self.height}")
        tree = self.store.tree(root)
        return StateAnswer(key, tree.get(key), at, root, tree.prove(key) if prove else None)

    def bonds(self, after: bytes = b"", count: int = MOST_BONDS) -> list[tuple[bytes, Bond]]:
        """Who is bonded now, and how: up to `count` by ascending address, above the address `after`."""
        if self._bonded is None:
            found = [key[len(_BOND) :] for key, _ in self.store.items(self.root) if key.startswith(_BOND)]
            self._bonded = set(found)
        later = sorted(address for address in self._bonded if address > after)
        return [(address, self.state.get(bond_key(address))) for address in later[: min(count, MOST_BONDS)]]

    def _apply(self, height: int, block: tuple[bytes, ...]) -> Applied:
        # What was executed to judge a proposal is not executed again once it is decided.
        if self._executed is None or self._executed[0] != (height, block):
            self._executed = ((height, block), self.machine.apply(self._load, height, block))
        return self._executed[1]

    def _load(self, key: bytes) -> bytes | None:
        try:
            return self._values[key]
        except KeyError:
            value = self._values[key] = self.store.tree().get(key)
            if len(self._values) > _VALUES:
                del self._values[next(iter(self._values))]
            return value


def _noting(items: Iterable[tuple[bytes, bytes]], bonded: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The same items; the addresses of those that are bonds are put down."""
    for key, value in items:
        if key.startswith(_BOND):
            bonded.add(key[len(_BOND) :])
        yield key, value


def block_transactions_root(transactions: Sequence[bytes]) -> bytes:
    """SHA-256 over the transactions' ids, in order: what a block's header says of them."""
    from hashlib import sha256

    return sha256(b"".join(map(transaction_id, transactions))).digest()
