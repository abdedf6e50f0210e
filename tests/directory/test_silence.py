"""The consensus outlives its makers: what nodes, machines and directories may miss without a network that flaps."""

from typing import Any

import pytest
from nacl.signing import SigningKey
from registered_nodes import DIRECTORY_KEY, Clocks, World, identity
from voting_directories import REFRESH, Council, identities, node_identity, unbroken

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from nymtw.directory.attendance import AttendedClock
from nymtw.directory.config import DirectoryConfig, DirectorySection
from nymtw.directory.core import Directory
from nymtw.directory.registry import SILENCE
from nymtw.directory.retention import EXPIRY, Retention, default_expiry
from nymtw.directory.service import make_directory
from nymtw.encoding import from_cbor
from nymtw.topology.document import MAX_TOPOLOGY_LENGTH, SignedTopology, Topology


@pytest.fixture
def errors() -> Any:
    """What is logged as an error."""
    found: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_level"].name in ("error", "warn"):
            found.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def nodes_in_topology(world: World) -> set[int]:
    """The numbers of the nodes in the signed topology."""
    there = {node.identity for node in world.publisher.topology().nodes}
    return {number for number in range(1, 20) if identity(number) in there}


def shown(world: World) -> set[int]:
    """Those of the nodes that presence shows."""
    there = {node["identityKey"] for nodes in world.directory.presence().values() for node in nodes}
    return {number for number in range(1, 20) if world.heartbeat(number)["identityKey"] in there}


def keep_alive(world: World, numbers: set[int], seconds: float) -> None:
    for _ in range(int(seconds / 2)):
        world.clock.advance(2)
        for number in numbers:
            world.announce(number)
        world.publisher.topology()


NINE = set(range(1, 10))  # three in each layer


def network() -> World:
    world = World()
    world.publisher = world.directory.publisher = world.make_publisher(refresh=2.0)
    keep_alive(world, NINE, 4)
    assert nodes_in_topology(world) == NINE
    return world


def test_a_silent_node_is_shown_for_five_seconds_and_stays_in_the_topology_for_its_expiry() -> None:
    world = network()
    version = world.registry.version
    keep_alive(world, NINE - {1}, SILENCE + 1)
    assert shown(world) == NINE - {1}
    assert [member.record.identity for member in world.registry.silent()] == [identity(1)]
    keep_alive(world, NINE - {1}, EXPIRY - SILENCE - 3)
    assert nodes_in_topology(world) == NINE
    assert world.registry.version == version  # nothing that a topology would say is new
    keep_alive(world, NINE - {1}, 6)
    assert nodes_in_topology(world) == NINE - {1}
    world.announce(1)
    world.clock.advance(1)
    assert nodes_in_topology(world) == NINE


def test_a_node_that_comes_back_in_time_makes_no_new_version() -> None:
    world = network()
    version = world.registry.version
    keep_alive(world, NINE - {1}, 30)
    keep_alive(world, NINE, 30)
    assert world.registry.version == version


def test_where_much_of_a_layer_is_silent_at_once_it_stays_for_a_grace_and_that_is_logged(errors: list[str]) -> None:
    world = network()
    layer = {number for number in NINE if number % 3 == 0}
    left = NINE - {3, 6}
    keep_alive(world, left, EXPIRY + 4)
    assert nodes_in_topology(world) == NINE
    assert errors == [
        "2 of the 3 nodes of layer 1 are silent: they stay in the signed topology for 60 s more, and leave it then"
    ]
    keep_alive(world, left, EXPIRY)
    assert nodes_in_topology(world) == left
    assert errors[1:] == ["2 of the 3 nodes of layer 1 were silent for 120 s: the topology is signed without those"]
    assert layer - left == {3, 6}


def test_where_enough_of_them_come_back_the_others_leave() -> None:
    world = network()
    keep_alive(world, NINE - {3, 6}, EXPIRY + 4)
    keep_alive(world, NINE - {3}, 4)
    assert nodes_in_topology(world) == NINE - {3}


def test_the_whole_network_may_be_silent_for_a_minute_and_is_there_at_once_again() -> None:
    world = network()
    for _ in range(29):
        world.clock.advance(2)
        assert nodes_in_topology(world) == NINE
    keep_alive(world, NINE, 4)
    assert shown(world) == nodes_in_topology(world) == NINE


