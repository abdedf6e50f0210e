"""A soak with real processes: SIGSTOP and SIGCONT, kill -9, a disk that is full. Nothing is lost, nothing comes twice.

It has one fault of each kind by default; `NYMTW_SOAK_MINUTES=15` goes on at random for so long. How long it took until
messages arrived again, each way, is printed, and must be 10 s at most where minutes are given: the machine must be idle
for that. Otherwise a minute is enough.
"""

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nymtw.client.sockets.blocking_client import BlockingClient
from nymtw.client.sockets.tokens import read_token, token_file
from nymtw.errors import NymtwError

MINUTES = float(os.environ.get("NYMTW_SOAK_MINUTES", "0"))
WHOLE_AGAIN = 10.0 if MINUTES else 60.0  # seconds
MIXNODES = 2 if MINUTES else 1  # in each layer: every process costs seconds to start
SEED = int(os.environ.get("NYMTW_SOAK_FIRST", "1"))

pytestmark = [pytest.mark.integration, pytest.mark.timeout(int(600 + 120 * MINUTES))]
TWISTD = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
CLIENTS = ("alice", "bob")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Processes:
    """A directory, mixnodes in each layer, a provider and a gateway with a client each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.directory_port = free_port()
        self.ports = {name: free_port() for name in CLIENTS}
        key = folder / "nym/directories/d/config/identity_public_key.pem"
        self.where = [f"--directory=http://127.0.0.1:{self.directory_port}", f"--directory-key={key}"]
        self.key = key
        common = ["--host=127.0.0.1", "--rate=100", *self.where]
        self.words: dict[str, list[str]] = {
            "directory": [
                "nym-directory",
                "--id=d",
                f"--port={self.directory_port}",
                "--refresh=2",
                "--message-sending-rate=5",
                "--loop-cover-traffic-rate=1",
                "--fetch-message-rate=3",
            ]
        }
        for layer in (1, 2, 3):
            for number in range(1, MIXNODES + 1):
                name = f"mix{layer}{number}"
                port = free_port()
                self.words[name] = ["nym-mixnode", f"--id={name}", f"--layer={layer}", f"--port={port}", *common]
        for role in ("provider", "gateway"):
            ports = [f"--port={free_port()}", f"--client-port={free_port()}"]
            self.words[role] = [f"nym-{role}", f"--id={role}", *ports, *common]
        for name, role in (("alice", "gateway"), ("bob", "provider")):
            socket_ = ["--socket=tcp", f"--port={self.ports[name]}"]
            self.words[name] = ["nym-client", f"--id={name}", *socket_, f"--{role}=IDENTITY-OF-{role}", *self.where]

    def start(self, name: str) -> None:
        words = [self._filled_in(word) for word in self.words[name]]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen(
                [*TWISTD, *words],
                env={**os.environ, "NYMTW_HOME": str(self.folder / "nym")},
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def connected(self, name: str) -> BlockingClient:
        """A connection to the socket of a client. Raises `NymtwError` where it is not there."""
        port = self.ports[name]
        return BlockingClient("tcp", port, 30.0, read_token(token_file(port, self.folder / "nym")))

    def start_all(self) -> None:
        self.start("directory")
        until(lambda: self.key.exists() and listens(self.directory_port), 120)
        for name in self.words:
            if name not in ("directory", *CLIENTS):
                self.start(name)
        for role in ("provider", "gateway"):
            until(lambda role=role: self._key_file(role).exists(), 120)
        for name in CLIENTS:
            self.start(name)

    def stop(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()

    def _key_file(self, role: str) -> Path:
        return self.folder / f"nym/{role}s/{role}/config/identity_public_key.pem"

    def _filled_in(self, word: str) -> str:
        for role in ("provider", "gateway"):
            if word.endswith(f"IDENTITY-OF-{role}"):
                from nymtw.encoding import key_text
                from nymtw.node.keys import KeyKind, load_public

                return f"--{role}={key_text(load_public(self._key_file(role), KeyKind.IDENTITY))}"
        return word


class Soak:
    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.random = random.Random(SEED)
        self.ends: dict[str, BlockingClient] = {}
        self.address: dict[str, str] = {}
        self.sent: dict[str, list[str]] = {name: [] for name in CLIENTS}
        self.got: dict[str, dict[str, str]] = {name: {} for name in CLIENTS}  # id -> text
        self.stopped: set[str] = set()
        self.took: list[tuple[float, str]] = []

    def ask(self, name: str, request: str, **fields: object) -> dict | None:
        """None where the client does not answer: it is stopped, dead, or being started."""
        if name in self.stopped:
            return None
        try:
            if name not in self.ends:
                self.ends[name] = self.processes.connected(name)
            return self.ends[name].request(request, **fields)
        except (NymtwError, OSError):
            with contextlib.suppress(KeyError):
                self.ends.pop(name).close()
            return None

    def send(self, name: str) -> bool:
        import base64

        text = f"{name} {len(self.sent[name])} {self.random.randrange(10**9)}"
        other = CLIENTS[1 - CLIENTS.index(name)]
        body = base64.b64encode(text.encode()).decode()
        accepted = self.ask(name, "send", message=body, recipient=self.address[other])
        if accepted is not None:
            self.sent[name].append(text)
        return accepted is not None

    def take(self) -> None:
        import base64

        for name in CLIENTS:
            for message in (self.ask(name, "fetch") or {"messages": []})["messages"]:
                self.got[name][message["id"]] = base64.b64decode(message["message"]).decode()

    def is_whole(self, story: str, limit: float = WHOLE_AGAIN) -> None:
        """A message that is sent now arrives, each way."""
        start = time.monotonic()
        for name in CLIENTS:
            until(lambda name=name: self.send(name), limit)

        def arrived() -> bool:
            self.take()
            return all(self.sent[other][-1] in self.got[name].values() for name, other in (CLIENTS, CLIENTS[::-1]))

        until(arrived, limit)
        self.took.append((time.monotonic() - start, story))
        print(f"whole {self.took[-1][0]:.1f} s after: {story}", flush=True)

    # faults

    def stop_and_go_on(self, *names: str, seconds: float) -> None:
        for name in names:
            self.processes.running[name].send_signal(signal.SIGSTOP)
            self.stopped.add(name)
        for name in CLIENTS:
            self.send(name)
        time.sleep(seconds)
        for name in names:
            self.processes.running[name].send_signal(signal.SIGCONT)
        self.stopped.clear()
        self.is_whole(f"{', '.join(names)} stopped for {seconds:.0f} s")

    def kill(self, name: str, seconds: float) -> None:
        self.take()
        self.processes.running[name].kill()
        self.processes.running[name].wait()
        self.stopped.add(name)
        for other in CLIENTS:
            self.send(other)
        time.sleep(seconds)
        self.stopped.clear()
        if name in self.ends:
            self.ends.pop(name).close()
        self.processes.start(name)
        # A process that starts needs seconds of CPU before anything else.
        until(lambda: self.is_started(name), 120)
        self.is_whole(f"{name} killed for {seconds:.0f} s")

    def is_started(self, name: str) -> bool:
        if name in CLIENTS:
            return bool((self.ask(name, "status") or {}).get("connected"))
        ports = [word.split("=")[1] for word in self.processes.words[name] if "port=" in word]
        return all(listens(int(port)) for port in ports)

    def fill(self, name: str, seconds: float) -> None:
        """No file of the process can grow: what a full disk looks like to it."""
        pid = self.processes.running[name].pid
        usual = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, usual[1]))
        for other in CLIENTS:
            self.send(other)
        time.sleep(seconds)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)
        self.is_whole(f"disk of {name} full for {seconds:.0f} s")

    def at_random(self) -> None:
        everybody = list(self.processes.words)
        name, seconds = self.random.choice(everybody), self.random.uniform(1, 60)
        kind = self.random.randrange(4)
        if kind == 0:
            self.stop_and_go_on(name, seconds=seconds)
        elif kind == 1:
            several = self.random.sample(everybody, self.random.randint(2, len(everybody)))
            self.stop_and_go_on(*several, seconds=seconds)
        elif kind == 2:
            self.kill(name, seconds / 3)
        else:
            self.fill(self.random.choice(["provider", "gateway", *CLIENTS]), seconds / 3)


def until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    try:
        made.start_all()
        yield made
    finally:
        made.stop()


def test_messages_survive_stops_kills_and_full_disks(processes: Processes) -> None:
    soak = Soak(processes)
    until(lambda: all((soak.ask(name, "status") or {}).get("ready") for name in CLIENTS), 240)
    for name in CLIENTS:
        soak.address[name] = (soak.ask(name, "status") or {})["address"]
    soak.is_whole("the start", 120)
    if MINUTES:
        end = time.monotonic() + 60 * MINUTES
        while time.monotonic() < end:
            soak.at_random()
    else:
        soak.stop_and_go_on("directory", "mix11", "mix21", "mix31", "provider", seconds=7)
        soak.kill("gateway", 1)
        soak.fill("provider", 3)

    def everything() -> bool:
        soak.take()
        return all(set(soak.sent[other]) <= set(soak.got[name].values()) for name, other in (CLIENTS, CLIENTS[::-1]))

    until(everything, 300)
    for name, other in (CLIENTS, CLIENTS[::-1]):
        counted = Counter(soak.got[name].values())
        # A request whose answer was lost with the process may have been accepted all the same.
        assert set(counted) >= set(soak.sent[other])
        assert max(counted.values()) == 1
    print(f"{len(soak.took)} times whole again, after {max(took for took, _ in soak.took):.1f} s at most")
