"""Several directories as a node or client sees them: who is dead, slow, behind or lies is passed over."""

import random
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nymtw.encoding import key_text
from nymtw.errors import ConfigError, DirectoryError
from nymtw.interfaces import IDirectory
from nymtw.node.directories.http_directory import HTTPDirectory
from nymtw.node.directories.several_directories import PATIENCE, SeveralDirectories, directories_at
from nymtw.node.directories.topology_watch import TopologyWatch
from nymtw.node.directories.trust import majority, read_trust
from nymtw.testing.clock import FakeClock
from nymtw.topology.document import Topology, Trust, sign_topology

KEYS = [SigningKey(bytes([number]) * 32) for number in (1, 2, 3)]
TRUST = Trust(tuple(bytes(key.verify_key) for key in KEYS), 2)
REFRESH = 60.0


@implementer(IDirectory)
class Fake:
    """`given`: what it answers; an error that it fails with; or None: it never answers."""

    def __init__(self) -> None:
        self.given: bytes | Exception | None = None
        self.asked = 0
        self.posts: list[Mapping[str, Any]] = []
        self.takes: Exception | str | None = None

    def topology(self) -> "Deferred[Any]":
        self.asked += 1
        if self.given is None:
            return Deferred()
        return fail(self.given) if isinstance(self.given, Exception) else succeed(self.given)

    def announce(self, path: str, heartbeat: Mapping[str, Any]) -> "Deferred[Any]":
        self.posts.append(heartbeat)
        if self.takes == "never answers":
            return Deferred()
        return fail(self.takes) if isinstance(self.takes, Exception) else succeed(None)

    def report(self, metric: Mapping[str, Any]) -> "Deferred[Any]":
        return self.announce("", metric)


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.fakes = {f"d{number}": Fake() for number in (1, 2, 3)}
        clock: Any = self.clock
        self.several = SeveralDirectories(clock, self.fakes, TRUST, self.clock.wall_clock)
        self.base = int(self.clock.wall_clock() * 1e9)
        self.topology = Topology(
            serial=self.base,
            network=TRUST.network,
            published=self.base,
            valid_until=self.base + 10**13,
            refresh=REFRESH,
            epoch=0,
            epoch_seconds=86400,
        )

    def signed(self, number: int, *keys: SigningKey, **more: Any) -> bytes:
        when = self.base + int(number * REFRESH * 1e9)
        return sign_topology(
            msgspec.structs.replace(self.topology, serial=when, published=when, **more), keys or KEYS[:2]
        )

    def publish(self, number: int, *names: str) -> None:
        for name in names or self.fakes:
            self.fakes[name].given = self.signed(number)

    def ask(self) -> "Deferred[bytes]":
        return self.several.topology()

    def asked(self) -> list[int]:
        return [fake.asked for fake in self.fakes.values()]


@pytest.fixture
def world() -> World:
    return World()


def result(asked: "Deferred[Any]") -> Any:
    found: list[Any] = []
    asked.addBoth(found.append)
    return found[0] if found else None


def test_it_is_a_directory_to_its_user(world: World) -> None:
    assert verifyObject(IDirectory, world.several)


def test_at_first_all_are_asked_and_later_one(world: World) -> None:
    world.publish(0, "d1", "d3")
    world.publish(1, "d2")
    assert result(world.ask()) == world.signed(1)
    assert world.asked() == [1, 1, 1]
    for number in (2, 3):
        world.clock.advance(REFRESH)
        world.publish(number)
        assert result(world.ask()) == world.signed(number)
    assert world.asked() == [1, 3, 1]  # the one that was right
    assert not world.clock.getDelayedCalls()


@pytest.mark.parametrize(
    "bad", [DirectoryError("dead"), b"\xff", "one signature", "another network", "a signature that is none", "older"]
)
def test_what_cannot_be_used_is_asked_of_the_others(world: World, bad: Any) -> None:
    world.publish(1)
    result(world.ask())
    world.clock.advance(REFRESH)
    world.publish(2, "d2", "d3")
    forms = {
        "one signature": world.signed(9, KEYS[0]),
        "another network": world.signed(9, network=bytes(16)),
        "a signature that is none": world.signed(9, KEYS[0], SigningKey(bytes([9]) * 32)),
        "older": world.signed(0),
    }
    world.fakes["d1"].given = forms.get(bad, bad) if isinstance(bad, str) else bad
    assert result(world.ask()) == world.signed(2)
    world.publish(3, "d2", "d3")
    before = world.fakes["d1"].asked
    assert result(world.ask()) == world.signed(3)
    assert world.fakes["d1"].asked == before  # another one is asked now


