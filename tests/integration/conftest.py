"""`nymtw localnet` as its user starts it, read line by line with deadlines; afterwards no process of it may be left."""

import os
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_PROGRAM = "import sys; from nymtw.commands import main; sys.exit(main())"
_MARK = "NYMTW_TEST_RUN"
START = 60.0  # seconds, on a machine that has other things to do
STOP = 20.0


class Localnet:
    """One `nymtw localnet` that runs."""

    def __init__(self, *arguments: str | Path) -> None:
        self.mark = uuid.uuid4().hex
        self.lines: list[str] = []
        self._rest = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, "localnet", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, _MARK: self.mark},
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, limit: float = START) -> re.Match[str]:
        """The first line, from the beginning, in which `pattern` is found."""
        end, seen = time.monotonic() + limit, 0
        while True:
            for line in self.lines[seen:]:
                seen += 1
                if found := re.search(pattern, line):
                    return found
            assert self._read(end), f"{pattern!r} has not been said:\n{self.output}"

    def wait(self, limit: float = START) -> int:
        """The exit status, once everything that it says has been read."""
        end = time.monotonic() + limit
        while self._read(end):
            pass
        return self.process.wait(max(1.0, end - time.monotonic()))

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def children(self) -> dict[int, str]:
        """Number -> command line of every process that this run has started and that is still there."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"{_MARK}={self.mark}".encode() in environment and int(folder.name) != self.process.pid:
                found[int(folder.name)] = command
        return found

    def child(self, name: str) -> int:
        """The number of the component's process."""
        [number] = [number for number, command in self.children().items() if f"--id={name} " in command]
        return number

    def wait_until_gone(self, limit: float = STOP) -> None:
        end = time.monotonic() + limit
        while children := self.children():
            assert time.monotonic() < end, f"left behind: {children}"
            time.sleep(0.05)

    def _read(self, end: float) -> bool:
        """Whether something more was said in time."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
        data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
        *whole, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.decode() for line in whole]
        return bool(data)


@pytest.fixture
def localnet() -> Iterator[Callable[..., Localnet]]:
    """Starts a localnet with the arguments that it is given."""
    started: list[Localnet] = []

    def start(*arguments: str | Path) -> Localnet:
        started.append(Localnet(*arguments))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.signal(signal.SIGTERM)
    for each in started:
        try:
            each.process.wait(STOP)
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()
        assert each.process.stdout is not None
        each.process.stdout.close()
        each.wait_until_gone()
