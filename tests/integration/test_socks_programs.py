"""Programs that nobody here wrote, at the client's SOCKS proxy: curl, git, requests, and a terminal's keystrokes."""

import hashlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from socks_world import MEBIBYTE, Echo, Site, SocksNet, body, connected_to, curl, serving

pytestmark = pytest.mark.integration

FULL = bool(os.environ.get("NYMTW_FULL"))
MUCH = (10 if FULL else 1) * MEBIBYTE
LITTLE = 256 * 1024
PARALLEL = 50
LOCALNET = ("--gateways=0",)  # the only exits are those that the tests start


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    with serving(folder) as site:
        yield site


@pytest.fixture(scope="module")
def net(mixnet: Any, tmp_path_factory: pytest.TempPathFactory) -> SocksNet:
    """One exit, and a client that was told to use it."""
    net = SocksNet(mixnet, tmp_path_factory.mktemp("exits"))
    net.start_client("erin", "--exit", net.start_exit())
    return net


@pytest.mark.parametrize(
    ("option", "size"),  # much takes half a minute each way: it goes once
    [("--socks4", LITTLE), ("--socks4a", LITTLE), ("--socks5", LITTLE), ("--socks5-hostname", MUCH)],
)
def test_curl_downloads_and_uploads(net: SocksNet, site: Site, tmp_path: Path, option: str, size: int) -> None:
    proxy = (option, f"127.0.0.1:{net.port}")
    # Names reach the exit where the program leaves them to the proxy.
    url = site.url.replace("127.0.0.1", "localhost") if option in ("--socks4a", "--socks5-hostname") else site.url
    curl(*proxy, "-o", tmp_path / "got", f"{url}/bytes/{size}/curl")
    assert (tmp_path / "got").read_bytes() == body("curl", size)
    (tmp_path / "give").write_bytes(body(option.strip("-"), size))
    answer = curl(*proxy, "-H", "Expect:", "--data-binary", f"@{tmp_path / 'give'}", f"{url}/upload")
    assert answer.decode() == hashlib.sha256(body(option.strip("-"), size)).hexdigest()


def test_curl_is_told_what_went_wrong(net: SocksNet) -> None:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = probe.getsockname()[1]
    words = [program, "-sS", "-m", "450", "--socks5-hostname", f"127.0.0.1:{net.port}", f"http://127.0.0.1:{nobody}/"]
    refused = subprocess.run(words, capture_output=True, timeout=500, check=False)
    assert refused.returncode == 97
    assert b"(5)" in refused.stderr, refused.stderr


def test_git_clones_over_http(net: SocksNet, site: Site, folder: Path, tmp_path: Path) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
        "GIT_TERMINAL_PROMPT": "0",
    }

    def run(*words: str | Path) -> str:
        done = subprocess.run(
            [git, *map(str, words)], capture_output=True, text=True, timeout=900, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    work = tmp_path / "work"
    run("init", "-q", work)
    for number in range(20):
        (work / f"file{number}").write_bytes(body(f"git{number}", 20_000))
    run("-C", work, "add", ".")
    run("-C", work, "commit", "-q", "-m", "twenty files")
    run("clone", "-q", "--bare", work, folder / "work.git")
    run("-C", folder / "work.git", "update-server-info")
    cloned = tmp_path / "cloned"
    run("-c", f"http.proxy=socks5h://127.0.0.1:{net.port}", "clone", "-q", f"{site.url}/work.git", cloned)
    assert run("-C", cloned, "rev-parse", "HEAD") == run("-C", work, "rev-parse", "HEAD")
    assert (cloned / "file7").read_bytes() == body("git7", 20_000)


def test_requests_of_python(net: SocksNet, site: Site) -> None:
    """With credentials, which keep its connections apart from others."""
    requests = pytest.importorskip("requests", reason="requests is not installed")
    pytest.importorskip("socks", reason="PySocks is not installed: requests[socks]")
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": f"socks5h://user:password@127.0.0.1:{net.port}"}
        for number in range(3):
            got = session.get(f"{site.url}/bytes/50000/r{number}", timeout=450)
            assert (got.status_code, got.content) == (200, body(f"r{number}", 50_000))
        posted = session.post(f"{site.url}/", data=body("posted", 50_000), timeout=450)
        assert posted.text == hashlib.sha256(body("posted", 50_000)).hexdigest()


def test_a_long_lived_session_of_keystrokes(net: SocksNet) -> None:
    """Each key is sent when the one before has come back, while a download is under way beside it."""
    echo = Echo()
    try:
        with socket.create_connection(("127.0.0.1", net.port), timeout=300) as terminal:
            terminal.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            terminal.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01" + echo.port.to_bytes(2))
            answer = b""
            while len(answer) < 12:
                answer += terminal.recv(12 - len(answer))
            assert answer[2:4] == b"\x05\x00"
            waits = []
            for key in b"ls -l /etc | less\n":
                begin = time.monotonic()
                terminal.sendall(bytes((key,)))
                assert terminal.recv(1) == bytes((key,))
                waits.append(time.monotonic() - begin)
            print(f"a key came back after {statistics.median(waits):.2f} s (median)")
            terminal.shutdown(socket.SHUT_WR)
            assert terminal.recv(1) == b""
    finally:
        echo.shutdown()
        echo.server_close()


def test_fifty_downloads_at_once(net: SocksNet, site: Site, tmp_path: Path) -> None:
    def download(number: int) -> bool:
        proxy = ("--socks5-hostname", f"127.0.0.1:{net.port}")
        got = curl(*proxy, f"{site.url}/bytes/10000/p{number}", limit=900)
        return got == body(f"p{number}", 10_000)

    with ThreadPoolExecutor(PARALLEL) as pool:
        assert list(pool.map(download, range(PARALLEL))) == [True] * PARALLEL


def test_an_exit_is_killed_and_another_takes_over(net: SocksNet, site: Site) -> None:
    """Without --exit: the download that was under way breaks off, the next one comes through the exit that is left."""
    net.start_exit()
    net.start_client("frank")
    with socket.create_connection(("127.0.0.1", net.port), timeout=600) as program:
        program.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01" + site.server_port.to_bytes(2))
        program.sendall(f"GET /bytes/{50 * MEBIBYTE}/killed HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got, killed = 0, False
        while True:
            try:
                piece = program.recv(65536)
            except ConnectionResetError:
                break
            assert piece, "what broke off looks whole"
            got += len(piece)
            if got > 100_000 and not killed:
                killed = True
                [used] = [one for one in net.exits if one.process.pid in connected_to(site.server_port)]
                used.process.send_signal(signal.SIGKILL)
    assert 100_000 < got < 50 * MEBIBYTE
    proxy = ("--socks5-hostname", f"127.0.0.1:{net.port}")
    assert curl(*proxy, f"{site.url}/bytes/50000/after") == body("after", 50_000)
