"""Loops that do not come back: counted by window, and judged by the exact binomial distribution."""

import re
from fractions import Fraction
from math import comb
from pathlib import Path

import pytest

from zope.interface.verify import verifyObject

from nymtw.interfaces import ICoverPolicy
from nymtw.mixing.loop_loss import (
    FALSE_ALARMS,
    GO_ON,
    NATURAL_LOSS,
    PATIENCE,
    PAUSE,
    WARN,
    ByChance,
    LoopLedger,
    LoopLoss,
    fewest_alarming,
    tail,
)
from nymtw.mixnode.options import MixnodeSection
from nymtw.topology.document import Recommended

MANUAL = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
DEFAULTS = MixnodeSection(id="x", directory_key="")
USUAL = round(Recommended().mixnode_loop_rate * DEFAULTS.loop_window)


def exact_tail(trials: int, hits: int, percent: int) -> float:
    """The same in whole numbers, rounded once: each term follows from the one before it."""
    if hits > trials:
        return 0.0
    term = comb(trials, hits) * percent**hits * (100 - percent) ** (trials - hits)
    ways = 0
    for hit in range(hits, trials + 1):
        ways += term
        term = term * (trials - hit) * percent // ((hit + 1) * (100 - percent))
    return float(Fraction(ways, 100**trials))


@pytest.mark.parametrize(
    ("trials", "hits"), [(1, 1), (10, 3), (600, 6), (600, 22), (600, 600), (1000, 18), (3, 0), (3, 4)]
)
@pytest.mark.parametrize("percent", [1, 5, 50])
def test_the_tail_is_that_of_the_binomial_distribution(trials: int, hits: int, percent: int) -> None:
    assert tail(trials, hits, percent / 100) == pytest.approx(exact_tail(trials, hits, percent), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("sent", [1, 2, 3, 10, 30, 100, 300, 600, 1200])
def test_at_natural_loss_the_default_is_wrong_less_than_once_in_a_million_windows(sent: int) -> None:
    alarming = fewest_alarming(sent)
    assert exact_tail(sent, alarming, 1) <= FALSE_ALARMS
    assert exact_tail(sent, alarming - 1, 1) > FALSE_ALARMS
    policy = ByChance()
    for lost in range(sent + 1):
        expected = WARN if lost >= alarming else GO_ON
        assert policy.decide(LoopLoss(sent, sent - lost, 600.0)) == expected


def test_the_manual_says_what_the_default_does() -> None:
    """The figures in the manual are those of the exact distribution, at the default rate and window."""
    assert (NATURAL_LOSS, USUAL) == (0.01, 8400)
    alarming = fewest_alarming(USUAL)
    windows_a_year = 365.25 * 86400 / DEFAULTS.loop_window
    false = exact_tail(USUAL, alarming, 1)
    sentence = r"from (\d+) lost loops of (\d+) on.*?probability of (\S+),\s*once in (\d+)\s+years"
    found = re.search(sentence, MANUAL, re.DOTALL)
    assert found is not None
    assert found.groups() == (str(alarming), str(USUAL), f"{false:.2g}", str(round(1 / (false * windows_a_year))))
    for percent, noticed in re.findall(r"^\| (\d+) % \| ([\d.]+) % \|$", MANUAL, re.MULTILINE):
        assert noticed == f"{100 * exact_tail(USUAL, alarming, int(percent)):.1f}"


def test_it_is_a_policy() -> None:
    assert verifyObject(ICoverPolicy, ByChance())
    assert ByChance(PAUSE).decide(LoopLoss(600, 300, 600.0)) == PAUSE
    assert ByChance(PAUSE).decide(LoopLoss(600, 594, 600.0)) == GO_ON
    assert ByChance().decide(LoopLoss(0, 0, 600.0)) == GO_ON


def test_a_window_is_finished_when_every_loop_has_had_its_time() -> None:
    ledger = LoopLedger(100.0)
    ledger.left(b"a", 0.5, 0.0)
    ledger.left(b"b", 200.0, 50.0)  # drew long delays
    ledger.left(b"c", 0.5, 99.0)
    ledger.left(b"d", 0.5, 100.0)  # of the next window
    assert ledger.came_back(b"a")
    assert not ledger.came_back(b"a")
    assert ledger.finished(250.0 + PATIENCE - 0.1) == []
    assert ledger.came_back(b"b")
    assert ledger.finished(250.0 + PATIENCE) == [LoopLoss(3, 2, 100.0), LoopLoss(1, 0, 100.0)]
    assert not ledger.came_back(b"c")
    assert (ledger.sent, ledger.returned, ledger.lost) == (4, 2, 2)
    assert ledger.finished(1e9) == []


def test_a_loss_without_loops_is_none() -> None:
    assert LoopLoss(0, 0, 600.0).ratio == 0.0
    assert LoopLoss(4, 3, 600.0).ratio == 0.25
