"""A validator's figures as Prometheus text. No label names an account."""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from nymtw.ledger.cometbft.process import CometBFTProcess
from nymtw.ledger.storage.replica import Replica
from nymtw.node.metrics import counter, gauge

_UNIT = 10**18  # of the smallest unit, one token


class LedgerCounts(Protocol):
    """What is measured of a ledger; its replica and its process are there once it has started."""

    transactions: int
    refused: int
    replica: Replica | None
    process: CometBFTProcess | None

    @property
    def waiting(self) -> int: ...


class Answers:
    """Counts the answers over HTTP."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, int]] = Counter()

    def count(self, method: str, path: str, code: int) -> None:
        """One more."""
        self.counts[method, path, code] += 1


def validator_metrics(part: LedgerCounts, answers: Answers) -> Iterable[Metric]:
    """What a validator has to show; nothing of the ledger before it has started."""
    found = CounterMetricFamily("nymtw_validator_answers", "HTTP answers.", labels=["method", "path", "code"])
    for (method, path, code), number in sorted(answers.counts.items()):
        found.add_metric([method, path, str(code)], number)
    yield found
    replica = part.replica
    if replica is None or not replica.begun:
        return
    yield gauge("ledger_height_blocks", "Height of the last block.", replica.height)
    yield gauge("ledger_waiting_transactions", "Transactions that are in no block yet.", part.waiting)
    yield counter("ledger_transactions", "Transactions in blocks since this process began.", part.transactions)
    yield counter("ledger_refused_transactions", "Of these, those that a block refused.", part.refused)
    totals = GaugeMetricFamily("nymtw_ledger_tokens", "All tokens there are, by where they are.", labels=["place"])
    for place, amount in replica.totals._asdict().items():
        totals.add_metric([place], amount / _UNIT)
    yield totals
    yield gauge("ledger_conserved", "1 where nothing was created and nothing lost.", float(replica.totals.conserved))
    if part.process is not None:
        yield counter("cometbft_starts", "Starts of the CometBFT process.", part.process.starts)
