"""The blocking client finds out which socket it is talking to, and says in one line what it is not."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

from nymtw.client.sockets import blocking_client
from nymtw.client.sockets.blocking_client import BlockingClient, NotRunning
from nymtw.client.sockets.commands import StatusOptions, status
from nymtw.errors import NymtwError

ANSWER = b'{"status": {"ready": true}}'


def tcp(connection: socket.socket) -> None:
    """A client's TCP socket, as far as `status` goes."""
    line = connection.makefile("rb").readline()
    if b"status" in line:
        connection.sendall(ANSWER + b"\n")
        connection.recv(1)
    else:
        connection.sendall(b'{"exception": {"error": "the request is not JSON"}}\n')


def websocket(connection: socket.socket) -> None:
    """A client's websocket, as far as `status` goes."""
    wire = WSConnection(ConnectionType.SERVER)
    while data := connection.recv(1000):
        if data.startswith(b"{"):
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return
        wire.receive_data(data)
        for event in wire.events():
            if isinstance(event, Request):
                connection.sendall(wire.send(AcceptConnection()))
            elif isinstance(event, TextMessage):
                connection.sendall(wire.send(TextMessage(ANSWER.decode())))


def says(data: bytes) -> Callable[[socket.socket], None]:
    """A program that says this, whatever it is told."""

    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(data)

    return serve


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port on which `serve` gets every connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(2)
                    try:
                        serve(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("serve", [tcp, websocket])
def test_it_finds_out_which_socket_it_is(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(serve) as port:
        options = StatusOptions()
        options.parseOptions([f"--port={port}"])
        assert status(options) == 0
    assert capsys.readouterr().out == "ready  True\n"


def asked(kind: str | None, port: int, timeout: float) -> None:
    with closing(BlockingClient(kind, port, timeout)) as client:
        client.request("status")


STRANGERS = {
    "a web server": says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    "a mail server": says(b"220 mail.example ESMTP\r\n"),
    "noise": says(bytes(range(256))),
    "one that hangs up": lambda connection: None,
    "one that is silent": says(b""),
    "a list": says(b"[1]\n"),
}


@pytest.mark.parametrize("kind", [None, "websocket", "tcp"])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_whoever_is_no_client_is_said_in_a_line(
    stranger: str, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking_client, "HANDSHAKE", 0.2)
    with serving(STRANGERS[stranger]) as port, pytest.raises(NymtwError) as raised:
        asked(kind, port, 0.2)
    assert f"127.0.0.1:{port}" in str(raised.value) or "closed its socket" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("serve", "kind"), [(tcp, "websocket"), (websocket, "tcp")])
def test_the_other_kind_is_named(serve: Any, kind: str) -> None:
    other = "tcp" if kind == "websocket" else "websocket"
    with serving(serve) as port, pytest.raises(NotRunning, match=f"--socket {other}"):
        asked(kind, port, 5)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotRunning, match="no client answers"):
        BlockingClient(None, port)
