"""A localnet on one core beside two busy loops: the short form of `benchmarks/one_core.py`."""

import os
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a core"),
]

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_everything_works_where_nearly_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once around: what is right must be right; how fast it is, is for the benchmark."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("one_core", "machine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import one_core

    before = os.sched_getaffinity(0)
    bars = one_core.Bars()
    one_core.trial(0.0, bars, "--timeout=300")
    assert os.sched_getaffinity(0) == before
    assert set(bars.wrong.values()) == {0}, bars.wrong
    assert bars.figures["memory of the localnet, MB"][0] < one_core.MEMORY
