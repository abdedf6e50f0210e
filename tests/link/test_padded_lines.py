"""Padded lines: what leaves, and when, depends on the published rate alone."""

import random
from itertools import pairwise

import pytest
from test_node_link import ACK, FRAME, Node, World, packet

from twisted.internet.task import Clock

from nymtw.drop_reasons import DropReason
from nymtw.link.frames import FrameError, encode_dummy
from nymtw.link.padding import LONGEST_WAIT, PaddingCounts, SlotClock, SlotQueue
from nymtw.link.schedules import SHORTEST, ConstantSlots, PoissonSlots
from nymtw.sphinx import GEOMETRIES, SizeClass
from nymtw.testing.contracts import LinkScheduleContract

RATES = {SizeClass.REGULAR: 50, SizeClass.ACK: 100}
LENGTHS = {6 + GEOMETRIES[size].packet_length: rate for size, rate in RATES.items()}


class TestConstantSlots(LinkScheduleContract):
    def make_schedule(self):
        return ConstantSlots()


class TestPoissonSlots(LinkScheduleContract):
    def make_schedule(self):
        return PoissonSlots()


class Line:
    """A padded line from one node to another, and all that crosses it: (seconds, length of each chunk)."""

    def __init__(self, rates=RATES):
        self.world = World()
        self.one, self.other = (Node(self.world, name) for name in ("one", "other"))
        self.seen = []
        self.world.network.observer = self.observe
        self.one.links.set_lines({self.other.identity: rates})
        self.one.may_send_to(self.other)
        self.world.clock.advance(1)
        self.seen.clear()

    def observe(self, seconds, sender, receiver, data):
        if sender == "one":
            self.seen.append((round(seconds, 6), len(data)))

    def stop(self):
        self.one.stop()
        self.other.stop()
        self.world.clock.advance(0.01)
        assert self.world.clock.getDelayedCalls() == []


def test_the_line_looks_the_same_idle_and_sending_and_in_a_burst():
    idle, sending, burst = Line(), Line(), Line()
    for number in range(600):
        sending.world.clock.callLater(number / 60, sending.one.send, sending.other, number)
    burst.one.send(burst.other, *range(90))
    for line in (idle, sending, burst):
        line.world.clock.advance(10)
    assert idle.seen == sending.seen == burst.seen
    for length, rate in LENGTHS.items():
        times = [at for at, seen in idle.seen if seen == length]
        assert len(times) == pytest.approx(10 * rate, abs=1)
        assert {round(later - earlier, 5) for earlier, later in pairwise(times)} == {round(1 / rate, 5)}
    assert sending.other.numbers == list(range(600))
    assert burst.other.numbers == list(range(90))
    assert idle.other.received == []
    assert idle.other.links.padding.received == pytest.approx(11 * sum(RATES.values()), abs=20)
    for line in (idle, sending, burst):
        line.stop()


def test_what_waits_too_long_is_dropped_and_counted_and_nothing_else_changes():
    idle, full = Line(), Line()
    for number in range(3000):
        full.world.clock.callLater(number / 300, full.one.send, full.other, number)
    for line in (idle, full):
        line.world.clock.advance(12)
    assert idle.seen == full.seen
    assert full.one.sent + full.one.drops[DropReason.LINE_FULL] == 3000
    assert full.one.sent == pytest.approx(100 * (10 + LONGEST_WAIT), abs=5)
    assert full.other.numbers == sorted(full.other.numbers)
    assert full.one.links.pending == 0
    for line in (idle, full):
        line.stop()


def test_a_size_without_slots_is_not_sent():
    line = Line({SizeClass.REGULAR: 50})
    line.one.send(line.other, 1)
    line.world.clock.advance(1)
    assert line.one.drops == {DropReason.LINE_FULL: 1}
    assert {length for _, length in line.seen} == {6 + 2413}
    line.stop()


def test_rates_change_without_loss_and_a_line_may_be_padded_no_more():
    line = Line()
    line.one.send(line.other, *range(50))
    line.one.links.set_lines({line.other.identity: {SizeClass.REGULAR: 10, SizeClass.ACK: 500}})
    line.world.clock.advance(0.5)
    assert line.other.numbers == list(range(50))
    line.one.send(line.other, *range(50, 60))
    line.one.links.set_lines({})
    line.world.clock.advance(1)
    assert line.other.numbers == list(range(60))
    line.seen.clear()
    line.world.clock.advance(5)
    assert line.seen == []
    line.stop()


class Wire:
    """A link whose connection is always up; `sent` has when each frame left."""

    blocked = False

    def __init__(self, clock):
        self.clock = clock
        self.sent = []

    def ready(self):
        return self

    def send(self, data):
        self.sent.append(self.clock.seconds())

    def was_sent(self, packets, records):
        pass


def test_a_late_machine_skips_slots_and_sends_no_burst():
    clock, counts = Clock(), PaddingCounts()
    wire = Wire(clock)
    slots = SlotClock(clock)
    slot_queue = SlotQueue(
        wire, SizeClass.ACK, 100.0, ConstantSlots().slots(100.0, random.Random(1)), random.Random(1), counts
    )
    slots.add(slot_queue)
    for _ in range(1000):
        clock.advance(0.001)
    assert (len(wire.sent), counts.skipped) == (100, 0)
    clock.advance(0.5)  # time goes on while nothing else runs
    assert len(wire.sent) == 101
    assert counts.skipped == pytest.approx(50, abs=1)
    clock.advance(3600)
    clock.advance(0.02)
    assert len(wire.sent) <= 105
    assert counts.skipped == pytest.approx(360_050, abs=5)
    wire.blocked = True
    for _ in range(1000):
        clock.advance(0.001)
    assert counts.skipped == pytest.approx(360_150, abs=6)
    slots.stop()
    assert clock.getDelayedCalls() == []


def test_many_frames_a_second_share_slots():
    gap, frames = list(zip(range(3), ConstantSlots().slots(1000, random.Random(1)), strict=False))[2][1]
    assert (gap, frames) == (pytest.approx(SHORTEST), 5)


def test_a_dummy_is_as_long_as_a_packet():
    assert len(encode_dummy(SizeClass.ACK, bytes(ACK))) == FRAME == 6 + len(packet(1))
    with pytest.raises(FrameError):
        encode_dummy(SizeClass.ACK, bytes(5))
    with pytest.raises(FrameError):
        encode_dummy(9, bytes(5))
