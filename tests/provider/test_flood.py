"""A flood that would fill every replay filter in the network does not silence it for an epoch."""

from pathlib import Path

import pytest
from mixing_services import World

from nymtw.message.sealing import unseal
from nymtw.node.engine import mix_node

EPOCH_SECONDS = 300


def test_messages_arrive_during_a_flood_and_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mix_node, "FEWEST_TAGS", 1)
    world = World(tmp_path, seed=70, epoch_seconds=EPOCH_SECONDS)
    provider = world.network_of_four()
    first = world.running[0]
    assert first.parts.guard.capacity == EPOCH_SECONDS  # at a rate of one a second
    client = world.client(provider)
    epoch = world.directory.newest().epoch
    for number in range(240):
        client.send(b"%d" % number)  # and an ack for each
        world.clock.advance(0.1)
    world.clock.advance(10.0)
    assert all(node.rotation.renewals >= 1 for node in world.running)
    assert sum(node.counters.dropped_total for node in world.running) == 0
    received = [unseal(content, client.private_key).rstrip() for _ in range(40) for content in client.pull().get(1, [])]
    assert sorted(received, key=int) == [b"%d" % number for number in range(240)]
    assert world.directory.newest().epoch == epoch  # all that within one epoch
    client.connection.abort()
    for node in list(world.running):
        world.stop(node)


def test_a_filter_is_sized_for_the_rate_and_the_epoch_and_remembers_it(tmp_path: Path) -> None:
    world = World(tmp_path, seed=71, epoch_seconds=3600)
    world.directory.away = True
    node = world.mixnode("m", 1, rate=100)
    assert node.parts.guard.capacity == 100 * 86400
    world.directory.away = False
    world.clock.advance(60.0)
    assert node.parts.guard.capacity == 100 * 3600
    world.stop(node)
    node = world.mixnode("m", 1, rate=100)
    assert node.parts.guard.capacity == 100 * 3600
    world.stop(node)
    assert mix_node.tags_for(2000, 86400) == 172_800_000
    assert mix_node.tags_for(2000, 30 * 86400) == 172_800_000
    assert mix_node.tags_for(100, 60) == 100_000
