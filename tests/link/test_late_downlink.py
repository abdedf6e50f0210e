"""A gateway that is late for its clients' frames skips them, everybody's alike, and sends no burst."""

from twisted.internet.task import Clock

from nymtw.link.downlink import Downlink


class Client:
    """Takes one frame after the other."""

    def __init__(self):
        self.frames = 0

    def next_frame(self):
        return b"frame"

    def send(self, frame):
        self.frames += 1

    def go_on(self):
        pass


def test_a_late_downlink_skips_and_sends_no_burst():
    clock = Clock()
    downlink = Downlink(clock, 70.0)
    clients = [Client() for _ in range(3)]
    for client in clients:
        downlink.join(client)
    for _ in range(1000):
        clock.advance(0.001)
    each = 1.0 / downlink.interval
    assert all(abs(client.frames - each) <= 1 for client in clients)
    assert downlink.skipped == 0
    before = [client.frames for client in clients]
    clock.advance(1.0)  # time goes on while nothing else runs
    assert all(client.frames - was <= 1 for client, was in zip(clients, before, strict=True))
    assert abs(downlink.skipped - each) <= 2
    for _ in range(1000):
        clock.advance(0.001)
    assert all(abs(client.frames - was - each) <= 2 for client, was in zip(clients, before, strict=True))
    for client in clients:
        downlink.leave(client)
    assert clock.getDelayedCalls() == []
