"""What a client's SOCKS proxy carries: `python benchmarks/socks.py`. Prints a table, writes `socks.json`; exits 1 where
a bar is missed.

A localnet of real processes whose own clients are stopped; one client that sends 300 packets a second, an exit that
does the same, and a web server, all on this machine. A download and an upload of 10 MiB, then small pages one after the
other for the time to the first byte, then 50 downloads at once.
"""

import argparse
import hashlib
import http.client
import http.server
import json
import os
import platform
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nymtw.message.fragments import FRAGMENT_CAPACITY, REPLY_FRAGMENT_CAPACITY

HERE = Path(__file__).resolve().parent
RATE = 300.0
FETCH_RATE = 70.0
MEAN_DELAY = 0.05
PARALLEL = 50
MEBIBYTE = 2**20
EXIT = ("--impl=exit", "--exit-private")
CONNECT = b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01"
BAR_SHARE = 0.70


class Page(http.server.BaseHTTPRequestHandler):
    """`/N`: N bytes. POST: the SHA-256 of what came."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = random.Random(self.path).randbytes(int(self.path[1:]))
        self._answer(content)

    def do_POST(self) -> None:
        digest = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        while left:
            piece = self.rfile.read(min(left, MEBIBYTE))
            digest.update(piece)
            left -= len(piece)
        self._answer(digest.hexdigest().encode())

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def connect(proxy: int, port: int) -> tuple[socket.socket, float]:
    """A connection through the proxy, and the seconds that it took."""
    begin = time.perf_counter()
    connection = socket.create_connection(("127.0.0.1", proxy), timeout=120)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(CONNECT + port.to_bytes(2))
    answer = b""
    while len(answer) < 12:
        answer += connection.recv(12 - len(answer))
    assert answer[:4] == b"\x05\x00\x05\x00", answer
    return connection, time.perf_counter() - begin


def ask(connection: socket.socket, method: str, path: str, body: bytes = b"") -> tuple[bytes, float, float]:
    """(what came, seconds to its first byte, seconds in all)."""
    begin = time.perf_counter()
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    sender = threading.Thread(target=connection.sendall, args=(head.encode() + body,))
    sender.start()
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    first = time.perf_counter() - begin
    content = answer.read()
    sender.join()
    return content, first, time.perf_counter() - begin


def drawn_first_byte(rounds: int = 20_000) -> float:
    """The median of a round trip's waits, in seconds, if nothing but what is drawn took time.

    Out: the client's next packet, three mixnodes. Back: the exit's next packet, three mixnodes and the client's
    provider, which holds a reply as they do, and the client's next fetch.
    """
    source = random.Random(1)
    rates = [RATE, *[1 / MEAN_DELAY] * 3, RATE, *[1 / MEAN_DELAY] * 4, FETCH_RATE]
    return statistics.median(sum(map(source.expovariate, rates)) for _ in range(rounds))


class Network:
    """The localnet, the exit, and the client's proxy at `port`. Closing it ends every process of it."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "NYMTW_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self.port = 0

    def start(self, name: str, *words: str) -> Path:
        """Start a program; returns where it writes what it says."""
        log = self.folder / f"{name}.log"
        with open(log, "wb") as output:
            self.running.append(subprocess.Popen(words, env=self.environment, stdout=output, stderr=output))
        return log

    def wait_for(self, log: Path, pattern: str, limit: float = 120.0) -> re.Match[str]:
        """What a program says."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if found := re.search(pattern, log.read_text()):
                return found
            time.sleep(0.1)
        sys.exit(f"{pattern!r} has not been said:\n{log.read_text()}")

    def begin(self) -> None:
        """Start everything."""
        scripts = Path(sys.executable).parent
        log = self.start(
            "localnet", str(scripts / "nymtw"), "localnet", "--gateways=0", "--dir", str(self.folder / "net")
        )
        self.wait_for(log, "Running until")
        url, key = self.wait_for(log, r"Directory (\S+), its key (\S{44})").groups()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().decode()
                mine = f"NYMTW_HOME={self.folder}" in (folder / "environ").read_bytes().decode()
            except (OSError, UnicodeDecodeError):
                continue
            if mine and re.search("--id=(alice|bob)", command):
                os.kill(int(folder.name), signal.SIGTERM)
        common = ["--directory", url, "--directory-key", key]
        node = ["--id", "exit", "--host", "127.0.0.1", "--port", "0", "--rate", "300", "--stream-rate", str(int(RATE))]
        log = self.start("exit", str(scripts / "nym-provider"), "run", *node, *common, "--client-port=0", *EXIT)
        exit_address = self.wait_for(log, r"exit is at (\S+)")[1]
        client = str(scripts / "nym-client")
        init = [client, "init", "--id", "bench", *common]
        subprocess.run(init, env=self.environment, check=True, capture_output=True)
        config = self.folder / "home" / "clients" / "bench" / "config" / "config.toml"
        text = config.read_text()
        for rate, value in (("message_sending_rate", RATE), ("fetch_message_rate", FETCH_RATE)):
            text = re.sub(rf"^{rate} = .*$", f"{rate} = {value}", text, flags=re.M)
        config.write_text(text)
        log = self.start("socks", client, "socks5", "--id", "bench", "--port", "0", "--exit", exit_address)
        self.port = int(self.wait_for(log, r"A SOCKS proxy is at 127\.0\.0\.1:(\d+)")[1])
        time.sleep(5)

    def close(self) -> None:
        """End what was started."""
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def measure(proxy: int, port: int, size: int, pages: int) -> dict[str, Any]:
    """All figures, through the proxy to the web server at `port`."""
    figures: dict[str, Any] = {}
    connection, _ = connect(proxy, port)
    content, _, took = ask(connection, "GET", f"/{size}")
    assert len(content) == size
    figures["download KiB/s"] = size / took / 1024
    figures["download share"] = size / took / (RATE * REPLY_FRAGMENT_CAPACITY)
    body = os.urandom(size)
    connection, _ = connect(proxy, port)
    said, _, took = ask(connection, "POST", "/upload", body)
    assert said.decode() == hashlib.sha256(body).hexdigest()
    figures["upload KiB/s"] = size / took / 1024
    figures["upload share"] = size / took / (RATE * FRAGMENT_CAPACITY)
    opened, firsts = [], []
    for _ in range(pages):
        connection, seconds = connect(proxy, port)
        opened.append(seconds)
        firsts.append(ask(connection, "GET", "/1000")[1])
        connection.close()
    figures["connected s"] = statistics.median(opened)
    figures["first byte s"] = statistics.median(firsts)
    figures["drawn s"] = drawn_first_byte()

    def one(number: int) -> float:
        begin = time.perf_counter()
        connection, _ = connect(proxy, port)
        content, _, _ = ask(connection, "GET", f"/{size // PARALLEL}")
        assert len(content) == size // PARALLEL
        return time.perf_counter() - begin

    begin = time.perf_counter()
    with ThreadPoolExecutor(PARALLEL) as pool:
        times = sorted(pool.map(one, range(PARALLEL)))
    figures["parallel KiB/s"] = size / (time.perf_counter() - begin) / 1024
    figures["parallel median s"] = statistics.median(times)
    figures["parallel slowest s"] = times[-1]
    figures["slowest / median"] = times[-1] / statistics.median(times)
    return figures


def main() -> int:
    """The measurement; 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--mib", type=float, default=10.0, help="size of download and upload, and of 50 downloads together"
    )
    parser.add_argument("--pages", type=int, default=20, help="small pages, one after the other")
    parser.add_argument("--first", action="store_true", help="as root: other programs wait while this runs")
    options = parser.parse_args()
    if options.first:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # what is started from here inherits it
    size = int(options.mib * MEBIBYTE)
    server = Server(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="nymtw-bench-") as name:
        network = Network(Path(name))
        try:
            network.begin()
            figures = measure(network.port, server.server_port, size, options.pages)
        finally:
            network.close()
    server.shutdown()
    rows = [
        ("download of one stream, KiB/s", f"{figures['download KiB/s']:.0f}", ""),
        ("its share of the exit's packets", f"{figures['download share']:.1%}", f"at least {BAR_SHARE:.0%}"),
        ("upload of one stream, KiB/s", f"{figures['upload KiB/s']:.0f}", ""),
        ("its share of the client's packets", f"{figures['upload share']:.1%}", f"at least {BAR_SHARE:.0%}"),
        ("connected, median s", f"{figures['connected s']:.2f}", ""),
        ("first byte of an open connection, median s", f"{figures['first byte s']:.2f}", ""),
        ("what is drawn for a round trip, median s", f"{figures['drawn s']:.2f}", ""),
        (f"{PARALLEL} downloads at once, KiB/s together", f"{figures['parallel KiB/s']:.0f}", ""),
        ("slowest of them / median", f"{figures['slowest / median']:.2f}", ""),
    ]
    print("| measure | is | bar |\n|---|--:|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    load = os.getloadavg()[0]
    print(f"load average {load:.1f} on {os.cpu_count()} cores, Python {platform.python_version()}")
    result = {
        "rate": RATE,
        "bytes": size,
        "load": load,
        "others waited": options.first,
        "python": platform.python_version(),
        **figures,
    }
    (HERE / "socks.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0 if min(figures["download share"], figures["upload share"]) >= BAR_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
