"""The broadcaster: what a chain says reaches who asked, and no transaction is handed over twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twisted.logger import globalLogPublisher
from twisted.web import http

from nymtw.errors import ConfigError
from nymtw.message.broadcast import BroadcastAnswer, BroadcastRequest
from nymtw.provider.broadcaster.service import UNKNOWN, Options, make_provider, parse_node
from nymtw.testing.provider_contracts import ServiceContract
from nymtw.testing.service_bench import ServiceBench

NODE = "198.51.100.9"
CHAINS = [
    f"--chain=eth=http://{NODE}:8545",
    f"--chain=cometbft=http://{NODE}:26657",
    f"--chain=bitcoin=http://user:p%40ss@{NODE}:8332",
]
# As the nodes' own documentation and releases have them.
COMETBFT_TAKEN = {
    "jsonrpc": "2.0",
    "id": 1,
    "result": {
        "code": 0,
        "data": "",
        "log": "[]",
        "codespace": "",
        "hash": "0D33F2F03A5234F38706E43004489E061AC40A2E",
    },
}
COMETBFT_REFUSED = {
    "jsonrpc": "2.0",
    "id": 1,
    "result": {
        "code": 13,
        "data": "",
        "log": "insufficient fees; got: 0uatom required: 1uatom: insufficient fee",
        "codespace": "sdk",
        "hash": "2951A8F0B9A1F5D0",
    },
}
COMETBFT_KNOWN = {
    "jsonrpc": "2.0",
    "id": 1,
    "error": {"code": -32603, "message": "Internal error", "data": "tx already exists in cache"},
}
BITCOIN_TAKEN = {
    "result": "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16",
    "error": None,
    "id": "nymtw",
}
BITCOIN_REFUSED = {
    "result": None,
    "error": {"code": -26, "message": "non-mandatory-script-verify-flag (Signature must be zero)"},
    "id": "nymtw",
}
GETH_REFUSED = {
    "jsonrpc": "2.0",
    "id": 1,
    "error": {"code": -32000, "message": "nonce too low: next nonce 7, tx nonce 3"},
}

Answer = Callable[[dict[str, Any]], Any]


class Call(http.Request):
    def process(self) -> None:
        channel: Any = self.channel
        node: Node = channel.factory
        body = json.loads(self.content.read())
        node.calls.append((body, self.requestHeaders.getRawHeaders(b"authorization")))
        answer = node.answer(body)
        if answer is None:
            channel.loseConnection()
            return
        status, found = answer if isinstance(answer, tuple) else (200, answer)
        self.setResponseCode(status)
        self.write(found if isinstance(found, bytes) else json.dumps(found).encode())
        self.finish()


class Node(http.HTTPFactory):
    def __init__(self, reactor: Any, answer: Answer) -> None:
        super().__init__(reactor=reactor)
        self.answer = answer
        self.calls: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        channel: Any = super().buildProtocol(addr)
        channel.requestFactory = Call
        return channel

    def log(self, request: Any) -> None:
        pass


def serve(bench: ServiceBench, port: int, answer: Answer) -> Node:
    host = bench.network.host("node", NODE)
    node = Node(host, answer)
    host.listenTCP(port, node, interface=NODE)
    return node


def ask(bench: ServiceBench, chain: str, transaction: bytes, limit: float = 170) -> BroadcastAnswer:
    wanted = BroadcastRequest(id=b"i" * 16, chain=chain, transaction=transaction)
    [answer] = bench.ask(wanted.encode(), limit=limit, blocks=5)
    found = BroadcastAnswer.parse(answer)
    assert found.id == wanted.id
    return found


@pytest.fixture
def bench(seed: int) -> Any:
    with ServiceBench("broadcaster", CHAINS, seed=seed) as bench:
        yield bench


class TestContract(ServiceContract):
    implementation = "broadcaster"
    argv = CHAINS
    request = BroadcastRequest(id=b"i" * 16, chain="eth", transaction=b"signed").encode()
    reaches_out = True

    def prepare(self, bench: ServiceBench) -> None:
        serve(bench, 8545, lambda call: {"jsonrpc": "2.0", "id": 1, "result": "0x" + "ab" * 32})


@pytest.mark.parametrize(
    ("chain", "port", "recorded", "hashed", "error"),
    [
        ("cometbft", 26657, COMETBFT_TAKEN, "0D33F2F03A5234F38706E43004489E061AC40A2E", ""),
        (
            "cometbft",
            26657,
            COMETBFT_REFUSED,
            "",
            "sdk code 13: insufficient fees; got: 0uatom required: 1uatom: insufficient fee",
        ),
        ("cometbft", 26657, COMETBFT_KNOWN, "", "Internal error tx already exists in cache (code -32603)"),
        ("bitcoin", 8332, BITCOIN_TAKEN, "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16", ""),
        (
            "bitcoin",
            8332,
            (500, BITCOIN_REFUSED),
            "",
            "non-mandatory-script-verify-flag (Signature must be zero) (code -26)",
        ),
        ("eth", 8545, GETH_REFUSED, "", "nonce too low: next nonce 7, tx nonce 3 (code -32000)"),
        ("eth", 8545, b"<html>", "", "the node's answer is not valid for this kind of chain"),
        (
            "eth",
            8545,
            {"jsonrpc": "2.0", "id": 1, "result": 5},
            "",
            "the node's answer is not valid for this kind of chain",
        ),
        ("eth", 8545, b"[" * 5000, "", "the node's answer is not valid for this kind of chain"),
        ("eth", 8545, bytes(2 * 2**20), "", "the answer is longer than allowed"),
        ("eth", 8545, (401, b""), "", "the node refuses this broadcaster"),
    ],
)
def test_what_a_node_answers(
    bench: ServiceBench, chain: str, port: int, recorded: Any, hashed: str, error: str
) -> None:
    serve(bench, port, lambda call: recorded)
    answer = ask(bench, chain, b"\x01\x02signed")
    assert (answer.hash, answer.error) == (hashed, error)


@pytest.mark.parametrize(
    ("chain", "port", "method", "parameters", "authorization"),
    [
        ("eth", 8545, "eth_sendRawTransaction", ["0x0102ff"], None),
        ("cometbft", 26657, "broadcast_tx_sync", {"tx": "AQL/"}, None),
        ("bitcoin", 8332, "sendrawtransaction", ["0102ff"], [b"Basic dXNlcjpwQHNz"]),
    ],
)
def test_what_a_node_is_asked(
    bench: ServiceBench, chain: str, port: int, method: str, parameters: Any, authorization: Any
) -> None:
    node = serve(bench, port, lambda call: {"result": "x"})
    ask(bench, chain, b"\x01\x02\xff")
    [(call, given)] = node.calls
    assert (call["method"], call["params"], given) == (method, parameters, authorization)


def test_a_node_that_is_away_is_tried_again(bench: ServiceBench) -> None:
    nodes: list[Node] = []
    bench.clock.callLater(10, lambda: nodes.append(serve(bench, 8545, lambda call: {"result": "0xab"})))
    assert ask(bench, "eth", b"signed").hash == "0xab"
    assert len(nodes[0].calls) == 1
    assert bench.metrics["tried-again"] >= 3


def test_a_node_that_stays_away_is_given_up_and_may_be_asked_again(bench: ServiceBench) -> None:
    assert "cannot be reached" in ask(bench, "eth", b"signed").error
    node = serve(bench, 8545, lambda call: {"result": "0xab"})
    assert ask(bench, "eth", b"signed").hash == "0xab"
    assert len(node.calls) == 1


def test_a_busy_node_is_tried_again(bench: ServiceBench) -> None:
    answers: list[Any] = [(503, b"later"), (429, b""), {"result": "0xab"}]
    node = serve(bench, 8545, lambda call: answers.pop(0))
    assert ask(bench, "eth", b"signed").hash == "0xab"
    assert len(node.calls) == 3


def test_where_the_outcome_is_not_known_it_is_not_sent_again(bench: ServiceBench) -> None:
    node = serve(bench, 8545, lambda call: None)
    assert ask(bench, "eth", b"signed").error == UNKNOWN
    assert ask(bench, "eth", b"signed").error == UNKNOWN
    assert len(node.calls) == 1


def test_one_transaction_of_many_senders_is_handed_over_once(bench: ServiceBench) -> None:
    node = serve(bench, 8545, lambda call: {"result": "0xab"})
    people = [bench.asker() for _ in range(5)]
    for number, person in enumerate(people):
        person.ask(BroadcastRequest(id=bytes([number]) * 16, chain="eth", transaction=b"signed").encode(), 5)
    bench.clock.advance_until(lambda: all(person.answers for person in people), 60)
    assert {BroadcastAnswer.parse(person.answers[0]).hash for person in people} == {"0xab"}
    assert len(node.calls) == 1


def test_an_unknown_chain(bench: ServiceBench) -> None:
    assert (
        ask(bench, "dogecoin", b"x").error
        == "this broadcaster does not support the chain; it supports bitcoin, cometbft, eth"
    )


def test_nothing_of_a_transaction_is_logged(bench: ServiceBench) -> None:
    events: list[str] = []
    globalLogPublisher.addObserver(lambda event: events.append(repr(event)))
    serve(bench, 8545, lambda call: GETH_REFUSED)
    ask(bench, "eth", b"secret-transaction")
    text = " ".join(events)
    assert b"secret-transaction".hex() not in text
    assert "secret-transaction" not in text


def test_nodes_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("https://u:p@node.example/rpc\n")
    name, node = parse_node(f"goerli:eth=@{file}")
    assert (name, node.url, node.authorization) == ("goerli", "https://node.example/rpc", b"Basic dTpw")
    for text in ("eth", "foo=http://x", "a:foo=http://x", "eth=ftp://x", "eth=@/no/such/file", "eth="):
        with pytest.raises(ConfigError, match="--chain"):
            parse_node(text)
    options = Options()
    options.parseOptions([])
    with pytest.raises(ConfigError, match="needs at least one --chain"):
        make_provider(None, options)  # type: ignore[arg-type]


@pytest.mark.evm
def test_a_signed_transfer_is_mined_by_a_real_evm(bench: ServiceBench) -> None:
    eth_tester = pytest.importorskip("eth_tester")
    from eth_account import Account

    chain = eth_tester.EthereumTester(eth_tester.PyEVMBackend())
    rich = chain.backend.account_keys[0]
    recipient = "0x" + "42" * 20
    transfer = {
        "to": recipient,
        "value": 12345,
        "gas": 21000,
        "maxFeePerGas": 2 * 10**9,
        "maxPriorityFeePerGas": 10**9,
        "nonce": 0,
        "chainId": 131277322940537,  # that of eth-tester
        "type": 2,
    }
    signed = Account.sign_transaction(transfer, rich.to_bytes()).raw_transaction

    def answer(call: dict[str, Any]) -> Any:
        assert call["method"] == "eth_sendRawTransaction"
        try:
            return {"jsonrpc": "2.0", "id": call["id"], "result": chain.send_raw_transaction(call["params"][0])}
        except Exception as error:
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32000, "message": str(error)}}

    serve(bench, 8545, answer)
    hashed = ask(bench, "eth", bytes(signed)).hash
    receipt = chain.get_transaction_receipt(hashed)
    assert (receipt["status"], receipt["block_number"]) == (1, 1)
    assert chain.get_balance(recipient) == 12345
    again = Account.sign_transaction({**transfer, "value": 1}, rich.to_bytes()).raw_transaction
    assert "code -32000" in ask(bench, "eth", bytes(again)).error
    assert chain.get_balance(recipient) == 12345
