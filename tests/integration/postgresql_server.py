"""A real PostgreSQL server that a test starts, kills and starts again."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from twisted.internet.defer import maybeDeferred


def programs() -> Path | None:
    """Where its programs are, if they are on this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class PostgreSQLServer:
    """It listens on a free port of 127.0.0.1, and lets everybody in."""

    def __init__(self, folder: Path, programs: Path, prefix: list[str]) -> None:
        self.folder, self._programs, self._prefix = folder, programs, prefix
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://nymtw@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "nymtw")

    def start(self, settings: str = "-c fsync=off") -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= {settings}"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-w", "-o", options, "-l", f"{self.folder}/log", "start")

    def stop(self, mode: str = "immediate") -> None:
        """ "immediate" is a crash: nothing is written, and the next start recovers from the log."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-w", "-m", mode, "stop")

    def kill(self) -> None:
        """SIGKILL for the server's first process; its others end when they notice."""
        os.kill(self._pid(), signal.SIGKILL)
        end = time.monotonic() + 150
        while self.pids() and time.monotonic() < end:
            time.sleep(0.05)
        # Where nobody collects dead processes its number still looks like that of a server.
        (self.folder / "data" / "postmaster.pid").unlink()

    def _pid(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def pids(self) -> list[int]:
        """The server's processes, which have its data folder as their working directory."""
        data = str((self.folder / "data").resolve())
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "cwd") == data:
                    found.append(int(process.name))
            except OSError:
                pass  # it has ended, or is somebody else's
        return found

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._prefix, f"{self._programs}/{program}", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, timeout=300)


@contextmanager
def postgresql_server(settings: str = "-c fsync=off") -> Iterator[PostgreSQLServer]:
    """One that runs. Skips the test where there is none, or no psycopg. Without fsync: no test ends the system."""
    found = programs()
    if found is None:
        pytest.skip("there is no PostgreSQL on this machine")
    pytest.importorskip("psycopg")
    # Its server does not run as root; the folders of pytest are closed to others.
    as_root = os.getuid() == 0
    user = "postgres" if as_root else pwd.getpwuid(os.getuid()).pw_name
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    if as_root:
        shutil.chown(folder, user)
    prefix = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if as_root else []
    try:
        server = PostgreSQLServer(folder, found, prefix)
        server.start(settings)
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class AtOnce:
    """In place of a thread: the caller does the work itself."""

    def __init__(self, reactor, name):
        self.stopped = False

    def __call__(self, call):
        assert not self.stopped
        return maybeDeferred(call)

    def stop(self):
        self.stopped = True
