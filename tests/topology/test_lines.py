"""Rates of padded lines: from who is there, never from what is sent; the same for everybody; kept within an epoch."""

import random

import msgspec
import pytest

from nymtw.topology.document import LAYERS, NodeRecord, Recommended, Topology
from nymtw.topology.lines import MOST_CLIENTS, line_rate, step, with_lines

USUAL = Recommended()


def network(clients, per_layer=2, services=()):
    nodes = [
        NodeRecord(role="mixnode", identity=bytes([layer, number]) * 16, host="h", port=1, layer=layer, sphinx_keys={})
        for layer in LAYERS
        for number in range(per_layer)
    ]
    for number, count in enumerate(clients):
        given = {"services": {"exit": "address"}} if number in services else {}
        nodes.append(
            NodeRecord(
                role="provider",
                identity=bytes([9, number]) * 16,
                host="h",
                port=1,
                client_port=2,
                clients=step(count),
                sphinx_keys={},
                **given,
            )
        )
    return tuple(nodes)


def topology(nodes, epoch=5):
    return Topology(
        serial=1,
        network=bytes(16),
        published=0,
        valid_until=1,
        refresh=60.0,
        epoch=epoch,
        epoch_seconds=60,
        nodes=nodes,
    )


def lines(nodes, recommended=USUAL, epoch=5, before=None):
    return [node.lines for node in with_lines(nodes, recommended, epoch, before) if node.role == "provider"]


def test_steps_double():
    assert [step(number) for number in (0, 1, 2, 3, 4, 5, 100, 128, 129)] == [2, 2, 2, 4, 4, 8, 128, 128, 256]
    assert step(10**9) == MOST_CLIENTS


@pytest.mark.parametrize(("offered", "most"), [(20, 3.0), (80, 1.7), (200, 1.3), (400, 1.3), (800, 1.3)])
def test_what_padding_costs(offered, most):
    assert line_rate(offered, 0.0, USUAL) <= most * offered


@pytest.mark.parametrize("offered", [5.0, 20.0, 80.0, 200.0, 800.0])
def test_a_packet_waits_as_long_as_was_aimed_at(offered):
    """One line of constant slots, frame by frame, as `ConstantSlots` sends them."""
    source, rate = random.Random(1), line_rate(offered, 0.0, USUAL)
    at, free, waits = 0.0, 0.0, []
    for _ in range(50_000):
        at += source.expovariate(offered)
        slot = max(free, -(-at * rate // 1) / rate)  # the first slot from now on that nobody has taken
        waits.append(slot - at)
        free = slot + 1 / rate
    assert sum(waits) / len(waits) <= 1.1 * USUAL.line_wait
    assert sorted(waits)[len(waits) // 2] <= USUAL.line_wait


def test_rates_follow_from_who_is_there():
    few, many = lines(network([10, 10])), lines(network([100, 100]))
    assert all(one.packets_in < other.packets_in for one, other in zip(few, many, strict=True))
    # 16 clients at each of two edges, 25 packets a second each, over two mixnodes, and the mixnodes' loops.
    offered = 16 * 25 / 2 + 6 * USUAL.mixnode_loop_rate / 2 / 2
    assert few[0].packets_out == line_rate(offered, 0.0, USUAL)
    assert few[0].acks_in == line_rate(16 * 25 / 2, 0.0, USUAL)
    assert lines(network([10, 10], per_layer=4))[0].packets_in < few[0].packets_in
    exits = lines(network([10, 10], services=(0,)))
    assert exits[0].packets_out - exits[1].packets_out >= USUAL.service_sending_rate / 2


def test_nobody_but_edges_has_lines_and_without_a_wait_or_a_layer_nobody():
    made = with_lines(network([1, 1]), USUAL, 5, None)
    assert [bool(node.lines) for node in made] == [False] * 6 + [True] * 2
    assert lines(network([1]), msgspec.structs.replace(USUAL, line_wait=0.0)) == [msgspec.UNSET]
    assert lines(network([1])[1:], USUAL)[0]
    assert lines([node for node in network([1]) if node.layer != 2]) == [msgspec.UNSET]


def test_within_an_epoch_the_count_only_grows_and_in_the_next_it_is_taken_anew():
    before = topology(with_lines(network([100, 3]), USUAL, 5, None))
    same = lines(network([1, 3]), before=before)
    assert same == [node.lines for node in before.nodes if node.role == "provider"]
    more = with_lines(network([1, 30]), USUAL, 5, before)
    assert [node.clients for node in more[-2:]] == [128, 32]
    new = with_lines(network([1, 3]), USUAL, 6, before)
    assert [node.clients for node in new[-2:]] == [2, 4]
    assert with_lines(network([1, 3]), USUAL, 6, before) == with_lines(network([1, 3]), USUAL, 6, None)
