"""What a node says of packets that it dropped because it was late."""

from collections.abc import Iterator

import pytest

from twisted.logger import globalLogPublisher

from nymtw.drop_reasons import DropReason
from nymtw.node.engine.late_watch import AGAIN, INTERVAL, LateWatch
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.testing.clock import FakeClock


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    def hear(event: dict[str, object]) -> None:
        if event.get("log_namespace") == "nymtw.node.engine.late_watch.LateWatch":
            lines.append(str(event["log_format"]).format(**event))

    globalLogPublisher.addObserver(hear)
    yield lines
    globalLogPublisher.removeObserver(hear)


def test_once_then_each_minute_then_that_it_is_over(logged: list[str]) -> None:
    clock, account = FakeClock(), PacketCounters()
    watch = LateWatch(clock, account)
    watch.startService()
    clock.advance(3 * INTERVAL)
    assert logged == []
    for _ in range(int(AGAIN / INTERVAL)):
        account.dropped(DropReason.TOO_LATE, 7)
        clock.advance(INTERVAL)
    assert len(logged) == 1
    assert "dropped its 7 oldest packets" in logged[0]
    account.dropped(DropReason.TOO_LATE, 1)
    clock.advance(INTERVAL)
    assert len(logged) == 2
    assert "dropped its 36 oldest packets" in logged[1]
    clock.advance(2 * AGAIN)
    assert logged[2:] == ["This node is in time again"]
    watch.stopService()
    assert clock.getDelayedCalls() == []


def test_other_drops_are_not_its_business(logged: list[str]) -> None:
    clock, account = FakeClock(), PacketCounters()
    watch = LateWatch(clock, account)
    watch.startService()
    account.dropped(DropReason.LINK_DOWN, 100)
    clock.advance(10 * INTERVAL)
    watch.stopService()
    assert logged == []
