"""A validator that runs: the ledger's store, a driver, and the HTTP interface of its clients."""

import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.errors import LedgerError, ListenError, NymtwError
from nymtw.ledger.abci.application import LedgerApplication
from nymtw.ledger.abci.server import ABCIFactory
from nymtw.ledger.cometbft.driver import CometBFTDriver
from nymtw.ledger.cometbft.files import CometPorts, find_cometbft, socket_path, write_home
from nymtw.ledger.cometbft.process import CometBFTProcess
from nymtw.ledger.embedded.driver import EmbeddedDriver
from nymtw.ledger.local import LocalLedger
from nymtw.ledger.machine.parameters import Genesis
from nymtw.ledger.machine.signatures import address_text
from nymtw.ledger.rpc.http import JSONClient
from nymtw.ledger.rpc.routes import ledger_routes
from nymtw.ledger.storage.records import BlockRecord
from nymtw.ledger.storage.replica import Replica
from nymtw.ledger.storage.store import Keep, LedgerStore
from nymtw.node.announce.placement import check_host, default_host, is_unspecified
from nymtw.node.announce.presence import Presence
from nymtw.node.directories.http_directory import HTTPDirectory
from nymtw.node.home import NodeHome
from nymtw.node.metrics import Metrics
from nymtw.node.metrics_server import MetricsServer
from nymtw.node.service import AtStop, Listener, NodeService
from nymtw.node.tap import stop_with
from nymtw.topology.presence import endpoint_text, make_validator
from nymtw.validator.config import COMETBFT, ValidatorConfig
from nymtw.validator.metrics import Answers, validator_metrics
from nymtw.validator.setup import ValidatorKeys, load_genesis, load_keys, load_validator_config
from nymtw.validator.tap import PROGRAM
from nymtw.web.http import Route, RoutesResource, Unavailable, bounded_site
from nymtw.web.pages import page

PRESENCE: Final = "coconodes"  # the path under which directories take validators
_SLICE: Final = 0.01  # seconds for which a snapshot is worked on before others have their turn


