"""Where a client's messages are kept: its configuration, and the words of its command lines."""

from pathlib import Path
from random import Random

import pytest

from twisted.python import usage

from nymtw.client.config import ClientConfig, check, edge
from nymtw.client.options import InitOptions, RunOptions, configure, initialise
from nymtw.encoding import key_text
from nymtw.errors import ConfigError
from nymtw.node.config import parse_config, read_config
from nymtw.node.home import NodeHome

pytestmark = pytest.mark.pythons

PROVIDER, GATEWAY = bytes(range(32)), bytes(range(32, 64))
DIRECTORY = f"--directory-key={key_text(bytes(range(64, 96)))}"


@pytest.fixture(autouse=True)
def _homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))


def init(name: str, *words: str) -> ClientConfig:
    options = InitOptions()
    options.parseOptions([DIRECTORY, *words])
    initialise(options, name, Random(1))
    return read_config(NodeHome("client", name).config_file, ClientConfig)


def started(name: str, *words: str) -> ClientConfig:
    options = RunOptions()
    options.parseOptions([f"--id={name}", *words])
    return configure(options)[1]


@pytest.mark.parametrize("option", ["provider", "gateway"])
def test_init_writes_where_messages_are_kept(option: str) -> None:
    section = init("alice", f"--{option}={key_text(GATEWAY)}").client
    assert {"provider": section.provider_id, "gateway": section.gateway_id} == {
        "provider": "",
        "gateway": "",
        option: key_text(GATEWAY),
    }
    assert edge(started("alice")) == GATEWAY


def test_with_neither_one_is_picked_later() -> None:
    assert edge(init("alice")) is None


def test_what_a_command_line_names_takes_the_place_of_what_the_file_names() -> None:
    init("alice", f"--provider={key_text(PROVIDER)}")
    assert edge(started("alice", f"--gateway={key_text(GATEWAY)}")) == GATEWAY
    init("bob", f"--gateway={key_text(GATEWAY)}")
    assert edge(started("bob", f"--provider={key_text(PROVIDER)}")) == PROVIDER
    assert edge(started("bob")) == GATEWAY


def test_both_are_refused(tmp_path: Path) -> None:
    both = [f"--provider={key_text(PROVIDER)}", f"--gateway={key_text(GATEWAY)}"]
    with pytest.raises(usage.UsageError, match="--provider and --gateway"):
        InitOptions().parseOptions(both)
    lines = ["[client]", 'id = "alice"', f'provider_id = "{key_text(PROVIDER)}"', f'gateway_id = "{key_text(GATEWAY)}"']
    path = tmp_path / "both.toml"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="provider_id and gateway_id"):
        started("alice", f"--customCfg={path}")


def test_a_key_that_is_none_is_named() -> None:
    with pytest.raises(usage.UsageError, match="--gateway: "):
        InitOptions().parseOptions(["--gateway=x"])
    config = parse_config(b'[client]\nid = "alice"\ngateway_id = "x"\n', ClientConfig, "FILE")
    with pytest.raises(ConfigError, match="gateway_id: "):
        check(config)
