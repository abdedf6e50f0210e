"""Orders the transactions of a ledger of one process."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from nacl.signing import SigningKey

from twisted.application.service import Service
from twisted.logger import Logger
from zope.interface import implementer

from nymtw.errors import DiskError, LedgerBroken, LedgerError, TransactionRefused
from nymtw.interfaces import ILedgerDriver
from nymtw.ledger.answers import SignedHeader
from nymtw.ledger.embedded.headers import Header, sign_header, verify_header
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.transactions import transaction_id
from nymtw.ledger.storage.records import BlockRecord
from nymtw.ledger.storage.replica import Replica, block_transactions_root

INTERVAL: Final = 0.5  # seconds from one block to the next at least
MOST_WAITING: Final = 10_000  # transactions
_WAITING_BYTES: Final = 32 * 2**20
_BLOCK_BYTES: Final = 4 * 2**20
MOST_IN_BLOCK: Final = 2000


@implementer(ILedgerDriver)
class EmbeddedDriver(Service):
    """A block as soon as a transaction waits, but at most one each `INTERVAL`; each is signed with `key`."""

    name = "embedded"
    _log = Logger()

    def __init__(
        self,
        clock: Any,
        replica: Replica,
        key: SigningKey,
        *,
        wall_clock: Callable[[], float],
        broken: Callable[[Exception], object],
        idle: float = 0.0,
    ) -> None:
        """`idle`: a block without transactions after so many seconds without a block; 0: never. `broken(error)` is
        called once where the stored state was changed or the disk refuses a block; no more blocks are made then.
        """
        self._clock = clock
        self._replica = replica
        self._key = key
        self._wall_clock = wall_clock
        self._broken = broken
        self._idle = idle
        self._transactions: dict[bytes, bytes] = {}
        self._bytes = 0
        self._next: Any = None
        self._last_block = clock.seconds() - INTERVAL

    @property
    def waiting(self) -> int:
        """How many transactions are in no block yet."""
        return len(self._transactions)

    def startService(self) -> None:
        """Begin the chain, or go on with it. Raises `LedgerBroken`, `DiskError`."""
        self._replica.begin()
        last = self._replica.store.block(self._replica.height)
        if last is not None:
            key = bytes(self._key.verify_key)
            header = verify_header(last.header, last.signature, key, self._replica.genesis.chain, last.height)
            if header.root != self._replica.root:
                raise LedgerBroken("the stored state is not the one that was signed with the last block")
        super().startService()
        self._schedule()

    def stopService(self) -> None:
        """Make no more blocks. What waits is lost with the process: its sender sees that it is in no block."""
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def submit(self, transaction: bytes) -> bytes:
        """Take a transaction; returns its id. Raises `TransactionRefused`, `LedgerError` where there is no room."""
        identity = transaction_id(transaction)
        if identity in self._transactions:
            return identity
        if self.waiting >= MOST_WAITING or self._bytes + len(transaction) > _WAITING_BYTES:
            raise TransactionRefused(Refusal.TOO_MANY, "as many transactions wait as are kept; try again later")
        if not self.running:
            raise LedgerError("the ledger is stopping")
        self._replica.check(transaction)
        self._transactions[identity] = transaction
        self._bytes += len(transaction)
        self._schedule()
        return identity

    def header(self, height: int) -> SignedHeader:
        """What was signed of this block. Raises `LedgerError` where it is not kept."""
        block = self._replica.store.block(height)
        if block is None:
            raise LedgerError(f"block {height} is not kept here")
        return SignedHeader(height=height, driver=self.name, header=block.header, signature=block.signature)

    def _schedule(self) -> None:
        if not self.running or (not self._transactions and not self._idle):
            return
        pause = INTERVAL if self._transactions else self._idle
        due = max(0.0, self._last_block + pause - self._clock.seconds())
        if self._next is None:
            self._next = self._clock.callLater(due, self._make_block)
        elif self._next.getTime() > self._clock.seconds() + due:
            self._next.reset(due)

    def _make_block(self) -> None:
        self._next = None
        self._last_block = self._clock.seconds()
        try:
            block = self._commit(self._chosen())
            self._check_again()
        except (LedgerBroken, DiskError) as error:
            self.running = 0
            self._broken(error)
            return
        self._schedule()
        self._replica.announce(block)

    def _chosen(self) -> list[bytes]:
        """The oldest that wait, as many as fit. They were checked in this order, so the block refuses none."""
        chosen: list[bytes] = []
        size = 0
        for transaction in self._transactions.values():
            size += len(transaction)
            if size > _BLOCK_BYTES or len(chosen) == MOST_IN_BLOCK:
                break
            chosen.append(transaction)
        return chosen

    def _commit(self, transactions: list[bytes]) -> BlockRecord:
        replica = self._replica
        previous = replica.store.block(replica.height)
        done = replica.finalize(replica.height + 1, transactions)
        time = max(int(self._wall_clock() * 1e9), previous.time + 1 if previous else 0)
        header = Header(
            replica.genesis.chain,
            done.height,
            time,
            sha256(previous.header).digest() if previous else bytes(32),
            block_transactions_root(transactions),
            done.root,
        )
        data, identity, signature = sign_header(header, self._key)
        for transaction in transactions:
            self._forget(transaction_id(transaction))
        return replica.commit(identity, time, data, signature)

    def _check_again(self) -> None:
        """Those that still wait may have become impossible: a bond matured, another block took the room."""
        for identity, transaction in list(self._transactions.items()):
            try:
                self._replica.check(transaction)
            except TransactionRefused:
                self._forget(identity)

    def _forget(self, identity: bytes) -> None:
        self._bytes -= len(self._transactions.pop(identity))
