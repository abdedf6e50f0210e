"""The directory as real processes: every way to start it, and every way in which it cannot start."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nymtw.node.keys import KeyKind, load_public
from nymtw.topology.document import Trust, verify_topology

pytestmark = pytest.mark.integration

DEADLINE = 150.0  # seconds
TWISTD = "from twisted.scripts.twistd import run; run()"
RUN = "import sys; from nymtw.directory.commands import main; sys.exit(main())"
MODES = {
    "twistd -n": [sys.executable, "-c", TWISTD, "-n", "--pidfile=", "nym-directory"],
    "twistd": [sys.executable, "-c", TWISTD, "--pidfile=daemon.pid", "nym-directory"],
    "python -m twisted": [sys.executable, "-m", "twisted", "nym-directory"],
    "nym-directory run": [sys.executable, "-c", RUN, "run"],
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "NYMTW_HOME": str(tmp_path / "nym")}


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def finish(command: Sequence[str], folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=25) as answer:
        return bytes(answer.read())


def wait_until_it_answers(port: int) -> None:
    end = time.monotonic() + DEADLINE
    while True:
        try:
            assert json.loads(get(port, "/api/healthcheck")) == {"ok": True}
            return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < end, "the directory does not answer"
            time.sleep(0.05)


@pytest.mark.parametrize("mode", MODES)
def test_a_taken_port_is_one_line_and_status_1(
    mode: str, tmp_path: Path, environment: dict[str, str], taken: int
) -> None:
    done = finish([*MODES[mode], f"--port={taken}"], tmp_path, environment)
    assert done.returncode == 1
    assert done.stderr == f"nym-directory: cannot listen on 127.0.0.1:{taken}: Address already in use\n"
    assert done.stdout == ""
    assert not (tmp_path / "daemon.pid").exists()


@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_key_is_one_line_and_status_1(mode: str, tmp_path: Path, environment: dict[str, str]) -> None:
    config = tmp_path / "nym" / "directories" / "directory" / "config"
    config.mkdir(parents=True)
    (config / "config.toml").write_text('[directory]\nid = "directory"\nprot = 1\n')
    done = finish(MODES[mode], tmp_path, environment)
    assert done.returncode == 1
    assert done.stderr == f"nym-directory: {config}/config.toml:3: unknown key 'prot' in [directory]\n"


def mistakes(config: Path) -> Iterator[str]:
    """Make one mistake after the other; yield what is to be said of it."""
    key = config / "identity_private_key.pem"
    good = key.read_text()
    key.chmod(0o644)
    yield f"{key}: users other than its owner can read it (mode 0644): chmod 600 it"
    key.chmod(0o600)
    key.write_text(good.replace("ED25519", "SPHINX CURVE25519"))
    yield f"{key}: its type is SPHINX CURVE25519 PRIVATE KEY, where ED25519 PRIVATE KEY is wanted"
    key.write_text(good.replace(good.splitlines()[1], "AAAA"))
    yield f"{key}: its key has 3 bytes, where 32 are wanted"
    key.unlink()
    yield f"{key}: No such file or directory"
    key.write_text(good)
    key.chmod(0o600)
    (config / "config.toml").write_text("[directory\n")
    yield f"{config}/config.toml:1: Expected ']' at the end of a table declaration"


def test_key_and_toml_mistakes_are_one_line_and_status_1(tmp_path: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [*MODES["twistd -n"], "--port=0"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "identity key" in line:
                break
        again = finish(MODES["twistd -n"], tmp_path, environment)
        process.send_signal(signal.SIGTERM)
    folder = tmp_path / "nym" / "directories" / "directory"
    assert (again.returncode, again.stderr) == (1, f"nym-directory: {folder}: another process is using this folder\n")
    for cause in mistakes(folder / "config"):
        done = finish(MODES["twistd -n"], tmp_path, environment)
        assert (done.returncode, done.stderr) == (1, f"nym-directory: {cause}\n")


@pytest.mark.parametrize("mode", MODES)
def test_it_runs_serves_a_signed_topology_and_stops(mode: str, tmp_path: Path, environment: dict[str, str]) -> None:
    port = free_port()
    with open(tmp_path / "out", "w") as out:
        process: Any = subprocess.Popen(
            [*MODES[mode], f"--port={port}"], cwd=tmp_path, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            wait_until_it_answers(port)
            key_file = tmp_path / "nym" / "directories" / "directory" / "config" / "identity_public_key.pem"
            trust = Trust((load_public(key_file, KeyKind.IDENTITY),))
            assert verify_topology(get(port, "/api/v1/topology"), trust, time.time()).nodes == ()
            if mode == "twistd":
                assert process.wait(DEADLINE) == 0
                pid = int((tmp_path / "daemon.pid").read_text())
                os.kill(pid, signal.SIGTERM)
                end = time.monotonic() + DEADLINE
                while (tmp_path / "daemon.pid").exists() and time.monotonic() < end:
                    time.sleep(0.05)
                assert not (tmp_path / "daemon.pid").exists()
            else:
                process.send_signal(signal.SIGINT)
                process.wait(DEADLINE)
        finally:
            process.kill()
            process.wait()
    log = (tmp_path / ("twistd.log" if mode == "twistd" else "out")).read_text()
    assert f"http://127.0.0.1:{port}" in log
    assert "Traceback" not in log
    if mode != "python -m twisted":
        assert "directory.service/startService ▶ INFO - The directory is at" in log


def test_it_ends_when_its_parent_is_gone(tmp_path: Path, environment: dict[str, str]) -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [*MODES["twistd -n"], "--port=0"],
        cwd=tmp_path,
        env={**environment, "NYMTW_LIFELINE": str(reading)},
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[reading],
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "identity key" in line:
                break
        os.close(reading)
        os.close(writing)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


STOPS = """
import sys
from twisted.application.service import Service
from nymtw.errors import ConfigError
from nymtw.node.commands import run_service
from nymtw.node.tap import RoleOptions, run_or_exit, stop_with

class Fails(Service):
    def __init__(self, reactor):
        self.reactor = reactor
    def startService(self):
        self.reactor.callLater(0, lambda: stop_with(self.reactor, "nym-x", ConfigError("it broke\\nlater")))
    def stopService(self):
        print("stopped in order")

sys.exit(run_service(lambda options: run_or_exit("nym-x", options, Fails), RoleOptions()))
"""


def test_a_role_that_cannot_go_on_stops_in_order_with_one_line_and_status_1(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = finish([sys.executable, "-c", STOPS], tmp_path, environment)
    assert (done.returncode, done.stderr) == (1, "nym-x: it broke later\n")
    assert "CRITICAL - it broke later\n" in done.stdout
    assert "stopped in order\n" in done.stdout
