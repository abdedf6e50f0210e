"""Web pages through a localnet as its user gets them: with `nym-client fetch`, and with curl."""

import gzip
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

PAGE = bytes(range(256)) * 800


class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/page")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/page":
            self._send(200, gzip.compress(PAGE), ("Content-Encoding", "gzip"))
        elif self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(PAGE), 10_000):
                piece = PAGE[at : at + 10_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self._send(404, b"there is no such page")

    def do_POST(self) -> None:
        self._send(200, self.rfile.read(int(self.headers["Content-Length"])).upper())

    def _send(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_fetch_writes_a_page_to_a_file(mixnet: Any, site: str, tmp_path: Path) -> None:
    mixnet.make_client("carol")
    for path in ("/moved", "/chunked"):
        fetched = mixnet.nym_client("fetch", site + path, "--id", "carol", "-o", tmp_path / "page")
        assert fetched.wait(450) == 0, fetched.output
        assert (tmp_path / "page").read_bytes() == PAGE
        (tmp_path / "page").unlink()
    missing = mixnet.nym_client("fetch", f"{site}/missing", "--id", "carol")
    assert missing.wait(450) == 1
    assert "there is no such page" in missing.output
    assert "the server answers 404" in missing.output


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_goes_through_the_http_proxy(mixnet: Any, site: str, tmp_path: Path) -> None:
    mixnet.make_client("dave")
    running = mixnet.nym_client("http-proxy", "--id", "dave", "--port", "0")
    proxy = running.wait_for(r"An HTTP proxy is at (http://127\.0\.0\.1:\d+)")[1]

    def curl(*words: str) -> Any:
        return mixnet.start("curl", "--silent", "--show-error", "--max-time", "90", "-x", proxy, *words)

    # As curl's user sees it: compressed pages unpacked, redirects followed by curl itself.
    assert curl("--compressed", "-L", "-o", str(tmp_path / "page"), f"{site}/moved").wait(450) == 0
    assert (tmp_path / "page").read_bytes() == PAGE
    posted = curl("--data", "a body", "-w", "\n%{http_code}\n", f"{site}/")
    assert posted.wait(450) == 0
    assert posted.lines == ["A BODY", "200"]
    missing = curl("-w", "\n%{http_code}\n", f"{site}/missing")
    assert missing.wait(450) == 0
    assert missing.lines == ["there is no such page", "404"]
    nobody = curl("-w", "%{http_code}\n", "-o", "/dev/null", "http://no-such-host.invalid/")
    assert nobody.wait(450) == 0
    assert nobody.lines == ["502"]
