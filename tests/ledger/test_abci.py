"""The ABCI application: the contract over it, the wire, proposals, replays, snapshots."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comet_world import CometWorld
from fake_comet import Consensus, Node
from ledger_contract import LedgerContract
from ledger_world import ALICE, CHAIN, VALIDATORS, WATCHERS, deposit, some_genesis
from replay import replayed

from twisted.internet.testing import StringTransport

from nymtw.errors import EncodingError
from nymtw.ledger.abci import messages as abci
from nymtw.ledger.abci import protobuf as pb
from nymtw.ledger.abci.server import ABCIFactory
from nymtw.ledger.machine.kinds.parameters import ChangeParameters
from nymtw.ledger.machine.parameters import genesis_json
from nymtw.ledger.machine.transactions import encode_transaction
from nymtw.ledger.storage.store import Keep


class TestOverABCI(LedgerContract):
    @pytest.fixture(params=[False, True], ids=["over HTTP", "light client"])
    def under(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CometWorld]:
        world = CometWorld(tmp_path, request.param)
        yield world
        assert [node.broken for node in world.nodes] == [[]] * 4
        # The same blocks give the same application hash as in one process.
        first = world.nodes[0]
        replica = replayed(first.store.blocks(0, 10_000))
        assert replica.root == first.replica.root == world.consensus.hashes[first.replica.height]
        world.stop()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(0, tmp_path / "ledger.sqlite", Keep(states=20), snapshot_every=4, keep_blocks=10)
    yield node
    node.stop()


@pytest.fixture
def alone(node: Node) -> Consensus:
    consensus = Consensus([node])
    consensus.start(node)
    return consensus


def notarised(number: int, nonce: int, watcher: int = 0) -> bytes:
    fields = deposit(ALICE.address, 5, number)
    return encode_transaction(WATCHERS[watcher], CHAIN, "notarise-deposit", nonce, fields)


def test_known_messages() -> None:
    # By hand, from the numbers in tendermint/abci/types.proto.
    checked = bytes.fromhex("42 07 0a 03 616263 10 01".replace(" ", ""))
    assert abci.request(checked) == ("check_tx", abci.RequestCheckTx(b"abc", 1))
    answer = abci.ResponseFinalizeBlock(
        (abci.ExecTxResult(), abci.ExecTxResult(7, "no")), (abci.ValidatorUpdate(abci.PublicKey(b"k"), 300),), b"h"
    )
    expected = "aa01 1c 1200 1206 0807 1a026e6f 1a08 0a03 0a016b 10ac02 2a0168"
    body = bytes.fromhex(expected.replace(" ", ""))
    assert abci.response("finalize_block", answer) == body[:2] + bytes([len(body) - 3]) + body[3:]
    assert pb.decode(abci.response("finalize_block", answer), abci.Response).finalize_block == answer
    assert pb.varint(-1) == b"\xff" * 9 + b"\x01"
    assert pb.decode(b"\x08" + pb.varint(-5), abci.Timestamp).seconds == -5
    assert pb.encode(abci.Request(commit=abci.Empty())) == b"\x5a\x00"


@pytest.mark.parametrize(
    "content",
    [
        b"\x42",
        b"\x42\x05\x0a",
        b"\x42\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x43\x00",
        b"\x0a\x02\x0a\x09",
        b"\x0a\x03\x0a\x01\xff",
    ],
)
def test_hostile_messages(content: bytes) -> None:
    with pytest.raises(EncodingError):
        abci.request(content)


class Slow:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def check_tx(self, asked: Any) -> Any:
        from twisted.internet.defer import Deferred

        answer: Deferred[Any] = Deferred()
        self.asked.append((asked, answer))
        return answer

    def info(self, asked: Any) -> Any:
        return abci.ResponseInfo(data="x")

    def query(self, asked: Any) -> Any:
        raise RuntimeError("broken")


def connected(factory: ABCIFactory) -> tuple[Any, StringTransport]:
    protocol, transport = factory.buildProtocol(None), StringTransport()
    protocol.makeConnection(transport)
    return protocol, transport


def sent(name: str, message: Any) -> bytes:
    return pb.delimited(pb.encode(abci.Request(**{name: message})))


def answers(transport: StringTransport) -> list[str]:
    content, found = transport.value(), []
    while content:
        size, start = pb.read_varint(content, 0)
        found.append(abci.named(pb.decode(content[start : start + size], abci.Response))[0])
        content = content[start + size :]
    return found


def test_answers_come_in_order_and_one_request_at_a_time() -> None:
    slow = Slow()
    factory = ABCIFactory(slow, lambda failure: None)
    (one, first), (two, second) = connected(factory), connected(factory)
    stream = b"".join(
        [
            sent("check_tx", abci.RequestCheckTx(b"1")),
            sent("flush", abci.Empty()),
            sent("check_tx", abci.RequestCheckTx(b"2")),
            sent("echo", abci.Echo("hi")),
        ]
    )
    for byte in stream:  # however the stream is cut
        one.dataReceived(bytes([byte]))
    two.dataReceived(sent("info", abci.RequestInfo()))
    assert (answers(first), answers(second)) == ([], [])
    assert len(slow.asked) == 1
    slow.asked[0][1].callback(abci.ResponseCheckTx())
    assert answers(first)[:2] == ["check_tx", "flush"]
    assert answers(second) == ["info"]
    slow.asked[1][1].callback(abci.ResponseCheckTx())
    assert answers(first) == ["check_tx", "flush", "check_tx", "echo"]


def test_many_answers_at_once_are_no_deep_stack() -> None:
    factory = ABCIFactory(Slow(), lambda failure: None)
    protocol, transport = connected(factory)
    protocol.dataReceived(sent("info", abci.RequestInfo()) * 5000)
    assert answers(transport) == ["info"] * 5000


def test_an_error_is_an_exception_and_the_end() -> None:
    broken: list[Any] = []
    factory = ABCIFactory(Slow(), broken.append)
    protocol, transport = connected(factory)
    protocol.dataReceived(sent("query", abci.RequestQuery()) + sent("info", abci.RequestInfo()))
    assert answers(transport) == ["exception"]
    assert transport.disconnecting
    assert len(broken) == 1


@pytest.mark.parametrize("content", [b"\xff\xff\xff\xff\x7f", b"\x01\x43", b"\x02\x42\x05", b"\xff" * 11])
def test_what_is_not_abci_ends_the_connection(content: bytes) -> None:
    factory = ABCIFactory(Slow(), lambda failure: None)
    protocol, transport = connected(factory)
    protocol.dataReceived(content)
    assert transport.disconnected
    assert answers(transport) == []


def test_genesis_must_be_the_same(node: Node) -> None:
    node.start()
    for chain, genesis in ((CHAIN, some_genesis(minimum_bond=9)), ("another", some_genesis())):
        asked = abci.RequestInitChain(chain, (), genesis_json(genesis), 1)
        with pytest.raises(RuntimeError, match="genesis"):
            node.ask("init_chain", asked)
        node.stop()
        node.start()


def test_a_proposal_with_anything_that_is_refused_is_rejected(node: Node, alone: Consensus) -> None:
    good, later = notarised(1, 0), notarised(2, 1)

    def status(*transactions: bytes) -> int:
        found: int = node.ask("process_proposal", abci.RequestProcessProposal(transactions, b"", 1)).status
        return found

    assert status(good, later) == abci.ACCEPT
    for bad in ((later,), (good, good), (b"nonsense",), (good, b"")):
        assert status(*bad) == abci.REJECT
    asked = abci.RequestPrepareProposal(10**6, (b"nonsense", later, good, good, later), 1)
    assert node.ask("prepare_proposal", asked).txs == (good, later)
    small = abci.RequestPrepareProposal(len(good) + 7, (good, later), 1)
    assert node.ask("prepare_proposal", small).txs == ()


def test_what_was_decided_is_executed_whatever_it_is(node: Node, alone: Consensus) -> None:
    decided = abci.RequestFinalizeBlock(
        (b"nonsense", notarised(1, 0), notarised(1, 0)), b"h" * 32, 1, abci.Timestamp(1)
    )
    results = node.ask("finalize_block", decided).tx_results
    assert [bool(result.code) for result in results] == [True, False, True]
    assert results[0].codespace == "nymtw"


def test_a_crash_before_commit_changes_nothing(node: Node, alone: Consensus) -> None:
    node.check(notarised(1, 0))
    node.crash_at = "commit"
    assert alone.make_block([node], random.Random(1)) is not None
    assert not node.alive
    node.crash_at = ""
    alone.start(node)  # replays
    assert node.replica.height == 1
    node.crash_at = "after commit"
    node.check(notarised(2, 1))
    alone.make_block([node], random.Random(1))
    node.crash_at = ""
    alone.start(node)
    assert node.replica.height == 2
    node.replica.audit()


def test_validators_that_change_are_told(node: Node, alone: Consensus) -> None:
    three = [list(each) for each in ([v.address, v.key, 7] for v in some_genesis().parameters.validators[:3])]
    vote = ChangeParameters(1, {"validators": three})
    for number, key in enumerate(VALIDATORS[:3], 1):
        data = encode_transaction(key, CHAIN, "parameters", 0, vote)
        done = node.ask("finalize_block", abci.RequestFinalizeBlock((data,), b"", number, abci.Timestamp(number)))
        assert done.tx_results[0].code == 0
        node.ask("commit", abci.Empty())
    gone = bytes(some_genesis().parameters.validators[3].key)
    powers = {update.pub_key.ed25519: update.power for update in done.validator_updates}
    assert powers == {**{each[1]: 7 for each in three}, gone: 0}


def blocks(node: Node, consensus: Consensus, count: int) -> None:
    for _ in range(count):
        height = node.replica.height
        node.check(notarised(height, height))
        assert consensus.make_block([node], random.Random(1)) is not None


def test_snapshots_restore_a_node(node: Node, alone: Consensus, tmp_path: Path) -> None:
    blocks(node, alone, 9)
    listed = node.ask("list_snapshots", abci.Empty()).snapshots
    assert [snapshot.height for snapshot in listed] == [8, 4]
    newest = listed[0]
    chunks = [
        node.ask("load_snapshot_chunk", abci.RequestLoadSnapshotChunk(8, 1, number)).chunk
        for number in range(newest.chunks)
    ]
    joins = Node(1, tmp_path / "joins.sqlite")
    joins.start()
    offer = abci.RequestOfferSnapshot(newest, alone.hashes[8])
    assert joins.ask("offer_snapshot", offer).result == abci.ACCEPT
    for number, chunk in enumerate(chunks):
        asked = abci.RequestApplySnapshotChunk(number, chunk, "peer")
        assert joins.ask("apply_snapshot_chunk", asked).result == abci.ACCEPT
    info = joins.ask("info", abci.RequestInfo())
    assert (info.last_block_height, info.last_block_app_hash) == (8, alone.hashes[8])
    alone.deliver(joins, alone.blocks[8])
    assert joins.replica.root == node.replica.root
    joins.replica.audit()
    joins.stop()


def test_a_snapshot_that_lies_is_refused(node: Node, alone: Consensus, tmp_path: Path) -> None:
    blocks(node, alone, 4)
    [snapshot] = node.ask("list_snapshots", abci.Empty()).snapshots
    chunk = node.ask("load_snapshot_chunk", abci.RequestLoadSnapshotChunk(4, 1, 0)).chunk
    joins = Node(1, tmp_path / "joins.sqlite")
    joins.start()

    def offered(changed: abci.Snapshot, app_hash: bytes = alone.hashes[4]) -> int:
        found: int = joins.ask("offer_snapshot", abci.RequestOfferSnapshot(changed, app_hash)).result
        return found

    def applied(data: bytes, index: int = 0) -> int:
        asked = abci.RequestApplySnapshotChunk(index, data, "peer")
        found: int = joins.ask("apply_snapshot_chunk", asked).result
        return found

    assert applied(chunk) == abci.ABORT  # none was offered
    assert offered(abci.Snapshot(4, 2, 1, snapshot.hash, snapshot.metadata)) == abci.REJECT_FORMAT
    assert offered(abci.Snapshot(4, 1, 2, snapshot.hash, snapshot.metadata)) == abci.REJECT_SNAPSHOT
    assert offered(abci.Snapshot(4, 1, 1, b"", snapshot.metadata)) == abci.REJECT_SNAPSHOT
    assert offered(snapshot) == abci.ACCEPT
    assert applied(chunk + b"\0") == abci.RETRY_CHUNK
    assert applied(chunk, 1) == abci.RETRY_CHUNK
    assert offered(snapshot, bytes(32)) == abci.ACCEPT
    assert applied(chunk) == abci.REJECT_CHUNKS  # its state is not the one that was signed
    assert joins.replica.height == 0
    joins.stop()


def test_old_blocks_are_given_up(node: Node, alone: Consensus) -> None:
    blocks(node, alone, 12)
    decided = abci.RequestFinalizeBlock((), b"", 13, abci.Timestamp(13))
    node.ask("finalize_block", decided)
    assert node.ask("commit", abci.Empty()).retain_height == 4


def test_a_query_of_cometbft(node: Node, alone: Consensus) -> None:
    answer = node.ask("query", abci.RequestQuery(path="account/0x" + WATCHERS[0].address.hex()))
    assert (answer.code, answer.value) == (0, b"\x82\x00\x00")
    assert node.ask("query", abci.RequestQuery(path="nothing")).code == 1
    assert node.ask("query", abci.RequestQuery(path="totals", height=99)).code == 1
