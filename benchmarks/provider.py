"""What providers carry: `python benchmarks/provider.py store` and `... webproxy`. Prints figures, keeps nothing.

store: packets whose last hop is a provider, unwrapped, checked for replays, stored durably in SQLite with group commit,
then pulled and confirmed, in one process on the real reactor; links and TLS are not part of it. webproxy: a download
through a localnet of real processes, see `provider_webproxy.py`.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from provider_webproxy import measure, simulate

from nymtw.link.frames import Frame, FrameType
from nymtw.message.fragments import FRAGMENT_LENGTH
from nymtw.message.packets import build_data_packet
from nymtw.mixing.replay_guard import ReplayGuard
from nymtw.node.account import PacketAccount
from nymtw.provider.core import ProviderCore
from nymtw.provider.delivery import Deliveries
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


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("store", "webproxy"))
    parser.add_argument("--count", type=int, default=20_000, help="messages for the store")
    parser.add_argument("--mib", type=float, default=10.0, help="size of the download")
    parser.add_argument("--sending", type=float, default=300.0, help="packets a second that its client sends")
    parser.add_argument("--first", action="store_true", help="as root: let other programs wait for the download")
    parser.add_argument("--simulated", action="store_true", help="the download in the simulated network")
    options = parser.parse_args()
    if options.what == "store":
        store(options.count)
    elif options.simulated:
        simulate(int(options.mib * 2**20), options.sending)
    else:
        measure(int(options.mib * 2**20), options.sending, options.first)


if __name__ == "__main__":
    main()
