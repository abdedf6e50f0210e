"""Four nodes of the ledger under a consensus in memory, asked through the CometBFT driver of one of them."""

import random
from pathlib import Path
from typing import Any

from fake_comet import Consensus, FakeRPC, Node
from ledger_contract import LedgerUnderTest
from ledger_world import CHAIN, some_genesis
from route_client import RouteClient

from twisted.internet.defer import Deferred, maybeDeferred

from nymtw.ledger.cometbft.driver import CometBFTDriver
from nymtw.ledger.light import LightLedger, Trust
from nymtw.ledger.local import LocalLedger
from nymtw.ledger.rpc.client import HTTPLedger
from nymtw.ledger.rpc.routes import ledger_routes
from nymtw.testing.clock import FakeClock

BLOCK = 0.5  # seconds


class CometWorld(LedgerUnderTest):
    """`light`: through a light client that trusts the genesis alone."""

    def __init__(self, folder: Path, light: bool = False) -> None:
        self.clock = FakeClock()
        self.nodes = [Node(number, folder / f"ledger{number}.sqlite") for number in range(4)]
        self.consensus = Consensus(self.nodes)
        self._light = light
        self._due: Any = None
        for node in self.nodes:
            self.consensus.start(node)
        self._connect()

    def _connect(self) -> None:
        first = self.nodes[0]
        rpc = FakeRPC(self.consensus, first, self._schedule)
        self.driver = CometBFTDriver(self.clock, first.replica, rpc)
        self.driver.startService()
        self.local = LocalLedger(self.clock, first.replica, self.driver, first.broken.append)
        client = RouteClient(ledger_routes(lambda: self.local, CHAIN))
        self.ledger: Any = HTTPLedger(self.clock, [], [client])
        self.trust = Trust(some_genesis(), self.clock.wall_clock)
        if self._light:
            self.ledger = LightLedger(self.ledger, self.trust)
        self._schedule()  # CometBFT's own first block

    def _schedule(self) -> None:
        if self._due is None:
            self._due = self.clock.callLater(BLOCK, self._make_block)

    def _make_block(self) -> None:
        self._due = None
        before = self.nodes[0].replica.root
        self.consensus.make_block(self.nodes, _First())
        # The block behind one that changed the state carries its root.
        if any(node.mempool for node in self.nodes) or self.nodes[0].replica.root != before:
            self._schedule()

    def stop(self) -> None:
        self.driver.stopService()
        self.local.close()
        if self._due is not None:
            self._due.cancel()
            self._due = None
        for node in self.nodes:
            node.stop()

    def restart(self) -> None:
        self.stop()
        for node in self.nodes:
            self.consensus.start(node)
        self._connect()

    def wait(self, answer: Any) -> Any:
        found = answer if isinstance(answer, Deferred) else Deferred.fromCoroutine(answer)
        return self.clock.wait_for(maybeDeferred(lambda: found), 100.0)

    def pause(self) -> None:
        self.clock.advance(1.0)

    def confirm(self, height: int, root: bytes) -> None:
        self.wait(self.trust.confirm(self.ledger, height, root))


class _First(random.Random):
    """The first of what there is to choose from."""

    def choice(self, seq: Any) -> Any:
        return seq[0]
