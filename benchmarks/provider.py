"""What providers carry: `python benchmarks/provider.py store` and `... webproxy`. Prints figures, keeps nothing.

store: packets whose last hop is a provider, unwrapped, checked for replays, stored durably in SQLite with group commit,
then pulled and confirmed, in one process on the real reactor; links and TLS are not part of it. webproxy: a download
through a localnet of real processes, by a client that sends 300 packets a second.
"""

import argparse
import http.server
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from nymtw.link.frames import Frame, FrameType
from nymtw.message.fragments import FRAGMENT_LENGTH, REPLY_FRAGMENT_CAPACITY
from nymtw.message.packets import build_data_packet
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.node.account import PacketAccount
from nymtw.provider.core import ProviderCore
from nymtw.provider.delivery import Deliveries
from nymtw.provider.dispatch import DEFAULT_RATE
from nymtw.sphinx import Unwrapper, generate_keypair, process_packet
from nymtw.storage.mailboxes import SQLiteMailboxes
from nymtw.topology.address import Address
from nymtw.topology.document import MIXNODE, PROVIDER, NodeRecord, Topology
from nymtw.topology.routes import ExponentialDelays, UniformRoutes

EPOCH = 1
SLOTS = 16
MAILBOXES = 100
BATCH = 22  # frames in one read of a busy link


class Links:
    """Where acks go: they are counted."""

    def __init__(self, account: PacketAccount) -> None:
        self._account = account

    def send(self, peer: bytes, epoch: int, packet: bytes) -> None:
        self._account.forwarded()

    def send_many(self, packets: Any) -> None:
        self._account.forwarded(len(packets))

    def set_peers(self, peers: Any) -> None:
        """Nobody is connected to."""


class Store:
    """The store as the core sees it."""

    def __init__(self, mailboxes: SQLiteMailboxes) -> None:
        self._mailboxes = mailboxes

    def deliver(self, delivery: Any) -> Any:
        return self._mailboxes.store(delivery.destination, delivery.kind, delivery.content)


def last_hops(count: int) -> tuple[list[bytes], NodeRecord, bytes, Topology, list[bytes]]:
    """(packets as they reach the provider, its record, its private key, the topology, the mailboxes)."""
    source = random.Random(1)
    keys: dict[bytes, bytes] = {}
    nodes = []
    for role, layer in ((MIXNODE, 1), (MIXNODE, 2), (MIXNODE, 3), (PROVIDER, 0)):
        identity = source.randbytes(32)
        keys[identity], public = generate_keypair(source)
        nodes.append(
            NodeRecord(role=role, identity=identity, host="h", port=1, layer=layer, sphinx_keys={EPOCH: public})
        )
    topology = Topology(
        serial=1,
        network=bytes(16),
        published=0,
        valid_until=2**62,
        refresh=60.0,
        epoch=EPOCH,
        epoch_seconds=86400,
        nodes=tuple(nodes),
    )
    provider = nodes[-1]
    _, public = generate_keypair(source)
    mailboxes = [source.randbytes(32) for _ in range(MAILBOXES)]
    delays, routes = ExponentialDelays(0.0), UniformRoutes()
    packets = []
    for number in range(count):
        address = Address(mailboxes[number % MAILBOXES], public, provider.identity)
        packet = build_data_packet(topology, address, address, bytes(FRAGMENT_LENGTH), routes, delays, source).packet
        for node in nodes[:3]:
            packet = process_packet(packet, keys[node.identity]).packet
        packets.append(packet)
    return packets, provider, keys[provider.identity], topology, mailboxes


