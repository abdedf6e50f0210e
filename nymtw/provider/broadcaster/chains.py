"""The chains that a broadcaster supports: requests to their nodes, and parsing of the answers. No I/O.

Ethereum: JSON-RPC `eth_sendRawTransaction` (execution-apis). CometBFT: JSON-RPC `broadcast_tx_sync`. Bitcoin Core:
`sendrawtransaction`, JSON-RPC 1.0 with basic authentication.
"""

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from nymtw.errors import NymtwError

_LONGEST_ERROR: Final = 500


class ChainRefused(NymtwError):
    """The chain refuses the transaction."""


class Chain(ABC):
    """The protocol of one kind of chain."""

    method: ClassVar[str]

    @abstractmethod
    def parameters(self, transaction: bytes) -> list[Any] | dict[str, Any]:
        """The parameters of the call."""

    def body(self, transaction: bytes) -> bytes:
        """The JSON of the call."""
        call = {"jsonrpc": "2.0", "id": 1, "method": self.method, "params": self.parameters(transaction)}
        return json.dumps(call).encode()

    def hash(self, answer: bytes) -> str:
        """The transaction's hash in an answer. Raises `ChainRefused` with the chain's text, otherwise `NymtwError`."""
        try:
            found = json.loads(answer)
            if found.get("error") is not None:
                raise ChainRefused(_error_text(found["error"]))
            return _printable(self.result(found["result"]), 200)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise NymtwError("the node's answer is not valid for this kind of chain") from None

    def result(self, result: Any) -> str:
        """The hash in the result of the call. Raises `ChainRefused`."""
        if not isinstance(result, str):
            raise TypeError
        return result


class Ethereum(Chain):
    """A transaction is its RLP, with the type in front if it has one (EIP-2718)."""

    method = "eth_sendRawTransaction"

    def parameters(self, transaction: bytes) -> list[Any]:
        return ["0x" + transaction.hex()]


class CometBFT(Chain):
    """A transaction is defined by the application. `code` 0 of CheckTx means that it is in the mempool."""

    method = "broadcast_tx_sync"

    def parameters(self, transaction: bytes) -> dict[str, Any]:
        return {"tx": base64.b64encode(transaction).decode()}

    def result(self, result: Any) -> str:
        if int(result["code"]) != 0:
            space = result.get("codespace") or "application"
            raise ChainRefused(_printable(f"{space} code {result['code']}: {result.get('log', '')}", _LONGEST_ERROR))
        return str(result["hash"])


class Bitcoin(Chain):
    """A transaction is its serialization, witnesses included (BIP 144)."""

    method = "sendrawtransaction"

    def parameters(self, transaction: bytes) -> list[Any]:
        return [transaction.hex()]

    def body(self, transaction: bytes) -> bytes:
        call = {"jsonrpc": "1.0", "id": "nymtw", "method": self.method, "params": self.parameters(transaction)}
        return json.dumps(call).encode()


KINDS: Final[Mapping[str, type[Chain]]] = {"eth": Ethereum, "cometbft": CometBFT, "bitcoin": Bitcoin}


def _error_text(error: Any) -> str:
    """The text of the chain's error."""
    if isinstance(error, dict):
        text = f"{error.get('message', '')} {error.get('data') or ''}".strip()
        return _printable(f"{text} (code {error.get('code')})", _LONGEST_ERROR)
    return _printable(str(error), _LONGEST_ERROR)


def _printable(text: str, longest: int) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:longest])
