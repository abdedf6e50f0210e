"""What the commands of watcher, redeemer, faucet and deployment make and say."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("eth_account", reason="needs nymtw[ethereum]")

from nymtw import commands as nymtw_commands
from nymtw.errors import ConfigError
from nymtw.node.home import NodeHome
from nymtw.pipe.devchain.program import command_line, find_program
from nymtw.pipe.devchain.tap import Options as DevchainOptions
from nymtw.pipe.roles import FAUCET, REDEEMER, WATCHER, FaucetOptions, RedeemerOptions, WatcherOptions, role_main
from nymtw.pipe.rounds import Rounds
from nymtw.testing.clock import FakeClock

ROLES = [(WATCHER, WatcherOptions), (REDEEMER, RedeemerOptions), (FAUCET, FaucetOptions)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, role: Any, options: Any, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", [role.program, *words])
    try:
        return role_main(role, options)
    except SystemExit as end:
        return int(end.code or 0)


def genesis_file(home: Path, chain: str = "mine") -> Path:
    from nymtw.validator.setup import load_keys, make_genesis, open_home, write_genesis

    place = open_home(f"validator-{chain}")
    write_genesis(home / f"{chain}.json", make_genesis(chain, [load_keys(place).line], {}))
    place.unlock()
    return home / f"{chain}.json"


@pytest.mark.parametrize(("role", "options"), ROLES, ids=[role.name for role, _ in ROLES])
def test_init_makes_key_and_configuration_and_later_takes_the_genesis(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, role: Any, options: Any
) -> None:
    assert run(monkeypatch, role, options, "init") == 0
    said = capfd.readouterr().out
    assert "It has no genesis yet" in said
    place = NodeHome(role.name, role.name)
    assert all(path.stat().st_mode & 0o77 == 0 for path in place.config.iterdir())
    assert run(monkeypatch, role, options, "show") == 0
    assert capfd.readouterr().out.strip() in said
    lines = place.config_file.read_text().splitlines()
    values = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    [field] = msgspec.structs.fields(role.config)
    assert len(values) == len(field.type.__struct_fields__)
    assert all(lines[number - 1].startswith("#") for number in values)
    assert run(monkeypatch, role, options, "run") == 1
    assert "--genesis FILE" in capfd.readouterr().err
    assert run(monkeypatch, role, options, "init", f"--genesis={genesis_file(home)}") == 0
    assert "no genesis" not in capfd.readouterr().out
    assert run(monkeypatch, role, options, "init", f"--genesis={genesis_file(home, 'other')}") == 1
    assert "another genesis" in capfd.readouterr().err


@pytest.mark.parametrize(("role", "options"), ROLES, ids=[role.name for role, _ in ROLES])
@pytest.mark.parametrize(
    "words", [["show"], ["init", "--genesis=/no/such/file"], ["init", "--metrics-port=x"], ["fly"]]
)
def test_one_line_for_what_cannot_be(
    monkeypatch: pytest.MonkeyPatch, capfd: Any, role: Any, options: Any, words: list[str]
) -> None:
    assert run(monkeypatch, role, options, *words) == 1
    said = capfd.readouterr()
    assert len(said.err.strip().splitlines()) == 1


def test_options_are_sections() -> None:
    watcher = WatcherOptions()
    watcher.parseOptions(["--ledger=a", "--ledger=b", "--ethereum=c", "--confirmations=1", "--finalized"])
    assert watcher.sections() == {
        "watcher": {"id": "watcher", "ledger": ["a", "b"], "ethereum": ["c"], "confirmations": 1, "finalized": True}
    }
    redeemer = RedeemerOptions()
    redeemer.parseOptions(["--id=x", "--ethereum=c", "--no-payments"])
    assert redeemer.sections() == {"redeemer": {"id": "x", "ethereum": "c", "pays": False}}
    faucet = FaucetOptions()
    faucet.parseOptions(["--tokens=1.5", "--per-minute=3"])
    assert faucet.sections() == {"faucet": {"id": "faucet", "tokens": 1.5, "per_minute": 3}}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["deploy"],
        ["deploy", "--redeemer=0x12", "--key=/no/such/file"],
        ["deploy", "--redeemer=0x12"],
        ["fly"],
    ],
)
def test_contracts_one_line_for_what_cannot_be(capfd: Any, words: list[str]) -> None:
    assert nymtw_commands.main(["contracts", *words]) == 1
    assert len(capfd.readouterr().err.strip().splitlines()) == 1


def test_a_program_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="npm install"):
        find_program("anvil", {"PATH": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"NYMTW_GETH=/no/geth.*build-geth"):
        find_program("geth", {"NYMTW_GETH": "/no/geth"})
    options = DevchainOptions()
    with pytest.raises(Exception, match="backend"):
        options.parseOptions(["--backend=x"])
    assert "127.0.0.1" in command_line("anvil", "anvil", tmp_path, 1, 1.0)
    assert "127.0.0.1" in command_line("geth", "geth", tmp_path, 1, 0.2)


def test_rounds_go_on_after_errors(expected_failures: list[str]) -> None:
    expected_failures.append("{what} has failed")
    clock, done = FakeClock(), []
    outcomes = [ConfigError("one"), ConfigError("one"), None, ValueError("two"), None]

    async def work() -> None:
        done.append(clock.seconds())
        found = outcomes.pop(0)
        if found is not None:
            raise found

    rounds = Rounds(clock, work, 5.0, "this")
    assert rounds.age == -1
    rounds.startService()
    assert rounds.trouble == "one"
    clock.advance(10)
    assert rounds.trouble == ""
    assert (rounds.age, rounds.failed) == (0, 2)
    clock.advance(5)
    assert "error of the program" in rounds.trouble
    clock.advance(5)
    assert (rounds.done, rounds.failed, rounds.trouble) == (2, 3, "")
    stopped = rounds.stopService()
    assert stopped is not None
    clock.advance(60)
    assert len(done) == 5
