"""`nymtw localnet` as its user starts it, read line by line with deadlines; afterwards no process of it may be left."""

import os
import re
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from program import STOP, Program

from nymtw.client.sockets.blocking_client import BlockingClient
from nymtw.client.sockets.tokens import token_file

_PROGRAM = "import sys; from nymtw.commands import main; sys.exit(main())"
_CLIENT = "import sys; from nymtw.client.commands import main; sys.exit(main())"
_MARK = "NYMTW_TEST_RUN"
# Modules that take minutes begin first, so that at the end no process waits for the last of them.
_LONGEST = (
    "socks_programs",
    "localnet_runs",
    "lossy_network",
    "several_directories",
    "idle_connections",
    "network_check",
)
_PLACES = {f"test_{name}.py": place for place, name in enumerate(_LONGEST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of the modules."""
    items.sort(key=lambda item: _PLACES.get(item.path.name, len(_PLACES)))


class Localnet(Program):
    """One `nymtw localnet` that runs."""

    def __init__(self, *arguments: str | Path, home: Path | None = None) -> None:
        self.mark = uuid.uuid4().hex
        # Where it registers its name: in a home of its own, unless somebody is to find it there.
        self.names = home or Path(tempfile.mkdtemp(prefix="nymtw-names-"))
        environment = {_MARK: self.mark, "NYMTW_HOME": str(self.names)}
        super().__init__(sys.executable, "-c", _PROGRAM, "localnet", *arguments, **environment)
        self.end_input()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def children(self) -> dict[int, str]:
        """Number -> command line of every process that this run has started and that is still there."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"{_MARK}={self.mark}".encode() in environment and int(folder.name) != self.process.pid:
                found[int(folder.name)] = command
        return found

    def child(self, name: str) -> int:
        """The number of the component's process."""
        [number] = [number for number, command in self.children().items() if f"--id={name} " in command]
        return number

    def wait_until_gone(self, limit: float = STOP) -> None:
        end = time.monotonic() + limit
        while children := self.children():
            assert time.monotonic() < end, f"left behind: {children}"
            time.sleep(0.05)


@pytest.fixture
def localnet() -> Iterator[Callable[..., Localnet]]:
    """Starts a localnet with the arguments that it is given."""
    started: list[Localnet] = []

    def start(*arguments: str | Path) -> Localnet:
        started.append(Localnet(*arguments))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.signal(signal.SIGTERM)
    for each in started:
        each.stop()
        each.wait_until_gone()


class Mixnet:
    """A small localnet with alice and bob at TCP sockets, and more clients in `home`, which take their time.

    Its rate leaves something of the machine to the other networks that are tested at the same time.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.home = folder / "more"
        self._started: list[Program] = []
        self.localnet = Localnet(
            "--mixnodes-per-layer=1", "--providers=1", "--rate=20", "--dir", folder / "net", *arguments, home=self.home
        )
        try:
            self.localnet.wait_for("Running until Ctrl-C")
        except BaseException:
            self.stop()
            raise
        self.alice, self.bob = (self._port(name) for name in ("alice", "bob"))

    def _port(self, name: str) -> int:
        return int(self.localnet.wait_for(rf"^  {name} +127\.0\.0\.1:(\d+)")[1])

    def start(self, *command: str | Path) -> Program:
        """A program that finds the clients of `home` by name."""
        self._started.append(Program(*command, NYMTW_HOME=str(self.home)))
        return self._started[-1]

    def nym_client(self, *arguments: str | Path) -> Program:
        return self.start(sys.executable, "-c", _CLIENT, *arguments)

    def make_client(self, name: str) -> None:
        """`nym-client init`, at a fifth of the localnet's rates: there may be many of them on this machine."""
        made = self.nym_client("init", "--id", name)
        assert made.wait() == 0, made.output
        file = self.home / "clients" / name / "config" / "config.toml"
        text = file.read_text()
        for rate, value in (("message_sending_rate", 20.0), ("loop_cover_traffic_rate", 1.0)):
            text = re.sub(rf"^{rate} = .*$", f"{rate} = {value}", text, flags=re.MULTILINE)
        file.write_text(text)

    def client_with_socket(self, name: str, kind: str) -> int:
        """Make a client and run it; returns the port of its socket once the client can send."""
        self.make_client(name)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        running = self.nym_client("socket", "--id", name, "--socket", kind, "--port", str(port))
        running.wait_for("Connected to the provider")
        return port

    def token(self, port: int) -> str:
        """That of the socket at this port."""
        return token_file(port, self.home).read_text().strip()

    def details(self, port: int, kind: str = "tcp") -> dict[str, Any]:
        """What the client at this port says of itself."""
        client = BlockingClient(kind, port, token=self.token(port))
        try:
            return dict(client.request("details")["details"])
        finally:
            client.close()

    def stop(self) -> None:
        for each in reversed(self._started):
            each.stop()
        self.localnet.stop()
        self.localnet.wait_until_gone()


@pytest.fixture(scope="module")
def mixnet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixnet]:
    """One network for all tests of a module, which may say in LOCALNET what is to be different."""
    network = Mixnet(tmp_path_factory.mktemp("mixnet"), *getattr(request.module, "LOCALNET", ()))
    yield network
    network.stop()
