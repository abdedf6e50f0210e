"""The JSON-RPC client over HTTP in memory: answers, errors, nonsense, silence."""

import json
from typing import Any

import pytest

pytest.importorskip("treq", reason="needs nymtw[ethereum]")

from treq.testing import RequestTraversalAgent

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.client import ResponseFailed
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from nymtw.errors import ConfigError, EthereumError, EthereumRefused
from nymtw.ethereum import jsonrpc
from nymtw.ethereum.jsonrpc import EthereumRPC

URL = "http://user:secret@node.example:8545/v3/secret-key"


class Node(Resource):
    """Answers with what `answer(request)` makes of the JSON that was asked."""

    isLeaf = True

    def __init__(self, answer: Any, status: int = 200) -> None:
        super().__init__()
        self._answer, self._status = answer, status
        self.asked: list[Any] = []

    def render_POST(self, request: Any) -> Any:
        self.asked.append(json.loads(request.content.read()))
        request.setResponseCode(self._status)
        found = self._answer(self.asked[-1])
        if found is NOT_DONE_YET or isinstance(found, bytes):
            return found
        return json.dumps(found).encode()


def ask(node: Node, *calls: tuple[str, tuple[Any, ...]], clock: Any = None) -> Any:
    agent = RequestTraversalAgent(node)
    rpc = EthereumRPC(clock or Clock(), URL, agent=agent)
    asked = Deferred.fromCoroutine(rpc.batch(calls or [("eth_chainId", ())]))
    found: list[Any] = []
    asked.addBoth(found.append)
    agent.flush()
    return found[0] if found else None


def error_of(node: Node, *calls: tuple[str, tuple[Any, ...]]) -> Exception:
    failure = ask(node, *calls)
    assert failure.check(EthereumError), failure
    error: Exception = failure.value
    assert "node.example:8545" in str(error)
    assert "secret" not in str(error)
    assert len(str(error)) < 600
    assert "\n" not in str(error)
    return error


def ok(asked: Any) -> Any:
    if isinstance(asked, list):
        return [ok(each) for each in reversed(asked)]
    return {"jsonrpc": "2.0", "id": asked["id"], "result": asked["method"]}


def test_calls_and_their_results() -> None:
    node = Node(ok)
    assert ask(node, ("eth_call", (1, "latest"))) == ["eth_call"]
    assert node.asked == [{"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [1, "latest"]}]
    # The answers to a batch come in any order.
    assert ask(node, ("a", ()), ("b", ()), ("c", ())) == ["a", "b", "c"]


def test_an_error_of_the_node_is_told_with_its_code() -> None:
    error = error_of(Node(lambda asked: {"id": asked["id"], "error": {"code": -32000, "message": "no\nfunds" * 200}}))
    assert isinstance(error, EthereumRefused)
    assert error.code == -32000
    one_for_all = Node(lambda asked: {"id": None, "error": {"code": -32600, "message": "too many"}})
    assert "too many" in str(error_of(one_for_all, ("a", ()), ("b", ())))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[" * 100_000,
        b"NaN",
        b'{"id": 1, "result": NaN}',
        {"id": 1},
        {"id": 1, "error": "no"},
        {"id": 2, "result": 1},
        {"id": "1", "result": 1},
        {"id": True, "result": 1},
        {"result": 1},
        [],
        [{"id": 1, "result": 1}],
        None,
        7,
        "0x1",
        {"id": 1, "error": {"code": "x", "message": {"deep": 1}}},
    ],
)
def test_nonsense(answer: Any) -> None:
    error_of(Node(lambda asked: answer))


@pytest.mark.parametrize(
    "answer",
    [[], [{"id": 1, "result": 1}], [{"id": 1, "result": 1}] * 2, [1, 2], {"id": 1, "result": 1}, None],
)
def test_nonsense_for_several(answer: Any) -> None:
    error_of(Node(lambda asked: answer), ("a", ()), ("b", ()))


def test_an_answer_of_any_status_counts_if_it_is_json_rpc() -> None:
    assert ask(Node(ok, status=400)) == ["eth_chainId"]
    assert "status 502" in str(error_of(Node(lambda asked: b"bad gateway", status=502)))


def test_a_long_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrpc, "LIMIT", 1000)
    assert "longer than" in str(error_of(Node(lambda asked: b"x" * 1001)))


def test_a_redirect_is_not_followed() -> None:
    class Elsewhere(Node):
        def render_POST(self, request: Any) -> Any:
            request.redirect(b"http://elsewhere.example/")
            return b""

    assert "status 302" in str(error_of(Elsewhere(ok)))


def test_silence_ends_after_a_while() -> None:
    clock = Clock()

    class Silent:
        def request(self, *_: Any) -> Any:
            return Deferred()

    rpc = EthereumRPC(clock, URL, agent=Silent())
    asked = Deferred.fromCoroutine(rpc.call("eth_chainId"))
    failures: list[Any] = []
    asked.addErrback(failures.append)
    clock.advance(jsonrpc.PATIENCE - 0.1)
    assert failures == []
    clock.advance(0.2)
    assert "no answer within" in str(failures[0].value)


def test_a_connection_that_breaks() -> None:
    from twisted.internet.defer import fail
    from twisted.internet.error import ConnectionLost
    from twisted.python.failure import Failure

    class Broken:
        def request(self, *_: Any) -> Any:
            return fail(ResponseFailed([Failure(ConnectionLost("it broke"))]))

    failures: list[Any] = []
    rpc = EthereumRPC(Clock(), URL, agent=Broken())
    Deferred.fromCoroutine(rpc.call("eth_chainId")).addErrback(failures.append)
    assert "it broke" in str(failures[0].value)


@pytest.mark.parametrize(
    "url", ["", "node:8545", "ftp://x", "http://", "http://x:0", "http://x:y", "http://ä", "http://x/#a"]
)
def test_urls(url: str) -> None:
    with pytest.raises(ConfigError, match="URL looks like"):
        EthereumRPC(Clock(), url)
