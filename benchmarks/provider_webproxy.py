"""A download through a localnet of real processes, and where its processor time goes: `provider.py webproxy`.

With `--simulated` it crosses the simulated network instead, on the fake clock.

The localnet's own clients are stopped, so that the machine carries what is measured and no more. The client is a
`nym-client http-proxy` that is logged in already; time runs from the request to the last byte of the page.
"""

import http.client
import http.server
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client import children, cpu, free_port, idle_cores, make_client, spawn

from twisted.internet.defer import Deferred
from twisted.web import http as http_server

from nymtw.client.config import DebugSection
from nymtw.client.proxies.web_client import WebClient
from nymtw.message.fragments import REPLY_FRAGMENT_CAPACITY
from nymtw.provider.services.dispatch import DEFAULT_RATE
from nymtw.testing.simulation import SimulatedNetwork

FETCHING = 70.0  # pulls a second: 16 items each, more than replies, own loops and acks together
SETTLED = 5.0  # seconds until every link is there
ROLE = re.compile(r"nym-([a-z]+).*--id=(\S+)")


@contextmanager
def web_server(content: bytes) -> Iterator[int]:
    """Serves one page on loopback; gives the port."""

    class Served(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def fetch(proxy: int, url: str) -> tuple[bytes, float, float]:
    """(the page, seconds until its first byte, seconds in all), through the HTTP proxy at a port."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy, timeout=300)
    start = time.monotonic()
    connection.request("GET", url)
    response = connection.getresponse()
    content = response.read(1)
    first = time.monotonic() - start
    content += response.read()
    return content, first, time.monotonic() - start


def wait_for(file: Path, words: str, process: Any) -> str:
    """The text of a log once `words` stand in it."""
    while words not in (text := file.read_text()):
        time.sleep(0.2)
        if process.poll() is not None:
            sys.exit(text)
    return text


def measure(size: int, sending: float, before_others: bool) -> None:
    """Fetch `size` bytes with a client that sends `sending` packets a second; print the figures.

    `before_others` (as root): while it runs, other programs wait for the network's processes.
    """
    content = os.urandom(size)
    with tempfile.TemporaryDirectory(prefix="nymtw-bench-") as name, web_server(content) as server:
        home, log, said = Path(name), Path(name) / "localnet.log", Path(name) / "client.log"
        with open(log, "wb") as output:
            localnet = spawn("nymtw.commands", "localnet", "--dir", f"{name}/net", home=home, output=output)
        client = None
        try:
            text = wait_for(log, "Running until", localnet)
            directory, key = re.search(r"Directory (\S+), its key (\S+)", text).groups()  # type: ignore[union-attr]  # it has just been said
            processes = {number: ROLE.search(command) for number, command in children(localnet.pid).items()}
            nodes = {}
            for number, found in processes.items():
                if found is not None and found[1] == "client":
                    os.kill(number, signal.SIGTERM)
                elif found is not None:
                    nodes[number] = found[2]
            rates = {"message_sending_rate": sending, "fetch_message_rate": FETCHING}
            make_client("bench", home, directory, key, rates)
            port = free_port()
            with open(said, "wb") as output:
                words = ("http-proxy", "--id", "bench", "--port", str(port))
                client = spawn("nymtw.client.commands", *words, home=home, output=output)
            wait_for(said, "An HTTP proxy is at", client)
            nodes[client.pid] = "client"
            time.sleep(SETTLED)
            idle = idle_cores()
            for number in (*nodes, 0) if before_others else ():
                os.sched_setscheduler(number, os.SCHED_RR, os.sched_param(1))
            before = {number: cpu(number) for number in nodes}
            got, first, elapsed = fetch(port, f"http://127.0.0.1:{server}/")
            busy = {nodes[number]: (cpu(number) - before[number]) / elapsed for number in nodes}
            assert got == content, "what came is not what the server has"
        finally:
            if client is not None:
                client.terminate()
                client.wait(30)
            localnet.terminate()
            localnet.wait(60)
    limit = DEFAULT_RATE * REPLY_FRAGMENT_CAPACITY
    speed = size / elapsed / 1024
    print(f"{size / 2**20:.1f} MiB in {elapsed:.1f} s: {speed:.0f} KiB/s, the first byte after {first:.1f} s")
    print(f"{size / elapsed / limit:.0%} of what {DEFAULT_RATE:.0f} packets a second carry; at least 70 %")
    print(f"the client sends {sending:.0f} packets a second and pulls {FETCHING:.0f} times")
    print(f"idle before, with network and client running: {idle:.2f} of {os.cpu_count()} cores")
    print(f"used: {sum(busy.values()):.2f} cores, of which")
    for who, share in sorted(busy.items(), key=lambda one: -one[1]):
        print(f"    {who:<16} {share:.2f}")


class Page(http_server.Request):
    """Whatever is asked for, the site's one page."""

    def process(self) -> None:
        channel: Any = self.channel
        self.write(channel.factory.page)
        self.finish()


def simulate(size: int, sending: float) -> None:
    """The same in the simulated network, where processor time does not count; its start is part of it."""
    words = ["--impl=store", "--impl=webproxy", "--web-private", "--web-ports=all"]
    debug = DebugSection(message_sending_rate=sending, fetch_message_rate=FETCHING)
    network = SimulatedNetwork(
        1, mixnodes_per_layer=1, providers=1, clients=["alice"], debug=debug, implementations={"provider-1": words}
    )
    site: Any = http_server.HTTPFactory(reactor=network.network.host("web"))
    site.page, site.log = random.Random(1).randbytes(size), lambda request: None
    channel = site.buildProtocol

    def build(address: Any) -> Any:
        made = channel(address)
        made.requestFactory = Page
        return made

    site.buildProtocol = build
    got: list[bytes] = []
    with network:
        network.run(SETTLED)
        port = network.network.host("web").listenTCP(8000, site)
        alice = network.clients["alice"]
        web = WebClient(
            alice.core, network.network.host("alice"), random.Random(1), lambda: alice.service.watch.current
        )
        start = network.clock.seconds()
        asked = web.request("GET", "http://127.0.0.1:8000/", head=lambda head: None, take=got.append)
        network.clock.wait_for(Deferred.fromCoroutine(asked), 3600)
        elapsed = network.clock.seconds() - start
        web.close()
        port.stopListening()
    assert b"".join(got) == site.page, "what came is not what the server has"
    limit = DEFAULT_RATE * REPLY_FRAGMENT_CAPACITY
    print(f"{size / 2**20:.1f} MiB in {elapsed:.1f} simulated seconds: {size / elapsed / limit:.0%} of the limit")
