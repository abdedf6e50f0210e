"""Where a node stands."""

import ipaddress
import random

import pytest

from nymtw.errors import ConfigError
from nymtw.node.announce.placement import check_host, default_host, thinnest_layer
from nymtw.topology.document import NodeRecord, Topology


def topology(*layers: int) -> Topology:
    return Topology(
        serial=1,
        network=bytes(16),
        published=0,
        valid_until=1,
        refresh=1.0,
        epoch=0,
        epoch_seconds=86400,
        nodes=tuple(
            NodeRecord(role="mixnode", identity=bytes([n]) * 32, host="h", port=n, layer=layer, sphinx_keys={})
            for n, layer in enumerate(layers, 1)
        ),
    )


def test_the_default_host_is_an_ipv4_address_of_this_machine() -> None:
    assert ipaddress.ip_address(default_host()).version == 4


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "192.168.0.6"])
def test_a_host_is_an_ip_address(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize("host", ["", "localhost", "127.1", "1.2.3.4:5", "[::1]"])
def test_anything_else_is_no_host(host: str) -> None:
    with pytest.raises(ConfigError, match="--host"):
        check_host(host)


def test_the_thinnest_layer() -> None:
    assert thinnest_layer(topology(1, 1, 2, 3, 3), random.Random(1)) == 2
    seen = {thinnest_layer(topology(1), random.Random(seed)) for seed in range(20)}
    assert seen == {2, 3}
