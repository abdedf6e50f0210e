"""The command line of a node of any role, and the one `config.toml` that it becomes."""

from pathlib import Path
from typing import Any

import pytest

from twisted.python import usage

from nymtw.errors import ConfigError
from nymtw.node.home import NodeHome
from nymtw.nym_node.config import NymNodeConfig
from nymtw.nym_node.options import Options, configure

pytestmark = pytest.mark.pythons

KEY = "A" * 43 + "="


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))
    monkeypatch.setattr("nymtw.node.free_ports.is_free", lambda host, port: True)  # whatever else runs here
    return tmp_path


def parsed(*argv: str) -> Options:
    options = Options()
    options.parseOptions(list(argv))
    return options


def told(*argv: str) -> tuple[NodeHome, NymNodeConfig]:
    return configure(parsed(*argv))


def test_the_defaults() -> None:
    home, config = told("--directory-key", KEY)
    assert (home.path.name, home.path.parent.name) == ("node-1789", "nodes")
    node = config.node
    assert (node.mode, node.takes, node.http_host, node.http_port) == (
        "mixnode",
        ["mixnode", "entry-gateway"],
        "127.0.0.1",
        8000,
    )


def test_one_file_holds_what_every_role_is_told_and_each_mode_reads_its_part(home: Path) -> None:
    told("--id=n", "--directory-key", KEY, "--layer=2", "--loop-rate=3", "--port=1800", "--moniker=here")
    told("--id=n", "--mode=entry-gateway", "--client-port=9100")
    config = told("--id=n")[1]
    assert config.as_mixnode().node.layer == 2
    assert (config.as_mixnode().node.port, config.as_gateway().node.port, config.as_any().node.port) == (1800,) * 3
    assert config.as_gateway().node.client_port == 9000, "what a later command line says is not written back"
    assert config.as_any().node.loop_rate == 3
    assert config.node.moniker == "here"
    text = (home / "nodes" / "n" / "config" / "config.toml").read_text()
    assert [line for line in text.splitlines() if line.startswith("[")] == ["[node]", "[mixnode]", "[gateway]"]


@pytest.mark.parametrize(
    ("mode", "section"), [("mixnode", "MixnodeSection"), ("exit-gateway", "GatewaySection"), ("auto", "AnySection")]
)
def test_what_a_reread_gives_is_what_the_role_is_told(mode: str, section: str) -> None:
    assert type(told("--directory-key", KEY, f"--mode={mode}")[1].section()).__name__ == section


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        ([], []),
        (["--mode=entry-gateway"], ["store"]),
        (["--mode", "exit-gateway"], ["store", "exit"]),
        (["--mode=auto"], ["store"]),
        (["--mode=auto", "--takes", "mixnode,exit-gateway"], ["store", "exit"]),
        (["--mode=auto", "--takes=mixnode"], ["store"]),
    ],
)
def test_a_mode_brings_its_implementations(argv: list[str], names: list[str]) -> None:
    assert [factory.name for factory in parsed(*argv).factories] == names


def test_a_mode_that_the_file_holds_brings_them_too() -> None:
    told("--id=n", "--directory-key", KEY, "--mode=exit-gateway")
    assert [factory.name for factory in parsed("--id=n").factories] == ["store", "exit"]
    assert [factory.name for factory in parsed("--id", "n", "--mode=mixnode").factories] == []
    assert parsed("--id=other").factories == ()


@pytest.mark.parametrize(
    ("mode", "option"),
    [
        ("mixnode", "--client-port=9000"),
        ("mixnode", "--client-port=0"),
        ("mixnode", "--downlink-rate=0"),
        ("mixnode", "--takes=mixnode"),
        ("entry-gateway", "--layer=1"),
        ("entry-gateway", "--workers=2"),
        ("exit-gateway", "--loop-rate=0"),
        ("exit-gateway", "--no-metrics"),
        ("mixnode", "--mailboxes=3"),
        ("entry-gateway", "--exit-policy=file"),
        ("auto", "--exit-private"),
        ("auto", "--layer=1"),
        ("auto", "--workers=2"),
    ],
)
def test_an_option_without_effect_in_the_mode_is_refused_and_reported(mode: str, option: str) -> None:
    with pytest.raises(usage.UsageError, match=f"{option.split('=')[0]} has no effect in mode {mode}"):
        parsed(f"--mode={mode}", option)


@pytest.mark.parametrize(
    "argv",
    [
        ["--mode=gateway"],
        ["--mode=auto", "--takes=exit"],
        ["--mode=auto", "--takes=mixnode,mixnode"],
        ["--mode=auto", "--takes="],
        ["--http-port=65536"],
        ["--mode=mixnode", "--nonsense=3"],
    ],
)
def test_what_cannot_be_meant_is_refused(argv: list[str]) -> None:
    with pytest.raises(usage.UsageError):
        parsed(*argv)


def test_an_abbreviated_mode_that_changes_what_is_meant_is_refused() -> None:
    with pytest.raises(usage.UsageError, match="in full"):
        parsed("--mode=entry-gateway", "--mod=exit-gateway")


def test_a_file_that_says_nonsense_is_named_with_its_line(home: Path) -> None:
    folder, _ = told("--id=n", "--directory-key", KEY)
    text = folder.config_file.read_text()
    for wrong, says in (('mode = "gateway"', "mode"), ("mode = 3", "mode")):
        folder.config_file.write_text(text.replace('mode = "mixnode"', wrong, 1))
        with pytest.raises(ConfigError, match=rf"config.toml:\d+: .*{says}"):
            told("--id=n")


def test_the_help_of_a_mode_shows_what_it_brings() -> None:
    options: Any = parsed("--mode=exit-gateway")
    assert "--mailboxes=" in options.getUsage()
    assert "--layer=" in options.getUsage()
