"""What a client's line shows on real sockets of a busy machine: the times of its frames against the nominal law.

    python benchmarks/emission.py [--events 2000] [--busy 2] [--rate 20] [--json FILE]

As root: it reads the loopback's packets with the kernel's timestamps. A localnet runs; then, beside so many busy
processes, alice's line to her gateway and bob's to his provider are watched, half of the time idle, half while alice
sends bob a file. For each client printed are, idle and sending: the frames, the rate, the p-value of their gaps being
exponential at the rate that the client says (Kolmogorov-Smirnov), how many TLS records held anything but one frame, and
what the edge sends back: at a gateway its frames are to come at a fixed distance, printed is how far they stray. The
bar: p > 0.001 for 2,000 events and one record a frame, or the client's status says which share of its events it was too
late for.
"""

import argparse
import base64
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from machine import children
from one_core import BUSY, CLIENT, World

from nymtw.client.sockets.blocking_client import BlockingClient
from nymtw.client.sockets.tokens import read_token, token_file
from nymtw.testing.attacks.ledger import one_sample, two_samples

LEAST_P = 0.001
_ETH_P_ALL, _OUTGOING = 3, 4
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
_APPLICATION_DATA = 23
_A_PACKET = 1000  # bytes: TLS records longer than this hold a packet


@dataclass
class Line:
    """One direction of one connection: the TLS records that were seen, with the time of each and its length."""

    records: list[tuple[float, int]] = field(default_factory=list)
    next_sequence: int | None = None
    rest: bytes = b""
    lost: int = 0

    def add(self, at: float, sequence: int, data: bytes) -> None:
        if self.next_sequence is not None and sequence != self.next_sequence:
            if (self.next_sequence - sequence) % 2**32 < 2**31:
                return  # sent again
            self.lost, self.rest = self.lost + 1, b""
        if not self.rest and not _is_record(data):
            return  # in the middle of one, at the start
        self.next_sequence = (sequence + len(data)) % 2**32
        self.rest += data
        while len(self.rest) >= 5:
            length = 5 + int.from_bytes(self.rest[3:5])
            if len(self.rest) < length:
                break
            self.records.append((at, length))
            self.rest = self.rest[length:]

    def times(self, start: float, end: float, packets: bool = True) -> Any:
        """Of the records that hold a packet, or of all."""
        return np.array(
            [at for at, length in self.records if start <= at < end and (length > _A_PACKET or not packets)]
        )


def _is_record(data: bytes) -> bool:
    return len(data) >= 5 and data[0] == _APPLICATION_DATA and data[1:3] == b"\3\3"


class Tap(threading.Thread):
    """Reads what passes to and from these ports of the loopback."""

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self.lines: dict[tuple[int, int], Line] = {}  # (source port, destination port)
        self._ports = set(ports)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 256 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.bind(("lo", 0))

    def run(self) -> None:
        while True:
            data, ancillary, _, address = self._socket.recvmsg(70_000, 64)
            if address[2] != _OUTGOING or len(data) < 40 or data[0] >> 4 != 4 or data[9] != socket.IPPROTO_TCP:
                continue
            tcp = (data[0] & 15) * 4
            source, target, sequence = struct.unpack_from("!HHI", data, tcp)
            if source not in self._ports and target not in self._ports:
                continue
            body = data[tcp + (data[tcp + 12] >> 4) * 4 : int.from_bytes(data[2:4])]
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
            if body:
                self.lines.setdefault((source, target), Line()).add(seconds + nanoseconds / 1e9, sequence, body)


def report(
    name: str, up: Line, down: Line, status: dict[str, Any], phases: dict[str, tuple[float, float]]
) -> dict[str, Any]:
    """Prints what the line showed; gives the figures."""
    rates = status["rates"]
    rate = rates["sending"] + rates["loops"] + rates["drops"]
    lengths = Counter(length for _, length in up.records if length > _A_PACKET)
    usual = lengths.most_common(1)[0][0]
    odd = sum(count for length, count in lengths.items() if length != usual)
    found: dict[str, Any] = {"rate": rate, "odd records": odd, "skippedShare": status["skippedShare"]}
    samples = {}
    for phase, (start, end) in phases.items():
        gaps = samples[phase] = np.diff(up.times(start, end))
        p = one_sample(gaps, rate)
        found[phase] = {"events": len(gaps), "rate": 1 / gaps.mean(), "p": p}
        print(f"{name}, {phase}: {len(gaps)} frames, {1 / gaps.mean():.2f}/s of {rate:g}, p = {p:.3g}")
    idle, sending = samples.values()
    found["told apart p"] = two_samples(idle, sending)
    print(
        f"{name}: idle against sending p = {found['told apart p']:.3g}; "
        f"records of another length {odd} of {len(up.records)}"
    )
    start, end = min(one for one, _ in phases.values()), max(other for _, other in phases.values())
    answers = down.times(start, end)
    if status["pushed"] and len(answers) > 2:
        gaps = np.diff(answers)
        usual_gap = float(np.median(gaps))
        stray = np.abs(gaps - usual_gap)
        found["down"] = {"interval": usual_gap, "stray 99 %": float(np.quantile(stray, 0.99))}
        print(
            f"{name}, downlink: a frame every {1e3 * usual_gap:.2f} ms; {1e3 * np.median(stray):.2f} ms off (median), "
            f"{1e3 * np.quantile(stray, 0.99):.2f} (99 %)"
        )
    print(f"{name}: the status says that {100 * status['skippedShare']:.2f} % of events were skipped")
    return found


