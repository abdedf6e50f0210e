"""received = forwarded + delivered + queued + dropped."""

import pytest

from nymtw.drop_reasons import DropReason
from nymtw.node.engine.packet_counters import PacketCounters

pytestmark = pytest.mark.pythons


def test_every_packet_is_in_one_place() -> None:
    counters = PacketCounters()
    counters.received(10)
    counters.forwarded(3)
    counters.delivered()
    counters.dropped(DropReason.REPLAYED, 2)
    counters.dropped(DropReason.BAD_MAC)
    snapshot = counters.snapshot()
    assert snapshot.queued == counters.queued == 3
    assert snapshot.dropped == {DropReason.REPLAYED: 2, DropReason.BAD_MAC: 1}
    assert counters.dropped_total == 3
    assert snapshot.received == snapshot.forwarded + snapshot.delivered + snapshot.queued + sum(
        snapshot.dropped.values()
    )


def test_a_snapshot_does_not_change() -> None:
    counters = PacketCounters()
    counters.dropped(DropReason.BAD_MAC)
    snapshot = counters.snapshot()
    counters.dropped(DropReason.BAD_MAC)
    assert snapshot.dropped == {DropReason.BAD_MAC: 1}
