"""A watcher that runs."""

from collections.abc import Iterable
from typing import Any

from prometheus_client.core import Metric

from twisted.logger import Logger

from nymtw.ledger.machine.parameters import Genesis
from nymtw.ledger.machine.signatures import AccountKey, address_text
from nymtw.node.home import NodeHome
from nymtw.node.metrics import Metrics, counter, gauge
from nymtw.node.metrics_server import MetricsServer
from nymtw.node.service import AtStop, NodeService
from nymtw.pipe.config import WatcherSection
from nymtw.pipe.roles import connections
from nymtw.pipe.rounds import Rounds, rounds_figures
from nymtw.pipe.watcher.progress import Progress
from nymtw.pipe.watcher.watching import Watching


class WatcherService(NodeService):
    """Its rounds, and its figures."""

    _log = Logger()

    def __init__(
        self, reactor: Any, home: NodeHome, section: WatcherSection, genesis: Genesis, key: AccountKey
    ) -> None:
        """Raises `ConfigError` for a bad URL, or progress that cannot be read."""
        super().__init__()
        ledger, node = connections(reactor, genesis, section.ledger, section.ethereum)
        progress = Progress(home.data / "progress.json", section.start_block)
        self._key = key
        self.watching = Watching(node, ledger, key, progress, section.confirmations, section.finalized)
        self.rounds = Rounds(reactor, self.watching.round, section.poll_seconds, "watching")
        self.metrics = Metrics()
        self.metrics.add(self._figures)
        if section.metrics_port >= 0:
            self.add(MetricsServer(reactor, section.metrics_port, self.metrics))
        self.add(AtStop(ledger.close))
        self.add(AtStop(node.close))
        self.add(self.rounds)

    def startService(self) -> None:
        """Start, and say who it is."""
        super().startService()
        self._log.info(
            "The watcher {address} goes on behind block {last}",
            address=address_text(self._key.address),
            last=self.watching.progress.last,
        )

    def _figures(self) -> Iterable[Metric]:
        watching = self.watching
        yield gauge("watcher_head_blocks", "The last block that the Ethereum node knows.", watching.head)
        yield gauge("watcher_done_blocks", "The last block that is done.", watching.progress.last)
        yield counter("watcher_deposits", "Deposits found since this process began.", watching.deposits)
        yield counter("watcher_votes", "Votes of this watcher that the ledger has counted since.", watching.votes)
        yield counter(
            "watcher_reorganisations", "Reorganisations deeper than what is waited for.", watching.reorganisations
        )
        yield counter("watcher_vanished_deposits", "Notarised deposits that the chain lost again.", watching.vanished)
        yield counter("watcher_unusable_deposits", "Deposits too large for the ledger.", watching.unusable)
        yield from rounds_figures("watcher", self.rounds)
