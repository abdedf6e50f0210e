"""The contract suites, run against what nymtw itself has."""

from pathlib import Path
from typing import Any

import pytest

from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.loop_loss import ByChance
from nymtw.mixing.routes import UniformRoutes
from nymtw.storage.mailbox_limits import MailboxLimits
from nymtw.storage.mailboxes import SQLiteMailboxes
from nymtw.testing.clock import FakeClock
from nymtw.testing.contracts import (
    CoverPolicyContract,
    DelayStrategyContract,
    MailboxStoreContract,
    RouteStrategyContract,
)

pytestmark = pytest.mark.pythons


class TestSQLiteInMemory(MailboxStoreContract):
    def make_store(self, clock: FakeClock, limits: MailboxLimits) -> Any:
        return SQLiteMailboxes(":memory:", clock, limits=limits, wall_clock=clock.wall_clock)


class TestSQLiteOnDisk(MailboxStoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "mailboxes.sqlite"

    def make_store(self, clock: FakeClock, limits: MailboxLimits) -> Any:
        return SQLiteMailboxes(self.path, clock, limits=limits, wall_clock=clock.wall_clock)


class TestExponentialDelays(DelayStrategyContract):
    def make_strategy(self) -> Any:
        return ExponentialDelays(0.05)


class TestUniformRoutes(RouteStrategyContract):
    def make_strategy(self) -> Any:
        return UniformRoutes()


class TestByChance(CoverPolicyContract):
    def make_policy(self) -> Any:
        return ByChance()