class ValidatorService(NodeService):
    """Its parts, started in order: figures, the port for clients, the ledger."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        home: NodeHome,
        config: ValidatorConfig,
        genesis: Genesis,
        keys: ValidatorKeys,
        failed: Callable[[NymtwError], object],
    ) -> None:
        """`failed(error)`: the ledger cannot go on."""
        super().__init__()
        section = config.validator
        self.ledger_part = LedgerPart(reactor, home, config, genesis, keys, failed)
        answers = Answers()
        self.metrics = Metrics()
        self.metrics.add(lambda: validator_metrics(self.ledger_part, answers))
        if section.metrics_port >= 0:
            self.add(MetricsServer(reactor, section.metrics_port, self.metrics))
        resource = RoutesResource([*ledger_routes(self._ledger, genesis.chain), *page_routes()], answers.count)
        self.listener = self.add(Listener(reactor, section.host, section.port, bounded_site(resource, reactor)))
        self.add(self.ledger_part)
        for url in section.directories:
            directory = HTTPDirectory(reactor, url)
            self.add(AtStop(directory.close))
            self.add(Presence(reactor, directory, self._heartbeat, PRESENCE, SystemRandom()))
        self._keys, self._version = keys, version("nymtw")

    @classmethod
    def from_config(cls, reactor: Any, home: NodeHome, given: Mapping[str, Mapping[str, Any]]) -> "ValidatorService":
        """Wire everything for a home that exists and is locked. Raises `ConfigError`, `KeyFileError`."""
        genesis = load_genesis(home)
        config = load_validator_config(home, given)
        keys = load_keys(home)
        check_host(config.validator.host)
        if config.validator.consensus == COMETBFT:
            find_cometbft()
        return cls(reactor, home, config, genesis, keys, lambda error: stop_with(reactor, PROGRAM, error))

    @property
    def url(self) -> str:
        """Where clients of the ledger ask, once it listens."""
        return f"http://{endpoint_text(self.listener.host, self.listener.port)}"

    def startService(self) -> None:
        """Start, and say where the ledger is."""
        super().startService()
        self._log.info("The ledger is at {url}, for --ledger", url=self.url)

    def _heartbeat(self) -> Mapping[str, Any]:
        """What directories show of this validator: where its ledger is, and its address."""
        host = default_host() if is_unspecified(self.listener.host) else self.listener.host
        return make_validator(
            public_key=address_text(self._keys.account.address),
            host=host,
            port=self.listener.port,
            kind="nym-validator",
            version=self._version,
            timestamp=int(time.time() * 1e9),
            signing_key=self._keys.identity,
            block=self.ledger_part.last_block,
        )

    def _ledger(self) -> LocalLedger:
        if self.ledger_part.ledger is None:
            raise Unavailable("the ledger is starting")
        return self.ledger_part.ledger


def page_routes() -> list[Route]:
    """The page for people, and its files."""
    return [
        page("/", "nymtw.validator", "web/index.html"),
        *(page(f"/assets/{name}", "nymtw.validator", f"web/{name}") for name in ("ledger.js", "ledger.css")),
    ]


class LedgerPart(Service):
    """The store, the state machine over it, and what orders its transactions."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        home: NodeHome,
        config: ValidatorConfig,
        genesis: Genesis,
        keys: ValidatorKeys,
        failed: Callable[[NymtwError], object],
    ) -> None:
        self._reactor = reactor
        self._home = home
        self._config = config
        self._genesis = genesis
        self._keys = keys
        self._tell = failed
        self._failed_before = False
        self._driver: Any = None
        self._port: Any = None
        self.replica: Replica | None = None
        self.ledger: LocalLedger | None = None
        self.process: CometBFTProcess | None = None
        self._block_time = 0
        self.transactions = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """Transactions that are in no block yet."""
        return 0 if self._driver is None else int(self._driver.waiting)

    @property
    def last_block(self) -> tuple[int, int] | None:
        """Its height and time (nanoseconds since 1970; 0 before the first one), once the ledger has begun."""
        if self.replica is None or not self.replica.begun:
            return None
        return self.replica.height, self._block_time

    def startService(self) -> None:
        """Open the store, look at all of it, and begin. Raises `LedgerBroken`, `DiskError`, `ListenError`."""
        super().startService()
        section = self._config.validator
        store = LedgerStore(self._home.data / "ledger.sqlite", Keep(section.keep_blocks, section.keep_states))
        kept = store.meta("driver")
        if kept not in (None, section.consensus):
            raise LedgerError(f"this chain has begun with --consensus {kept}, and stays with it")
        store.set_meta("driver", section.consensus)
        self.replica = Replica(store, self._genesis)
        if section.check_at_start and self.replica.begun:
            totals = self.replica.audit()
            self._log.info("The state is whole: {totals}", totals=totals)
        last = store.block(self.replica.height)
        self._block_time = last.time if last else 0
        self.replica.watchers.append(self._count)
        if section.consensus == COMETBFT:
            self._start_comet(self.replica)
        else:
            self._driver = EmbeddedDriver(
                self._reactor,
                self.replica,
                self._keys.identity,
                wall_clock=time.time,
                broken=self._failed,
                idle=section.idle_seconds,
            )
        self._driver.startService()
        self.ledger = LocalLedger(self._reactor, self.replica, self._driver, self._failed)

    async def _stop(self) -> None:
        if self.ledger is not None:
            await self.ledger.close()
        for part in (self.process, self._driver):
            if part is not None and part.running:
                await maybeDeferred(part.stopService)
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        if self.replica is not None:
            self.replica.store.close()
        self.ledger = self.replica = None

    def stopService(self) -> Any:
        """CometBFT first, then what it asks."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def _start_comet(self, replica: Replica) -> None:
        section, comet = self._config.validator, self._config.cometbft
        folder = self._home.data / "cometbft"
        path = socket_path(self._home.data, lambda: Path(tempfile.mkdtemp(prefix="nymtw-")))
        sync = (
            {
                "rpc_servers": ",".join(comet.state_sync),
                "trust_height": comet.trust_height,
                "trust_hash": comet.trust_hash,
            }
            if comet.state_sync
            else None
        )
        write_home(
            folder,
            self._genesis,
            self._keys.identity,
            self._keys.node,
            CometPorts(comet.host, comet.port, comet.rpc_port),
            f"unix://{path}",
            peers=comet.peers,
            block_seconds=comet.block_seconds,
            idle=section.idle_seconds,
            strict=comet.strict_addresses,
            state_sync=sync,
        )
        application = LedgerApplication(
            replica,
            Cooperator(scheduler=lambda call: self._reactor.callLater(_SLICE, call)),
            snapshot_every=section.snapshot_blocks,
            keep_blocks=section.keep_blocks,
        )
        path.unlink(missing_ok=True)
        factory = ABCIFactory(application, self._application_failed)
        try:
            self._port = self._reactor.listenUNIX(str(path), factory, mode=0o600)
        except CannotListenError as error:
            raise ListenError(f"cannot listen on {path}: {error.socketError}") from None
        self.process = CometBFTProcess(self._reactor, find_cometbft(), folder, self._failed)
        self.process.startService()
        client = JSONClient(self._reactor, f"http://127.0.0.1:{comet.rpc_port}")
        self._driver = CometBFTDriver(self._reactor, replica, client)

    def _application_failed(self, failure: Failure) -> None:
        if not failure.check(NymtwError):
            self._log.failure("the ledger's application has failed", failure=failure)
        self._failed(LedgerError(f"the ledger's application has failed: {failure.getErrorMessage()}"))

    def _failed(self, error: Exception) -> None:
        if not self._failed_before:
            self._failed_before = True
            self._tell(error if isinstance(error, NymtwError) else LedgerError(str(error)))

    def _count(self, block: BlockRecord) -> None:
        self._block_time = block.time
        self.transactions += len(block.transactions)
        self.refused += sum(1 for code, _ in block.outcomes if code)
