"""What the validator side of a localnet consists of, and what becomes of its options."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("eth_account", reason="needs nymtw[ethereum]")

from twisted.python import usage

from nymtw.errors import ConfigError
from nymtw.localnet import ports
from nymtw.localnet.options import Options
from nymtw.localnet.validators import Plan, ValidatorSide
from nymtw.pipe.devchain.tap import Options as DevchainOptions
from nymtw.pipe.roles import FaucetOptions, RedeemerOptions, WatcherOptions
from nymtw.testing.clock import FakeClock
from nymtw.validator.tap import Options as ValidatorOptions

PARSERS = {
    "nym-devchain": DevchainOptions,
    "nym-validator": ValidatorOptions,
    "nym-watcher": WatcherOptions,
    "nym-redeemer": RedeemerOptions,
    "nym-faucet": FaucetOptions,
}


@pytest.fixture(autouse=True)
def _all_ports_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: True)


def side(folder: Path, consensus: str = "embedded", directory: str = "") -> ValidatorSide:
    processes: Any = None
    return ValidatorSide(FakeClock(), folder, folder / "home", processes, Plan(consensus, "evm"), directory, 60.0)


def parsed(component: Any) -> Any:
    options = PARSERS[component.command[0]]()
    options.parseOptions(list(component.command[1:]))
    return options


def test_one_validator_and_who_brings_tokens(tmp_path: Path) -> None:
    made = side(tmp_path, directory="http://127.0.0.1:8080")
    names = [component.name for component in made.components]
    assert names == [
        *("ethereum", "validator-1", "watcher-1", "watcher-2", "redeemer-1", "redeemer-2", "redeemer-3", "faucet"),
    ]
    assert made.ethereum_url == "http://127.0.0.1:8545"
    assert made.ledger_urls == ["http://127.0.0.1:26657"]
    options = {component.name: parsed(component) for component in made.components}
    assert options["validator-1"].sections()["validator"]["directories"] == ["http://127.0.0.1:8080"]
    watcher = options["watcher-1"].sections()["watcher"]
    assert (watcher["ledger"], watcher["ethereum"]) == (made.ledger_urls, [made.ethereum_url])
    assert watcher["confirmations"] == 1
    assert options["redeemer-3"].sections()["redeemer"]["ethereum"] == made.ethereum_url
    assert options["faucet"].sections()["faucet"]["port"] == 4200


def test_four_validators_know_each_other(tmp_path: Path) -> None:
    made = side(tmp_path, "cometbft")
    validators = [parsed(each).sections() for each in made.components if each.name.startswith("validator")]
    assert len(validators) == 4
    taken = [value for each in validators for value in (each["validator"]["port"], each["cometbft"]["port"])]
    taken += [each["cometbft"]["rpc_port"] for each in validators]
    assert len(set(taken)) == 12
    for number, each in enumerate(validators):
        own = f":{each['cometbft']['port']}"
        assert len(each["cometbft"]["peers"]) == 3, number
        assert not any(peer.endswith(own) for peer in each["cometbft"]["peers"])
    assert all(len(parsed(each).sections()["watcher"]["ledger"]) == 4 for each in made.components[5:7])


def test_keys_are_the_same_at_the_next_start_and_for_their_owner_alone(tmp_path: Path) -> None:
    first, second = side(tmp_path, "cometbft"), side(tmp_path, "cometbft")
    assert first.components == second.components
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.pem")} == {0o600}


@pytest.mark.parametrize(
    "words",
    [["--consensus=embedded"], ["--ethereum=evm"], ["--validators", "--consensus=x"], ["--validators", "--ethereum=x"]],
)
def test_options_that_cannot_be(words: list[str]) -> None:
    with pytest.raises(usage.UsageError, match=r"needs --validators|is one of"):
        Options().parseOptions(words)


def test_what_is_missing_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("NYMTW_ANVIL", "NYMTW_GETH", "NYMTW_COMETBFT"):
        monkeypatch.delenv(name, raising=False)
    for plan, program in (
        (Plan("embedded", "anvil"), "anvil"),
        (Plan("embedded", "geth"), "geth"),
        (Plan("cometbft", "evm"), "CometBFT"),
    ):
        with pytest.raises(ConfigError, match=f"there is no {program}"):
            plan.check()
