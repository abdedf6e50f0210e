"""Several directories make one topology, though some of them are dead, late, cut off, or lie."""

from collections.abc import Iterator
from typing import Any

import pytest
from voting_directories import REFRESH, STEP, Council, agreed, directory_key, identities, node_identity, unbroken

from twisted.logger import formatEvent, globalLogPublisher

from nymtw.errors import TopologyError

pytestmark = pytest.mark.long


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: Any) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture(name="council")
def make_council(request: pytest.FixtureRequest) -> Iterator[Council]:
    count, threshold = getattr(request, "param", (3, 0))
    council = Council(count, threshold)
    for number in range(1, 8):
        council.add_node(number)
    yield council
    council.stop()


def healthy(council: Council, *numbers: int) -> None:
    """All of these have the same new topology with all nodes."""
    found = council.topologies(*numbers)
    assert len({topology.serial for topology in found}) == 1
    assert all(identities(topology) == {node_identity(node) for node in council.nodes} for topology in found)
    # Where not all sign, it comes when their time is over.
    assert council.clock.wall_clock() - found[0].published / 1e9 < 1.75 * REFRESH


@pytest.mark.parametrize("council", [(2, 0), (3, 0), (4, 3), (5, 0), (7, 0)], indirect=True)
def test_all_make_the_same_topology_and_all_sign_it(council: Council) -> None:
    council.start()
    council.run(3)
    healthy(council, *council.numbers)
    assert len({member.topology_store.document() for member in council.members.values()}) == 1
    for member in council.members.values():
        assert len(member.topology_store.signers()) == len(council.numbers)
    before = council.serials(1)[0]
    council.run(4)
    assert council.serials(1)[0] == before + 4 * int(REFRESH * 1e9)
    assert not council.refused


@pytest.mark.parametrize("council", [(3, 0), (5, 0), (4, 3)], indirect=True)
def test_a_dead_minority_changes_nothing(council: Council) -> None:
    count, threshold = len(council.numbers), council.trust.threshold
    dead = range(threshold + 1, count + 1)
    council.start()
    council.run(2.5)
    for number in dead:
        council.kill(number)
    council.run(4)
    alive = range(1, threshold + 1)
    healthy(council, *alive)
    unbroken(council, *alive)
    assert len(council.members[1].topology_store.signers()) == threshold
    council.start(*dead)
    council.run(3)
    healthy(council, *council.numbers)
    unbroken(council, *alive)
    assert len(council.members[1].topology_store.signers()) == count


def test_without_a_majority_the_last_topology_stands_until_it_runs_out(council: Council) -> None:
    council.start()
    council.run(2.5)
    council.kill(2)
    council.kill(3)
    before = council.serials(1)
    council.run(10)
    assert council.serials(1) == before
    council.clock.advance(600)
    with pytest.raises(TopologyError, match="expired"):
        council.topology(1)
    council.start(2)
    council.run(3)
    healthy(council, 1, 2)


@pytest.mark.parametrize("council", [(5, 0)], indirect=True)
def test_a_partition_leaves_the_greater_part_working_and_heals(council: Council) -> None:
    council.start()
    council.run(2.5)
    council.partition({1, 2, 3}, {4, 5})
    before = council.serials(4, 5)
    council.run(4)
    healthy(council, 1, 2, 3)
    assert council.serials(4, 5) == before
    council.partition()
    council.run(2.2)
    healthy(council, *council.numbers)
    unbroken(council, 1, 2, 3)
    agreed(council, *council.numbers)


@pytest.mark.parametrize("council", [(3, 0), (5, 0)], indirect=True)
@pytest.mark.parametrize("begin", [0.0, 0.1, 0.3, 0.5])
def test_a_directory_that_is_started_again_in_the_middle_of_a_version_disturbs_nobody(
    council: Council, begin: float
) -> None:
    council.start()
    council.run(3 + begin)
    council.kill(1)
    council.clock.advance(1)
    council.start(1)
    council.run(0.2)
    assert council.topology(1).nodes  # of the others
    council.run(3)
    healthy(council, *council.numbers)
    unbroken(council, *list(council.numbers)[1:])


@pytest.mark.parametrize("council", [(3, 0), (5, 0)], indirect=True)
def test_clocks_that_differ_by_two_minutes_are_no_hindrance(council: Council) -> None:
    council.skews = {number: (number - 1) * 120 / (len(council.numbers) - 1) - 60 for number in council.numbers}
    council.start()
    council.run(8)
    found = council.topologies(*council.numbers)
    assert len({each.serial for each in found}) == 1
    assert len(identities(found[0])) == 7
    unbroken(council, *council.numbers)
    # The clock in the middle sets the time.
    assert abs(council.clock.wall_clock() - found[0].published / 1e9) < 1.5 * REFRESH


