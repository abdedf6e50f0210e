"""A chain's blocks, executed once more."""

from typing import Any

from ledger_world import some_genesis

from nymtw.ledger.storage.replica import Replica
from nymtw.ledger.storage.store import LedgerStore


def replayed(blocks: Any) -> Replica:
    """A node that has executed these blocks, from genesis; each had the root that it said."""
    replica = Replica(LedgerStore(":memory:"), some_genesis())
    replica.begin()
    for block in blocks:
        assert replica.finalize(block.height, block.transactions).root == block.root
        replica.commit(block.id, block.time)
        replica.audit()
    return replica
