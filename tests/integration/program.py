"""A process that a test starts and talks to, with deadlines."""

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from pathlib import Path

START = 900.0  # seconds: a start ends itself where nothing goes on, so this is for a machine that does much else
STOP = 100.0


class Program:
    """A process that is read line by line with deadlines, and told lines."""

    def __init__(self, *command: str | Path, **environment: str) -> None:
        self.lines: list[str] = []
        self._rest = b""
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def write_line(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

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

    def stop(self) -> None:
        """End it, if it has not ended."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(signal_number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(STOP)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _read(self, end: float) -> bool:
        """Whether something more was said in time."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
        data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
        *whole, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.decode() for line in whole]
        return bool(data)
