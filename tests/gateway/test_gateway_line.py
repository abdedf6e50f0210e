"""The line of a real client at a gateway, as an observer of it sees it."""

import pytest

from nymtw.testing.simulation import SimulatedNetwork

Trace = list[tuple[float, str, int]]


def tapped(seed: int, messages: int) -> tuple[Trace, int]:
    """When and how much went each way over alice's line in six seconds, in which bob sent her so many messages."""
    parts = {"mixnodes_per_layer": 1, "providers": 1, "gateways": 1}
    with SimulatedNetwork(seed, **parts, at={"alice": "gateway-1"}) as net:
        alice, bob = net.clients["alice"], net.clients["bob"]
        net.run(1.0)
        began = net.clock.seconds()
        seen: Trace = []

        def watch(when: float, near: str, far: str, data: bytes) -> None:
            if "alice" in (near, far) and "directory" not in (near, far):
                seen.append((round(when - began, 6), near, len(data)))

        for number in range(messages):
            net.send("bob", "alice", b"message %d" % number)
        net.run(began + 0.5 - net.clock.seconds())
        net.network.observer = watch
        net.run(6.0)
        net.network.observer = net.transcript
        assert bob.is_ready()
        return seen, len(alice.received)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1])
def test_a_tapped_line_does_not_tell_whether_its_client_receives(seed: int) -> None:
    print("seed", seed)
    idle, nothing = tapped(seed, 0)
    receiving, messages = tapped(seed, 40)
    assert (nothing, messages) == (0, 40)
    assert len(idle) > 400
    assert idle == receiving