def test_a_clock_that_is_stepped_does_not_stop_the_others(council: Council) -> None:
    council.start()
    council.run(2.5)
    council.skews[2] = 7200.0
    council.run(3)
    healthy_serials = council.serials(1, 3)
    assert len(set(healthy_serials)) == 1
    unbroken(council, 1, 3)
    council.skews[2] = -7200.0
    council.run(3)
    assert council.serials(1)[0] - healthy_serials[0] == 3 * STEP
    unbroken(council, 1, 3)


def test_a_node_needs_as_many_directories_as_have_to_sign(council: Council) -> None:
    council.add_node(20)
    council.add_node(21)
    council.heard_by = {20: {2, 3}, 21: {3}}
    council.start()
    council.run(3)
    there = identities(council.topology(1))
    assert node_identity(20) in there
    assert node_identity(21) not in there
    unbroken(council, 1, 2, 3)


def test_what_a_node_says_anew_counts_once_enough_have_it_and_it_is_never_missing(council: Council) -> None:
    council.start()
    council.run(2.5)
    council.nodes[1] = {**council.nodes[1], "port": 3333}
    council.heard_by = {1: {1}}
    # The others have what it said before for as long as that is repeated to them.
    old = {**council.nodes[1], "port": 2001}
    council.nodes[1], new = old, council.nodes[1]
    council.heard_by = {}
    for _ in range(6):
        council.clock.advance(REFRESH / 2)
        council.members[1].hear(council.heartbeat(1, port=new["port"]))
        assert node_identity(1) in identities(council.topology(2))
    assert all(each.find(node_identity(1)) for each in list(agreed(council, 1, 2, 3).values())[1:])
    council.nodes[1] = new
    council.run(2)
    assert [each.find(node_identity(1)).port for each in council.topologies(1, 2, 3)] == [3333] * 3
    unbroken(council, 1, 2, 3)


def test_layers_are_assigned_alike_and_kept(council: Council) -> None:
    for number in range(30, 36):
        council.add_node(number, layer=0)
    council.start()
    council.run(3)
    before = {node.identity: node.layer for node in council.topology(1).nodes}
    assert sorted(before[node_identity(number)] for number in range(30, 36)).count(0) == 0
    layers = list(before.values())
    assert max(map(layers.count, (1, 2, 3))) - min(map(layers.count, (1, 2, 3))) <= 1
    for number in (1, 2):
        del council.nodes[number]
    council.kill(3)
    council.run(2)
    council.start(3)
    council.run(1)
    council.kill(1)
    council.run(3)
    now = {node.identity: node.layer for node in council.topology(2).nodes}
    assert len(now) == 11
    assert now.items() <= before.items()
    unbroken(council, 2)


def test_a_directory_that_has_not_heard_of_a_node_fetches_its_heartbeat(council: Council) -> None:
    for number in range(40, 60):
        council.add_node(number)
        council.heard_by[number] = {1, 2}
    council.start()
    council.run(3)
    assert len(identities(council.topology(3))) == 27
    assert len(council.members[3].topology_store.signers()) == 3
    unbroken(council, 1, 2, 3)


def test_of_two_nodes_at_one_place_one_is_listed_everywhere(council: Council) -> None:
    council.add_node(70, port=2001)
    council.heard_by = {70: {2, 3}, 1: {1, 2}}
    council.start()
    council.run(4)
    listed = identities(council.topology(1)) & {node_identity(70), node_identity(1)}
    assert len(listed) <= 1
    unbroken(council, 1, 2, 3)


def test_other_settings_are_named_and_not_signed(council: Council, log: "list[str]") -> None:
    council.settings[3] = {"epoch_seconds": 3600}
    council.start()
    council.run(3)
    healthy(council, 1, 2)
    assert [directory_key(number).verify_key.encode() for number in (1, 2)] == sorted(
        council.members[1].topology_store.signers(), key=council.trust.directories.index
    )
    assert council.topology(3).epoch_seconds == 86400  # it serves what the others signed
    logged = [line for line in log if "settings" in line]
    assert any("epoch_seconds is '3600' there and '86400' here" in line for line in logged)
    assert any("epoch_seconds is '86400' there and '3600' here" in line for line in logged)
    assert any("does not sign" in line for line in logged)
    unbroken(council, 1, 2)


def test_other_admissions_are_named_and_a_majority_decides(council: Council, log: "list[str]") -> None:
    council.start()
    council.members[1].registry.admits = lambda identity: identity != node_identity(4)
    council.members[1].admission = bytes([1]) * 32
    council.run(3)
    healthy(council, 1, 2, 3)
    assert any("admits other nodes" in line for line in log)
    council.members[2].registry.admits = council.members[1].registry.admits
    council.members[2].registry.drop_the_unadmitted()
    council.run(2)
    assert node_identity(4) not in identities(council.topology(3))
    unbroken(council, 1, 2, 3)
