"""The command line of mixnode and provider, and the `config.toml` that it becomes."""

from pathlib import Path

import pytest

from twisted.python import usage

from nymtw.errors import ConfigError
from nymtw.mixnode import options as mixnode
from nymtw.provider import options as provider

KEY = "A" * 43 + "="


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))
    monkeypatch.setattr("nymtw.node.free_ports.is_free", lambda host, port: True)  # whatever else runs here
    return tmp_path


def mixnode_of(*argv: str) -> mixnode.MixnodeSection:
    options = mixnode.Options()
    options.parseOptions(list(argv))
    return mixnode.configure(options)[1].node


def test_what_is_given_at_the_first_start_holds_for_the_next(home: Path) -> None:
    first = mixnode_of("--id=m", "--directory-key", KEY, "--layer=2", "--port=1800", "--rate=100", "--max-delay=30")
    assert (first.layer, first.port, first.rate, first.max_delay, first.directory_key) == (2, 1800, 100, 30.0, KEY)
    assert mixnode_of("--id=m") == first
    assert mixnode_of("--id=m", "--port=1900").port == 1900
    assert mixnode_of("--id=m").port == 1800
    assert (home / "mixnodes" / "m" / "config" / "config.toml").stat().st_mode & 0o777 == 0o600


def test_the_defaults() -> None:
    node = mixnode_of("--directory-key", KEY)
    assert (node.id, node.port, node.layer, node.rate) == ("mixnode-1789", 1789, 0, 2000)
    options = provider.Options()
    options.parseOptions(["--directory-key", KEY])
    section = provider.configure(options)[1].node
    assert (section.id, section.port, section.client_port) == ("provider-1789", 1789, 9000)


def test_without_a_network_nothing_starts() -> None:
    with pytest.raises(ConfigError, match="no network is in use"):
        mixnode_of("--id=m")
    with pytest.raises(ConfigError, match="--directory-key is needed with --directory"):
        mixnode_of("--id=m", "--directory=http://127.0.0.1:1")


def test_an_unknown_key_is_told_with_its_line(home: Path) -> None:
    mixnode_of("--id=m", "--directory-key", KEY)
    path = home / "mixnodes" / "m" / "config" / "config.toml"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, "colour = 1"]))
    with pytest.raises(ConfigError, match=rf"config\.toml:{len(lines) + 1}: unknown key 'colour' in \[node\]"):
        mixnode_of("--id=m")


@pytest.mark.parametrize(
    "argv",
    [["--layer=4"], ["--layer=0"], ["--rate=0"], ["--rate=x"], ["--max-delay=0"], ["--max-delay=nan"], ["--nope"]],
)
def test_a_value_out_of_range_is_a_usage_error(argv: list[str]) -> None:
    with pytest.raises(usage.UsageError):
        mixnode.Options().parseOptions(argv)
