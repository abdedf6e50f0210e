"""py-evm behind JSON-RPC over HTTP."""

import time
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request

from nymtw.ethereum.evm import DevelopmentChain
from nymtw.ethereum.evm_calls import EVMCalls
from nymtw.node.service import Listener, NodeService, PeriodicService
from nymtw.web.http import bounded_site

HOST: Final = "127.0.0.1"
SETTLE: Final = 64  # blocks after the last transaction; then the chain rests


class JSONRPCResource(Resource):
    """POST / with a call or a list of them."""

    isLeaf = True

    def __init__(self, calls: EVMCalls) -> None:
        super().__init__()
        self._calls = calls

    def render_POST(self, request: Request) -> bytes:
        content: Any = request.content
        request.setHeader(b"content-type", b"application/json")
        return self._calls.answer(content.read())


class Miner(PeriodicService):
    """A block each period, until the last transaction is deep enough for everybody who waits for confirmations."""

    def __init__(self, clock: Any, chain: DevelopmentChain, period: float) -> None:
        super().__init__(clock, period)
        self._chain = chain

    def tick(self) -> None:
        if self._chain.waiting or self._chain.settled < SETTLE:
            self._chain.mine()


class DevelopmentChainService(NodeService):
    """The chain, its port and its blocks."""

    _log = Logger()

    def __init__(self, reactor: Any, journal: Path, port: int, period: float) -> None:
        """Raises `DiskError`, `EthereumError` for a journal that is not of this chain."""
        super().__init__()
        self.chain = DevelopmentChain(time.time, journal)
        resource = JSONRPCResource(EVMCalls(self.chain))
        self.listener = self.add(Listener(reactor, HOST, port, bounded_site(resource, reactor)))
        self.add(Miner(reactor, self.chain, period))

    def startService(self) -> None:
        """Start, and say where it is."""
        super().startService()
        self._log.info(
            "The chain {id} is at http://{host}:{port}", id=self.chain.chain_id, host=HOST, port=self.listener.port
        )
