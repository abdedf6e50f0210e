"""Whether a localnet works where nearly nothing is left for it: one core, on which two busy loops run.

    python benchmarks/one_core.py [--minutes 10] [--times 1] [--json FILE]

Everything is pinned to one core. A localnet with its defaults must be complete within 4 minutes; then, for the given
minutes, in turns: `nym-client fetch` of a page within 20 s, 300 kB through SOCKS within 60 s, 30 requests at once all
answered, and `nymtw check` without a problem. Prints each bar with the worst figure; exits with 1 where one is missed.

    python benchmarks/one_core.py --starts 20 [--busy 2] [--cores 2]

starts a localnet so many times, beside so many busy processes and on so many cores, and prints how long its first
message took after "complete": at most 2 s on two idle cores, at most 10 s with two busy processes beside it.
"""

import argparse
import contextlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from machine import children, cpu_seconds, free_port, go_first, memory

SOURCE = Path(__file__).resolve().parent.parent
NYMTW = "import sys; from nymtw.commands import main; sys.exit(main())"
CLIENT = "import sys; from nymtw.client.commands import main; sys.exit(main())"
BUSY = "while True: pass"
COMPLETE, FETCH, SOCKS, REQUESTS, CHECK = 240.0, 20.0, 60.0, 120.0, 120.0  # seconds
MEMORY = 700.0  # MB
AT_ONCE = 30
LENGTH = 300_000
PAGE = b"ten bytes\n"


