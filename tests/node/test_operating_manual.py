"""The operators' manual names what there is, and its systemd units are units that run these programs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nymtw.drop_reasons import DropReason
from nymtw.gateway.options import Options as GatewayOptions
from nymtw.mixnode.options import MixnodeSection
from nymtw.mixnode.options import Options as MixnodeOptions
from nymtw.nym_node.options import Options as NodeOptions
from nymtw.pipe.roles import FaucetOptions, RedeemerOptions, WatcherOptions
from nymtw.provider.options import Options as ProviderOptions
from nymtw.provider.options import ProviderSection
from nymtw.validator.tap import Options as ValidatorOptions

DOCS = Path(__file__).parents[2] / "docs"
MANUAL = (DOCS / "operating.md").read_text()
UNITS = sorted((DOCS / "systemd").glob("*.service"))


def test_every_reason_of_a_drop_is_explained() -> None:
    table = MANUAL.split("| reason of a drop |")[1].split("\n\n")[0]
    named = [name for row in table.splitlines()[2:] for name in re.findall("`([a-z-]+)`", row.split("|")[1])]
    assert sorted(named) == sorted(DropReason)


def test_the_keys_that_can_change_are_keys() -> None:
    table = MANUAL.split("| without a restart |")[1].split("\n\n")[0]
    names = re.findall("`([a-z_]+)`", table)
    assert len(names) == 8
    assert set(names) - {"client_rate"} <= set(MixnodeSection.__struct_fields__)
    assert {"max_delay", "drain", "client_rate"} <= set(ProviderSection.__struct_fields__)


def test_headings_that_are_linked_exist() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.removeprefix("## ").lower()).replace(" ", "-")
        for line in MANUAL.splitlines()
        if line.startswith("## ")
    }
    assert set(re.findall(r"\]\(#([a-z0-9-]+)\)", MANUAL)) == headings


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_what_it_says(unit: Path) -> None:
    found = re.search(
        r"^ExecStart=/opt/nymtw/bin/twist --log-format=text (nym-\w+) (.*)$", unit.read_text(), re.MULTILINE
    )
    assert found is not None
    role = {"nym-exit": "nym-gateway", "nym-webproxy": "nym-provider"}.get(unit.stem, unit.stem)
    assert found[1] == role
    options: Any = {
        "nym-mixnode": MixnodeOptions,
        "nym-provider": ProviderOptions,
        "nym-gateway": GatewayOptions,
        "nym-node": NodeOptions,
        "nym-validator": ValidatorOptions,
        "nym-watcher": WatcherOptions,
        "nym-redeemer": RedeemerOptions,
        "nym-faucet": FaucetOptions,
    }[found[1]]()
    options.parseOptions(found[2].split())
    assert options["id"] == "main"
    # What speaks to the internet for strangers is out of reach of the node's keys, and may ask for that.
    internet = unit.stem in ("nym-exit", "nym-webproxy")
    assert bool(options.get("isolate")) == internet
    assert ("landlock_restrict_self" in unit.read_text()) == internet
    if internet:
        assert {factory.name for factory in options.factories} & {"exit", "webproxy"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_gives_more_time_than_a_node_takes_to_drain(unit: Path) -> None:
    given = re.search(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
    assert given is not None
    assert int(given[1]) >= 2 * MixnodeSection(id="x", directory_key="").drain


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_a_unit(unit: Path, tmp_path: Path) -> None:
    # On this machine there are no such user and no such folder.
    text = unit.read_text().replace("/opt/nymtw/bin/twist", sys.executable).replace("=nymtw\nGroup=nymtw", "=root")
    copy = tmp_path / unit.name
    copy.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_there_is_a_unit_for_each_role() -> None:
    assert [unit.stem for unit in UNITS] == [
        "nym-exit",
        "nym-faucet",
        "nym-gateway",
        "nym-mixnode",
        "nym-node",
        "nym-provider",
        "nym-redeemer",
        "nym-validator",
        "nym-watcher",
        "nym-webproxy",
    ]
