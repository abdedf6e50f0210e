"""What comes in is handed over in order, together with what comes at the same time, and never kept."""

from hypothesis import given
from hypothesis import strategies as st

from nymtw.link.frames import Frame, FrameType
from nymtw.link.gather import BUSY, MOST, WAIT, Gatherer
from nymtw.testing.clock import FakeClock


def frames(*numbers):
    return [Frame(FrameType.PACKET, 0, 7, number.to_bytes(4, "big")) for number in numbers]


class World:
    def __init__(self):
        self.clock = FakeClock()
        self.got = []
        self.gatherer = Gatherer(self.clock, lambda peer, some: self.got.append((self.clock.seconds(), peer, some)))


def busy_world():
    """A node that has had twice `BUSY` frames/s for a while, and nothing waiting."""
    world = World()
    for number in range(1000):
        world.gatherer.receive(b"before", frames(number))
        world.clock.advance(0.5 / BUSY)
    world.clock.advance(WAIT)
    world.got.clear()
    return world


def test_a_packet_on_a_quiet_node_does_not_wait():
    world = World()
    for number in range(1000):
        world.gatherer.receive(b"a", frames(number))
        assert len(world.got) == number + 1
        world.clock.advance(1.5 / BUSY)
    assert world.clock.getDelayedCalls() == []


def test_a_node_that_was_busy_is_quiet_again():
    world = busy_world()
    for number in range(10):
        world.gatherer.receive(b"a", frames(number))
        world.clock.advance(0.01)
    assert [some for _, _, some in world.got] == [frames(number) for number in range(10)]
    world.gatherer.receive(b"a", frames(10))
    assert world.got[-1] == (world.clock.seconds(), b"a", frames(10))


def test_packets_on_a_busy_node_go_together_and_in_order():
    world = busy_world()
    began = world.clock.seconds()
    world.gatherer.receive(b"a", frames(0))
    world.gatherer.receive(b"b", frames(1, 2))
    world.clock.advance(WAIT / 2)
    world.gatherer.receive(b"a", frames(3))
    assert world.got == []
    world.clock.advance(WAIT)
    assert [(peer, some) for _, peer, some in world.got] == [(b"a", frames(0)), (b"b", frames(1, 2)), (b"a", frames(3))]
    assert {when for when, _, _ in world.got} == {began + WAIT}
    assert world.clock.getDelayedCalls() == []


def test_many_packets_do_not_wait():
    world = busy_world()
    for number in range(MOST):
        world.gatherer.receive(b"a", frames(number))
    assert len(world.got) == MOST
    assert world.clock.getDelayedCalls() == []


def test_flush_leaves_nothing_behind():
    world = busy_world()
    world.gatherer.receive(b"a", frames(0))
    world.gatherer.receive(b"a", frames(1))
    assert world.got == []
    world.gatherer.flush()
    assert len(world.got) == 2
    assert world.clock.getDelayedCalls() == []
    world.gatherer.flush()
    assert len(world.got) == 2


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 40)), max_size=60))
def test_every_frame_comes_once_in_order_and_none_waits_longer(steps):
    world = World()
    came, number = [], 0
    for microseconds, count in steps:
        world.clock.advance(microseconds / 1e6)
        batch = frames(*range(number, number + count))
        number += count
        came.append((world.clock.seconds(), batch))
        world.gatherer.receive(b"a", batch)
    world.clock.advance(1)
    assert [some for _, _, some in world.got] == [batch for _, batch in came]
    assert all(0 <= left - when <= WAIT + 1e-9 for (left, _, _), (when, _) in zip(world.got, came, strict=True))
    assert world.clock.getDelayedCalls() == []