class Page(http.server.BaseHTTPRequestHandler):
    """`/N`: N bytes; all else: ten."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        number = self.path.removeprefix("/")
        content = b"x" * int(number) if number.isdecimal() else PAGE
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


class World:
    """A localnet, a web server, and a client of a user, under whatever load there is."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.log = folder / "localnet.log"
        self._output = open(self.log, "wb")  # noqa: SIM115  # closed with the world
        self.environment = {**os.environ, "NYMTW_HOME": str(folder / "home"), "PYTHONPATH": str(SOURCE)}
        self.began = time.monotonic()
        self.localnet = self.start(NYMTW, "localnet", "--dir", str(folder / "net"), *arguments, output=self._output)
        self.proxy: subprocess.Popen[bytes] | None = None
        self.proxy_port = free_port()
        self.server = Server(("127.0.0.1", 0), Page)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def start(self, program: str, *words: str, output: Any = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-c", program, *words]
        return subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT)

    def run(self, program: str, *words: str, limit: float) -> tuple[int, str, float]:
        """Exit status (-1 where it took too long), what it said, and seconds."""
        began = time.monotonic()
        process = self.start(program, *words)
        try:
            said, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            return -1, said.decode(errors="replace"), time.monotonic() - began
        return process.returncode, said.decode(errors="replace"), time.monotonic() - began

    def wait_for(self, pattern: str, limit: float) -> re.Match[str]:
        end = time.monotonic() + limit
        while not (found := re.search(pattern, self.log.read_text())):
            if self.localnet.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{pattern!r} has not been said:\n{self.log.read_text()}")
            time.sleep(0.05)
        return found

    def complete(self) -> float:
        """Seconds until the localnet was complete."""
        self.wait_for("The network is complete", COMPLETE * 2)
        took = time.monotonic() - self.began
        self.wait_for("Running until Ctrl-C", COMPLETE)
        return took

    def first_message(self) -> float:
        """Seconds that the first message took."""
        return float(self.wait_for(r"arrived after ([0-9.]+) s", 120)[1])

    def add_client(self) -> None:
        """carol, who fetches, and dave, who has a SOCKS proxy."""
        directory, key = self.wait_for(r"Directory (\S+), its key (\S{44})", 1).groups()
        self.directory = directory
        for name in ("carol", "dave"):
            words = ["init", "--id", name, "--directory", directory, "--directory-key", key]
            status, said, _ = self.run(CLIENT, *words, limit=120)
            if status:
                raise SystemExit(said)
        log = open(self.folder / "socks.log", "wb")  # noqa: SIM115
        self.proxy = self.start(CLIENT, "socks5", "--id", "dave", "--port", str(self.proxy_port), output=log)
        end = time.monotonic() + 120
        while b"SOCKS" not in (self.folder / "socks.log").read_bytes():
            if time.monotonic() > end or self.proxy.poll() is not None:
                raise SystemExit((self.folder / "socks.log").read_text())
            time.sleep(0.1)

    def fetch(self) -> tuple[bool, float]:
        """A page of ten bytes."""
        page = self.folder / "page"
        url = f"http://127.0.0.1:{self.server.server_port}/page"
        status, said, took = self.run(CLIENT, "fetch", url, "--id", "carol", "-q", "-o", str(page), limit=3 * FETCH)
        right = status == 0 and page.read_bytes() == PAGE
        if not right:
            print(said[-2000:])
        page.unlink(missing_ok=True)
        return right, took

    def download(self, length: int, limit: float) -> tuple[bool, float]:
        """So many bytes through SOCKS."""
        began = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", self.proxy_port), timeout=limit) as connection:
                connection.sendall(b"\x05\x01\x00")
                _exactly(connection, 2)
                connection.sendall(
                    b"\x05\x01\x00\x01" + socket.inet_aton("127.0.0.1") + self.server.server_port.to_bytes(2)
                )
                if _exactly(connection, 10)[1]:
                    return False, time.monotonic() - began
                connection.sendall(f"GET /{length} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                got = b""
                while data := connection.recv(65536):
                    got += data
        except OSError:
            return False, time.monotonic() - began
        return got.endswith(b"x" * length), time.monotonic() - began

    def many(self) -> tuple[int, float]:
        """How many of 30 requests at once were answered, and how long all took."""
        answers: list[bool] = []
        began = time.monotonic()
        threads = [
            threading.Thread(target=lambda: answers.append(self.download(1000, REQUESTS)[0])) for _ in range(AT_ONCE)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(answers), time.monotonic() - began

    def check(self) -> tuple[bool, float]:
        """`nymtw check`."""
        status, said, took = self.run(NYMTW, "check", "--directory", self.directory, limit=CHECK)
        if status:
            print(said[-2000:])
        return status == 0, took

    def close(self) -> None:
        for process in (self.proxy, self.localnet):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(60)
                if process.poll() is None:
                    process.kill()
                    process.wait()
        self.server.shutdown()
        self.server.server_close()
        self._output.close()


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise OSError("closed")
        data += more
    return data


@contextlib.contextmanager
def pinned(cores: int, busy: int) -> Iterator[None]:
    """This process and all that it starts on the first so many cores that it may use, beside so many busy loops."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cores])
    loops = [subprocess.Popen([sys.executable, "-S", "-c", BUSY]) for _ in range(busy)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
        os.sched_setaffinity(0, before)


class Bars:
    """Figures with the bar of each."""

    def __init__(self) -> None:
        self.figures: dict[str, tuple[float, float, int]] = {}
        self.wrong: dict[str, int] = {}  # how often the answer was not the right one, however long it took

    def add(self, name: str, figure: float, bar: float, right: bool = True) -> None:
        """One more figure: at most `bar`. What is not `right` has missed it."""
        worst, _, missed = self.figures.get(name, (0.0, bar, 0))
        print(f"  {name}: {figure:.1f}{'' if right else ', WRONG'}", flush=True)
        self.wrong[name] = self.wrong.get(name, 0) + (not right)
        self.figures[name] = (max(worst, figure), bar, missed + (not right or figure > bar))

    def show(self) -> bool:
        """Print them; whether all are met."""
        for name, (worst, bar, missed) in self.figures.items():
            print(f"{name:44} {worst:8.1f}  at most {bar:5.0f}: {'met' if not missed else f'MISSED {missed} times'}")
        return not any(missed for _, _, missed in self.figures.values())


def trial(minutes: float, bars: Bars, *arguments: str) -> None:
    """A localnet on one core beside two busy loops, used for so many minutes, once at least."""
    with tempfile.TemporaryDirectory(prefix="nymtw-one-core-") as name, pinned(1, 2):
        world = World(Path(name), *arguments)
        try:
            bars.add("complete, s", world.complete(), COMPLETE)
            bars.add("first message, s", world.first_message(), 10)
            print(world.log.read_text().splitlines()[0], flush=True)
            world.add_client()
            end = time.monotonic() + minutes * 60
            while True:
                right, took = world.fetch()
                bars.add("fetch of a page, s", took, FETCH, right)
                right, took = world.download(LENGTH, 4 * SOCKS)
                bars.add("300 kB through SOCKS, s", took, SOCKS, right)
                answered, took = world.many()
                bars.add("of 30 requests at once not answered", AT_ONCE - answered, 0, answered == AT_ONCE)
                bars.add("all 30 requests, s", took, REQUESTS)
                right, took = world.check()
                bars.add("check, s", took, CHECK, right)
                used = [memory(process) for process in children(world.localnet.pid)]
                bars.add("memory of the localnet, MB", sum(share for _, share in used), MEMORY)
                if time.monotonic() >= end:
                    break
            began, before = time.monotonic(), sum(map(cpu_seconds, children(world.localnet.pid)))
            time.sleep(10)
            idle = (sum(map(cpu_seconds, children(world.localnet.pid))) - before) / (time.monotonic() - began)
            bars.add("idle, % of the core, with two more clients", 100 * idle, 100)
        finally:
            world.close()


def starts(times: int, cores: int, busy: int) -> bool:
    """How long the first message of so many localnets takes after they were complete; whether all were in time."""
    took, until = [], []
    with pinned(cores, busy):
        for _ in range(times):
            with tempfile.TemporaryDirectory(prefix="nymtw-one-core-") as name:
                world = World(Path(name))
                try:
                    until.append(world.complete())
                    took.append(world.first_message())
                finally:
                    world.close()
            print(f"complete after {until[-1]:.1f} s, first message after {took[-1]:.3f} s", flush=True)
    bar = 2.0 if not busy else 10.0
    verdict = "met" if max(took) <= bar else "MISSED"
    print(f"first message of {times} starts, longest: {max(took):.3f} s, at most {bar:g}: {verdict}")
    return max(took) <= bar


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--starts", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--first", action="store_true", help="as root: programs that are not part of it wait")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    if options.first:
        go_first()
    if options.starts:
        return 0 if starts(options.starts, options.cores, options.busy) else 1
    bars = Bars()
    for _ in range(options.times):
        trial(options.minutes, bars)
    met = bars.show()
    if options.json:
        options.json.write_text(json.dumps({"python": sys.version.split()[0], "bars": bars.figures}, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
