"""The client: packets built per second of CPU, goodput on a localnet, latency, what an idle client costs.

`python benchmarks/client.py [--size MIB]` prints a table, writes `client.json` beside itself, exits 1 where a bar is
missed. The localnet is one of real processes; its own clients are stopped, so that the machine carries what is measured
and no more. The file goes from a client at 300 packets a second to one at the default rate.
"""

import argparse
import base64
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from nymtw.client.sockets.blocking_client import BlockingClient, NotRunning
from nymtw.client.sockets.tokens import read_token, token_file
from nymtw.message.fragments import FRAGMENT_CAPACITY, FRAGMENT_LENGTH
from nymtw.message.packets import build_data_packet
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.routes import UniformRoutes
from nymtw.sphinx import generate_keypair
from nymtw.topology.address import Address
from nymtw.topology.document import NodeRecord, Topology

RATE = 300.0
DEFAULT = {"message_sending_rate": 20.0, "fetch_message_rate": 10.0}  # a localnet recommends more
MAIN = "import sys; from {} import main; sys.exit(main())"
TICKS = os.sysconf("SC_CLK_TCK")


def packets_per_second() -> float:
    """Data packets, each with its ack packet and sealing, per second of CPU: the best of 20 rounds of 50."""
    source = random.SystemRandom()
    nodes = []
    for role, layer in [("mixnode", 1), ("mixnode", 2), ("mixnode", 3), ("provider", 0)]:
        identity = bytes(SigningKey.generate().verify_key)
        key = {1: generate_keypair(source)[1]}
        nodes.append(
            NodeRecord(
                role=role, identity=identity, host="127.0.0.1", port=1, layer=layer, client_port=1, sphinx_keys=key
            )
        )
    topology = Topology(
        serial=1,
        network=bytes(16),
        published=0,
        valid_until=1,
        refresh=1.0,
        epoch=1,
        epoch_seconds=60,
        nodes=tuple(nodes),
    )
    address = Address(bytes(32), generate_keypair(source)[1], nodes[-1].identity)
    routes, delays, plaintext = UniformRoutes(), ExponentialDelays(0.05), bytes(FRAGMENT_LENGTH)
    best = float("inf")
    for _ in range(20):
        start = time.process_time()
        for _ in range(50):
            build_data_packet(topology, address, address, plaintext, routes, delays, source)
        best = min(best, (time.process_time() - start) / 50)
    return 1 / best