def store(count: int) -> None:
    """Messages a second, stored and pulled."""
    from twisted.internet import reactor as module

    reactor: Any = module
    print(f"building {count} packets", file=sys.stderr)
    packets, own, private, topology, mailboxes = last_hops(count)
    with tempfile.TemporaryDirectory(prefix="nymtw-bench-") as name:
        folder = Path(name)
        kept = SQLiteMailboxes(folder / "mail.sqlite", reactor)
        account = PacketAccount()
        guard = ReplayGuard(folder / "replay", capacity=10 * count)
        core = ProviderCore(
            deliveries=Deliveries(reactor, Store(kept), limit=10 * count),
            clock=reactor,
            random=random.Random(2),
            unwrapper=Unwrapper({EPOCH: private}),
            guard=guard,
            account=account,
            own=own,
            capacity=10 * count,
        )
        core.use_links(Links(account))
        core.use_topology(topology)
        frames = [Frame(FrameType.PACKET, 0, EPOCH, packet) for packet in packets]
        times: dict[str, tuple[float, float]] = {}

        def feed(at: int = 0) -> None:
            if at < count:
                core.receive(topology.mixnodes(3)[0].identity, frames[at : at + BATCH])
                reactor.callLater(0, feed, at + BATCH)
            else:
                wait()

        def wait() -> None:
            if account.forwarded_total < count:
                reactor.callLater(0.001, wait)
                return
            times["stored"] = time.process_time() - began_cpu, time.perf_counter() - began
            pull()

        def pull() -> None:
            start, cpu = time.perf_counter(), time.process_time()
            got = 0
            for mailbox in mailboxes:
                after = 0
                while items := kept.pull(mailbox, SLOTS, after):
                    after = items[-1].number
                    got += len(items)
                    kept.confirm(mailbox, [item.number for item in items])
            kept.close()
            assert got == count, f"{got} of {count} were pulled"
            times["pulled"] = time.process_time() - cpu, time.perf_counter() - start
            reactor.stop()

        def start() -> None:
            for mailbox in mailboxes:
                kept.register(mailbox, b"k" * 32, b"t" * 32)
            reactor.callLater(0.1, begin)

        def begin() -> None:
            nonlocal began, began_cpu
            began, began_cpu = time.perf_counter(), time.process_time()
            feed()

        began = began_cpu = 0.0
        reactor.callWhenRunning(start)
        reactor.run()
        core.stop()
        guard.close()
        for what, (cpu, elapsed) in times.items():
            print(f"{what}: {count / elapsed:.0f} messages/s, {1e6 * cpu / count:.0f} us of CPU each")
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def webproxy(size: int) -> None:
    """KiB a second of one download, and the share of what the stream rate allows."""
    content = os.urandom(size)

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    scripts = Path(sys.executable).parent
    with tempfile.TemporaryDirectory(prefix="nymtw-bench-") as name:
        environment = {**os.environ, "NYMTW_HOME": f"{name}/home"}
        words = [str(scripts / "nymtw"), "localnet", "--dir", f"{name}/net"]
        with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as localnet:
            try:
                found = None
                for line in localnet.stdout or ():
                    found = re.match(r"Directory (\S+), its key (\S+)", line) or found
                    if line.startswith("Running"):
                        break
                assert found is not None, "the localnet did not start"
                client = str(scripts / "nym-client")
                init = [client, "init", "--id", "bench", "--directory", found[1], "--directory-key", found[2]]
                subprocess.run(init, env=environment, check=True, capture_output=True)
                config = Path(f"{name}/home/clients/bench/config/config.toml")
                text = config.read_text()
                for rate, value in (("message_sending_rate", 300.0), ("fetch_message_rate", 70.0)):
                    text = re.sub(rf"^{rate} = .*$", f"{rate} = {value}", text, flags=re.M)
                config.write_text(text)
                url = f"http://127.0.0.1:{server.server_port}/"
                start = time.perf_counter()
                fetch = [client, "fetch", url, "--id", "bench", "-o", f"{name}/page"]
                subprocess.run(fetch, env=environment, check=True)
                elapsed = time.perf_counter() - start
                assert Path(f"{name}/page").read_bytes() == content
            finally:
                localnet.terminate()
    limit = DEFAULT_RATE * REPLY_FRAGMENT_CAPACITY
    print(f"{size / 2**20:.1f} MiB in {elapsed:.1f} s, the client's start included: {size / elapsed / 1024:.0f} KiB/s")
    print(f"{size / elapsed / limit:.0%} of what {DEFAULT_RATE:.0f} packets a second carry")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("store", "webproxy"))
    parser.add_argument("--count", type=int, default=20_000, help="messages for the store")
    parser.add_argument("--mib", type=float, default=10.0, help="size of the download")
    options = parser.parse_args()
    if options.what == "store":
        store(options.count)
    else:
        webproxy(int(options.mib * 2**20))


if __name__ == "__main__":
    main()
