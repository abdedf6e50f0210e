"""`nym-node` in every mode, as processes: a whole network of them, its API asked by curl, and roles that change."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from program import Program

pytestmark = pytest.mark.integration
EPOCH = 60


def free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def curl(url: str, *options: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    return subprocess.run(["curl", "-sS", *options, url], capture_output=True, text=True, timeout=100, check=False)


class Network:
    """A directory and the nodes that are started, all with their homes in one folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.running: dict[str, Program] = {}
        self.http: dict[str, int] = {}
        directory = self.command(
            "directory",
            "nym-directory",
            "run",
            "--id=d",
            "--port=0",
            "--refresh=2",
            "--host=127.0.0.1",
            f"--epoch-seconds={EPOCH}",
        )
        self.url = directory.wait_for(r"The directory is at (\S+)")[1]
        self.key = directory.wait_for(r"Its identity key is (\S{44})")[1]

    def command(self, name: str, program: str, *words: str) -> Program:
        room = {"nym-directory": "directory", "nym-node": "nym_node", "nym-client": "client"}[program]
        code = f"import sys; from nymtw.{room}.commands import main; sys.exit(main())"
        self.running[name] = Program(sys.executable, "-c", code, *words, NYMTW_HOME=str(self.home))
        return self.running[name]

    def node(self, name: str, *options: str, twistd: bool = False) -> Program:
        """A node, once it has its ports."""
        port, client_port, self.http[name] = free_ports(3)
        words = [f"--id={name}", "--host=127.0.0.1", f"--port={port}", "--rate=50", f"--http-port={self.http[name]}"]
        words += [f"--directory={self.url}", f"--directory-key={self.key}", *options]
        if "--mode=mixnode" not in options:
            words.append(f"--client-port={client_port}")
        if not twistd:
            started = self.command(name, "nym-node", "run", *words)
        else:
            code = "from twisted.scripts.twistd import run; run()"
            command = (sys.executable, "-P", "-c", code, "-n", "--pidfile=", "nym-node", *words)
            started = self.running[name] = Program(*command, NYMTW_HOME=str(self.home))
        started.wait_for("listens on 127.0.0.1:")
        return started

    def api(self, name: str, path: str) -> Any:
        answer = curl(f"http://127.0.0.1:{self.http[name]}/api/v1/{path}")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def wait_for_api(self, name: str, path: str, limit: float, **wanted: Any) -> None:
        end = time.monotonic() + limit
        while any(self.api(name, path)[key] != value for key, value in wanted.items()):
            assert time.monotonic() < end, (name, self.api(name, path), self.running[name].output)
            time.sleep(0.3)

    def identity(self, name: str) -> str:
        return str(self.api(name, "host-information")["keys"]["ed25519_identity"])

    def client(self, name: str, gateway: str) -> int:
        """A client of that gateway; returns the port of its socket once it is connected."""
        where = ("--directory", self.url, "--directory-key", self.key)
        made = self.command(
            f"{name}-init", "nym-client", "init", "--id", name, "--gateway", self.identity(gateway), *where
        )
        assert made.wait() == 0, made.output
        [port] = free_ports(1)
        self.command(name, "nym-client", "socket", "--id", name, "--socket", "tcp", "--port", str(port)).wait_for(
            "Connected"
        )
        return port

    def stop(self) -> None:
        for each in reversed(list(self.running.values())):
            each.stop()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    found = Network(tmp_path / "nym")
    yield found
    found.stop()