def established(process: int) -> list[tuple[int, int]]:
    """(own port, other port) of the TCP connections that a process has."""
    sockets = set()
    for entry in Path(f"/proc/{process}/fd").iterdir():
        try:
            found = re.match(r"socket:\[(\d+)\]", os.readlink(entry))
        except OSError:
            continue
        if found:
            sockets.add(found[1])
    rows = (row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return [
        (int(row[1].rpartition(":")[2], 16), int(row[2].rpartition(":")[2], 16))
        for row in rows
        if row[9] in sockets and row[3] == "01"
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2000, help="frames of each client, idle and sending together")
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="nymtw-emission-") as folder:
        world = World(Path(folder), "--rate", str(options.rate))
        loops: list[subprocess.Popen[bytes]] = []
        found: dict[str, dict[str, Any]] = {}
        try:
            world.complete()
            table = world.log.read_text()
            print(table.splitlines()[0])
            edges = dict(re.findall(r"^ +(\S+) .* clients 127\.0\.0\.1:(\d+)", table, re.M))
            clients = {
                name: (int(port), int(edges[edge]))
                for name, port, edge in re.findall(
                    r"^ +(\S+) +127\.0\.0\.1:(\d+) \(TCP socket\), at (\S+)", table, re.M
                )
            }
            tap = Tap([edge for _, edge in clients.values()])
            tap.start()
            loops += [subprocess.Popen([sys.executable, "-S", "-c", BUSY]) for _ in range(options.busy)]
            phases = watch(world, clients["alice"][0], clients["bob"][0], options.events)
            processes = children(world.localnet.pid)
            for name, (port, edge) in clients.items():
                said = json.loads(world.run(CLIENT, "status", *_at(port), "--json", limit=60)[1])
                own = next(
                    own
                    for process in processes
                    if f"--id={name}" in _command(process)
                    for own, other in established(process)
                    if other == edge
                )
                lines = tap.lines
                found[name] = report(name, lines[own, edge], lines.get((edge, own), Line()), said, phases)
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
            world.close()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    met = [is_met(name, each) for name, each in found.items()]
    return 0 if all(met) else 1


def is_met(name: str, found: dict[str, Any]) -> bool:
    """The bar of one client, with a line that says so."""
    fits = min(found["idle"]["p"], found["sending"]["p"], found["told apart p"]) > LEAST_P
    met = not found["odd records"] and (fits or found["skippedShare"] > 0)
    print(f"{name}: {'met' if met else 'MISSED'}{'' if fits or not met else ', by what the status says'}")
    return met


def watch(world: World, alice: int, bob: int, events: int) -> dict[str, tuple[float, float]]:
    """When alice was idle, and when she was sending: each for half of so many frames."""
    said = json.loads(world.run(CLIENT, "status", *_at(alice), "--json", limit=60)[1])
    rates = said["rates"]
    seconds = events / 2 / (rates["sending"] + rates["loops"] + rates["drops"])
    address = json.loads(world.run(CLIENT, "status", *_at(bob), "--json", limit=60)[1])["address"]
    length = int(1500 * rates["sending"] * seconds * 1.2)  # enough to last
    message = base64.b64encode(os.urandom(length)).decode()
    began = time.time()
    time.sleep(seconds)
    middle = time.time()
    token = read_token(token_file(alice, Path(world.environment["NYMTW_HOME"])))
    client = BlockingClient("tcp", alice, 60.0, token)
    client.request("send", message=message, recipient=address)
    time.sleep(seconds)
    client.close()
    return {"idle": (began, middle), "sending": (middle, time.time())}


def _at(port: int) -> list[str]:
    return ["--socket=tcp", f"--port={port}"]


def _command(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
