"""An embedded ledger on the fake clock, asked in the process or over HTTP."""

from pathlib import Path
from typing import Any

from ledger_contract import LedgerUnderTest
from ledger_world import CHAIN, SIGNERS, some_genesis, some_parameters
from route_client import RouteClient

from twisted.internet.defer import Deferred, maybeDeferred

from nymtw.ledger.embedded.driver import EmbeddedDriver
from nymtw.ledger.light import Trust
from nymtw.ledger.local import LocalLedger
from nymtw.ledger.machine.parameters import Genesis
from nymtw.ledger.rpc.client import HTTPLedger
from nymtw.ledger.rpc.routes import ledger_routes
from nymtw.ledger.storage.replica import Replica
from nymtw.ledger.storage.store import Keep, LedgerStore
from nymtw.testing.clock import FakeClock

ONE = some_parameters(validators=some_parameters().validators[:1])


class EmbeddedWorld(LedgerUnderTest):
    """`over_http`: through the JSON of every answer."""

    def __init__(self, path: Path, over_http: bool = False, keep: Keep = Keep(), **options: Any) -> None:
        self.clock = FakeClock()
        self.broken: list[Exception] = []
        self._path, self._over_http, self._keep, self._options = path, over_http, keep, options
        self._start()

    def _start(self) -> None:
        self.store = LedgerStore(self._path, self._keep)
        self.replica = Replica(self.store, some_genesis())
        self.driver = EmbeddedDriver(
            self.clock,
            self.replica,
            SIGNERS[0],
            wall_clock=self.clock.wall_clock,
            broken=self.broken.append,
            **self._options,
        )
        self.driver.startService()
        self.local = LocalLedger(self.clock, self.replica, self.driver, self.broken.append)
        self.client = RouteClient(ledger_routes(lambda: self.local, CHAIN))
        self.ledger: Any = HTTPLedger(self.clock, [], [self.client]) if self._over_http else self.local

    def stop(self) -> None:
        self.driver.stopService()
        self.local.close()
        self.store.close()

    def restart(self) -> None:
        self.stop()
        self._start()

    def wait(self, answer: Any) -> Any:
        found = answer if isinstance(answer, Deferred) else Deferred.fromCoroutine(answer)
        return self.clock.wait_for(maybeDeferred(lambda: found), 100.0)

    def pause(self) -> None:
        self.clock.advance(1.0)

    def confirm(self, height: int, root: bytes) -> None:
        self.wait(Trust(Genesis(chain=CHAIN, parameters=ONE), self.clock.wall_clock).confirm(self.ledger, height, root))