def test_who_has_the_address_of_a_silent_node_takes_its_place() -> None:
    world = network()
    keep_alive(world, NINE - {1}, SILENCE + 1)
    world.announce(11, port=2001)
    world.clock.advance(1)
    assert nodes_in_topology(world) == (NINE - {1}) | {11}


def test_a_node_that_is_not_admitted_any_more_leaves_though_it_is_silent() -> None:
    admitted = {identity(1), identity(2)}
    world = World(admits=admitted.__contains__)
    world.announce(1)
    world.announce(2)
    world.clock.advance(SILENCE + 1)
    assert len(world.registry) == 0
    admitted.remove(identity(1))
    world.registry.drop_the_unadmitted()
    assert [member.record.identity for member in world.registry.members()] == [identity(2)]


def test_silent_members_are_bounded_by_the_capacity() -> None:
    world = World(capacity=3)
    for number in (1, 2, 3):
        world.announce(number)
    world.clock.advance(SILENCE + 1)
    with pytest.raises(Exception, match="no room"):
        world.announce(4)
    assert len(world.registry.members()) == 3


# the directory's own absence


class Stalled(Clock):
    """A reactor whose process can be stopped: the calls that fell due in the meantime are made late."""

    def stall(self, seconds: float) -> None:
        self.rightNow += seconds


def test_seconds_count_while_the_process_runs_and_not_while_it_sleeps(errors: list[str]) -> None:
    clock = Stalled()
    attended = AttendedClock(clock)
    attended.startService()
    clock.pump([0.5] * 20)
    assert attended.seconds() == 10.0
    clock.stall(60.0)
    # Whatever asks first knows, and the late tick counts it no second time.
    assert attended.seconds() == pytest.approx(11.0, abs=1.0)
    clock.pump([0.5] * 4)
    assert attended.seconds() == pytest.approx(13.0, abs=1.0)
    assert attended.slept == pytest.approx(59.5, abs=1.0)
    assert len(errors) == 1
    assert "did not run for" in errors[0]
    attended.stopService()
    assert not clock.getDelayedCalls()


def test_a_tick_that_is_a_little_late_is_no_sleep() -> None:
    clock = Stalled()
    attended = AttendedClock(clock)
    attended.startService()
    for _ in range(20):
        clock.advance(1.9)
    assert attended.seconds() == pytest.approx(38.0)
    attended.stopService()


def test_before_it_is_started_every_second_counts() -> None:
    clock = Stalled()
    attended = AttendedClock(clock)
    clock.stall(60.0)
    assert attended.seconds() == 60.0


@pytest.mark.parametrize("sleep", [6.0, 60.0, 3600.0])
def test_nobody_falls_silent_while_the_directory_sleeps(sleep: float) -> None:
    world = World()
    clock = Stalled()
    attended = AttendedClock(clock)
    world.clock.seconds = attended.seconds  # type: ignore[method-assign]
    world = World(clock=world.clock)
    attended.startService()
    world.announce(1)
    clock.pump([1.0] * 2)
    clock.stall(sleep)
    assert len(world.registry) == 1
    clock.pump([1.0] * 6)
    assert len(world.registry) == 0  # this silence was heard
    attended.stopService()


# restarts


def directory(clock: Clocks, previous: bytes | None = None, **section: Any) -> Directory:
    config = DirectoryConfig(directory=DirectorySection(id="d", refresh=2.0, **section))
    return make_directory(clock, DIRECTORY_KEY, config, wall_clock=clock.wall_clock, previous=previous)


def announce(directory: Directory, world: World, numbers: set[int]) -> None:
    for number in numbers:
        directory.announce("mixnodes", world.heartbeat(number), "127.0.0.1")


def test_after_a_restart_those_who_were_signed_stay_until_they_have_been_silent_for_long() -> None:
    world = World()
    clock = world.clock
    before = directory(clock)
    announce(before, world, NINE)
    clock.advance(2)
    document = before.publisher.document()
    after = directory(clock, document)
    clock.advance(20)
    announce(after, world, NINE - {1})
    clock.advance(1)
    assert {node.identity for node in after.publisher.topology().nodes} == {identity(number) for number in NINE}
    assert len(after.registry) == 8
    for _ in range(40):
        clock.advance(2)
        announce(after, world, NINE - {1})
    assert len(after.publisher.topology().nodes) == 8


# several directories


