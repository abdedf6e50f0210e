"""What a validator's commands make and say."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nymtw.errors import ConfigError, KeyFileError
from nymtw.ledger.machine.parameters import genesis_json
from nymtw.node.home import NodeHome
from nymtw.node.keys import KeyKind, save_private
from nymtw.validator import commands
from nymtw.validator.config import ValidatorConfig
from nymtw.validator.setup import load_genesis, load_keys, load_validator_config, make_genesis, parse_validator
from nymtw.validator.tap import Options

WATCHER = "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["nym-validator", *words])
    try:
        return commands.main()
    except SystemExit as end:
        return int(end.code or 0)


def test_init_makes_a_chain_of_one(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    assert run(monkeypatch, "init", "--id=a", "--chain=mine", f"--watcher={WATCHER}", "--port=1234") == 0
    output = capfd.readouterr().out
    a = NodeHome("validator", "a")
    genesis, keys = load_genesis(a), load_keys(a)
    assert genesis.chain == "mine"
    assert genesis.parameters.validators[0].address == keys.account.address
    assert genesis.parameters.validators[0].key == bytes(keys.identity.verify_key)
    assert genesis.parameters.watcher_threshold == 1
    assert f"--validator {keys.line}" in output
    assert load_validator_config(a, {}).validator.port == 1234
    assert all(path.stat().st_mode & 0o77 == 0 for path in a.config.iterdir())
    # Again: nothing changes.
    before = {path.name: path.read_bytes() for path in a.config.iterdir()}
    assert run(monkeypatch, "init", "--id=a", "--chain=mine") == 0
    assert {path.name: path.read_bytes() for path in a.config.iterdir()} == before


def test_a_genesis_of_several(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    lines = []
    assert run(monkeypatch, "init", "--id=a") == 0
    assert run(monkeypatch, "init", "--id=b", "--consensus=cometbft") == 0
    assert "no genesis yet" in capfd.readouterr().out
    for name in ("a", "b"):
        lines.append(load_keys(NodeHome("validator", name)).line)
    file = home / "genesis.json"
    words = [f"--validator={lines[0]}", f"--validator={lines[1]}=5", "--chain=both", "--output", str(file)]
    assert run(monkeypatch, "genesis", *words) == 0
    assert [each["power"] for each in json.loads(file.read_text())["parameters"]["validators"]] == [1, 5]
    # Who has one already keeps it and says so; who has none takes it.
    assert run(monkeypatch, "init", "--id=a", f"--genesis={file}") == 1
    assert "another genesis" in capfd.readouterr().err
    assert run(monkeypatch, "init", "--id=c", f"--genesis={file}") == 0
    assert genesis_json(load_genesis(NodeHome("validator", "c"))) == file.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ["genesis", "--validator=nonsense"],
        ["genesis"],
        ["genesis", "--chain=UPPER"],
        ["init", "--watcher=0x12"],
        ["init", f"--watcher={WATCHER[:-1]}f"],
        ["init", "--consensus=other"],
        ["init", "--genesis=/no/such/file"],
        ["init", "--keep-states=1"],
        ["show"],
        ["check"],
        ["vote"],
        ["vote", "minimum_bond"],
        ["vote", "--ledger=nonsense", "minimum_bond=5"],
    ],
)
def test_one_line_for_what_cannot_be(monkeypatch: pytest.MonkeyPatch, capfd: Any, words: list[str], home: Path) -> None:
    monkeypatch.chdir(home)
    assert run(monkeypatch, *words) == 1
    output = capfd.readouterr()
    assert len(output.err.strip().splitlines()) == 1
    assert "Traceback" not in output.err


def test_options_override_the_file() -> None:
    options = Options()
    options.parseOptions(
        [
            "--id=x",
            "--consensus=cometbft",
            "--p2p-port=5",
            "--peer=a@h:1",
            "--peer=b@h:2",
            "--any-addresses",
            "--no-check",
        ]
    )
    sections = options.sections()
    assert sections["validator"] == {"id": "x", "consensus": "cometbft", "check_at_start": False}
    assert sections["cometbft"] == {"port": 5, "peers": ["a@h:1", "b@h:2"], "strict_addresses": False}


def test_every_value_has_a_comment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "init") == 0
    lines = NodeHome("validator", "validator").config_file.read_text().splitlines()
    for number, line in enumerate(lines):
        if " = " in line and not line.startswith("#"):
            assert lines[number - 1].startswith("#"), line
    fields = [name for section in ("validator", "cometbft") for name in _fields(section)]
    assert sum(1 for line in lines if " = " in line and not line.startswith("#")) == len(fields)


def _fields(section: str) -> tuple[str, ...]:
    import msgspec

    [field] = [each for each in msgspec.structs.fields(ValidatorConfig) if each.name == section]
    names: tuple[str, ...] = field.type.__struct_fields__
    return names


def test_an_account_key_of_another_kind(home: Path) -> None:
    place = NodeHome("validator", "x")
    place.create()
    save_private(place.config / "account_private_key.pem", KeyKind.IDENTITY, bytes(32))
    with pytest.raises(KeyFileError, match="account_private_key"):
        load_keys(place)


def test_validators_of_a_genesis() -> None:
    line = f"{WATCHER}={'A' * 43}="
    assert parse_validator(line).power == 1
    assert parse_validator(f"{line}=7").power == 7
    with pytest.raises(ConfigError):
        make_genesis("chain", [line, line], {})


def test_check_counts_all_money(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from nymtw.ledger.storage.replica import Replica
    from nymtw.ledger.storage.store import LedgerStore

    assert run(monkeypatch, "init") == 0
    place = NodeHome("validator", "validator")
    store = LedgerStore(place.data / "ledger.sqlite")
    Replica(store, load_genesis(place)).begin()
    store.close()
    capfd.readouterr()
    assert run(monkeypatch, "check") == 0
    assert "Block 0" in capfd.readouterr().out
    import sqlite3

    with sqlite3.connect(place.data / "ledger.sqlite") as database:
        database.execute("DELETE FROM nodes")
    assert run(monkeypatch, "check") == 1
    assert "is missing" in capfd.readouterr().err


def test_the_page_loads_what_is_there() -> None:
    import re

    from nymtw.validator.service import page_routes
    from nymtw.web.http import Answer, Call

    served = {route.path: route.handler(Call(b"", {}, "127.0.0.1")) for route in page_routes()}
    html = served["/"]
    assert isinstance(html, Answer)
    text = html.body.decode()
    assert set(re.findall(r'(?:src|href)="([^"]+)"', text)) == set(served) - {"/"}
    script = served["/assets/ledger.js"]
    assert isinstance(script, Answer)
    code = script.body.decode()
    assert set(re.findall(r'byId\("([a-z]+)"\)|fill\("([a-z]+)"', code)) <= {
        pair for name in re.findall(r'id="([a-z]+)"', text) for pair in ((name, ""), ("", name))
    }
    assert "innerHTML" not in code
