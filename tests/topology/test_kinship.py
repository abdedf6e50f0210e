"""Nodes of one network prefix or declared family are never together on a route."""

import random

import pytest

from nymtw.errors import TopologyIncomplete
from nymtw.message.packets import draw_hops
from nymtw.mixing.routes import UniformRoutes
from nymtw.topology.document import NodeRecord, Topology
from nymtw.topology.kinship import has_kin, prefix_of

EPOCH = 7


def node(number: int, layer: int, host: str, family: str = "") -> NodeRecord:
    more = {"family": family} if family else {}
    return NodeRecord(
        role="mixnode" if layer else "provider",
        identity=number.to_bytes(32, "big"),
        host=host,
        port=1000 + number,
        layer=layer,
        sphinx_keys={EPOCH: bytes(32)},
        **more,  # type: ignore[arg-type]
    )


def topology(*nodes: NodeRecord) -> Topology:
    return Topology(
        serial=1,
        network=bytes(16),
        published=0,
        valid_until=2**62,
        refresh=1.0,
        epoch=EPOCH,
        epoch_seconds=60,
        nodes=nodes,
    )


@pytest.mark.parametrize(
    ("host", "prefix"),
    [
        ("8.8.4.4", "8.8.4.0/24"),
        ("8.8.4.255", "8.8.4.0/24"),
        ("::ffff:8.8.4.4", "8.8.4.0/24"),
        ("2a00:1450:4001:82a::200e", "2a00:1450:4001::/48"),
        ("127.0.0.1", ""),
        ("10.0.0.1", ""),
        ("::1", ""),
        ("fd00::1", ""),
        ("192.0.2.1", ""),
        ("localhost", ""),
        ("Mix.Example.Org", "mix.example.org"),
    ],
)
def test_what_a_prefix_is(host: str, prefix: str) -> None:
    assert prefix_of(host) == prefix


def test_kin_are_of_one_prefix_or_of_one_family() -> None:
    one, beside, elsewhere = node(1, 1, "8.8.4.4"), node(2, 2, "8.8.4.9"), node(3, 3, "8.8.8.8")
    assert has_kin([one, beside])
    assert not has_kin([one, elsewhere])
    assert has_kin([node(1, 1, "8.8.4.4", "us"), node(3, 3, "8.8.8.8", "us")])
    assert not has_kin([node(1, 1, "8.8.4.4", "us"), node(3, 3, "8.8.8.8", "them")])
    assert not has_kin([node(1, 1, "127.0.0.1"), node(2, 2, "127.0.0.1")])


@pytest.mark.parametrize("mixnodes", [5, 10])
def test_whoever_has_one_prefix_is_on_a_route_once(mixnodes: int) -> None:
    """Five nodes of one /24 in each layer beside two of others, or ten: they were a whole route in most cases."""
    count = iter(range(1, 1000))
    nodes = [node(next(count), layer, f"8.8.4.{number}") for layer in (1, 2, 3) for number in range(1, mixnodes + 1)]
    nodes += [node(next(count), layer, f"9.{layer}.{number}.1") for layer in (1, 2, 3) for number in range(2)]
    edge, own = node(500, 0, "8.8.4.200"), node(501, 0, "9.1.0.77")
    there = topology(*nodes, edge, own, node(502, 0, "11.0.0.1"))
    source = random.Random(1)
    for provider, sender in ((502, 502), (500, 502), (502, 501)):
        end, first = provider.to_bytes(32, "big"), sender.to_bytes(32, "big")
        for _ in range(200):
            hops = draw_hops(there, end, UniformRoutes(), source, first)
            found = [there.find(hop.address) for hop in hops]
            prefixes = [prefix_of(each.host) for each in found if each is not None]
            assert len(set(prefixes)) == 4
            begin = there.find(first)
            assert begin is not None
            assert prefix_of(begin.host) not in prefixes[:3]


def test_a_network_of_one_prefix_has_no_route_and_says_why() -> None:
    nodes = [node(layer, layer, f"8.8.4.{layer}") for layer in (1, 2, 3)]
    there = topology(*nodes, node(9, 0, "9.9.9.9"))
    with pytest.raises(TopologyIncomplete, match="without two nodes of one network prefix"):
        draw_hops(there, (9).to_bytes(32, "big"), UniformRoutes(), random.Random(1))