def test_several_directories_keep_a_silent_node_for_as_long_and_give_the_same_document() -> None:
    council = Council(3)
    for number in NINE:
        council.add_node(number)
    council.start()
    council.run(3)
    del council.nodes[1]
    council.heard_by[2] = {1}  # two of three have not heard of it for long
    council.run(EXPIRY / REFRESH - 1)
    assert identities(council.topology(2)) == {node_identity(number) for number in NINE}
    council.kill(3)
    council.run(1)
    council.start(3)  # it has forgotten all: the two others have not
    council.run(3)
    for number in (1, 2, 3):
        assert identities(council.topology(number)) == {node_identity(number) for number in NINE - {1, 2}}
    unbroken(council, 1, 2)
    council.stop()


# roles that the directory decides


def places(directory: Directory) -> dict[bytes, str]:
    topology = directory.publisher.topology()
    return {node.identity: node.place(topology.epoch) for node in topology.nodes}


def announce_any(directory: Directory, world: World, numbers: set[int]) -> None:
    for number in sorted(numbers):
        post = world.heartbeat(
            number, "any", client_port=3000 + number, takes=("mixnode", "entry-gateway"), layer=0, services={}
        )
        directory.announce("nodes", post, "127.0.0.1")


def test_the_places_of_an_epoch_are_kept_when_nodes_go_away_and_directories_restart() -> None:
    world = World()
    clock = world.clock
    running = directory(clock, expiry=5.0, epoch_seconds=86400)
    announce_any(running, world, NINE)
    clock.advance(2)
    first_places = places(running)
    assert len(first_places) == 9
    document = b""
    for round_ in range(6):
        # Half of them are away for longer than their expiry and its grace, the directory is started again.
        away = {number for number in NINE if number % 2 == round_ % 2}
        for _ in range(10):
            clock.advance(2)
            announce_any(running, world, NINE - away)
            running.publisher.topology()
        assert len(places(running)) == len(NINE - away)
        if round_ % 3 == 2:
            clock.advance(3600)  # the last topology is out of date by then
        document = running.publisher.document() if round_ % 3 != 2 else document or running.publisher.document()
        running = directory(clock, running.publisher.newest and document, expiry=5.0, epoch_seconds=86400)
        clock.advance(6)
        announce_any(running, world, NINE)
        clock.advance(2)
        announce_any(running, world, NINE)
        assert places(running) == first_places


def test_former_places_are_forgotten_when_their_epoch_ends() -> None:
    world = World()
    clock = world.clock
    running = directory(clock, expiry=4.0 + 1.0, epoch_seconds=600)
    announce_any(running, world, NINE)
    clock.advance(2)
    for _ in range(10):
        clock.advance(2)
        announce_any(running, world, NINE - {1})
        running.publisher.topology()
    former = running.publisher.topology().former
    assert former
    assert list(former) == [identity(1)]
    for _ in range(400):
        clock.advance(3)
        announce_any(running, world, NINE - {1})
        running.publisher.topology()
    signed = from_cbor(running.publisher.document(), SignedTopology, MAX_TOPOLOGY_LENGTH)
    assert not from_cbor(signed.document, Topology, MAX_TOPOLOGY_LENGTH).former


# configuration


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"refresh": 10.0, "expiry": 19.0}, "expiry of 19 s is too short: it is two refreshes"),
        ({"refresh": 1.0, "expiry": 4.0}, "expiry of 4 s is too short"),
        ({"refresh": 1.0, "expiry": 40.0, "epoch_seconds": 60}, "expiry of 40 s is too long"),
        ({"refresh": 60.0, "validity": 90.0}, "validity of 90 s is too short"),
    ],
)
def test_times_that_do_not_go_together_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DirectorySection(id="d", **section)


def test_the_usual_expiry_goes_with_the_refresh() -> None:
    assert default_expiry(2.0) == EXPIRY
    assert default_expiry(60.0) == 180.0
    assert DirectorySection(id="d", refresh=60.0).seconds_until_expiry == 180.0
    assert DirectorySection(id="d", refresh=20.0, epoch_seconds=60).seconds_until_expiry == 30.0
    assert DirectorySection(id="d", expiry=300.0).seconds_until_expiry == 300.0
    assert Retention(7.0).grace == 7.0


def test_a_key_of_another_directory_restores_nobody() -> None:
    world = World()
    before = directory(world.clock)
    announce(before, world, {1, 2})
    world.clock.advance(2)
    config = DirectoryConfig(directory=DirectorySection(id="d"))
    other = make_directory(
        world.clock,
        SigningKey(bytes([9]) * 32),
        config,
        wall_clock=world.clock.wall_clock,
        previous=before.publisher.document(),
    )
    assert other.registry.members() == []
