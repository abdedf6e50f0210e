"""`ILedger` as routes: GET /status, /query, /nonce, /transaction, /blocks, /bonds, /header and POST /transactions."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from nymtw.errors import EncodingError, LedgerError, TransactionRefused
from nymtw.ledger.machine.signatures import parse_address
from nymtw.ledger.rpc.views import answer_view, block_view, bonds_view, header_view, place_view, status_view
from nymtw.web.http import Answer, Call, Route, as_json

MOST_TRANSACTIONS: Final = 500  # in one answer, unless one block alone has more
LONGEST_WAIT: Final = 30.0  # seconds for which a question is held back


def ledger_routes(ledger: Callable[[], Any], chain: str) -> Sequence[Route]:
    """The routes over what `ledger()` returns (an `ILedger`) of this chain; it may raise `Unavailable`."""

    def status(call: Call) -> "Deferred[Answer]":
        return _answer(ledger().status(), status_view)

    def query(call: Call) -> "Deferred[Answer]":
        height = call.query.get("height")
        at = None if height is None else _number(height, "height")
        return _answer(ledger().query(call.query.get("path", ""), at, "prove" in call.query), answer_view)

    def nonce(call: Call) -> "Deferred[Answer]":
        address = parse_address(call.query.get("address", ""))
        return _answer(ledger().next_nonce(address), lambda number: {"nonce": number})

    def submit(call: Call) -> "Deferred[Answer]":
        return _answer(ledger().submit(call.body), lambda identity: {"id": identity.hex()})

    def transaction(call: Call) -> "Deferred[Answer]":
        identity = _hash(call.query.get("id", ""))
        return _answer(ledger().result(identity, _wait(call)), lambda place: place_view(identity, place))

    def blocks(call: Call) -> "Deferred[Answer]":
        after = _number(call.query.get("after", "0"), "after")
        count = _number(call.query.get("count", "100"), "count")
        found = ledger().blocks(after, min(count, 100), _wait(call))
        return _answer(found, lambda listed: {"blocks": _bounded(listed, chain)})

    def bonds(call: Call) -> "Deferred[Answer]":
        after = parse_address(call.query["after"]) if "after" in call.query else b""
        count = _number(call.query.get("count", "100"), "count")
        return _answer(ledger().bonds(after, count), bonds_view)

    def header(call: Call) -> "Deferred[Answer]":
        return _answer(ledger().header(_number(call.query.get("height", ""), "height")), header_view)

    return [
        Route("GET", "/status", status),
        Route("GET", "/query", query),
        Route("GET", "/nonce", nonce),
        Route("POST", "/transactions", submit),
        Route("GET", "/transaction", transaction),
        Route("GET", "/blocks", blocks),
        Route("GET", "/bonds", bonds),
        Route("GET", "/header", header),
    ]


def _answer(found: "Deferred[Any]", view: Any) -> "Deferred[Answer]":
    return found.addCallbacks(lambda value: as_json(view(value)), _refusal)


def _refusal(failure: Failure) -> Answer:
    error: Any = failure.value
    if failure.check(TransactionRefused):
        return as_json({"error": str(error), "code": int(error.code)}, 400)
    if failure.check(EncodingError):
        return as_json({"error": str(error)}, 400)
    if failure.check(LedgerError):
        return as_json({"error": str(error)}, 503)
    failure.raiseException()
    raise AssertionError


def _bounded(blocks: Any, chain: str) -> list[dict[str, Any]]:
    """The first of them, with 500 transactions at most, but one at least: a client that wants more asks again."""
    shown: list[dict[str, Any]] = []
    count = 0
    for block in blocks:
        count += len(block.transactions)
        if shown and count > MOST_TRANSACTIONS:
            break
        shown.append(block_view(block, chain))
    return shown


def _wait(call: Call) -> float:
    return float(min(_number(call.query.get("wait", "0"), "wait"), LONGEST_WAIT))


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise EncodingError(f"{name} is a number from 0")
    return int(text)


def _hash(text: str) -> bytes:
    try:
        identity = bytes.fromhex(text)
    except ValueError:
        identity = b""
    if len(identity) != 32:
        raise EncodingError("id is 64 hexadecimal digits")
    return identity
