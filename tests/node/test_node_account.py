"""received = forwarded + delivered + queued + dropped."""

import pytest

from nymtw.errors import DropReason
from nymtw.node.account import PacketAccount

pytestmark = pytest.mark.pythons


def test_every_packet_is_in_one_place() -> None:
    account = PacketAccount()
    account.received(10)
    account.forwarded(3)
    account.delivered()
    account.dropped(DropReason.REPLAYED, 2)
    account.dropped(DropReason.BAD_MAC)
    snapshot = account.snapshot()
    assert snapshot.queued == account.queued == 3
    assert snapshot.dropped == {DropReason.REPLAYED: 2, DropReason.BAD_MAC: 1}
    assert account.dropped_total == 3
    assert snapshot.received == snapshot.forwarded + snapshot.delivered + snapshot.queued + sum(
        snapshot.dropped.values()
    )


def test_a_snapshot_does_not_change() -> None:
    account = PacketAccount()
    account.dropped(DropReason.BAD_MAC)
    snapshot = account.snapshot()
    account.dropped(DropReason.BAD_MAC)
    assert snapshot.dropped == {DropReason.BAD_MAC: 1}
