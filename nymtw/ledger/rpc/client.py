"""`ILedger` over HTTP: one node or several, of which the next is asked where one fails."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

from twisted.internet.defer import Deferred, gatherResults
from zope.interface import implementer

from nymtw.errors import ConfigError, EncodingError, LedgerError, TransactionRefused
from nymtw.interfaces import ILedger
from nymtw.ledger.answers import LedgerStatus, SignedHeader
from nymtw.ledger.machine.signatures import address_text
from nymtw.ledger.machine.state import Bond
from nymtw.ledger.rpc.http import JSONClient
from nymtw.ledger.rpc.routes import LONGEST_WAIT
from nymtw.ledger.rpc.views import (
    Reading,
    read_answer,
    read_block,
    read_bonds,
    read_header,
    read_nonce,
    read_place,
    read_status,
)
from nymtw.ledger.storage.records import BlockRecord, TransactionPlace
from nymtw.ledger.storage.replica import StateAnswer

PATIENCE: Final = 15.0  # seconds for an answer that is not held back


def check_ledger_url(url: str) -> str:
    """`url` without a slash at its end. Raises `ConfigError` unless it is http(s)://HOST:PORT."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        right = right and parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        right = False
    if not right:
        raise ConfigError(f"a ledger's URL looks like http://127.0.0.1:26657, not {url!r:.100}")
    return url.rstrip("/")


@implementer(ILedger)
class HTTPLedger:
    """Asks the first node that answers; who has failed is asked last until another one fails."""

    def __init__(self, reactor: Any, urls: Sequence[str], clients: Sequence[Any] | None = None) -> None:
        """`clients`: as `JSONClient`, for tests. Raises `ConfigError` for a bad URL, or none."""
        if clients is None:
            clients = [JSONClient(reactor, check_ledger_url(url)) for url in urls]
        if not clients:
            raise ConfigError("no node of the ledger is named")
        self._reactor = reactor
        self._clients = list(clients)

    def status(self) -> "Deferred[LedgerStatus]":
        """Of a node that answers."""
        return self._get("/status", 0, read_status)

    def query(self, path: str, height: int | None = None, prove: bool = False) -> "Deferred[StateAnswer]":
        """What the state says; nothing of it is proved here, see `nymtw.ledger.light`."""
        at = "" if height is None else f"&height={height}"
        return self._get(f"/query?path={quote(path, safe='/')}{at}{'&prove=1' if prove else ''}", 0, read_answer)

    def next_nonce(self, address: bytes) -> "Deferred[int]":
        """Of the account's next transaction."""
        return self._get(f"/nonce?address={address_text(address)}", 0, read_nonce)

    def submit(self, transaction: bytes) -> "Deferred[bytes]":
        """Hand a transaction in at the first node that takes it."""

        def post(client: Any) -> Any:
            return client.post("/transactions", transaction, "application/cbor", PATIENCE)

        return self._from_first(post, _read_identity, TransactionRefused, EncodingError)

    def result(self, identity: bytes, wait: float = 0.0) -> "Deferred[TransactionPlace | None]":
        """Where a transaction is; a wait beyond what a node holds a question back is asked in parts."""

        async def ask() -> TransactionPlace | None:
            end = self._reactor.seconds() + wait
            while True:
                left = max(0.0, end - self._reactor.seconds())
                asked = min(left, LONGEST_WAIT)
                path = f"/transaction?id={identity.hex()}&wait={_whole(asked)}"
                place: TransactionPlace | None = await self._get(path, asked, read_place)
                if place is not None or self._reactor.seconds() + 1 > end:
                    return place

        return Deferred.fromCoroutine(ask())

    def blocks(self, after: int, count: int = 100, wait: float = 0.0) -> "Deferred[tuple[BlockRecord, ...]]":
        """The blocks above `after`."""
        wait = min(wait, LONGEST_WAIT)
        path = f"/blocks?after={after}&count={count}&wait={_whole(wait)}"
        return self._get(path, wait, _read_blocks)

    def bonds(self, after: bytes = b"", count: int = 100) -> "Deferred[list[tuple[bytes, Bond]]]":
        """Who is bonded now, as the node says."""
        above = f"&after={address_text(after)}" if after else ""
        return self._get(f"/bonds?count={count}{above}", 0, read_bonds)

    def header(self, height: int) -> "Deferred[SignedHeader]":
        """What the validators have signed of the state after this block; whether they have is not looked at here."""
        return self._get(f"/header?height={height}", 0, read_header)

    def close(self) -> "Deferred[Any]":
        """Close the connections."""
        return gatherResults([client.close() for client in self._clients])

    def _get(self, path: str, wait: float, read: Callable[[Any], Any]) -> "Deferred[Any]":
        return self._from_first(lambda client: client.get(path, PATIENCE + wait), read, EncodingError)

    def _from_first(
        self, ask: Callable[[Any], Awaitable[tuple[int, Any]]], read: Callable[[Any], Any], *final: type[Exception]
    ) -> "Deferred[Any]":
        """What `read` finds in the answer of the first node that has one; no other is asked after a `final` error."""

        async def answer() -> Any:
            last: LedgerError | None = None
            for client in list(self._clients):
                try:
                    return read(_body(*await ask(client)))
                except final:
                    raise
                except LedgerError as error:
                    last = error
                    self._blame(client)
            assert last is not None
            raise last

        return Deferred.fromCoroutine(answer())

    def _blame(self, client: Any) -> None:
        self._clients.remove(client)
        self._clients.append(client)


def _read_identity(body: Any) -> bytes:
    with Reading():
        return bytes.fromhex(body["id"])


def _body(code: int, shown: Any) -> Any:
    """What was answered. Raises `TransactionRefused`, `EncodingError` for a bad request, `LedgerError`."""
    if not isinstance(shown, dict):
        raise LedgerError("an answer of the ledger is no object")
    if code == 200:
        return shown
    text = str(shown.get("error", f"status {code}"))[:500]
    if code == 400 and isinstance(shown.get("code"), int):
        raise TransactionRefused(shown["code"], text)
    if code == 400:
        raise EncodingError(text)
    raise LedgerError(text)


def _read_blocks(shown: Any) -> tuple[BlockRecord, ...]:
    with Reading():
        return tuple(map(read_block, shown["blocks"]))


def _whole(seconds: float) -> int:
    return max(0, round(seconds))
