"""What strangers' posts cost a directory: signatures are checked within limits that they cannot use up for others."""

from typing import Any

import pytest
from nacl.signing import SigningKey
from registered_nodes import World, identity, node_key

from nymtw.directory import core
from nymtw.directory.api import DirectoryApi
from nymtw.directory.consensus.api import AgreementApi
from nymtw.directory.metrics import DirectoryMetrics
from nymtw.directory.post_gate import PostGate
from nymtw.errors import DirectoryError, EncodingError, TooManyRequests
from nymtw.topology.presence import make_metric
from nymtw.web.http import Call

ATTACKER, HOME = "198.51.100.7", "203.0.113.1"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The posts whose signatures were checked."""
    done: list[str] = []
    for name in ("read_heartbeat", "read_metric", "read_validator"):
        real = getattr(core, name)

        def counting(body: Any, now: float, real: Any = real) -> Any:
            done.append(body["identityKey"])
            return real(body, now)

        monkeypatch.setattr(core, name, counting)
    return done


def forged(world: World, number: int, **changes: Any) -> dict[str, Any]:
    """A heartbeat in the name of another identity than the one that signed it."""
    post = world.heartbeat(number, **changes)
    return {**post, "signature": "00" * 64}


def flood(world: World, posts: int, source: Any, post: dict[str, Any]) -> int:
    """How many of these are refused unread or before the signature."""
    before = world.directory.gate.refused
    for number in range(posts):
        with pytest.raises((DirectoryError, EncodingError)):
            world.directory.announce("mixnodes", post, source(number) if callable(source) else source)
    return world.directory.gate.refused - before


@pytest.mark.parametrize("rate", [500, 1000])
def test_forged_posts_of_one_address_cost_few_checks_and_nobody_elses_place(rate: int, checks: list[str]) -> None:
    world = World()
    world.announce(1, source=HOME, host="")
    for second in range(1, 11):
        world.clock.advance(1.0)
        flood(world, rate, ATTACKER, forged(world, 200, host=""))
        flood(world, rate // 10, ATTACKER, forged(world, 1, host=""))  # in the name of one that is there
        if second % 2 == 0:
            world.announce(1, source=HOME, host="")
            world.announce(second, source=HOME, host="")  # others at the same place come, too
    assert len(checks) <= 256 + 10 * 4 + 1 + 10
    assert len(world.registry) >= 3


@pytest.mark.parametrize("rate", [500, 1000])
def test_forged_posts_of_many_addresses_cost_a_bounded_number_of_checks(rate: int, checks: list[str]) -> None:
    world = World()
    world.announce(1, source=HOME, host="")
    for second in range(1, 6):
        world.clock.advance(1.0)
        flood(world, rate, lambda number: f"198.51.{number % 200}.{number // 200}", forged(world, 200, host=""))
        if second % 2 == 0:
            world.announce(1, source=HOME, host="")
    assert len(checks) <= 1000 + 5 * 100 + 5
    assert world.registry.find(identity(1)) is not None


def test_a_node_behind_the_attackers_address_stays(checks: list[str]) -> None:
    world = World()
    world.announce(1, source=ATTACKER, host="")
    for _ in range(5):
        flood(world, 300, ATTACKER, forged(world, 200, host=""))
        world.clock.advance(2.0)
        world.announce(1, source=ATTACKER, host="")


def test_who_is_not_admitted_and_what_is_old_costs_no_check(checks: list[str]) -> None:
    world = World()
    post = world.heartbeat(1)
    world.directory.announce("mixnodes", post, "127.0.0.1")
    for _ in range(50):
        with pytest.raises(DirectoryError, match="not newer"):
            world.directory.announce("mixnodes", post, "127.0.0.1")
    admitted = core.Directory(
        world.registry,
        world.publisher,
        None,  # type: ignore[arg-type]  # no metric comes
        world.clock.wall_clock,
        None,  # type: ignore[arg-type]
        admission=lambda who: who == identity(1),
    )
    for path in ("mixnodes", "coconodes"):
        with pytest.raises(DirectoryError, match="not admitted"):
            admitted.announce(path, forged(world, 2), "127.0.0.1")
    assert len(checks) == 1


@pytest.mark.parametrize("body", [None, [], {}, {"identityKey": 1}, {"identityKey": "x"}, {"identityKey": "é" * 44}])
def test_what_names_nobody_is_refused_for_that(body: Any, checks: list[str]) -> None:
    for path in ("mixnodes", "coconodes"):
        with pytest.raises(EncodingError):
            World().directory.announce(path, body, HOME)
    with pytest.raises(EncodingError):
        World().directory.report(body, HOME)
    assert checks == []


def test_metrics_of_nobody_cost_no_check_and_those_of_a_node_from_elsewhere_few(checks: list[str]) -> None:
    world = World()
    world.announce(1, source=HOME, host="")
    metric: dict[str, Any] = make_metric(
        public_key=bytes([1]) * 32, sent=1, received=1, timestamp=world.now, signing_key=node_key(1)
    )
    stranger: dict[str, Any] = make_metric(
        public_key=bytes([1]) * 32, sent=1, received=1, timestamp=world.now, signing_key=SigningKey(b"s" * 32)
    )
    for _ in range(100):
        with pytest.raises(DirectoryError, match="no mixnode"):
            world.directory.report(stranger, ATTACKER)
    assert len(checks) == 1  # the heartbeat
    for _ in range(1000):
        with pytest.raises((DirectoryError, EncodingError)):
            world.directory.report({**metric, "signature": "00" * 64}, ATTACKER)
    assert len(checks) <= 1 + 256
    world.directory.report(metric, HOME)


def test_a_source_above_its_limit_is_not_even_read() -> None:
    world = World()
    api = DirectoryApi(world.directory, DirectoryMetrics(world.directory))
    call = Call(b"not JSON", {}, ATTACKER)
    with pytest.raises(EncodingError, match="not JSON"):
        api.announce("mixnodes", call)
    flood(world, 300, ATTACKER, forged(world, 200, host=""))
    for _ in range(2):
        with pytest.raises(TooManyRequests):
            api.announce("mixnodes", call)
    with pytest.raises(EncodingError, match="not JSON"):
        api.announce("mixnodes", Call(b"not JSON", {}, HOME))
    world.clock.advance(1.0)
    with pytest.raises(EncodingError, match="not JSON"):
        api.announce("mixnodes", call)
    assert b"directory_posts_over_limit_total" in DirectoryMetrics(world.directory).text()


@pytest.mark.parametrize("rate", [100, 200])
def test_false_notices_are_limited_and_a_directory_that_told_the_truth_is_heard(rate: int) -> None:
    class Agreement:
        read = 0

        def receive(self, body: bytes) -> bool:
            self.read += 1
            if body == b"false":
                raise EncodingError("a signature is wrong")
            return True

    world, agreement = World(), Agreement()
    posts: Any = world.directory.posts
    api = AgreementApi(agreement, PostGate(world.registry), posts)  # type: ignore[arg-type]
    api.notices(Call(b"true", {}, HOME))
    for number in range(rate):
        for host in range(10):
            with pytest.raises((EncodingError, TooManyRequests)):
                api.notices(Call(b"false", {}, f"198.51.100.{host}"))
        if number % 10 == 0:
            api.notices(Call(b"true", {}, HOME))
    assert agreement.read <= 1 + 200 + rate // 10
