"""A gateway as a process, over real TLS: a login that was recorded is worth nothing, kill -9 costs no mailbox."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nacl.signing import SigningKey
from OpenSSL import SSL
from test_node_signals import Running, free_port

from nymtw.link import control
from nymtw.link.frames import Frame, FrameParser, FrameType

pytestmark = pytest.mark.integration
LIMIT = 150.0  # seconds for anything
Start = Callable[[], Running]


class Client:
    """A client that blocks; `wire` is every byte that it has sent."""

    def __init__(self, port: int, key: SigningKey) -> None:
        self.key = key
        self.public = bytes(key.verify_key)
        self.plain = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self.tls = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        self.tls.set_connect_state()
        self.wire: list[bytes] = []
        self.parser = FrameParser({FrameType.CONTROL, FrameType.KEEPALIVE, FrameType.MAIL}, 10_000)
        self.frames: list[Frame] = []
        while True:
            try:
                self.tls.do_handshake()
                break
            except SSL.WantReadError:
                self._flush()
                self.tls.bio_write(self._receive())
        self._flush()

    def ask(self, request: control.Register | control.Login) -> object:
        self.send(control.encode_control(request))
        return control.parse_answer(self.frame(FrameType.CONTROL).body)

    def register(self) -> bytes:
        answer = self.ask(control.Register(self.public, self._sign(control.REGISTER_LABEL)))
        assert isinstance(answer, control.Registered)
        return answer.token

    def log_in(self, token: bytes) -> object:
        return self.ask(control.Login(self.public, token, self._sign(control.LOGIN_LABEL)))

    def send(self, data: bytes) -> None:
        self.tls.send(data)
        self._flush()

    def frame(self, kind: FrameType) -> Frame:
        """The next frame of this type."""
        while True:
            for frame in self.frames:
                if frame.type is kind:
                    self.frames.remove(frame)
                    return frame
            try:
                self.frames += self.parser.feed(self.tls.recv(1 << 16))
            except SSL.WantReadError:
                self.tls.bio_write(self._receive())
            while found := self.parser.feed(b""):
                self.frames += found

    def close(self) -> None:
        self.plain.close()

    def _sign(self, label: bytes) -> bytes:
        return bytes(self.key.sign(self.tls.export_keying_material(label, 32)).signature)

    def _receive(self) -> bytes:
        data = self.plain.recv(1 << 16)
        if not data:
            raise ConnectionError("the gateway has hung up")
        return data

    def _flush(self) -> None:
        while True:
            try:
                data = self.tls.bio_read(1 << 16)
            except SSL.WantReadError:
                return
            self.wire.append(data)
            self.plain.sendall(data)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Start]:
    started: list[Running] = []

    def begin() -> Running:
        running = Running(tmp_path, "nym-gateway", f"--client-port={port}", "--downlink-rate=20")
        started.append(running)
        running.wait_for("Clients connect to port")
        return running

    yield begin
    for running in started:
        running.process.kill()
        running.process.wait(150)
        running.lines.close()


def test_a_login_is_worth_nothing_to_an_eavesdropper_and_mailboxes_outlive_a_kill(start: Start, port: int) -> None:
    gateway = start()
    key = SigningKey.generate()
    client = Client(port, key)
    token = client.register()
    answer = client.log_in(token)
    assert isinstance(answer, control.LoggedIn)
    assert (answer.slots, answer.push, answer.at_once) == (1, True, False)
    for _ in range(3):
        assert control.parse_mail(client.frame(FrameType.MAIL).body, answer.slots) == []
        client.send(control.encode_pull((), answer.slots))
    assert "nymtw_client_sessions 1.0" in gateway.figures()

    thief = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    thief.sendall(b"".join(client.wire))
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        try:
            if not thief.recv(1 << 16):
                break
        except ConnectionResetError:
            break
    else:
        raise AssertionError("the gateway goes on with a login that was recorded and played back")
    thief.close()
    client.frame(FrameType.MAIL)  # the session is still there
    assert "nymtw_client_sessions 1.0" in gateway.figures()

    other = Client(port, SigningKey.generate())  # with the token, and a key of its own
    refused = other.log_in(token)
    assert isinstance(refused, control.Refused)
    assert "nymtw_client_logins_failed_total 1.0" in gateway.figures()
    other.close()

    gateway.process.kill()
    gateway.process.wait(150)
    client.close()
    start()
    again = Client(port, key)
    assert isinstance(again.log_in(token), control.LoggedIn)
    again.frame(FrameType.MAIL)
    again.close()
