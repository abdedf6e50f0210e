"""A node as a process: its figures over HTTP, SIGHUP, SIGTERM."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.integration
KEY = "A" * 43 + "="


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Running:
    """A node whose directory is away; the log's lines are read as they come."""

    def __init__(self, home: Path, program: str, *options: str) -> None:
        self.port = free_port()
        role = program.removeprefix("nym-")
        self.config = home / f"{role}s" / "n" / "config" / "config.toml"
        code = f"import sys; from nymtw.{role}.commands import main; sys.exit(main())"
        argv = ["run", "--id=n", "--host=127.0.0.1", "--port=0", "--rate=50", f"--metrics-port={self.port}", *options]
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", code, *argv, "--directory=http://127.0.0.1:1", f"--directory-key={KEY}"],
            env={**os.environ, "NYMTW_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: IO[str] = self.process.stdout  # type: ignore[assignment]

    def wait_for(self, text: str) -> str:
        """The next line of the log that has `text` in it."""
        for line in self.lines:
            if text in line:
                return line
        raise AssertionError(f"the process has ended without {text!r}")

    def figures(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=150) as answer:
            return str(answer.read().decode())


@pytest.fixture(
    params=[
        ["nym-mixnode", "--layer=1"],
        ["nym-mixnode", "--layer=1", "--workers=2"],
        ["nym-provider", "--client-port=0"],
        ["nym-gateway", "--client-port=0"],
    ],
    ids=" ".join,
)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path, *request.param)
    yield running
    running.process.kill()
    running.process.wait(150)
    running.lines.close()


def test_figures_a_hang_up_and_an_orderly_end(node: Running) -> None:
    assert "50 are configured" in node.wait_for("This machine carries")
    figures = node.figures()
    carried = re.search(r"^nymtw_carried_packets_per_second (\S+)$", figures, re.MULTILINE)
    assert carried is not None
    assert float(carried[1]) > 50
    assert re.search(r"^process_resident_memory_bytes \S+$", figures, re.MULTILINE)
    text = node.config.read_text()
    node.config.write_text(text.replace("drain = 5.0", "drain = 1.5"))
    node.process.send_signal(signal.SIGHUP)
    assert "changed: drain; these need a restart: none" in node.wait_for("The configuration was reread")
    node.config.write_text("[node]\ncolour = 1\n")
    node.process.send_signal(signal.SIGHUP)
    assert "config.toml:2: unknown key 'colour' in [node]" in node.wait_for("The configuration stays as it was")
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(150) == 0