def test_one_that_does_not_answer_is_waited_for_three_seconds(world: World) -> None:
    world.publish(1)
    result(world.ask())
    world.clock.advance(REFRESH)
    world.publish(2, "d2", "d3")
    world.fakes["d1"].given = None
    asked = world.ask()
    world.clock.advance(PATIENCE - 0.1)
    assert not asked.called
    world.clock.advance(0.2)
    assert result(asked) == world.signed(2)
    assert not world.clock.getDelayedCalls()


def test_one_that_keeps_to_what_was_or_lags_is_found_out(world: World) -> None:
    world.publish(1)
    result(world.ask())
    # It gives the same again and again.
    world.publish(9, "d2", "d3")
    world.clock.advance(1.9 * REFRESH)
    assert result(world.ask()) == world.signed(1)
    world.clock.advance(0.2 * REFRESH)
    assert result(world.ask()) == world.signed(9)
    # It gives new ones, each long after the others.
    world.clock.advance(12 * REFRESH)
    world.publish(10, world.several.order[0])
    world.publish(14, *world.several.order[1:])
    assert result(world.ask()) == world.signed(14)


def test_if_nobody_has_one_every_cause_is_told(world: World) -> None:
    for name, fake in world.fakes.items():
        fake.given = DirectoryError(f"{name} is dead")
    failure = result(world.ask())
    failure.trap(DirectoryError)
    assert str(failure.value) == "d1 is dead; d2 is dead; d3 is dead"
    assert not world.clock.getDelayedCalls()


def test_a_question_that_is_cancelled_leaves_nothing(world: World) -> None:
    asked = world.ask()
    asked.addErrback(lambda failure: None)
    asked.cancel()
    assert not world.clock.getDelayedCalls()


def test_a_post_goes_to_all_and_a_dead_one_delays_nobody(world: World) -> None:
    world.fakes["d1"].takes = "never answers"
    world.fakes["d2"].takes = DirectoryError("refused")
    for number in range(3):
        posted = world.several.announce("mixnodes", {"n": number})
        assert posted.called
        assert result(posted) is None
    assert [len(fake.posts) for fake in world.fakes.values()] == [1, 3, 3]


def test_a_post_fails_where_nobody_takes_it(world: World) -> None:
    for fake in world.fakes.values():
        fake.takes = DirectoryError("refused")
    failure = result(world.several.report({}))
    failure.trap(DirectoryError)
    world.fakes["d3"].takes = None
    assert result(world.several.report({})) is None


def test_a_watch_follows_the_directory_with_the_newest(world: World) -> None:
    clock: Any = world.clock
    watch = TopologyWatch(clock, world.several, TRUST, random.Random(1), world.clock.wall_clock)
    world.publish(0)
    watch.startService()
    for number in range(1, 8):
        world.clock.advance(REFRESH)
        for name in world.fakes:
            world.fakes[name].given = DirectoryError("dead") if name == f"d{number % 3 + 1}" else world.signed(number)
    world.clock.advance(REFRESH)
    assert watch.current is not None
    assert watch.current.serial >= world.base + 6 * REFRESH * 1e9
    watch.stopService()
    assert not world.clock.getDelayedCalls()


def test_one_directory_is_what_it_was(world: World) -> None:
    one = directories_at(world.clock, "http://127.0.0.1:1", TRUST)
    assert isinstance(one, HTTPDirectory)
    both = directories_at(world.clock, ["http://127.0.0.1:1", "http://127.0.0.1:2"], TRUST)
    assert isinstance(both, SeveralDirectories)
    with pytest.raises(ConfigError):
        directories_at(world.clock, [], TRUST)


def test_how_many_must_sign() -> None:
    texts = [key_text(bytes(key.verify_key)) for key in KEYS]
    assert [majority(count) for count in (1, 2, 3, 4, 5, 7)] == [1, 2, 2, 3, 3, 4]
    assert read_trust(texts[0]) == Trust((bytes(KEYS[0].verify_key),), 1)
    assert read_trust(texts).threshold == 2
    assert read_trust(texts, 3).threshold == 3
    for keys, threshold in ((texts, 4), (texts, -1), ([], 0), ([texts[0]] * 2, 1)):
        with pytest.raises(ConfigError):
            read_trust(keys, threshold)
