"""The messages of ABCI 2.0 (tendermint/abci/types.proto of CometBFT 0.38), as far as we read or write them."""

from dataclasses import dataclass
from typing import Any, Final

from nymtw.ledger.abci import protobuf as pb

ACCEPT: Final = 1  # of proposals, vote extensions, snapshots and their chunks
REJECT: Final = 2  # of proposals
ABORT: Final = 2  # of snapshots and chunks
REJECT_SNAPSHOT: Final = 3  # OfferSnapshot: REJECT
REJECT_FORMAT: Final = 4
RETRY_CHUNK: Final = 3
REJECT_CHUNKS: Final = 5  # ApplySnapshotChunk: REJECT_SNAPSHOT


@dataclass(frozen=True, slots=True)
class Empty:
    """A message that says nothing, or nothing that we read."""


@dataclass(frozen=True, slots=True)
class Timestamp:
    seconds: int = pb.integer(1)
    nanos: int = pb.integer(2)

    @property
    def nanoseconds(self) -> int:
        return self.seconds * 10**9 + self.nanos


@dataclass(frozen=True, slots=True)
class PublicKey:
    ed25519: bytes = pb.data(1)
    secp256k1: bytes = pb.data(2)


@dataclass(frozen=True, slots=True)
class ValidatorUpdate:
    pub_key: PublicKey | None = pb.message(1, PublicKey)
    power: int = pb.integer(2)


@dataclass(frozen=True, slots=True)
class Echo:
    message: str = pb.text(1)


@dataclass(frozen=True, slots=True)
class RequestInfo:
    version: str = pb.text(1)
    abci_version: str = pb.text(4)


@dataclass(frozen=True, slots=True)
class RequestInitChain:
    chain_id: str = pb.text(2)
    validators: tuple[ValidatorUpdate, ...] = pb.many(4, ValidatorUpdate)
    app_state_bytes: bytes = pb.data(5)
    initial_height: int = pb.integer(6)


@dataclass(frozen=True, slots=True)
class RequestQuery:
    data: bytes = pb.data(1)
    path: str = pb.text(2)
    height: int = pb.integer(3)
    prove: bool = pb.flag(4)


@dataclass(frozen=True, slots=True)
class RequestCheckTx:
    tx: bytes = pb.data(1)
    type: int = pb.integer(2)


@dataclass(frozen=True, slots=True)
class Snapshot:
    height: int = pb.integer(1)
    format: int = pb.integer(2)
    chunks: int = pb.integer(3)
    hash: bytes = pb.data(4)
    metadata: bytes = pb.data(5)


@dataclass(frozen=True, slots=True)
class RequestOfferSnapshot:
    snapshot: Snapshot | None = pb.message(1, Snapshot)
    app_hash: bytes = pb.data(2)


@dataclass(frozen=True, slots=True)
class RequestLoadSnapshotChunk:
    height: int = pb.integer(1)
    format: int = pb.integer(2)
    chunk: int = pb.integer(3)


@dataclass(frozen=True, slots=True)
class RequestApplySnapshotChunk:
    index: int = pb.integer(1)
    chunk: bytes = pb.data(2)
    sender: str = pb.text(3)


@dataclass(frozen=True, slots=True)
class RequestPrepareProposal:
    max_tx_bytes: int = pb.integer(1)
    txs: tuple[bytes, ...] = pb.many_data(2)
    height: int = pb.integer(5)
    time: Timestamp | None = pb.message(6, Timestamp)


@dataclass(frozen=True, slots=True)
class RequestProcessProposal:
    txs: tuple[bytes, ...] = pb.many_data(1)
    hash: bytes = pb.data(4)
    height: int = pb.integer(5)
    time: Timestamp | None = pb.message(6, Timestamp)


@dataclass(frozen=True, slots=True)
class RequestFinalizeBlock:
    txs: tuple[bytes, ...] = pb.many_data(1)
    hash: bytes = pb.data(4)
    height: int = pb.integer(5)
    time: Timestamp | None = pb.message(6, Timestamp)
    proposer_address: bytes = pb.data(8)


@dataclass(frozen=True, slots=True)
class ResponseException:
    error: str = pb.text(1)


@dataclass(frozen=True, slots=True)
class ResponseInfo:
    data: str = pb.text(1)
    version: str = pb.text(2)
    app_version: int = pb.integer(3)
    last_block_height: int = pb.integer(4)
    last_block_app_hash: bytes = pb.data(5)


@dataclass(frozen=True, slots=True)
class ResponseInitChain:
    validators: tuple[ValidatorUpdate, ...] = pb.many(2, ValidatorUpdate)
    app_hash: bytes = pb.data(3)


@dataclass(frozen=True, slots=True)
class ResponseQuery:
    code: int = pb.integer(1)
    log: str = pb.text(3)
    key: bytes = pb.data(6)
    value: bytes = pb.data(7)
    height: int = pb.integer(9)


@dataclass(frozen=True, slots=True)
class ResponseCheckTx:
    code: int = pb.integer(1)
    data: bytes = pb.data(2)
    log: str = pb.text(3)
    codespace: str = pb.text(8)


