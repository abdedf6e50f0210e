"""The seed of an interoperability run: random, printed, and given again with NYMTW_INTEROP_SEED."""

import os
import random

import pytest

SEED = int(os.environ.get("NYMTW_INTEROP_SEED") or random.SystemRandom().getrandbits(32))


def pytest_configure(config):
    config.addinivalue_line("markers", "interop: exchanges packets with the sphinx-packet crate; needs cargo")


def pytest_report_header():
    return f"interop seed: {SEED} (NYMTW_INTEROP_SEED={SEED} repeats this run)"


@pytest.fixture
def source(request):
    """Randomness that the run's seed and the test's name settle."""
    print(f"seed: {SEED}")
    return random.Random(f"{SEED} {request.node.name}")
