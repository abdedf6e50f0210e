"""Several nodes of Ethereum, of which none is believed alone."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from nymtw.errors import EthereumError
from nymtw.ethereum.node import EthereumNode, Header, Log, Receipt


class AgreedNode:
    """Answers what all of `nodes` answer; where they differ, or one of them fails, `EthereumError`."""

    def __init__(self, nodes: Sequence[EthereumNode]) -> None:
        self.nodes = list(nodes)

    async def chain(self) -> int:
        """As `EthereumNode.chain`, and the others below."""
        return await self._same(lambda node: node.chain())

    async def head(self) -> int:
        """The last block that all of them know."""
        return min(await self._all(lambda node: node.head()))

    async def header(self, at: int | str) -> Header | None:
        if isinstance(at, int):
            return await self._same(lambda node: node.header(at))
        found: list[Header | None] = await self._all(lambda node: node.header(at))
        known = [each for each in found if each is not None]
        return min(known) if len(known) == len(found) else None

    async def headers(self, first: int, last: int) -> list[Header]:
        return await self._same(lambda node: node.headers(first, last))

    async def logs(self, first: int, last: int, address: bytes, topics: Sequence[bytes | None]) -> list[Log]:
        return await self._same(lambda node: node.logs(first, last, address, topics))

    async def block_receipts(self, number: int) -> list[Receipt]:
        return await self._same(lambda node: node.block_receipts(number))

    async def receipt(self, transaction: bytes) -> Receipt | None:
        return await self._same(lambda node: node.receipt(transaction))

    async def call(self, to: bytes, data: bytes, at: int | str = "latest", sender: bytes | None = None) -> bytes:
        return await self._same(lambda node: node.call(to, data, at, sender))

    def close(self) -> "Deferred[Any]":
        """Close the connections to all of them."""
        return gatherResults([node.close() for node in self.nodes])

    async def _same(self, ask: Callable[[EthereumNode], Awaitable[Any]]) -> Any:
        first, *others = await self._all(ask)
        if any(other != first for other in others):
            raise EthereumError("the Ethereum nodes do not say the same: one is behind, or wrong, or lies")
        return first

    async def _all(self, ask: Callable[[EthereumNode], Any]) -> list[Any]:
        asked = [Deferred.fromCoroutine(ask(node)) for node in self.nodes]
        try:
            return list(await gatherResults(asked, consumeErrors=True))
        except Exception as error:
            raise _first(error) from None


def _first(error: Exception) -> Exception:
    """What went wrong, out of what `gatherResults` makes of it."""
    failure = getattr(error, "subFailure", None)
    found: Any = failure.value if isinstance(failure, Failure) else error
    return found if isinstance(found, Exception) else error
