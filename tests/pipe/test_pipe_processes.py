"""The validator side as real processes: tokens in and out, and what is killed or taken back between.

On py-evm with an embedded ledger; on anvil, and on geth with four CometBFT nodes, where they are installed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("eth_account", reason="needs nymtw[ethereum]")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

from ledger_processes import needs_cometbft

from nymtw.errors import ConfigError
from nymtw.pipe.devchain.program import find_program

pytestmark = [pytest.mark.integration, pytest.mark.evm]

TOKEN = 10**18
FULL = bool(os.environ.get("NYMTW_FULL"))  # all of them are stopped and started again, too


def drive(folder: Path, *words: str) -> Any:
    """What the driver has found out; its processes are gone then."""
    driver = Path(__file__).with_name("side_driver.py")
    done = subprocess.run([sys.executable, driver, folder, *words], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:] + logs(folder)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["had_to_be_killed"] == []
    return found


def logs(folder: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text()[-600:]}" for path in sorted((folder / "logs").glob("*.log")))


def needs(program: str) -> Any:
    try:
        find_program(program)
        there = True
    except ConfigError:
        there = False
    return pytest.mark.skipif(not there, reason=f"{program} is not installed here")


@pytest.fixture(scope="module")
def on_py_evm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("side")
    found = drive(folder, "embedded", "evm", "in_and_out", "killed", "reorganised", "gone")
    found["logs"] = {path.name: path.read_text() for path in (folder / "logs").glob("*.log")}
    return found


def came_in_once(found: Any, flows: int, more: int = 0) -> None:
    """So many have each brought in a token and taken half of it out; `more` came in besides."""
    before, after = found["before"], found["after"]
    assert after["conserved"]
    assert after["notarised"] == before["notarised"] + flows * TOKEN + more
    assert after["released"] == before["released"] + flows * TOKEN // 2


def test_tokens_come_in_and_go_out(on_py_evm: Any) -> None:
    found = on_py_evm["in_and_out"]
    assert len(found["said"]) == 5
    assert found["said"][2].endswith("on the ledger it has 1")
    assert found["said"][3].endswith("on the ledger it has 0.5 now")
    assert (found["notarised"], found["released"], found["balances"]) == (TOKEN, TOKEN // 2, TOKEN // 2)


def test_watchers_redeemers_and_ethereum_killed_with_a_deposit_under_way(on_py_evm: Any) -> None:
    found = on_py_evm["killed"]
    assert found["balance"] == "0.75"
    came_in_once(found, 1, TOKEN // 4)


def test_a_reorganisation_of_what_was_read(on_py_evm: Any) -> None:
    came_in_once(on_py_evm["reorganised"], 1)
    said = on_py_evm["logs"]
    assert all("reorganisation deeper" in said[f"watcher-{number}.log"] for number in (1, 2))


def test_a_ledger_whose_chain_is_gone_is_refused(on_py_evm: Any) -> None:
    assert "is gone" in on_py_evm["gone"]


def test_nobody_has_logged_an_error_of_the_program(on_py_evm: Any) -> None:
    assert [name for name, said in on_py_evm["logs"].items() if "Traceback" in said] == []


@needs("anvil")
def test_on_anvil(tmp_path: Path) -> None:
    found = drive(tmp_path, "embedded", "anvil", "in_and_out", "reorganised")
    came_in_once(found["reorganised"], 1)


@needs("geth")
@needs_cometbft
def test_on_geth_and_four_cometbft_nodes(tmp_path: Path) -> None:
    found = drive(tmp_path, "cometbft", "geth", "in_and_out", *(["restarted"] if FULL else []))
    assert found["in_and_out"]["conserved"]
    assert len(found["in_and_out"]["said"]) == 5
    if FULL:
        assert found["restarted"]["killed"] == []
        came_in_once(found["restarted"], 1)
