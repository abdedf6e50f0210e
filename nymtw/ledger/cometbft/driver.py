"""The driver over a CometBFT node: hands transactions in, gets signed headers, and shows the state in `ILedger`."""

import base64
import json
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from nymtw.errors import LedgerError, TransactionRefused
from nymtw.interfaces import ILedgerDriver
from nymtw.ledger.answers import SignedHeader
from nymtw.ledger.machine.parameters import MAX_TRANSACTION
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.transactions import transaction_id
from nymtw.ledger.storage.replica import Replica

_PATIENCE: Final = 15.0  # seconds for an answer of CometBFT
_SIGNED: Final = 20.0  # seconds for the next block, whose header signs this one's state
_MOST_TOGETHER: Final = 100  # calls in one request
_LOOK: Final = 0.25  # seconds from one look for it to the next
_REFUSED_BEFORE: Final = ("tx already exists in cache",)


@implementer(ILedgerDriver)
class CometBFTDriver(Service):
    """Asks CometBFT's RPC on this machine (`client` as `JSONClient`)."""

    name = "cometbft"
    _log = Logger()

    def __init__(self, clock: Any, replica: Replica, client: Any) -> None:
        self._clock = clock
        self._replica = replica
        self._client = client
        self._batch: list[tuple[Any, Deferred[Any]]] = []
        self._asking = False

    @property
    def waiting(self) -> int:
        """How many transactions were checked since the last block."""
        return self._replica.waiting

    def submit(self, transaction: bytes) -> "Deferred[bytes]":
        """Fires with the id once CometBFT has put it among those that wait."""
        return Deferred.fromCoroutine(self._submit(transaction))

    def header(self, height: int) -> "Deferred[SignedHeader]":
        """The light block of `height` + 1, whose header has the state's root after `height`; waits for it a while."""
        return Deferred.fromCoroutine(self._header(height))

    def stopService(self) -> Any:
        """Close the connections."""
        super().stopService()
        return self._client.close()

    async def _submit(self, transaction: bytes) -> bytes:
        if len(transaction) > MAX_TRANSACTION:
            raise TransactionRefused(Refusal.TOO_LARGE, f"a transaction has at most {MAX_TRANSACTION} bytes")
        try:
            found = await self._call("broadcast_tx_sync", tx=base64.b64encode(transaction).decode())
        except LedgerError as error:
            if any(text in str(error) for text in _REFUSED_BEFORE):
                return transaction_id(transaction)
            if "mempool is full" in str(error):
                raise TransactionRefused(Refusal.TOO_MANY, "as many transactions wait as are kept") from None
            raise
        if found.get("code"):
            raise TransactionRefused(int(found["code"]), str(found.get("log", "")))
        return transaction_id(transaction)

    async def _header(self, height: int) -> SignedHeader:
        if height > self._replica.height:
            raise LedgerError(f"there is no block {height} yet")
        end = self._clock.seconds() + _SIGNED
        while self._replica.height <= height and self._clock.seconds() < end:
            await deferLater(self._clock, _LOOK)
        asked = str(height + 1)
        commit = await self._call("commit", height=asked)
        listed = await self._call("validators", height=asked, page="1", per_page="100")
        light_block = {"signed_header": commit["signed_header"], "validators": listed["validators"]}
        return SignedHeader(height=height, driver=self.name, light_block=light_block)

    def _call(self, method: str, **parameters: Any) -> "Deferred[Any]":
        """The result of one call. Those that are made while another one is under way go together."""
        answer: Deferred[Any] = Deferred()
        self._batch.append(({"jsonrpc": "2.0", "method": method, "params": parameters}, answer))
        if not self._asking:
            self._asking = True
            Deferred.fromCoroutine(self._ask()).addErrback(lambda failure: self._log.failure("asking", failure=failure))
        return answer

    async def _ask(self) -> None:
        while self._batch:
            batch, self._batch = self._batch[:_MOST_TOGETHER], self._batch[_MOST_TOGETHER:]
            body = json.dumps([{**asked, "id": number} for number, (asked, _) in enumerate(batch)]).encode()
            try:
                _, shown = await self._client.post("/", body, "application/json", _PATIENCE)
            except Exception as failure:  # whatever it is, who asked must hear of it
                shown = {"error": str(failure)}
            # The answer to one call alone is not in a list.
            listed = shown if isinstance(shown, list) else [shown]
            by_id = {each.get("id"): each for each in listed if isinstance(each, dict)}
            for number, (_, answer) in enumerate(batch):
                found = by_id.get(number, {"error": _cause(shown)})
                if error := found.get("error"):
                    answer.errback(LedgerError(f"CometBFT: {_cause(error)!s:.300}"))
                else:
                    answer.callback(found.get("result") or {})
        self._asking = False


def _cause(error: Any) -> Any:
    if not isinstance(error, dict):
        return error if isinstance(error, str) else "its answer cannot be read"
    return error.get("data") or error.get("message") or error.get("error") or "an error"
