"""What stands at both ends of `nym-client socks5` when programs that nobody here wrote use it."""

import contextlib
import hashlib
import http.server
import os
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PAGE_ASSETS = 30
MEBIBYTE = 2**20
SEED = 20240229
# What is tried here is that it works: nothing is sent that is not needed, and fast.
RATES = {
    "message_sending_rate": "400.0",
    "fetch_message_rate": "50.0",
    "loop_cover_traffic_rate": "-1.0",
    "drop_cover_traffic_rate": "-1.0",
    "rate_compliant_cover_messages_disabled": "true",
}
EXIT_RATE = 600
_TWISTD = "from twisted.scripts.twistd import run; run()"


def body(name: str, length: int) -> bytes:
    """Bytes that do not compress, the same for the same name."""
    return hashlib.shake_256(f"{SEED}/{name}".encode()).digest(length)


class _Handler(http.server.SimpleHTTPRequestHandler):
    """`/bytes/N/NAME`: N bytes; `/page`: one with assets; POST: the SHA-256 of what came; all else: files."""

    protocol_version = "HTTP/1.1"
    server: "Site"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if found := re.fullmatch(r"/bytes/(\d+)/(\w+)", self.path):
            self._answer(body(found[2], int(found[1])), "application/octet-stream")
        elif self.path == "/page":
            self._answer(_page().encode(), "text/html")
        elif found := re.fullmatch(r"/asset/(\d+)\.js", self.path):
            self._answer(f"loaded({found[1]});".encode() + b"//" + b"x" * 4000, "text/javascript")
        else:
            super().do_GET()

    def do_POST(self) -> None:
        digest = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        while left:
            piece = self.rfile.read(min(left, MEBIBYTE))
            if not piece:
                return
            digest.update(piece)
            left -= len(piece)
        self._answer(digest.hexdigest().encode(), "text/plain")

    def _answer(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


def _page() -> str:
    scripts = "".join(f'<script async src="/asset/{number}.js"></script>' for number in range(PAGE_ASSETS))
    return (
        "<!doctype html><title>assets</title><link rel=icon href=data:,><script>let count = 0;"
        f"const loaded = () => {{ if (++count === {PAGE_ASSETS}) document.title = 'all loaded'; }};</script>{scripts}"
    )


class Site(http.server.ThreadingHTTPServer):
    """A web server on this machine that serves `folder`; `asked` are the paths that it was asked for."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), lambda *words: _Handler(*words, directory=str(folder)))  # type: ignore[arg-type]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Programs hang up; that is no news."""


class Echo(socketserver.ThreadingTCPServer):
    """Sends back what it gets, as it comes: the far end of an interactive session."""

    daemon_threads = True

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(65536):
                self.request.sendall(data)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class SocksNet:
    """A localnet, exits of its own, and a client with a SOCKS proxy at `port`."""

    def __init__(self, mixnet: Any, folder: Path) -> None:
        self._mixnet, self._folder = mixnet, folder
        self.exits: list[Any] = []
        self.port = 0
        for name in ("alice", "bob"):  # they would only take the machine's time
            os.kill(mixnet.localnet.child(name), signal.SIGTERM)

    def start_exit(self, *more: str) -> str:
        """One more exit, which goes to this machine too; returns its address."""
        name = f"exit{len(self.exits)}"
        words = [f"--id={name}", "--host=127.0.0.1", "--port=0", "--client-port=0"]
        words += ["--rate=600", f"--stream-rate={EXIT_RATE}"]
        command = [sys.executable, "-P", "-c", _TWISTD, "-n", f"--pidfile={self._folder}/{name}.pid", "nym-provider"]
        self.exits.append(self._mixnet.start(*command, *words, "--impl=exit", "--exit-private", *more))
        return str(self.exits[-1].wait_for(r"exit is at (\S+@\S+)")[1])

    def start_client(self, name: str, *words: str) -> int:
        """A client with a SOCKS proxy; returns the proxy's port."""
        self._mixnet.make_client(name)
        file = self._mixnet.home / "clients" / name / "config" / "config.toml"
        set_rates(file, RATES)
        running = self._mixnet.nym_client("socks5", "--id", name, "--port", "0", *words)
        self.port = int(running.wait_for(r"A SOCKS proxy is at 127\.0\.0\.1:(\d+)")[1])
        return self.port


def set_rates(file: Path, rates: dict[str, str]) -> None:
    """Change values in a client's configuration."""
    text = file.read_text()
    for rate, value in rates.items():
        text = re.sub(rf"^{rate} = .*$", f"{rate} = {value}", text, flags=re.MULTILINE)
    file.write_text(text)


def curl(*words: str | Path, limit: float = 600.0) -> bytes:
    """What curl writes. Skips where it is not installed, fails where curl does."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    command = [program, "--silent", "--show-error", "--fail", "--max-time", f"{limit:.0f}", *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, capture_output=True, timeout=limit + 10, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """A web server, while it is needed."""
    site = Site(folder)
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()


def connected_to(port: int) -> set[int]:
    """The processes that have a connection to this port of this machine."""
    sockets = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, *rest = line.split()
        if state == "01" and int(remote.split(":")[1], 16) == port:
            sockets.add(f"socket:[{rest[5]}]")
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(each) in sockets for each in (folder / "fd").iterdir()):
                found.add(int(folder.name))
    return found
