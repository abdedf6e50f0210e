"""A directory that is killed and comes back."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from heartbeats import signed_heartbeat
from nacl.signing import SigningKey

from nymtw.node.keys import KeyKind, load_public
from nymtw.topology.document import Trust, verify_topology
from nymtw.topology.presence import make_metric

pytestmark = pytest.mark.integration
COMMAND = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
NODE = SigningKey(bytes([7]) * 32)


def start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(
            [*COMMAND, "nym-directory", f"--port={port}", "--refresh=2"],
            env={**os.environ, "NYMTW_HOME": str(folder / "nym")},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    end = time.monotonic() + 150
    while True:
        with contextlib.suppress(OSError):
            get(port, "/api/healthcheck")
            return process
        assert time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=50) as answer:
        return bytes(answer.read())


def post(port: int, path: str, body: Any) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode())
    urllib.request.urlopen(request, timeout=50).close()


def speak(port: int, sent: int) -> None:
    where = {"host": "127.0.0.1", "port": 1789, "layer": 1}
    post(
        port,
        "/api/presence/mixnodes",
        signed_heartbeat("mixnode", keys={1: bytes(32)}, timestamp=time.time_ns(), signing_key=NODE, **where),
    )
    metric = make_metric(public_key=bytes(32), sent=sent, received=1, timestamp=time.time_ns(), signing_key=NODE)
    post(port, "/api/metrics/mixes", metric)


def packets(port: int) -> int:
    return sum(sent for _, sent, _, _ in json.loads(get(port, "/api/v1/history"))["points"])


def test_a_directory_that_is_killed_comes_back_with_its_history_and_its_nodes(tmp_path: Path) -> None:
    port = free_port()
    process = start(tmp_path, port)
    try:
        for _ in range(14):  # more than what is written together
            speak(port, 1000)
            time.sleep(0.5)
        get(port, "/api/v1/topology")  # as every node does: it is made when it is asked for
        before = packets(port)
        assert before >= 10_000
        trust = Trust(
            (load_public(tmp_path / "nym/directories/directory/config/identity_public_key.pem", KeyKind.IDENTITY),)
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start(tmp_path, port)
        # The last topology stands until everybody could have announced himself again.
        assert len(verify_topology(get(port, "/api/v1/topology"), trust, time.time()).nodes) == 1
        kept = packets(port)
        assert kept >= before - 6 * 2000  # six seconds at most were not written yet
        assert kept > 0
        speak(port, 1000)
        assert len(json.loads(get(port, "/api/v1/nodes"))["nodes"]) == 1
    finally:
        process.kill()
        process.wait()
