"""Schemathesis against a live directory: every answer is as described, and nothing is a server error."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from nymtw.topology.presence import make_heartbeat

pytestmark = [pytest.mark.openapi, pytest.mark.timeout(400)]
# What is posted has to be signed, which a schema cannot say: what fits it is refused all the same.
# A list that is too long may also be a body that is too long (413).
CONFIG = """
[checks]
negative_data_rejection.expected-statuses = ["4xx"]
"""
CHECKS = ("--checks=all", "--exclude-checks=positive_data_acceptance")


def test_the_live_server_keeps_to_its_description(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    command = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [*command, "nym-directory", "--port=0"],
            env={**os.environ, "NYMTW_HOME": str(tmp_path / "nym")},
            cwd=tmp_path,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 30
        while "identity key" not in (text := (tmp_path / "log").read_text()):
            assert time.monotonic() < end, text
            time.sleep(0.1)
        url = text.split("The directory is at ")[1].split()[0]
        heartbeat = make_heartbeat(
            "mixnode",
            host="127.0.0.1",
            port=1789,
            keys={1: bytes(32)},
            layer=1,
            timestamp=time.time_ns(),
            signing_key=SigningKey(bytes(32)),
            description="<b>here</b>",
        )
        urllib.request.urlopen(
            urllib.request.Request(f"{url}/api/presence/mixnodes", json.dumps(heartbeat).encode()), timeout=10
        ).close()
        (tmp_path / "schemathesis.toml").write_text(CONFIG)
        program = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or "schemathesis"
        done = subprocess.run(
            [program, "run", f"{url}/swagger/doc.json", *CHECKS, "--max-examples=30", "--seed=8", "--no-color"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=350,
            check=False,
        )
        print(done.stdout[-8000:])
        (tmp_path / "report").write_text(done.stdout)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        process.terminate()
        process.wait(30)
