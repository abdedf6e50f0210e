"""`ILedger` over the driver in this process."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.errors import LedgerBroken, LedgerError
from nymtw.interfaces import ILedger
from nymtw.ledger.answers import LedgerStatus, SignedHeader
from nymtw.ledger.machine.state import Bond
from nymtw.ledger.storage.records import BlockRecord, TransactionPlace
from nymtw.ledger.storage.replica import MOST_BONDS, Replica, StateAnswer

MOST_BLOCKS = 100  # in one answer
MOST_HELD = 10_000  # questions that wait for a block


@implementer(ILedger)
class LocalLedger:
    """Answers out of a replica; `driver` (`ILedgerDriver`) takes transactions and signs headers."""

    def __init__(self, clock: Any, replica: Replica, driver: Any, broken: Callable[[Exception], object]) -> None:
        """`broken(error)` is called where an answer shows that the stored state was changed."""
        self._clock = clock
        self._replica = replica
        self._driver = driver
        self._broken = broken
        self._held: dict[Deferred[Any], tuple[Callable[[BlockRecord | None], Any], Any]] = {}
        last = replica.store.block(replica.height)
        self._time = last.time if last else 0
        replica.watchers.append(self._new_block)

    def status(self) -> "Deferred[LedgerStatus]":
        """The state of this node."""
        return succeed(
            LedgerStatus(
                chain=self._replica.genesis.chain,
                height=self._replica.height,
                root=self._replica.root,
                time=self._time,
                driver=self._driver.name,
                version=version("nymtw"),
                waiting=self._driver.waiting,
            )
        )

    def query(self, path: str, height: int | None = None, prove: bool = False) -> "Deferred[StateAnswer]":
        """What the state says."""
        return self._watched(maybeDeferred(self._replica.query, path, height, prove))

    def next_nonce(self, address: bytes) -> "Deferred[int]":
        """Of the account's next transaction."""
        return self._watched(maybeDeferred(self._replica.next_nonce, address))

    def submit(self, transaction: bytes) -> "Deferred[bytes]":
        """Take a transaction; fires with its id."""
        return self._watched(maybeDeferred(self._driver.submit, transaction))

    def result(self, identity: bytes, wait: float = 0.0) -> "Deferred[TransactionPlace | None]":
        """Where the transaction is, once it is in a block, or None after `wait` seconds."""

        def look(block: BlockRecord | None) -> TransactionPlace | None:
            return self._replica.store.place(identity)

        return self._when(look, wait)

    def blocks(self, after: int, count: int = MOST_BLOCKS, wait: float = 0.0) -> "Deferred[tuple[BlockRecord, ...]]":
        """The blocks above `after`, once there is one; empty after `wait` seconds."""

        def look(block: BlockRecord | None) -> tuple[BlockRecord, ...]:
            return tuple(self._replica.store.blocks(after, max(1, min(count, MOST_BLOCKS))))

        answer: Deferred[tuple[BlockRecord, ...]] = self._when(look, wait)
        return answer.addCallback(lambda found: found or ())

    def bonds(self, after: bytes = b"", count: int = MOST_BONDS) -> "Deferred[list[tuple[bytes, Bond]]]":
        """Who is bonded now."""
        return self._watched(maybeDeferred(self._replica.bonds, after, count))

    def header(self, height: int) -> "Deferred[SignedHeader]":
        """What the validators have signed of the state after the block of this height."""
        return maybeDeferred(self._driver.header, height)

    def close(self) -> "Deferred[None]":
        """Answer who still waits."""
        for answer in list(self._held):
            self._finish(answer, None)
        return succeed(None)

    def _watched(self, answer: "Deferred[Any]") -> "Deferred[Any]":
        def failed(failure: Failure) -> Failure:
            if failure.check(LedgerBroken):
                self._broken(failure.value)  # type: ignore[arg-type]  # it is a LedgerBroken
            return failure

        return answer.addErrback(failed)

    def _when(self, look: Callable[[BlockRecord | None], Any], wait: float) -> "Deferred[Any]":
        """What `look` finds, now or after a block that comes within `wait` seconds; None if it finds nothing."""
        try:
            found = look(None)
        except LedgerError:
            return fail()
        if found or wait <= 0:
            return succeed(found)
        if len(self._held) >= MOST_HELD:
            return fail(LedgerError("too many wait for a block already"))
        answer: Deferred[Any] = Deferred(lambda cancelled: self._forget(cancelled))
        self._held[answer] = (look, self._clock.callLater(wait, self._finish, answer, None))
        return answer

    def _new_block(self, block: BlockRecord) -> None:
        self._time = block.time
        for answer, (look, _) in list(self._held.items()):
            if found := look(block):
                self._finish(answer, found)

    def _finish(self, answer: "Deferred[Any]", found: Any) -> None:
        self._forget(answer)
        answer.callback(found)

    def _forget(self, answer: "Deferred[Any]") -> None:
        _, call = self._held.pop(answer)
        if call.active():
            call.cancel()