def test_a_network_of_nodes_in_every_mode_carries_a_message_and_tells_what_it_is(network: Network) -> None:
    network.node("one", "--mode=mixnode", "--layer=1", "--moniker=The first")
    network.node("two", "--mode=mixnode", "--layer=2", twistd=True)
    network.node("entry", "--mode=entry-gateway")
    network.node("exit", "--mode=exit-gateway")
    network.node("auto", "--mode=auto")
    for name in network.http:
        network.wait_for_api(name, "health", 300, status="up")
    # What the others lack:
    network.wait_for_api("auto", "roles", 150, place="mixnode-3")
    roles = {name: network.api(name, "roles") for name in network.http}
    assert {name: role["place"] for name, role in roles.items()} == {
        "one": "mixnode-1",
        "two": "mixnode-2",
        "entry": "entry-gateway",
        "exit": "exit-gateway",
        "auto": "mixnode-3",
    }
    assert [role["network_requester_enabled"] for role in roles.values()] == [False, False, False, True, False]
    assert network.api("one", "description")["moniker"] == "The first"
    assert network.api("exit", "build-information")["binary_name"] == "nym-node"
    assert network.api("auto", "metrics/mixing")["received_since_startup"] >= 0
    described = network.api("entry", "swagger/doc.json")
    assert "/api/v1/roles" in described["paths"]
    head = curl(f"http://127.0.0.1:{network.http['one']}/api/v1/roles", "-i", "-X", "POST").stdout
    assert head.startswith("HTTP/1.1 405")
    page = curl(f"http://127.0.0.1:{network.http['one']}/", "-L", "-i").stdout
    assert "swagger-ui" in page
    assert "Content-Security-Policy: default-src 'none'" in page
    alice, bob = network.client("alice", "entry"), network.client("bob", "exit")
    status = network.command("status", "nym-client", "status", "--socket=tcp", f"--port={bob}")
    address = status.wait_for(r"\S+\.\S+@\S+")[0]
    sending = network.command("send", "nym-client", "send", address, "--socket=tcp", f"--port={alice}")
    sending.write_line("hello bob")
    sending.end_input()
    receiving = network.command("receive", "nym-client", "receive", "--follow", "--socket=tcp", f"--port={bob}")
    receiving.wait_for("hello bob")


def test_a_node_keeps_its_home_and_identity_whatever_its_mode(network: Network) -> None:
    first = network.node("n", "--mode=entry-gateway")
    identity = network.identity("n")
    first.stop()
    assert (network.home / "nodes" / "n" / "config" / "identity_private_key.pem").stat().st_mode & 0o777 == 0o600
    second = network.node("n", "--mode=mixnode", "--layer=2")
    assert network.identity("n") == identity
    assert network.api("n", "roles")["place"] == "mixnode-2"
    second.stop()


def test_what_says_nothing_in_the_mode_ends_the_command(network: Network) -> None:
    refused = network.command("refused", "nym-node", "run", "--id=n", "--mode=mixnode", "--client-port=9000")
    assert refused.wait() == 1
    assert "--client-port has no effect in mode mixnode" in refused.output


def test_an_auto_node_takes_the_layer_that_falls_out_at_the_next_epoch(network: Network) -> None:
    names = [f"auto-{number}" for number in range(6)]
    for name in names:
        network.node(name, "--mode=auto")
    for name in names:
        network.wait_for_api(name, "health", 300, status="up")
    end = time.monotonic() + 150
    while "" in (places := {name: network.api(name, "roles")["place"] for name in names}).values():
        assert time.monotonic() < end, places
        time.sleep(0.3)
    assert set(Counter(places.values())) == {"mixnode-1", "mixnode-2", "mixnode-3", "entry-gateway"}
    gone = next(place for place, number in Counter(places.values()).items() if number == 1 and place != "entry-gateway")
    [lost] = [name for name, place in places.items() if place == gone]
    network.running[lost].stop()
    names.remove(lost)
    end = time.monotonic() + 2.5 * EPOCH
    while gone not in {network.api(name, "roles")["place"] for name in names}:
        assert time.monotonic() < end, {name: network.api(name, "roles") for name in names}
        time.sleep(1)
    moved = next(name for name in names if network.api(name, "roles")["place"] == gone)
    network.running[moved].wait_for(rf"From key epoch \d+ on this node is {gone}")
