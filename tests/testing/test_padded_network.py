"""A whole network with padded lines: what they carry in a second is the same for any senders and recipients."""

from collections import Counter

from nymtw.directory.config import RecommendedSection
from nymtw.testing.simulation import SimulatedNetwork

QUIET = RecommendedSection(
    message_sending_rate=5.0,
    loop_cover_traffic_rate=1.0,
    mixnode_loop_rate=1.0,
    service_sending_rate=5.0,
    line_wait=0.05,
)
SECONDS = 6


def lines(simulation: SimulatedNetwork) -> Counter[tuple[str, str, int]]:
    """How many frames of each length cross each line between edges and mixnodes in some seconds."""
    seen: Counter[tuple[str, str, int]] = Counter()
    record = simulation.transcript

    def observe(at: float, sender: str, receiver: str, data: bytes) -> None:
        record(at, sender, receiver, data)
        if {sender[:9], receiver[:9]} in ({"provider-", "mixnode-1"}, {"provider-", "mixnode-3"}):
            seen[sender, receiver, len(data)] += 1

    simulation.network.observer = observe
    simulation.run(SECONDS)
    simulation.network.observer = record
    return seen


def test_lines_show_the_same_idle_and_sending_and_messages_arrive() -> None:
    with SimulatedNetwork(1, recommended=QUIET, padded=True, mix_loops=1.0) as simulation:
        simulation.run(2)
        idle = lines(simulation)
        simulation.send("alice", "bob", bytes(45_000))
        sending = lines(simulation)
        simulation.run(15)
        assert simulation.clients["bob"].received == [bytes(45_000)]
        node = simulation.directory.publisher.topology().providers()[0]
        assert node.lines
        expected = {
            (mixnode, provider, 6 + length): rate
            for provider in ("provider-1", "provider-2")
            for number in (1, 2)
            for mixnode, length, rate in (
                (f"mixnode-3-{number}", 2413, node.lines.packets_in),
                (f"mixnode-3-{number}", 386, node.lines.acks_in),
            )
        }
        for line, rate in expected.items():
            for seen in (idle, sending):
                assert abs(seen[line] - SECONDS * rate) <= 4, (line, rate)
        assert set(idle) == set(sending)
        assert all(abs(idle[line] - sending[line]) <= 4 for line in idle)
        mixnode = simulation.nodes["mixnode-3-1"]
        assert mixnode.links.padding.sent > mixnode.counters.forwarded_total / 2
        assert simulation.nodes["provider-1"].links.padding.received > 0


def test_an_exit_that_has_nothing_to_send_sends_cover() -> None:
    with SimulatedNetwork(
        2,
        providers=1,
        gateways=1,
        clients=("alice",),
        at={"alice": "gateway-1"},
        implementations={"gateway-1": ["--mode=exit"]},
        recommended=QUIET,
        padded=True,
    ) as simulation:
        simulation.run(15)
        (exit_host,) = [hosted for hosted in simulation.nodes["gateway-1"].service_hosts if hosted.is_service]
        sent = exit_host.dispatch.cover
        assert 40 < sent < 120
        assert exit_host.dispatch.packets == 0
        # It ends at edges like what it looks like, and brings no ack.
        assert sum(count.delivered for count in simulation.counters().values()) >= sent - 10