@dataclass(frozen=True, slots=True)
class ResponseCommit:
    retain_height: int = pb.integer(3)


@dataclass(frozen=True, slots=True)
class ResponseListSnapshots:
    snapshots: tuple[Snapshot, ...] = pb.many(1, Snapshot)


@dataclass(frozen=True, slots=True)
class ResponseOfferSnapshot:
    result: int = pb.integer(1)


@dataclass(frozen=True, slots=True)
class ResponseLoadSnapshotChunk:
    chunk: bytes = pb.data(1)


@dataclass(frozen=True, slots=True)
class ResponseApplySnapshotChunk:
    result: int = pb.integer(1)


@dataclass(frozen=True, slots=True)
class ResponsePrepareProposal:
    txs: tuple[bytes, ...] = pb.many_data(1)


@dataclass(frozen=True, slots=True)
class ResponseProcessProposal:
    status: int = pb.integer(1)


@dataclass(frozen=True, slots=True)
class ResponseVerifyVoteExtension:
    status: int = pb.integer(1)


@dataclass(frozen=True, slots=True)
class ExecTxResult:
    code: int = pb.integer(1)
    log: str = pb.text(3)
    codespace: str = pb.text(8)


@dataclass(frozen=True, slots=True)
class ResponseFinalizeBlock:
    tx_results: tuple[ExecTxResult, ...] = pb.many(2, ExecTxResult)
    validator_updates: tuple[ValidatorUpdate, ...] = pb.many(3, ValidatorUpdate)
    app_hash: bytes = pb.data(5)


@dataclass(frozen=True, slots=True)
class Request:
    """One of them is there."""

    echo: Echo | None = pb.message(1, Echo)
    flush: Empty | None = pb.message(2, Empty)
    info: RequestInfo | None = pb.message(3, RequestInfo)
    init_chain: RequestInitChain | None = pb.message(5, RequestInitChain)
    query: RequestQuery | None = pb.message(6, RequestQuery)
    check_tx: RequestCheckTx | None = pb.message(8, RequestCheckTx)
    commit: Empty | None = pb.message(11, Empty)
    list_snapshots: Empty | None = pb.message(12, Empty)
    offer_snapshot: RequestOfferSnapshot | None = pb.message(13, RequestOfferSnapshot)
    load_snapshot_chunk: RequestLoadSnapshotChunk | None = pb.message(14, RequestLoadSnapshotChunk)
    apply_snapshot_chunk: RequestApplySnapshotChunk | None = pb.message(15, RequestApplySnapshotChunk)
    prepare_proposal: RequestPrepareProposal | None = pb.message(16, RequestPrepareProposal)
    process_proposal: RequestProcessProposal | None = pb.message(17, RequestProcessProposal)
    extend_vote: Empty | None = pb.message(18, Empty)
    verify_vote_extension: Empty | None = pb.message(19, Empty)
    finalize_block: RequestFinalizeBlock | None = pb.message(20, RequestFinalizeBlock)


@dataclass(frozen=True, slots=True)
class Response:
    """One of them is there."""

    exception: ResponseException | None = pb.message(1, ResponseException)
    echo: Echo | None = pb.message(2, Echo)
    flush: Empty | None = pb.message(3, Empty)
    info: ResponseInfo | None = pb.message(4, ResponseInfo)
    init_chain: ResponseInitChain | None = pb.message(6, ResponseInitChain)
    query: ResponseQuery | None = pb.message(7, ResponseQuery)
    check_tx: ResponseCheckTx | None = pb.message(9, ResponseCheckTx)
    commit: ResponseCommit | None = pb.message(12, ResponseCommit)
    list_snapshots: ResponseListSnapshots | None = pb.message(13, ResponseListSnapshots)
    offer_snapshot: ResponseOfferSnapshot | None = pb.message(14, ResponseOfferSnapshot)
    load_snapshot_chunk: ResponseLoadSnapshotChunk | None = pb.message(15, ResponseLoadSnapshotChunk)
    apply_snapshot_chunk: ResponseApplySnapshotChunk | None = pb.message(16, ResponseApplySnapshotChunk)
    prepare_proposal: ResponsePrepareProposal | None = pb.message(17, ResponsePrepareProposal)
    process_proposal: ResponseProcessProposal | None = pb.message(18, ResponseProcessProposal)
    extend_vote: Empty | None = pb.message(19, Empty)
    verify_vote_extension: ResponseVerifyVoteExtension | None = pb.message(20, ResponseVerifyVoteExtension)
    finalize_block: ResponseFinalizeBlock | None = pb.message(21, ResponseFinalizeBlock)


def named(record: Request | Response) -> tuple[str, Any]:
    """Which one is there, and it; an empty name where none is."""
    for name in record.__slots__:
        found = getattr(record, name)
        if found is not None:
            return name, found
    return "", None


def request(content: bytes) -> tuple[str, Any]:
    """The name and the message of a request. Raises `EncodingError`."""
    return named(pb.decode(content, Request))


_RESPONSES: Final = {name: pb.field_named(Response, name) for name in Response.__slots__}


def response(name: str, answer: Any) -> bytes:
    """The response of this name."""
    tag, encode = _RESPONSES[name]
    return tag + encode(answer)
