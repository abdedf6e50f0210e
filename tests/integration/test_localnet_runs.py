"""`nymtw localnet` from outside: real processes, real sockets, real signals."""

import hashlib
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

FULL = bool(os.environ.get("NYMTW_FULL"))
SMALL = ("--mixnodes-per-layer=1", "--providers=1", "--gateways=0")
Start = Callable[..., Any]


def test_a_file_and_then_an_empty_one(localnet: Start, tmp_path: Path) -> None:
    """The usual network; the second run keeps the first one's keys."""
    file, folder = tmp_path / "Größe und Maß.pdf", tmp_path / "net"
    content = os.urandom(1024 * 1024 if FULL else 200_000)
    file.write_bytes(content)
    run = localnet("--dir", folder, "--send", file, "--exit")
    run.wait_for(r"alice to bob: 'Hello bob, this is alice\.' arrived after [0-9.]+ s")
    key = run.wait_for(r"its key (\S{44})")[1]
    assert run.wait(900) == 0
    assert (folder / "received" / file.name).read_bytes() == content
    assert run.output.count(hashlib.sha256(content).hexdigest()) == 2
    for name in ("directory", "mixnode-3-2", "provider-2", "gateway-1", "alice", "bob"):
        assert (folder / "logs" / f"{name}.log").exists()
        assert re.search(rf"^  {name} +\S*127\.0\.0\.1:\d+", run.output, re.MULTILINE)
    run.wait_until_gone()

    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    again = localnet("--dir", folder, "--send", empty, "--exit")
    assert again.wait() == 0, again.output
    assert again.wait_for(r"its key (\S{44})")[1] == key
    assert (folder / "received" / "empty").read_bytes() == b""


def test_a_mixnode_that_is_killed_costs_time_not_data(localnet: Start, tmp_path: Path) -> None:
    file = tmp_path / "a file"
    file.write_bytes(os.urandom(300_000))
    run = localnet("--dir", tmp_path / "net", "--send", file, "--exit")
    run.wait_for("alice to bob: ")
    os.kill(run.child("mixnode-2-1"), signal.SIGKILL)
    run.wait_for(r"mixnode-2-1 has died \(killed by SIGKILL\)")
    assert run.wait(600) == 0, run.output
    assert (tmp_path / "net" / "received" / "a file").read_bytes() == file.read_bytes()


def test_two_beside_each_other_and_ctrl_c(localnet: Start) -> None:
    first = localnet(*SMALL)
    folder = Path(first.wait_for(r"logs are in (\S+)")[1])
    first.wait_for("Running until Ctrl-C")
    second = localnet(*SMALL, "--exit")
    assert second.wait() == 0, second.output
    ports = [set(re.findall(r"127\.0\.0\.1:(\d+)", run.output)) for run in (first, second)]
    assert not ports[0] & ports[1]
    assert len(first.children()) == 8
    first.signal(signal.SIGINT)
    assert first.wait(100) == 0
    first.wait_until_gone()
    assert not folder.parent.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_end_of_the_parent_is_the_end_of_all(localnet: Start, number: int, tmp_path: Path) -> None:
    """A terminal that is closed sends SIGHUP; nobody can do anything about SIGKILL, except the children."""
    run = localnet(*SMALL, "--dir", tmp_path)
    run.wait_for("Running until Ctrl-C")
    run.signal(number)
    assert run.wait(100) == (0 if number != signal.SIGKILL else -signal.SIGKILL)
    assert "Did not stop in time" not in run.output
    run.wait_until_gone()
    assert "Server Shut Down" in (tmp_path / "logs" / "provider-1.log").read_text()


def test_ctrl_c_while_it_starts(localnet: Start) -> None:
    run = localnet(*SMALL)
    run.wait_for("Starting 8 processes")
    run.signal(signal.SIGINT)
    assert run.wait(100) == 128 + signal.SIGINT
    run.wait_until_gone()


def test_a_component_that_dies_is_told_at_once(localnet: Start, tmp_path: Path) -> None:
    """While it runs: a line, and the rest goes on. At the start: the end, with the reason out of its log."""
    first = localnet(*SMALL, "--dir", tmp_path)
    first.wait_for("Running until Ctrl-C")
    os.kill(first.child("mixnode-1-1"), signal.SIGKILL)
    first.wait_for(r"mixnode-1-1 has died \(killed by SIGKILL\)")
    assert first.process.poll() is None
    first.signal(signal.SIGINT)
    assert first.wait(100) == 0
    key = tmp_path / "home/mixnodes/mixnode-1-1/config/identity_private_key.pem"
    key.write_text("no key")
    second = localnet(*SMALL, "--dir", tmp_path)
    assert second.wait() == 1
    assert f"{key}: not a PEM key file" in second.output
    second.wait_until_gone()
