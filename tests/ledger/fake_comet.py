"""CometBFT in memory: nodes that speak ABCI to the real application, and a consensus that orders their blocks.

Nodes crash at any step and open their files again; who was cut off replays the blocks that it has missed.
"""

import base64
import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger_world import CHAIN, SIGNERS, some_genesis

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Cooperator
from twisted.internet.testing import StringTransport

from nymtw.errors import LedgerError
from nymtw.ledger.abci import messages as abci
from nymtw.ledger.abci import protobuf as pb
from nymtw.ledger.abci.application import LedgerApplication
from nymtw.ledger.abci.server import ABCIFactory
from nymtw.ledger.cometbft import light_blocks as light
from nymtw.ledger.machine.parameters import genesis_json
from nymtw.ledger.storage.replica import Replica
from nymtw.ledger.storage.store import Keep, LedgerStore

STEPS = ("prepare_proposal", "process_proposal", "finalize_block", "commit", "after commit")


class Crashed(Exception):
    """The application was killed."""


class Node:
    """One application behind its ABCI server, and what of CometBFT belongs to it."""

    def __init__(self, number: int, path: Path, keep: Keep = Keep(), **options: Any) -> None:
        self.number = number
        self.mempool: list[bytes] = []
        self.crash_at = ""
        self.alive = False
        self.broken: list[Any] = []
        self._calls: list[Any] = []
        self._path, self._keep, self._options = path, keep, options

    def start(self) -> None:
        self.store = LedgerStore(self._path, self._keep)
        self.replica = Replica(self.store, some_genesis())
        self.application = LedgerApplication(
            self.replica, Cooperator(scheduler=self._later, started=True), **self._options
        )
        self.factory = ABCIFactory(self.application, self.broken.append)
        self.protocol: Any = self.factory.buildProtocol(None)
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)
        self.alive = True

    def stop(self) -> None:
        """As if it were killed: nothing is written any more."""
        if self.alive:
            self.store.close()
            self.alive = False
            self._calls.clear()
        self.mempool.clear()  # CometBFT's own is in memory

    def call(self, name: str, message: Any) -> Any:
        """One request, and its answer. Raises `Crashed` where that step is the node's last."""
        if self.crash_at == name:
            self.stop()
            raise Crashed
        answer = self.ask(name, message)
        if self.crash_at == "after commit" and name == "commit":
            self.stop()
            raise Crashed
        return answer

    def ask(self, name: str, message: Any) -> Any:
        while self._calls:  # what goes on between requests
            self._calls.pop(0)()
        self.transport.clear()
        self.protocol.dataReceived(
            pb.delimited(pb.encode(abci.Request(**{name: message})))
            + pb.delimited(pb.encode(abci.Request(flush=abci.Empty())))
        )
        content = self.transport.value()
        answers = []
        while content:
            size, start = pb.read_varint(content, 0)
            answers.append(abci.named(pb.decode(content[start : start + size], abci.Response)))
            content = content[start + size :]
        if answers[0][0] == "exception":
            raise RuntimeError(answers[0][1].error)
        assert [each[0] for each in answers] == [name, "flush"]
        return answers[0][1]

    def _later(self, call: Any) -> Any:
        self._calls.append(call)
        return _Call()

    def check(self, data: bytes, again: bool = False) -> Any:
        answer = self.ask("check_tx", abci.RequestCheckTx(data, 1 if again else 0))
        if answer.code == 0 and not again:
            self.mempool.append(data)
        return answer


class _Call:
    def cancel(self) -> None:
        pass


class Block:
    """What the consensus has decided."""

    def __init__(self, height: int, transactions: tuple[bytes, ...], app_hash: bytes) -> None:
        self.height, self.transactions = height, transactions
        self.app_hash = app_hash  # after the block before
        self.hash = sha256(b"%d" % height + b"".join(transactions)).digest()

    @property
    def time(self) -> abci.Timestamp:
        return abci.Timestamp(1_767_225_600 + self.height, 5)


