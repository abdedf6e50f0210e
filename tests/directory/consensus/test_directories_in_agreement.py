"""A directory that signs with others, as it is configured and asked over HTTP."""

from typing import Any

import pytest
from voting_directories import directory_key

from twisted.internet.defer import Deferred, fail, succeed

from nymtw.directory import tap
from nymtw.directory.config import DirectoryConfig, DirectorySection
from nymtw.directory.consensus.api import agreement_routes
from nymtw.directory.consensus.peers import parse_peer
from nymtw.directory.consensus.votes import digest
from nymtw.directory.service import make_directory
from nymtw.encoding import from_cbor, key_text, to_cbor
from nymtw.errors import ConfigError, DirectoryError, EncodingError
from nymtw.testing.clock import FakeClock
from nymtw.web.http import Call

TEXTS = {number: key_text(bytes(directory_key(number).verify_key)) for number in range(1, 20)}


class Silent:
    """Another directory that answers nothing."""

    def __init__(self, url: str) -> None:
        self.name = url

    def notify(self, notice: bytes) -> "Deferred[Any]":
        return fail(DirectoryError("away"))

    def topology(self) -> "Deferred[bytes]":
        return fail(DirectoryError("away"))

    part = statements = notify  # type: ignore[assignment]

    def close(self) -> "Deferred[None]":
        return succeed(None)


def peers(*numbers: int) -> list[str]:
    return [f"http://10.0.0.{number}:8080={TEXTS[number]}" for number in numbers]


def directory(*numbers: int, **more: Any) -> Any:
    section = DirectorySection(id="d", peers=peers(*numbers), **more)
    clock, config = FakeClock(), DirectoryConfig(directory=section)
    return make_directory(clock, directory_key(1), config, wall_clock=clock.wall_clock, peer=Silent)


def test_the_threshold_is_a_majority_unless_more_is_asked_for() -> None:
    assert directory(2, 3).publisher.trust.threshold == 2
    assert directory(2, 3, threshold=3).publisher.trust.threshold == 3
    assert directory(2, 3, 4).publisher.trust.threshold == 3
    # All have the same trust, in whatever order they are named.
    assert directory(3, 2).publisher.trust == directory(2, 3).publisher.trust


@pytest.mark.parametrize(
    ("numbers", "threshold", "cause"),
    [
        ((2, 2), 0, "twice"),
        ((1, 2), 0, "twice"),
        ((2, 3), 1, "2 to 3"),
        ((2, 3), 4, "there are 3"),
        ((), 1, "no --peer"),
        (tuple(range(2, 14)), 0, "at most 12"),
    ],
)
def test_what_cannot_be_is_refused(numbers: tuple[int, ...], threshold: int, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        directory(*numbers, threshold=threshold)


@pytest.mark.parametrize("text", ["", "http://x", "http://x=", "http://x=abc", "ftp://x=" + TEXTS[1], "=" + TEXTS[1]])
def test_a_peer_is_a_url_and_a_key(text: str) -> None:
    with pytest.raises(ConfigError, match="--peer"):
        parse_peer(text)
    assert parse_peer(peers(2)[0]) == ("http://10.0.0.2:8080", bytes(directory_key(2).verify_key))


def test_the_command_line_names_peers_one_by_one() -> None:
    options = tap.Options()
    options.parseOptions(["--peer", peers(2)[0], "--peer", peers(3)[0], "--threshold=2"])
    section = options.sections()["directory"]
    assert (section["peers"], section["threshold"]) == (peers(2, 3), 2)
    alone = tap.Options()
    alone.parseOptions([])
    assert not {"peers", "threshold"} & alone.sections()["directory"].keys()


def test_one_directory_alone_has_no_such_routes() -> None:
    clock = FakeClock()
    config = DirectoryConfig(directory=DirectorySection(id="d"))
    alone = make_directory(clock, directory_key(1), config, wall_clock=clock.wall_clock)
    assert (alone.agreement, agreement_routes(alone)) == (None, [])


def test_what_comes_over_http_is_read_strictly() -> None:
    together = directory(2, 3)
    together.agreement.startService()
    routes = {route.path.rsplit("/", 1)[1]: route.handler for route in agreement_routes(together)}
    for body in (b"", b"{}", b"\xff" * 1000, b"\x9f" * 60_000, to_cbor({"format": 1}), to_cbor([b"x"])):
        with pytest.raises(EncodingError):
            routes["notices"](Call(body, {}, ""))
        with pytest.raises(EncodingError):
            routes["statements"](Call(body, {}, ""))
    with pytest.raises(EncodingError):
        routes["statements"](Call(to_cbor([bytes(32)] * 501), {}, ""))
    assert from_cbor(routes["statements"](Call(to_cbor([bytes(32)] * 500), {}, "")).body, list, 100) == []
    for query in ({}, {"digest": "zz"}, {"digest": "00" * 33}):
        with pytest.raises(EncodingError):
            routes["part"](Call(b"", query, ""))
    with pytest.raises(DirectoryError):
        routes["part"](Call(b"", {"digest": digest(b"x").hex()}, ""))
    with pytest.raises(EncodingError):
        routes["notices"](Call(together.agreement.notice()[:-1], {}, ""))
    assert together.posts["notices", False] == 7
    assert routes["notices"](Call(together.agreement.notice(), {}, "")).code == 201
    together.agreement.stopService()
