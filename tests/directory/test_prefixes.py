"""An open directory and somebody with many nodes: limits for a prefix, and layers that nobody chooses."""

from collections import Counter
from typing import Any

import pytest
from registered_nodes import World, identity

from nymtw.directory.registry import PER_PREFIX
from nymtw.errors import DirectoryError


def announce(world: World, number: int, host: str, **more: Any) -> int:
    """The layer that the node gets."""
    world.announce(number, host="", port=1789, source=host, **more)
    entry = world.registry.find(identity(number))
    assert entry is not None
    return entry.record.layer


@pytest.mark.parametrize("nodes", [20, 40])
@pytest.mark.parametrize("network", ["8.8.4.{}", "2a00:1450:4001:{:x}::1"])
def test_a_prefix_has_a_few_nodes_and_others_come_in(network: str, nodes: int) -> None:
    world = World(secret=b"s" * 32)
    refused = 0
    for number in range(1, nodes + 1):
        if number > PER_PREFIX:
            with pytest.raises(DirectoryError, match="that is the most"):
                announce(world, number, network.format(number))
            refused += 1
        else:
            announce(world, number, network.format(number))
    assert (len(world.registry), refused) == (PER_PREFIX, nodes - PER_PREFIX)
    announce(world, 101, "9.9.9.9")
    world.clock.advance(20)  # silent, and still in the topology: they keep their places
    with pytest.raises(DirectoryError, match="that is the most"):
        announce(world, 102, network.format(200))
    announce(world, 1, network.format(1))


def test_listed_nodes_and_addresses_that_are_not_public_are_not_counted() -> None:
    world = World(vouched=lambda who: True)
    for number in range(1, 20):
        announce(world, number, f"8.8.4.{number}")
    world = World()
    for number in range(1, 20):
        announce(world, number, f"10.0.0.{number}")
    assert len(world.registry) == 19


@pytest.mark.parametrize("tries", [PER_PREFIX, 2 * PER_PREFIX])
def test_all_nodes_of_a_prefix_are_in_one_layer_whatever_they_ask_for(tries: int) -> None:
    world = World(secret=b"s" * 32, per_prefix=0)
    for number in range(1, 4):
        announce(world, number, f"9.9.{number}.1", layer=0)
    layers = {announce(world, 3 + number, f"8.8.4.{number}", layer=1 + number % 3) for number in range(1, tries + 1)}
    assert len(layers) == 1
    world.clock.advance(1)
    assert announce(world, 4, "8.8.4.1", layer=3) in layers  # it keeps it


def test_chance_is_even_differs_between_directories_and_leaves_no_layer_empty() -> None:
    def layers(secret: bytes, nodes: int) -> list[int]:
        world = World(secret=secret)
        return [announce(world, number, f"11.{number}.0.1", layer=1) for number in range(1, nodes + 1)]

    assert sorted(layers(b"a", 3)) == [1, 2, 3]
    drawn = layers(b"a", 120)
    assert layers(b"a", 120) == drawn
    assert layers(b"b", 120) != drawn
    assert min(Counter(drawn).values()) > 25


def test_who_is_listed_or_not_public_has_the_layer_that_it_asks_for() -> None:
    world = World(vouched=lambda who: who == identity(1))
    assert announce(world, 1, "8.8.4.1", layer=3) == 3
    assert announce(world, 2, "127.0.0.1", layer=2) == 2