class Consensus:
    """A block where more than two thirds of all nodes are up and together."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.blocks: list[Block] = []
        self.roots: list[bytes] = []
        self.hashes: dict[int, bytes] = {}  # the application hash after each height, as the first node said

    def start(self, node: Node) -> None:
        """The handshake: genesis, and the blocks that the application has not."""
        node.start()
        info = node.ask("info", abci.RequestInfo("0.38.26", "2.0.0"))
        if info.last_block_height == 0:
            genesis = some_genesis()
            first = node.ask("init_chain", abci.RequestInitChain(CHAIN, (), genesis_json(genesis), 1))
            self._same(0, first.app_hash)
        else:
            self._same(info.last_block_height, info.last_block_app_hash)
        self.catch_up(node, info.last_block_height)

    def catch_up(self, node: Node, height: int | None = None) -> None:
        for block in self.blocks[node.replica.height if height is None else height :]:
            self.deliver(node, block)

    def deliver(self, node: Node, block: Block) -> None:
        decided = abci.RequestFinalizeBlock(block.transactions, block.hash, block.height, block.time)
        done = node.call("finalize_block", decided)
        assert len(done.tx_results) == len(block.transactions)
        self._same(block.height, done.app_hash)
        node.call("commit", abci.Empty())
        node.mempool = [data for data in node.mempool if data not in block.transactions]
        node.mempool = [data for data in node.mempool if node.check(data, again=True).code == 0]

    def make_block(self, together: Iterable[Node], chance: random.Random) -> Block | None:
        """One round among those that can hear each other; None where nothing was decided."""
        up = [node for node in together if node.alive]
        for node in list(up):
            try:
                self.catch_up(node)
            except Crashed:
                up.remove(node)
        if not self._enough(up):
            return None
        height = len(self.blocks) + 1
        proposer = chance.choice(up)
        time = abci.Timestamp(1_767_225_600 + height, 5)
        try:
            asked = abci.RequestPrepareProposal(50_000, tuple(proposer.mempool), height, time)
            transactions = proposer.call("prepare_proposal", asked).txs
        except Crashed:
            return None
        accepted = []
        for node in up:
            try:
                proposal = abci.RequestProcessProposal(transactions, b"", height, time)
                if node.call("process_proposal", proposal).status == abci.ACCEPT:
                    accepted.append(node)
            except Crashed:
                continue
        if not self._enough(accepted):
            return None
        block = Block(height, transactions, self.hashes[height - 1])
        self.blocks.append(block)
        for node in accepted:
            try:
                self.deliver(node, block)
            except Crashed:
                continue
        return block

    def _enough(self, nodes: list[Node]) -> bool:
        return 3 * len(nodes) > 2 * len(self.nodes)

    def _same(self, height: int, app_hash: bytes) -> None:
        assert self.hashes.setdefault(height, app_hash) == app_hash, f"another state after block {height}"


class FakeRPC:
    """CometBFT's JSON-RPC over one node of a consensus: `JSONClient` for the driver."""

    def __init__(self, consensus: Consensus, node: Node, submitted: Any) -> None:
        self._consensus, self._node, self._submitted = consensus, node, submitted
        self._seen: set[bytes] = set()

    def post(self, path: str, body: bytes, content_type: str, patience: float) -> "Deferred[tuple[int, Any]]":
        found = [self._answer(asked) for asked in json.loads(body)]
        return succeed((200, found[0] if len(found) == 1 else found))  # as CometBFT has it

    def _answer(self, asked: Any) -> dict[str, Any]:
        try:
            found: dict[str, Any] = {"result": getattr(self, asked["method"])(**asked["params"])}
        except LedgerError as error:
            found = {"error": {"code": -32603, "message": "Internal error", "data": str(error)}}
        return {"jsonrpc": "2.0", "id": asked["id"], **found}

    def close(self) -> "Deferred[None]":
        return succeed(None)

    def broadcast_tx_sync(self, tx: str) -> Any:
        data = base64.b64decode(tx)
        if data in self._seen:
            raise LedgerError("tx already exists in cache")
        answer = self._node.check(data)
        if answer.code == 0:
            self._seen.add(data)
            self._submitted()
        return {"code": answer.code, "log": answer.log, "hash": sha256(data).hexdigest()}

    def commit(self, height: str) -> Any:
        number = int(height)
        if number > len(self._consensus.blocks):
            raise LedgerError("height must be less than or equal to the current blockchain height")
        return {"signed_header": signed_header(self._consensus.blocks[number - 1])}

    def validators(self, height: str, page: str, per_page: str) -> Any:
        return {"validators": validators_json()}


def validator_set(keys: Any = SIGNERS, power: int = 10) -> tuple[light.CometValidator, ...]:
    return light.in_order([light.CometValidator(bytes(key.verify_key), power) for key in keys])


def validators_json(keys: Any = SIGNERS, power: int = 10) -> list[dict[str, Any]]:
    return [
        {"pub_key": {"value": base64.b64encode(each.key).decode()}, "voting_power": str(each.power)}
        for each in validator_set(keys, power)
    ]


def signed_header(block: Block, keys: Any = SIGNERS, signing: Any = None, **changes: Any) -> dict[str, Any]:
    """As CometBFT shows it, signed by `signing` of the validators `keys`."""
    digest = "ab" * 32
    time = datetime.fromtimestamp(block.time.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000005Z")
    validators = validator_set(keys)
    header: dict[str, Any] = {
        "version": {"block": "11", "app": "1"},
        "chain_id": CHAIN,
        "height": str(block.height),
        "time": time,
        "last_block_id": {"hash": "", "parts": {"total": 0, "hash": ""}},
        **dict.fromkeys(
            ("last_commit_hash", "data_hash", "consensus_hash", "last_results_hash", "evidence_hash"), digest
        ),
        "validators_hash": light.validators_hash(validators).hex(),
        "next_validators_hash": light.validators_hash(validators).hex(),
        "app_hash": block.app_hash.hex(),
        "proposer_address": "ab" * 20,
        **changes,
    }
    commit: dict[str, Any] = {"height": str(block.height), "round": 0, "signatures": []}
    commit["block_id"] = {"hash": "", "parts": {"total": 1, "hash": digest}}
    shown = {"signed_header": {"header": header, "commit": commit}, "validators": validators_json(keys)}
    commit["block_id"]["hash"] = light.parse_light_block(shown).hash.hex()
    parsed = light.parse_light_block(shown)
    by_key = {bytes(key.verify_key): key for key in (keys if signing is None else signing)}
    for validator in validators:
        key = by_key.get(validator.key)
        if key is None:
            commit["signatures"].append(
                {"block_id_flag": 1, "validator_address": "", "timestamp": "0001-01-01T00:00:00Z", "signature": None}
            )
        else:
            signature = key.sign(light.vote_bytes(parsed, block.time)).signature
            commit["signatures"].append(
                {
                    "block_id_flag": 2,
                    "validator_address": validator.address.hex(),
                    "timestamp": time,
                    "signature": base64.b64encode(signature).decode(),
                }
            )
    return {"header": header, "commit": commit}