def spawn(module: str, *arguments: str, home: Path, output: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """`module:main` with these arguments, as a process of its own."""
    environment = {**os.environ, "NYMTW_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", MAIN.format(module), *arguments], env=environment, stdout=output, stderr=output
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_client(name: str, home: Path, directory: str, key: str, rates: dict[str, float]) -> None:
    """`nym-client init`; `rates` go into the configuration."""
    init = ("init", "--id", name, "--directory", directory, "--directory-key", key)
    if spawn("nymtw.client.commands", *init, home=home).wait(60):
        sys.exit(f"{name} cannot be made")
    file = home / "clients" / name / "config" / "config.toml"
    text = file.read_text()
    for rate, value in rates.items():
        text = re.sub(rf"^{rate} = .*$", f"{rate} = {value}", text, flags=re.MULTILINE)
    file.write_text(text)


class RunningClient:
    """A client process with a TCP socket."""

    def __init__(self, name: str, home: Path, directory: str, key: str, rates: dict[str, float]) -> None:
        make_client(name, home, directory, key, rates)
        port = free_port()
        run = ("socket", "--id", name, "--socket", "tcp", "--port", str(port))
        self.process = spawn("nymtw.client.commands", *run, home=home)
        self.socket = self._connect(port, home)
        while not self.socket.request("status")["ready"]:
            time.sleep(0.2)
        self.address = str(self.socket.request("status")["address"])

    @staticmethod
    def _connect(port: int, home: Path) -> BlockingClient:
        for _ in range(100):
            try:
                token = read_token(token_file(port, home))
                if token is not None:
                    return BlockingClient("tcp", port, None, token)
            except NotRunning:
                pass
            time.sleep(0.2)
        sys.exit("a client does not start")

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return cpu(self.process.pid)

    def memory(self) -> float:
        """MiB resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]  # Linux has the line

    def stop(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)


def cpu(process: int) -> float:
    """Seconds of CPU that a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def idle_cores(seconds: float = 2.0) -> float:
    """How many of this machine's cores nobody used, over so many seconds."""

    def idle() -> int:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
        return int(fields[4]) + int(fields[5])

    before = idle()
    time.sleep(seconds)
    return (idle() - before) / TICKS / seconds


def children(process: int) -> dict[int, str]:
    """Number -> command line of the processes that `process` has started."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if int(parent) == process:
            found[int(folder.name)] = command
    return found


def goodput(sender: RunningClient, receiver: RunningClient, nodes: list[int], size: float) -> dict[str, float]:
    """Send a file of `size` MiB; `nodes` are the processes of the network."""
    receiver.socket.request("subscribe")
    data = random.SystemRandom().randbytes(int(size * 1024 * 1024))
    start, busy, network = time.monotonic(), sender.cpu(), sum(map(cpu, nodes))
    before = sender.socket.request("status")["retransmissions"]
    sent = sender.socket.request("send", message=base64.b64encode(data).decode(), recipient=receiver.address)
    while "received" not in (event := receiver.socket.event()):
        pass
    seconds = time.monotonic() - start
    if base64.b64decode(event["received"]["message"]) != data:
        sys.exit("what arrived is not what was sent")
    again = sender.socket.request("status")["retransmissions"] - before
    return {
        "goodput: KiB/s": len(data) / 1024 / seconds,
        "goodput: share of the rate's limit": len(data) / seconds / (RATE * FRAGMENT_CAPACITY),
        "retransmissions: share of the fragments": again / sent["fragments"],
        "sender: share of a core": (sender.cpu() - busy) / seconds,
        "sender: MiB": sender.memory(),
        "network: cores": (sum(map(cpu, nodes)) - network) / seconds,
    }


def latency(home: Path, directory: str, key: str, messages: int) -> dict[str, float]:
    """Milliseconds that messages of one packet take beyond what was drawn for them, at the default rates."""
    for name in ("near", "far"):
        make_client(name, home, directory, key, DEFAULT)
    program = [sys.executable, str(Path(__file__).parent / "client_latency.py"), "near", "far", str(messages)]
    environment = {**os.environ, "NYMTW_HOME": str(home)}
    result = subprocess.run(program, env=environment, stdout=subprocess.PIPE, check=True)
    excess = sorted(1000 * each for each in json.loads(result.stdout))
    return {
        "latency excess: median, ms": excess[len(excess) // 2],
        "latency excess: 90th percentile, ms": excess[len(excess) * 9 // 10],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=20, help="MiB of the file")
    parser.add_argument("--idle", type=float, default=30, help="seconds for which an idle client is watched")
    parser.add_argument("--messages", type=int, default=200, help="messages whose latency is measured")
    options = parser.parse_args()
    built = packets_per_second()
    figures: dict[str, float] = {"packets built per second of CPU": built}
    figures["cores idle at the start"] = idle_cores()
    with tempfile.TemporaryDirectory() as folder:
        home, log = Path(folder), Path(folder) / "localnet.log"
        with open(log, "wb") as output:
            localnet = spawn(
                "nymtw.commands", "localnet", "--gateways", "0", "--dir", folder + "/net", home=home, output=output
            )
        clients: list[RunningClient] = []
        try:
            while "Running until" not in log.read_text():
                time.sleep(0.5)
                if localnet.poll() is not None:
                    sys.exit(log.read_text())
            directory, key = re.search(r"Directory (\S+), its key (\S+)", log.read_text()).groups()  # type: ignore[union-attr]  # it has just been said
            for number, command in children(localnet.pid).items():
                if re.search("--id=(alice|bob)", command):
                    os.kill(number, signal.SIGTERM)
            roles = re.compile("nym-(directory|mixnode|provider)")
            nodes = [number for number, command in children(localnet.pid).items() if roles.search(command)]
            idle = RunningClient("idle", home, directory, key, DEFAULT)
            clients.append(idle)
            time.sleep(5)
            before = idle.cpu()
            time.sleep(options.idle)
            figures["idle client: share of a core"] = (idle.cpu() - before) / options.idle
            figures["idle client: MiB"] = idle.memory()
            clients.pop().stop()
            figures |= latency(home, directory, key, options.messages)
            fast = {"message_sending_rate": RATE, "fetch_message_rate": 100.0}
            clients.append(RunningClient("sender", home, directory, key, fast))
            clients.append(RunningClient("receiver", home, directory, key, DEFAULT | {"fetch_message_rate": 100.0}))
            figures["cores idle before the file is sent"] = idle_cores()
            figures |= goodput(*clients, nodes, options.size)
        finally:
            for client in clients:
                client.stop()
            localnet.terminate()
            localnet.wait(60)
    bars = {
        "packets built per second of CPU": (built >= 1500, "at least 1,500"),
        "idle client: share of a core": (figures["idle client: share of a core"] <= 0.03, "at most 3 %"),
        "idle client: MiB": (figures["idle client: MiB"] <= 80, "at most 80"),
        "goodput: share of the rate's limit": (
            figures["goodput: share of the rate's limit"] >= 0.85,
            "at least 85 %",
        ),
        "latency excess: median, ms": (figures["latency excess: median, ms"] <= 15, "at most 15"),
    }
    for name, figure in figures.items():
        met, bar = bars.get(name, (True, ""))
        print(f"{name:45} {figure:10.3f}  {bar}{'' if met else '  MISSED'}")
    (Path(__file__).parent / "client.json").write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if all(met for met, _ in bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
