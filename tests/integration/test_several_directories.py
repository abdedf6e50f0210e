"""Three directories that sign together, nodes that know all of them, and a check of the whole; one is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from nymtw.encoding import key_text
from nymtw.node.home import NodeHome
from nymtw.node.keys import KeyKind, save_private, save_public

pytestmark = pytest.mark.integration
NYMTW = [sys.executable, "-c", "import sys; from nymtw.commands import main; sys.exit(main())"]
TWISTD = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
NUMBERS = (1, 2, 3)


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {number: free_port() for number in NUMBERS}
        self.keys = {number: SigningKey.generate() for number in NUMBERS}
        for number, key in self.keys.items():
            home = NodeHome("directory", f"d{number}", folder / "nym")
            home.create()
            save_private(home.config / "identity_private_key.pem", KeyKind.IDENTITY, bytes(key))
            save_public(home.config / "identity_public_key.pem", KeyKind.IDENTITY, bytes(key.verify_key))

    def text(self, number: int) -> str:
        return key_text(bytes(self.keys[number].verify_key))

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.ports[number]}"

    @property
    def where(self) -> list[str]:
        return [
            *(f"--directory={self.url(number)}" for number in NUMBERS),
            *(f"--directory-key={self.text(number)}" for number in NUMBERS),
        ]

    def start(self, name: str, *words: str) -> None:
        with open(self.folder / name, "ab") as log:
            self.running[name] = subprocess.Popen(
                [*TWISTD, *words],
                env={**os.environ, "NYMTW_HOME": str(self.folder / "nym")},
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def start_directory(self, number: int) -> None:
        peers = [f"--peer={self.url(other)}={self.text(other)}" for other in NUMBERS if other != number]
        self.start(
            f"d{number}", "nym-directory", f"--id=d{number}", f"--port={self.ports[number]}", "--refresh=10", *peers
        )

    def start_nodes(self) -> None:
        common = ["--host=127.0.0.1", "--rate=100", *self.where]
        for layer in (1, 2, 3):
            self.start(f"mix{layer}", "nym-mixnode", f"--id=m{layer}", f"--layer={layer}", "--port=0", *common)
        self.start("store", "nym-provider", "--id=p", "--port=0", "--client-port=0", *common)

    def check(self) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*NYMTW, "check", *self.where], capture_output=True, text=True, timeout=450, check=False)

    def until(self, text: str, seconds: float) -> str:
        """The report of `nymtw check`, once `text` is in it."""
        end = time.monotonic() + seconds
        while text not in (output := (done := self.check()).stdout):
            assert time.monotonic() < end, output + done.stderr + self.logs()
            time.sleep(1)
        return output

    def logs(self) -> str:
        return "\n".join(f"-- {name}\n{(self.folder / name).read_text()}" for name in self.running)

    def stop(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            process.wait(150)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.stop()


def test_killing_one_of_three_directories_changes_nothing(world: World) -> None:
    for number in NUMBERS:
        world.start_directory(number)
    world.start_nodes()
    sound = world.until("No problem was found.", 450)
    assert "(3 of 3, 2 are needed)" in sound
    assert "3 of 3 mixnodes" in sound
    world.running["d2"].kill()
    world.running.pop("d2").wait()
    output = world.until("(2 of 3, 2 are needed)", 300)  # so that what follows was made without it
    assert "3 of 3 mixnodes" in output
    bad = [line for line in output.splitlines() if line.startswith("BAD")]
    assert len(bad) == 2, output
    assert world.text(2) in bad[0]
    assert world.url(2) in bad[1]
    shown = subprocess.run(
        [*NYMTW, "topology", *world.where], capture_output=True, text=True, timeout=300, check=True
    ).stdout
    assert "4 nodes" in shown
    assert f"{world.text(2)} has not signed the topology" in shown
    world.start_directory(2)
    assert "(3 of 3, 2 are needed)" in world.until("No problem was found.", 300)
