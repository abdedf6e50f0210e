"""The oldest client that may send, as a directory is told it and tells it."""

import pytest
from nacl.signing import SigningKey

from twisted.python import usage

from nymtw.directory.config import DirectoryConfig
from nymtw.directory.service import make_directory
from nymtw.directory.tap import Options
from nymtw.errors import ConfigError
from nymtw.node.config import parse_config
from nymtw.testing.clock import FakeClock


def test_the_option_comes_into_the_topology() -> None:
    options = Options()
    options.parseOptions(["--minimum-client-version=v0.2"])
    sections = options.sections()
    assert sections["directory"]["minimum_client_version"] == "0.2"
    config = parse_config(b'[directory]\nid = "d"\nminimum_client_version = "0.2"\n', DirectoryConfig, "f")
    clock = FakeClock()
    directory = make_directory(clock, SigningKey(bytes(32)), config, wall_clock=clock.wall_clock)
    assert directory.publisher.topology().minimum_client_version == "0.2"


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(usage.UsageError, match="is not a version"):
        Options().parseOptions(["--minimum-client-version=newest"])
    with pytest.raises(ConfigError, match=r"^f:1: .*'newest' is not a version"):
        parse_config(b'[directory]\nid = "d"\nminimum_client_version = "newest"\n', DirectoryConfig, "f")
