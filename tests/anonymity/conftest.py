"""Runs that several gates look at: each is made once."""

import pytest
from watched_network import Watched, watch

from nymtw.client.sending.idle import DropCover, LoopCover, NoCover

SEED = 20260101


@pytest.fixture(scope="session")
def covered() -> Watched:
    """Idle slots are filled with drop cover."""
    return watch(SEED, before=12.0, sending=12.0, idle=DropCover())


@pytest.fixture(scope="session")
def looping() -> Watched:
    """A broken build: idle slots are filled with loops."""
    return watch(SEED, before=8.0, sending=8.0, idle=LoopCover())


@pytest.fixture(scope="session")
def silent() -> Watched:
    """A broken build: idle slots are empty."""
    return watch(SEED, before=6.0, sending=6.0, idle=NoCover())
