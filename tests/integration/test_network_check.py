"""`nymtw check` on a network of real processes, sound and with a mixnode that stands still."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
NYMTW = [sys.executable, "-c", "import sys; from nymtw.commands import main; sys.exit(main())"]


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*NYMTW, *words], capture_output=True, text=True, timeout=300, check=False)


def test_a_mixnode_that_stands_still_is_named(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as out:
        localnet = subprocess.Popen([*NYMTW, "localnet", "--dir", str(tmp_path / "net")], stdout=out, stderr=out)
    frozen = 0
    try:
        end = time.monotonic() + 450
        while "Running until" not in (text := (tmp_path / "out").read_text()):
            assert time.monotonic() < end, text
            assert localnet.poll() is None, text
            time.sleep(0.1)
        url = text.split("Directory ")[1].split(",")[0]
        key = text.split("its key ")[1].split()[0]
        where = (f"--directory={url}", f"--directory-key={key}")
        shown = run("topology", *where)
        assert shown.returncode == 0
        assert shown.stdout.count("mixnode ") == 6
        sound = run("check", *where)
        assert (sound.returncode, "BAD" in sound.stdout) == (0, False), sound.stdout
        assert "6 of 6 mixnodes" in sound.stdout
        wrong = run("check", f"--directory={url}", "--directory-key=" + "A" * 43 + "=")
        assert wrong.returncode == 1
        assert "another key has signed" in wrong.stdout
        listed = subprocess.run(["pgrep", "-f", "--", "--id=mixnode-2-1"], capture_output=True, text=True, check=True)
        [frozen] = [int(pid) for pid in listed.stdout.split() if _parent(int(pid)) == localnet.pid]
        os.kill(frozen, signal.SIGSTOP)
        bad = run("check", *where)
        assert bad.returncode == 1, bad.stdout
        [line] = [line for line in bad.stdout.splitlines() if line.startswith("BAD")]
        assert "mixnode of layer 2" in line
        assert "no test packet came back" in line
    finally:
        if frozen:
            os.kill(frozen, signal.SIGCONT)
        localnet.send_signal(signal.SIGINT)
        localnet.wait(150)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
