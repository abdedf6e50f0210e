"""The places of a node whose role is decided for it: of an epoch the first counts, whatever restarts."""

from pathlib import Path
from typing import Any

import pytest
from automatic_roles import AnyNetwork

from twisted.logger import globalLogPublisher

from nymtw.nym_node.kept_places import FILE, KeptPlaces
from nymtw.topology.document import NodeRecord

NETWORK = bytes(16)


def record_with(places: dict[int, Any]) -> NodeRecord:
    return NodeRecord(
        role="mixnode", identity=bytes(32), host="h", port=1, layer=1, sphinx_keys={}, takes=("mixnode",), places=places
    )


@pytest.fixture
def errors() -> Any:
    found: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_level"].name == "error":
            found.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


# what topologies state, each with its epoch | the places in the end
TABLE: list[tuple[list[tuple[dict[int, str], int]], dict[int, str]]] = [
    ([({7: "mixnode-1"}, 7)], {7: "mixnode-1"}),
    ([({3: "mixnode-1"}, 7)], {6: "mixnode-1", 7: "mixnode-1"}),
    ([({7: "mixnode-1"}, 7), ({7: "mixnode-1", 8: "mixnode-2"}, 7)], {7: "mixnode-1", 8: "mixnode-2"}),
    ([({7: "mixnode-1", 8: "mixnode-2"}, 7), ({7: "mixnode-1", 8: "mixnode-2"}, 8)], {7: "mixnode-1", 8: "mixnode-2"}),
    # another place within an epoch is not taken
    ([({7: "mixnode-1"}, 7), ({7: "mixnode-3"}, 7)], {7: "mixnode-1"}),
    ([({7: "mixnode-1", 8: "mixnode-2"}, 7), ({8: "mixnode-3"}, 8)], {7: "mixnode-1", 8: "mixnode-2"}),
    # but in an epoch of which nothing had been said
    ([({7: "mixnode-1"}, 7), ({8: "mixnode-3"}, 8)], {7: "mixnode-1", 8: "mixnode-3"}),
    ([({7: "mixnode-1"}, 7), ({9: "mixnode-3"}, 9)], {9: "mixnode-3"}),
]


@pytest.mark.parametrize(("stated", "places"), TABLE)
def test_of_an_epoch_the_first_place_counts_also_after_restarts(
    stated: list[tuple[dict[int, Any], int]], places: dict[int, str], tmp_path: Path
) -> None:
    for placed, epoch in stated:
        KeptPlaces(tmp_path, NETWORK).take(record_with(placed), epoch)
    assert KeptPlaces(tmp_path, NETWORK).places == places
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_topology_that_says_otherwise_is_named_once(tmp_path: Path, errors: list[str]) -> None:
    kept = KeptPlaces(tmp_path, NETWORK)
    kept.take(record_with({7: "mixnode-1"}), 7)
    for _ in range(3):
        kept.take(record_with({7: "mixnode-3"}), 7)
    assert len(errors) == 1
    assert "within key epoch 7, from mixnode-1 to mixnode-3" in errors[0]


def test_what_is_over_or_damaged_or_of_another_network_is_forgotten(tmp_path: Path) -> None:
    kept = KeptPlaces(tmp_path, NETWORK)
    kept.take(record_with({7: "mixnode-1"}), 7)
    assert kept.forget_before(7) == {7: "mixnode-1"}
    assert KeptPlaces(tmp_path, bytes([1]) * 16).places == {}
    assert kept.forget_before(8) == {}
    assert KeptPlaces(tmp_path, NETWORK).places == {}
    for content in (b"", b"{}", b"\xff", b'{"network": "", "places": {"x": "mixnode-1"}}', b"[" * 5000):
        (tmp_path / FILE).write_bytes(content)
        assert KeptPlaces(tmp_path, NETWORK).places == {}


@pytest.mark.long
def test_nobody_changes_its_place_within_an_epoch_whatever_restarts() -> None:
    with AnyNetwork("restarts", 8, epoch_seconds=600) as world:
        world.run(8)
        before = world.places()
        assert len(before) == 8
        epoch = world.topology.epoch
        names = sorted(world.services)
        for number in range(4):
            away = names[number::4]
            for name in away:
                world.kill(name)
            world.run(20)
            world.directories.kill("directory")
            world.run(1)
            world.directories.restart("directory")
            world.run(20)
            for name in away:
                world.restart(name)
            world.run(12)
            assert world.topology.epoch == epoch
            assert world.places() == before
            assert {name: service.place() for name, service in world.services.items()} == before
