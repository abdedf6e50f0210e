"""A redeemer that runs."""

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
from nymtw.pipe.config import RedeemerSection
from nymtw.pipe.redeemer.paid import Paid
from nymtw.pipe.redeemer.redeeming import Redeeming
from nymtw.pipe.roles import connections
from nymtw.pipe.rounds import Rounds, rounds_figures


class RedeemerService(NodeService):
    """Its rounds, and its figures."""

    _log = Logger()

    def __init__(
        self, reactor: Any, home: NodeHome, section: RedeemerSection, genesis: Genesis, key: AccountKey
    ) -> None:
        """Raises `ConfigError` for a bad URL, or a file that cannot be read."""
        super().__init__()
        ledger, node = connections(reactor, genesis, section.ledger, [section.ethereum])
        self._key = key
        self.redeeming = Redeeming(
            reactor,
            node,
            ledger,
            key,
            Paid(home.data / "paid.json"),
            confirmations=section.confirmations,
            pays=section.pays,
        )
        self.rounds = Rounds(reactor, self.redeeming.round, section.poll_seconds, "redeeming")
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
            "The redeemer {address} goes on behind withdrawal {below}",
            address=address_text(self._key.address),
            below=self.redeeming.paid.below,
        )

    def _figures(self) -> Iterable[Metric]:
        redeeming = self.redeeming
        yield counter("redeemer_approvals", "Approvals that the ledger has counted.", redeeming.approvals)
        yield counter("redeemer_payments", "Transactions sent to the pipe contract.", redeeming.payments)
        yield counter("redeemer_refused_payments", "Payments that the Ethereum node has refused.", redeeming.refused)
        yield gauge("redeemer_open_withdrawals", "Withdrawals approved by enough and not paid yet.", redeeming.open)
        yield gauge("redeemer_settled_withdrawals", "Up to this number all are paid.", redeeming.paid.below)
        yield from rounds_figures("redeemer", self.rounds)
