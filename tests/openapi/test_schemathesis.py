"""Schemathesis against a live directory and a live node: every answer is as described, none is a server error."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from heartbeats import signed_heartbeat
from nacl.signing import SigningKey

from nymtw.encoding import key_text
from nymtw.node.home import NodeHome
from nymtw.node.keys import KeyKind, save_private, save_public

pytestmark = pytest.mark.openapi
# What is posted has to be signed, which a schema cannot say: what fits it is refused all the same.
# A list that is too long may also be a body that is too long (413).
CONFIG = """
[checks]
negative_data_rejection.expected-statuses = ["4xx"]
"""
CHECKS = ("--checks=all", "--exclude-checks=positive_data_acceptance")


TWISTD = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]


@contextmanager
def running(folder: Path, log: Path, says: str, *words: str) -> Iterator[str]:
    """A twistd command until it has said so; gives its log."""
    with open(log, "w") as out:
        process = subprocess.Popen(
            [*TWISTD, *words],
            env={**os.environ, "NYMTW_HOME": str(folder / "nym")},
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 150
        while says not in (text := log.read_text()):
            assert time.monotonic() < end, text
            time.sleep(0.1)
        yield text
        assert "Traceback" not in log.read_text()
    finally:
        process.terminate()
        process.wait(150)


@contextmanager
def directory(folder: Path, *words: str) -> Iterator[tuple[str, str]]:
    """A directory's URL and its identity key."""
    with running(folder, folder / "directory.log", "identity key", "nym-directory", "--port=0", *words) as text:
        yield text.split("The directory is at ")[1].split()[0], text.split("identity key is ")[1][:44]


def assert_keeps_to(description: str, folder: Path) -> None:
    """Have schemathesis ask all that the description allows, and what it does not."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or "schemathesis"
    done = subprocess.run(
        [program, "run", description, *CHECKS, "--max-examples=30", "--seed=8", "--no-color"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    print(done.stdout[-8000:])
    (folder / "report").write_text(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_live_directory_keeps_to_its_description(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    with directory(tmp_path) as (url, _):
        heartbeat = signed_heartbeat(
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
            urllib.request.Request(f"{url}/api/presence/mixnodes", json.dumps(heartbeat).encode()), timeout=50
        ).close()
        assert_keeps_to(f"{url}/swagger/doc.json", tmp_path)


def test_a_live_node_keeps_to_its_description(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    port = free_port()
    with directory(tmp_path) as (url, key):
        words = ["--mode=auto", "--id=n", "--host=127.0.0.1", "--port=0", "--client-port=0", f"--http-port={port}"]
        words += ["--rate=50", f"--directory={url}", f"--directory-key={key}", "--moniker=<b>here</b>"]
        with running(tmp_path, tmp_path / "node.log", "From key epoch", "nym-node", *words):
            assert_keeps_to(f"http://127.0.0.1:{port}/api/v1/swagger/doc.json", tmp_path)


def test_a_directory_that_signs_with_another_one_keeps_to_its_description(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    ports, keys = [free_port(), free_port()], [SigningKey.generate(), SigningKey.generate()]
    for number, key in enumerate(keys):
        home = NodeHome("directory", f"d{number}", tmp_path / "nym")
        home.create()
        save_private(home.config / "identity_private_key.pem", KeyKind.IDENTITY, bytes(key))
        save_public(home.config / "identity_public_key.pem", KeyKind.IDENTITY, bytes(key.verify_key))

    def words(number: int) -> tuple[str, ...]:
        peer = f"http://127.0.0.1:{ports[1 - number]}={key_text(bytes(keys[1 - number].verify_key))}"
        return "nym-directory", f"--id=d{number}", f"--port={ports[number]}", "--refresh=5", f"--peer={peer}"

    with (
        running(tmp_path, tmp_path / "one.log", "signs together", *words(0)),
        running(tmp_path, tmp_path / "other.log", "signs together", *words(1)),
    ):
        url = f"http://127.0.0.1:{ports[0]}"
        end = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"{url}/api/v1/topology", timeout=50).close()
                break
            except urllib.error.HTTPError:  # there is none yet
                assert time.monotonic() < end
                time.sleep(0.5)
        assert_keeps_to(f"{url}/swagger/doc.json", tmp_path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
