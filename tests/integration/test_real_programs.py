"""What users' programs and machines do, over one network of real processes: connections that end, wait and are reset,
names and addresses of both kinds, homes that cannot be used, starts that are interrupted. The exit is isolated.
"""

import hashlib
import os
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from program import Program
from socks_world import SocksNet, body
from websockets.sync.client import connect as connect_websocket
from websockets.sync.server import serve as serve_websocket

pytestmark = pytest.mark.integration

LOCALNET = ("--gateways=0",)  # the only exit is the one that is started here
LIMIT = 450.0
CLIENT = "import sys; from nymtw.client.commands import main; sys.exit(main())"
NYMTW = "import sys; from nymtw.commands import main; sys.exit(main())"
TWISTD = "from twisted.scripts.twistd import run; run()"
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed is reset
PARALLEL = 30


@pytest.fixture(scope="module")
def net(mixnet: Any, tmp_path_factory: pytest.TempPathFactory) -> SocksNet:
    """One exit, isolated, and a client that was told to use it."""
    net = SocksNet(mixnet, tmp_path_factory.mktemp("exits"))
    net.start_client("erin", "--exit", net.start_exit("--isolate"))
    return net


@contextmanager
def server(serve: Callable[[socket.socket], Any], host: str = "127.0.0.1") -> Iterator[int]:
    """The port of a server each of whose connections `serve` gets, in a thread of its own."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:

        def handle(connection: socket.socket) -> None:
            connection.settimeout(LIMIT)
            with connection:
                try:
                    serve(connection)
                except OSError:
                    pass  # the program has hung up

        def run() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)


def program(net: SocksNet, port: int, host: str | bytes = b"\x01\x7f\x00\x00\x01") -> socket.socket:
    """A connection through the mixnet: `host` is a name, or type and address as SOCKS 5 has them."""
    connection = socket.create_connection(("127.0.0.1", net.port), timeout=LIMIT)
    target = host if isinstance(host, bytes) else b"\x03" + bytes((len(host),)) + host.encode()
    connection.sendall(b"\x05\x01\x00" + b"\x05\x01\x00" + target + port.to_bytes(2))
    answer = exactly(connection, 12)
    assert answer[2:4] == b"\x05\x00", answer
    return connection


def exactly(connection: socket.socket, length: int) -> bytes:
    got = bytearray()
    while len(got) < length:
        piece = connection.recv(length - len(got))
        assert piece, f"{len(got)} of {length} bytes"
        got += piece
    return bytes(got)


def rest(connection: socket.socket) -> bytes:
    got = bytearray()
    while piece := connection.recv(65536):
        got += piece
    return bytes(got)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def test_a_half_closed_connection_still_carries_the_answer(net: SocksNet) -> None:
    def digest(connection: socket.socket) -> None:
        connection.sendall(hashlib.sha256(rest(connection)).hexdigest().encode())

    with server(digest) as port, program(net, port) as connection:
        connection.sendall(body("asked", 20_000))
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection).decode() == hashlib.sha256(body("asked", 20_000)).hexdigest()


def test_a_server_that_has_said_all_still_listens(net: SocksNet) -> None:
    heard: list[bytes] = []
    done = threading.Event()

    def listens(connection: socket.socket) -> None:
        connection.sendall(b"all")
        connection.shutdown(socket.SHUT_WR)
        heard.append(rest(connection))
        done.set()

    with server(listens) as port, program(net, port) as connection:
        assert rest(connection) == b"all"
        connection.sendall(b"and this")
        connection.shutdown(socket.SHUT_WR)
        assert done.wait(LIMIT)
    assert heard == [b"and this"]


def test_a_server_that_speaks_first(net: SocksNet) -> None:
    def mail(connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example ESMTP\r\n")
        assert connection.recv(100) == b"QUIT\r\n"
        connection.sendall(b"221 bye\r\n")

    with server(mail) as port, program(net, port) as connection:
        assert exactly(connection, 24) == b"220 mail.example ESMTP\r\n"
        connection.sendall(b"QUIT\r\n")
        assert rest(connection) == b"221 bye\r\n"


def test_resets_cross_in_both_directions(net: SocksNet) -> None:
    reset = threading.Event()

    def resets(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)

    def waits(connection: socket.socket) -> None:
        connection.sendall(b"x")
        try:
            connection.recv(1)
        except ConnectionResetError:
            reset.set()

    with server(resets) as port, program(net, port) as connection:
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            rest(connection)
    with server(waits) as port, program(net, port) as connection:
        exactly(connection, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        connection.close()
        assert reset.wait(LIMIT)


def test_thirty_at_once(net: SocksNet) -> None:
    with server(echo) as port:

        def talk(number: int) -> bool:
            said = body(f"talk{number}", 3000)
            with program(net, port) as connection:
                connection.sendall(said)
                return exactly(connection, len(said)) == said

        with ThreadPoolExecutor(PARALLEL) as pool:
            assert list(pool.map(talk, range(PARALLEL))) == [True] * PARALLEL


@pytest.mark.parametrize(
    "host", [b"\x04" + bytes(15) + b"\x01", "::1", "[::1]"], ids=["an address", "a name", "a name in brackets"]
)
def test_ipv6_literals(net: SocksNet, host: str | bytes) -> None:
    with server(echo, "::1") as port, program(net, port, host) as connection:
        connection.sendall(b"six")
        assert exactly(connection, 3) == b"six"


def test_names(net: SocksNet) -> None:
    with server(echo) as port, program(net, port, "localhost") as connection:
        connection.sendall(b"name")
        assert exactly(connection, 4) == b"name"


def test_a_slow_reader_gets_everything_and_holds_up_nobody(net: SocksNet) -> None:
    sent = body("slow", 1_500_000)

    def pours(connection: socket.socket) -> None:
        connection.sendall(sent)

    with server(pours) as pouring, server(echo) as echoing, program(net, pouring) as slow:
        # It reads nothing while another one talks back and forth.
        with program(net, echoing) as other:
            for number in range(5):
                other.sendall(bytes((number,)))
                assert exactly(other, 1) == bytes((number,))
        assert hashlib.sha256(rest(slow)).digest() == hashlib.sha256(sent).digest()


def test_upload_and_download_at_once(net: SocksNet) -> None:
    said = body("both", 400_000)
    with server(echo) as port, program(net, port) as connection, ThreadPoolExecutor(1) as pool:
        got = pool.submit(exactly, connection, len(said))
        connection.sendall(said)
        assert got.result() == said


def test_websockets(net: SocksNet) -> None:
    def repeat(socket_: Any) -> None:
        for message in socket_:
            socket_.send(message)

    with serve_websocket(repeat, "127.0.0.1", 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        port = serving.socket.getsockname()[1]
        url = f"ws://127.0.0.1:{port}/"
        with connect_websocket(url, sock=program(net, port), open_timeout=LIMIT, close_timeout=LIMIT) as client:
            for message in ("text", b"bytes", "x" * 20_000):
                client.send(message)
                assert client.recv(LIMIT) == message
        serving.shutdown()


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(number) for number in found.split()]


def test_the_exits_process_is_killed_and_started_again_alone(net: SocksNet) -> None:
    exit_ = net.exits[0]
    [worker] = children(exit_.process.pid)
    environment = Path(f"/proc/{worker}/environ").read_bytes()
    assert b"NYMTW_HOME" not in environment
    with server(echo) as port:
        os.kill(worker, signal.SIGKILL)
        exit_.wait_for("has ended; another one is started")
        exit_.wait_for("another one is started")
        while not (again := children(exit_.process.pid)) or again == [worker]:
            assert exit_.process.poll() is None
        with program(net, port) as connection:
            connection.sendall(b"again")
            assert exactly(connection, 5) == b"again"
    assert exit_.process.poll() is None


# homes, starts and ends


def ended(*words: str | Path, home: Path, **more: Any) -> tuple[int, str]:
    """The exit status of a command, and all that it says."""
    done = subprocess.run(
        [sys.executable, "-c", *map(str, words)],
        env={**os.environ, "NYMTW_HOME": str(home), **more.pop("env", {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
        **more,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return done.returncode, done.stdout


def test_a_client_of_the_same_id_is_started_twice(net: SocksNet, mixnet: Any) -> None:
    status, said = ended(CLIENT, "run", "--id", "erin", home=mixnet.home)
    assert (status, len(said.splitlines())) == (1, 1)
    assert "another process is using this folder" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_home_of_another_user(tmp_path: Path) -> None:
    assert ended(CLIENT, "init", "--id", "eve", home=tmp_path)[0] == 0
    os.chown(tmp_path / "clients" / "eve" / "config", 65534, 65534)
    status, said = ended(CLIENT, "run", "--id", "eve", home=tmp_path)
    assert (status, len(said.splitlines())) == (1, 1)
    assert "it belongs to another user" in said


def test_a_disk_that_takes_nothing_and_then_does(tmp_path: Path) -> None:
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    status, said = ended(CLIENT, "init", "--id", "eve", home=tmp_path, preexec_fn=full)
    assert (status, len(said.splitlines())) == (1, 1)
    assert "File too large" in said
    assert ended(CLIENT, "init", "--id", "eve", home=tmp_path)[0] == 0


def test_init_is_interrupted_while_it_asks_the_directory(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        words = ("init", "--id", "eve", "--directory", url, "--directory-key", "A" * 43 + "=")
        init = Program(sys.executable, "-c", CLIENT, *words, NYMTW_HOME=str(tmp_path))
        connection, _ = silent.accept()
        init.process.send_signal(signal.SIGINT)
        assert init.wait() == 130
        connection.close()
    assert "Traceback" not in init.output
    assert init.lines[-1] == "nym-client: interrupted"
    # What was made before is whole.
    config = tmp_path / "clients" / "eve" / "config"
    assert {path.name for path in config.iterdir()} == {
        *("config.toml", "private_key.pem", "public_key.pem", "mailbox_private_key.pem")
    }


class Directory:
    """A directory of its own, with what it says about where it is."""

    def __init__(self, folder: Path, *options: str) -> None:
        words = ("-n", f"--pidfile={folder}/directory.pid", "nym-directory", "--refresh=1", "--port=0", *options)
        self.home = folder / "nym"
        self.program = Program(sys.executable, "-P", "-c", TWISTD, *words, NYMTW_HOME=str(self.home))

    def __enter__(self) -> "Directory":
        return self

    def __exit__(self, *error: object) -> None:
        self.program.stop()


def test_a_left_over_pid_file_and_an_announced_host_that_is_not_the_bound_one(tmp_path: Path) -> None:
    """And binding to ::, which is everything that this machine has."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    (tmp_path / "directory.pid").write_text(str(gone.pid))
    with Directory(tmp_path, "--host=::", "--public-url=http://127.0.0.1:1") as directory:
        port = int(directory.program.wait_for(r"The directory is at http://\S+:(\d+)$")[1])
        key = directory.program.wait_for(r"identity key is (\S{44})")[1]
        url = f"http://127.0.0.1:{port}"
        # The kernel gives IPv4 to whoever listens on ::, and a node may listen on all addresses and announce one.
        words = ["run", "--id=m", "--host=::", "--announced-host=127.0.0.1", "--port=0", "--rate=50"]
        words += [f"--directory={url}", f"--directory-key={key}"]
        code = "import sys; from nymtw.mixnode.commands import main; sys.exit(main())"
        node = Program(sys.executable, "-c", code, *words, NYMTW_HOME=str(tmp_path / "node"))
        try:
            node.wait_for("listens on")
            for _ in range(60):
                status, said = ended(NYMTW, "topology", "--directory", url, home=tmp_path / "asks")
                if found := re.search(r"mixnode +\d +127\.0\.0\.1:(\d+)", said):
                    break
            assert (status, found is not None) == (0, True), said
            assert found is not None
            socket.create_connection(("127.0.0.1", int(found[1])), timeout=LIMIT).close()
            socket.create_connection(("::1", int(found[1])), timeout=LIMIT).close()
        finally:
            node.stop()


def test_a_directory_with_a_private_authority(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-out", certificate, "-keyout", key],
        check=True, capture_output=True,
    )  # fmt: skip
    assert ssl.create_default_context(cafile=str(certificate))
    options = ("--https-port=0", f"--certificate={certificate}", f"--certificate-key={key}")
    with Directory(tmp_path, *options) as directory:
        port = directory.program.wait_for(r"https://127\.0\.0\.1:(\d+)")[1]
        directory.program.wait_for("identity key is")
        url, home = f"https://localhost:{port}", tmp_path / "asks"
        for words in (("topology", "--directory", url), ("network", "add", "private", url)):
            status, said = ended(NYMTW, *words, home=home)
            assert (status, len(said.splitlines())) == (1, 1), said
            assert "certificate" in said
            status, said = ended(NYMTW, *words, home=home, env={"SSL_CERT_FILE": str(certificate)})
            assert status == 0, said
