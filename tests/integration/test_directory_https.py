"""HTTPS and websockets over it, as a browser would ask."""

import base64
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
COMMAND = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]


def test_the_directory_speaks_https(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-out", certificate, "-keyout", key],
        check=True, capture_output=True,
    )  # fmt: skip
    options = ["--port=0", "--https-port=0", f"--certificate={certificate}", f"--certificate-key={key}"]
    with subprocess.Popen(
        [*COMMAND, "nym-directory", *options],
        cwd=tmp_path,
        env={**os.environ, "NYMTW_HOME": str(tmp_path / "nym")},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            port = 0
            for line in process.stdout:
                if "https://127.0.0.1:" in line:
                    port = int(line.split("https://127.0.0.1:")[1].split(",")[0])
                if "identity key" in line:
                    break
            context = ssl.create_default_context(cafile=str(certificate))
            with urllib.request.urlopen(f"https://localhost:{port}/", timeout=50, context=context) as answer:
                assert b"<title>nymtw" in answer.read()
            with (
                socket.create_connection(("127.0.0.1", port), timeout=50) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                nonce = base64.b64encode(os.urandom(16)).decode()
                secure.sendall(
                    b"GET /api/v1/live HTTP/1.1\r\nHost: d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + nonce.encode() + b"\r\n\r\n"
                )
                received = b""
                while b'"revision":' not in received:
                    part = secure.recv(4096)
                    assert part
                    received += part
                assert received.startswith(b"HTTP/1.1 101 ")
        finally:
            process.send_signal(signal.SIGTERM)
