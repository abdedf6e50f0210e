"""The ledger as an ABCI 2.0 application. What it answers follows from the state machine alone."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Final

from twisted.internet.task import Cooperator
from twisted.logger import Logger

from nymtw.errors import EncodingError, LedgerBroken, LedgerError, TransactionRefused
from nymtw.ledger.abci.messages import (
    ABORT,
    ACCEPT,
    REJECT,
    REJECT_CHUNKS,
    REJECT_FORMAT,
    REJECT_SNAPSHOT,
    RETRY_CHUNK,
    Empty,
    ExecTxResult,
    PublicKey,
    RequestApplySnapshotChunk,
    RequestCheckTx,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
    RequestLoadSnapshotChunk,
    RequestOfferSnapshot,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestQuery,
    ResponseApplySnapshotChunk,
    ResponseCheckTx,
    ResponseCommit,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseInitChain,
    ResponseListSnapshots,
    ResponseLoadSnapshotChunk,
    ResponseOfferSnapshot,
    ResponsePrepareProposal,
    ResponseProcessProposal,
    ResponseQuery,
    ResponseVerifyVoteExtension,
    ValidatorUpdate,
)
from nymtw.ledger.abci.snapshots import FORMAT, Restore, SnapshotWriter, acceptable
from nymtw.ledger.machine.parameters import Validator, genesis_json, parse_genesis
from nymtw.ledger.storage.replica import Replica

APP_VERSION: Final = 1
CODESPACE: Final = "nymtw"
# Protobuf's tag and length of each transaction count towards a block's bytes: at most 1 and 4.
TRANSACTION_COST: Final = 8


class LedgerApplication:
    """One method for each request of ABCI. Everything durable is written in `commit`."""

    _log = Logger()

    def __init__(
        self, replica: Replica, cooperator: Cooperator, *, snapshot_every: int = 0, keep_blocks: int = 0
    ) -> None:
        """`snapshot_every`: blocks from one snapshot to the next; 0: none. `keep_blocks`: how many CometBFT is asked to
        keep; 0: all.
        """
        self.replica = replica
        self.snapshots = SnapshotWriter(replica.store, cooperator)
        self._snapshot_every = snapshot_every
        self._keep_blocks = keep_blocks
        self._decided: RequestFinalizeBlock | None = None
        self._restore: Restore | None = None

    def info(self, asked: RequestInfo) -> ResponseInfo:
        """The last durable height, from which CometBFT replays."""
        known = self.replica.height
        return ResponseInfo(
            data="nymtw ledger",
            version=version("nymtw"),
            app_version=APP_VERSION,
            last_block_height=known,
            last_block_app_hash=self.replica.root if known else b"",
        )

    def init_chain(self, asked: RequestInitChain) -> ResponseInitChain:
        """Genesis. It must be the one that this node was started with."""
        mine = self.replica.genesis
        theirs = parse_genesis(asked.app_state_bytes, "CometBFT's app_state")
        if asked.chain_id != mine.chain or genesis_json(theirs) != genesis_json(mine):
            raise LedgerBroken("CometBFT's genesis is another one than the ledger's")
        if asked.initial_height not in (0, 1):
            raise LedgerBroken("a ledger begins with block 1")
        root = self.replica.begin()
        return ResponseInitChain(_updates({}, mine.parameters.validators), root)

    def query(self, asked: RequestQuery) -> ResponseQuery:
        """The state's record under a path; proofs are given by the node's own HTTP interface."""
        try:
            answer = self.replica.query(asked.path, asked.height or None)
        except (EncodingError, LedgerError) as error:
            if isinstance(error, LedgerBroken):
                raise
            return ResponseQuery(code=1, log=str(error))
        return ResponseQuery(key=answer.key, value=answer.value or b"", height=answer.height)

    def check_tx(self, asked: RequestCheckTx) -> ResponseCheckTx:
        """Whether a transaction may wait."""
        try:
            self.replica.check(asked.tx)
        except TransactionRefused as refusal:
            return ResponseCheckTx(code=refusal.code, log=str(refusal), codespace=CODESPACE)
        return ResponseCheckTx()

    def prepare_proposal(self, asked: RequestPrepareProposal) -> ResponsePrepareProposal:
        """Of what waits, what takes effect."""
        self._follows(asked.height)
        return ResponsePrepareProposal(tuple(self.replica.select(asked.txs, asked.max_tx_bytes, TRANSACTION_COST)))

    def process_proposal(self, asked: RequestProcessProposal) -> ResponseProcessProposal:
        """An honest proposer's block has nothing in it that is refused."""
        self._follows(asked.height)
        return ResponseProcessProposal(ACCEPT if self.replica.accepts(asked.txs) else REJECT)

    def extend_vote(self, asked: Empty) -> Empty:
        """Nothing to add."""
        return Empty()

    def verify_vote_extension(self, asked: Empty) -> ResponseVerifyVoteExtension:
        """There are none."""
        return ResponseVerifyVoteExtension(ACCEPT)

    def finalize_block(self, asked: RequestFinalizeBlock) -> ResponseFinalizeBlock:
        """Execute what was decided; it is durable after `commit`."""
        before = {each.key: each.power for each in self.replica.parameters.validators}
        done = self.replica.finalize(asked.height, asked.txs)
        self._decided = asked
        results = tuple(
            ExecTxResult(outcome.code, outcome.text, CODESPACE if outcome.code else "") for outcome in done.outcomes
        )
        updates = () if done.validators is None else _updates(before, done.validators)
        return ResponseFinalizeBlock(results, updates, done.root)

    def commit(self, asked: Empty) -> ResponseCommit:
        """Make the block durable."""
        decided = self._decided
        if decided is None or decided.time is None:
            raise LedgerBroken("there is no block to commit")
        block = self.replica.commit(decided.hash, decided.time.nanoseconds)
        self._decided = None
        self._snapshot(block.height)
        self.replica.announce(block)
        retain = block.height - self._keep_blocks + 1 if self._keep_blocks else 0
        return ResponseCommit(max(0, retain))

    def list_snapshots(self, asked: Empty) -> ResponseListSnapshots:
        """What a node that joins can have."""
        return ResponseListSnapshots(tuple(self.snapshots.available()))

    def load_snapshot_chunk(self, asked: RequestLoadSnapshotChunk) -> ResponseLoadSnapshotChunk:
        """One chunk; empty where there is none."""
        found = self.replica.store.chunk(asked.height, asked.chunk) if asked.format == FORMAT else None
        return ResponseLoadSnapshotChunk(found or b"")

    def offer_snapshot(self, asked: RequestOfferSnapshot) -> ResponseOfferSnapshot:
        """A snapshot that CometBFT has found; `app_hash` is what the validators have signed for its height."""
        offered = asked.snapshot
        if offered is None or offered.format != FORMAT:
            return ResponseOfferSnapshot(REJECT_FORMAT)
        if self.replica.height:
            return ResponseOfferSnapshot(ABORT)
        if not acceptable(offered):
            return ResponseOfferSnapshot(REJECT_SNAPSHOT)
        self._restore = Restore(offered, asked.app_hash)
        return ResponseOfferSnapshot(ACCEPT)

    def apply_snapshot_chunk(self, asked: RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk:
        """One chunk of the snapshot that was offered last."""
        restore = self._restore
        if restore is None:
            return ResponseApplySnapshotChunk(ABORT)
        if not restore.take(asked.index, asked.chunk):
            return ResponseApplySnapshotChunk(RETRY_CHUNK)
        if restore.complete:
            self._restore = None
            if not restore.write(self.replica.store):
                return ResponseApplySnapshotChunk(REJECT_CHUNKS)
            self.replica.restored()
            self._log.info("The state of block {height} is restored", height=self.replica.height)
        return ResponseApplySnapshotChunk(ACCEPT)

    def _follows(self, height: int) -> None:
        if height != self.replica.height + 1:
            raise LedgerBroken(f"a proposal for block {height} does not follow block {self.replica.height}")

    def _snapshot(self, height: int) -> None:
        if self._snapshot_every and height % self._snapshot_every == 0:
            written = self.snapshots.write(height)
            if written is not None:
                written.addErrback(lambda failure: self._log.failure("a snapshot was not made", failure=failure))


def _updates(before: dict[bytes, int], after: Iterable[Validator]) -> tuple[ValidatorUpdate, ...]:
    """What is different, by key; power 0: no longer one."""
    now = {each.key: each.power for each in after}
    changed: dict[bytes, Any] = {key: power for key, power in now.items() if before.get(key) != power}
    changed |= {key: 0 for key in before if key not in now}
    return tuple(ValidatorUpdate(PublicKey(key), power) for key, power in sorted(changed.items()))
