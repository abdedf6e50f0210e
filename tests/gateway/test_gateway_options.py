"""What a gateway is told: its modes, its rates, and what its configuration refuses."""

from pathlib import Path

import pytest

from twisted.python import usage

from nymtw.errors import ConfigError
from nymtw.gateway.options import MODES, GatewayConfig, Options, configure, mode_on
from nymtw.node.config import read_config

KEY = "A" * 43 + "="


def parsed(*words: str) -> Options:
    options = Options()
    options.parseOptions(list(words))
    return options


def test_without_a_mode_it_is_an_entry() -> None:
    assert tuple(factory.name for factory in parsed().factories) == MODES["entry"] == ("store",)
    assert parsed("--mailboxes=5")["mailboxes"] == 5  # the options of what it is made of are its own


def test_an_exit_is_an_entry_too() -> None:
    assert tuple(factory.name for factory in parsed("--mode", "exit").factories) == MODES["exit"] == ("store", "exit")
    assert parsed("--mode=exit", "--mailboxes=5")["mailboxes"] == 5


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--mode=both"], "--mode is one of entry, exit, not 'both'"),
        (["--mod=exit"], "write --mode=exit in full"),
        (["--downlink-rate=-1"], "0 to 10000"),
        (["--downlink-rate=nan"], "0 to 10000"),
        (["--client-rate=x"], "could not convert"),
        (["--impl=echo"], "impl"),
    ],
)
def test_what_is_refused_says_why(words: list[str], error: str) -> None:
    with pytest.raises(usage.UsageError, match=error):
        parsed(*words)


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ([], "entry"),
        (["--mode", "exit"], "exit"),
        (["--mode=exit", "--mode=entry"], "entry"),
        (["--", "--mode=x"], "entry"),
    ],
)
def test_the_mode_on_a_command_line(words: list[str], mode: str) -> None:
    assert mode_on(words) == mode


def test_the_help_shows_the_options_of_what_it_is_made_of() -> None:
    text = str(Options())
    for option in ("--mode", "--downlink-rate", "--client-rate", "--client-port", "--mailboxes"):
        assert option in text
    assert "--impl" not in text


def test_its_configuration_is_written_with_comments_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))
    monkeypatch.setattr("nymtw.node.free_ports.is_free", lambda host, port: True)  # whatever else runs here
    home, config = configure(parsed("--id=g", f"--directory-key={KEY}"))
    assert home.config_file == tmp_path / "gateways" / "g" / "config" / "config.toml"
    assert (config.node.downlink_rate, config.node.client_rate) == (None, None)
    text = home.config_file.read_text()
    assert "# downlink_rate =" in text
    assert read_config(home.config_file, GatewayConfig) == config
    _, overridden = configure(parsed("--id=g", "--downlink-rate=0", "--client-rate=300"))
    assert (overridden.node.downlink_rate, overridden.node.client_rate) == (0.0, 300.0)


@pytest.mark.parametrize("line", ["downlink_rate = -1.0", "client_rate = 1e9", "downlink_rate = nan", 'mode = "exit"'])
def test_a_configuration_that_cannot_be_meant_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))
    home, _ = configure(parsed("--id=g", f"--directory-key={KEY}"))
    home.config_file.write_text(home.config_file.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=line.split()[0]):
        read_config(home.config_file, GatewayConfig)
