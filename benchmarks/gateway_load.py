"""The load generator of `gateway.py`: a thousand clients, the mixnode of layer 1 behind the gateway, and one of layer 3
before it, all in one process.

A client sends packets when they are due, answers each frame of mail as soon as it has it, and confirms what was in it
with the next answer. Times are taken when a packet is given to TLS and when it has been read.
"""

import random
import select
import socket
import ssl
import struct
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mixnode_load import Generator, follow, quantile
from mixnode_network import HOST, Player, current_epoch
from nacl.signing import SigningKey
from OpenSSL import SSL

from nymtw.encoding import from_cbor
from nymtw.link import control
from nymtw.link.frames import HEADER, HEADER_LENGTH, KEEPALIVE_FRAME, FrameType, encode_submit
from nymtw.message.payload import SEALED_LENGTH, AckSection, join_payload
from nymtw.sphinx import GEOMETRIES, Hop, SizeClass, build_packet
from nymtw.topology.address import mailbox_id
from nymtw.topology.document import NodeRecord

REGULAR = GEOMETRIES[SizeClass.REGULAR].packet_length
LENGTHS = {int(size): geometry.packet_length for size, geometry in GEOMETRIES.items()}
_NUMBER = struct.Struct(">II")  # the run's seed, and the packet's number in it
_SLOT = struct.Struct(">QBH")
_PATIENCE = 5.0  # seconds behind the last packet for one that is late
_KEEPALIVE = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one run; times in seconds, sorted.

    `up`: from a client to the mixnode behind the gateway. `down`: from the mixnode before the gateway, through its
    mailbox, to the client; the wait for the client's turn is part of it.
    """

    seconds: float
    clients: int
    sent: int
    up: "array[float]"
    mailed: int
    down: "array[float]"
    frames: int
    lateness: float


class Client:
    """One that is logged in."""

    def __init__(self, plain: socket.socket, secured: SSL.Connection, slots: int) -> None:
        self.socket, self.secured, self.slots = plain, secured, slots
        self.frame_length = HEADER_LENGTH + control.mail_length(slots)
        self.silence = control.encode_pull((), slots)
        self.confirming: list[int] = []
        self.staged = b""
        self.half = b""
        self.frames = 0

    def write(self, data: bytes) -> None:
        if self.staged:
            self.staged += data
            return
        try:
            sent = self.secured.send(data)
        except SSL.WantWriteError:
            sent = 0
        self.staged = data[sent:]

    def flush(self) -> None:
        data, self.staged = self.staged, b""
        if data:
            self.write(data)

    def read(self) -> list[bytes]:
        """The contents of the items that have come; every frame is answered."""
        parts = [self.half]
        try:
            while True:
                parts.append(self.secured.recv(1 << 16))
        except SSL.WantReadError:
            pass
        data, start, found, length = b"".join(parts), 0, [], self.frame_length
        while len(data) - start >= HEADER_LENGTH:
            if data[start] == FrameType.KEEPALIVE:
                start += HEADER_LENGTH
            elif len(data) - start >= length:
                self.frames += 1
                for slot in range(start + HEADER_LENGTH, start + length, control.SLOT_LENGTH):
                    number, _, size = _SLOT.unpack_from(data, slot)
                    if number:
                        self.confirming.append(number)
                        found.append(data[slot + _SLOT.size : slot + _SLOT.size + size])
                # What is in this frame is confirmed by the next answer, as a real client must.
                confirmed = self.confirming[: self.slots] if not found else []
                del self.confirming[: len(confirmed)]
                self.write(control.encode_pull(confirmed, self.slots) if confirmed else self.silence)
                start += length
            else:
                break
        self.half = data[start:]
        return found


class GatewayLoad(Generator):
    """Clients too."""

    def __init__(self, before: Sequence[Player], behind: Sequence[Player]) -> None:
        super().__init__(before, behind)
        self._clients: dict[int, Client] = {}
        self._mailboxes: list[bytes] = []
        self._epoll = select.epoll()
        self._layer_1 = behind[0].identity
        self._wrote = time.monotonic()
        for descriptor in self._listeners:
            self._epoll.register(descriptor, select.EPOLLIN)

    def log_in(self, count: int, gateway: NodeRecord) -> None:
        """Register and log in so many more clients."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        for _ in range(count):
            key = SigningKey.generate()
            plain = socket.create_connection((HOST, gateway.client_port), timeout=10)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(None)
            secured = SSL.Connection(context, plain)
            secured.set_connect_state()
            secured.do_handshake()
            public = bytes(key.verify_key)
            registered: Any = self._ask(
                secured, control.Register(public, self._sign(secured, key, control.REGISTER_LABEL))
            )
            login = control.Login(public, registered.token, self._sign(secured, key, control.LOGIN_LABEL))
            logged_in: Any = self._ask(secured, login)
            if not logged_in.push:
                raise RuntimeError("this gateway does not push")
            plain.setblocking(False)
            client = Client(plain, secured, logged_in.slots)
            self._clients[plain.fileno()] = client
            self._mailboxes.append(mailbox_id(public))
            self._epoll.register(plain.fileno(), select.EPOLLIN)
            client.read()
            self._turn(0.0)

    def _sign(self, secured: SSL.Connection, key: SigningKey, label: bytes) -> bytes:
        return bytes(key.sign(secured.export_keying_material(label, 32)).signature)

    def _ask(self, secured: SSL.Connection, request: Any) -> Any:
        secured.sendall(control.encode_control(request))
        data = b""
        while len(data) < HEADER_LENGTH:
            data += secured.recv(HEADER_LENGTH - len(data))
        length = HEADER.unpack(data)[2]
        body = b""
        while len(body) < length:
            body += secured.recv(length - len(body))
        answer = from_cbor(body, control.Registered | control.LoggedIn | control.Refused, control.CONTROL_LIMIT)
        if isinstance(answer, control.Refused):
            raise RuntimeError(answer.reason)
        return answer

    def mail(self, count: int, gateway: NodeRecord, seed: int) -> list[bytes]:
        """So many packets whose last hop is the gateway, each for one of the clients, whose content begins with the
        seed and its number in this list."""
        source = random.Random(seed)
        hop = Hop(gateway.identity, gateway.sphinx_key(current_epoch()))
        ack = (source.randbytes(348), source.randbytes(38), source.randbytes(38))
        packets = []
        for number in range(count):
            sealed = _NUMBER.pack(seed, number) + source.randbytes(SEALED_LENGTH - _NUMBER.size)
            payload = join_payload(AckSection(current_epoch(), self._layer_1, 0, *ack), sealed)
            packets.append(build_packet(payload, [hop], [], source.choice(self._mailboxes), random=source))
        return packets

    def run_clients(self, seconds: float, rate: float, mail_rate: float, gateway: NodeRecord, seed: int) -> Outcome:
        """Every client sends `rate` packets a second and is sent `mail_rate`, as Poisson processes."""
        source = random.Random(seed)
        clients = list(self._clients.values())
        begin = 0.05
        up_due = _poisson(source, rate * len(clients), seconds, begin)
        down_due = _poisson(source, mail_rate * len(clients), seconds, begin)
        mail = self.mail(len(down_due), gateway, seed)
        padding = source.randbytes(REGULAR - _NUMBER.size)
        through = [source.choice(clients) for _ in up_due]
        epoch, first_hop = current_epoch(), self._layer_1
        up_at, down_at = array("d", bytes(8 * len(up_due))), array("d", bytes(8 * len(down_due)))
        self._up, self._down = array("d", [-1.0]) * len(up_due), array("d", [-1.0]) * len(down_due)
        self._up_at, self._down_at, self._run = up_at, down_at, seed
        lateness = array("d")
        frames = sum(client.frames for client in clients)
        started = time.monotonic()
        sent = mailed = 0
        end = started + begin + seconds
        while True:
            now = time.monotonic()
            if now > end + _PATIENCE or (
                now > end and min(self._up, default=0) >= 0 and min(self._down, default=0) >= 0
            ):
                break
            at = now - started
            while sent < len(up_due) and up_due[sent] <= at:
                up_at[sent] = now
                lateness.append(at - up_due[sent])
                through[sent].write(encode_submit(first_hop, epoch, _NUMBER.pack(seed, sent) + padding))
                sent += 1
            if mailed < len(down_due) and down_due[mailed] <= at:
                sender = self._senders[0]
                while mailed < len(down_due) and down_due[mailed] <= at:
                    down_at[mailed] = now
                    sender.stage(HEADER.pack(FrameType.PACKET, SizeClass.REGULAR, epoch) + mail[mailed])
                    mailed += 1
                sender.push()
            self._turn(0.001)
            if now > end:
                self._turn(0.05)
        measured = time.monotonic() - started
        return Outcome(
            seconds=measured,
            clients=len(clients),
            sent=sent,
            up=array("d", sorted(value for value in self._up if value >= 0)),
            mailed=mailed,
            down=array("d", sorted(value for value in self._down if value >= 0)),
            frames=sum(client.frames for client in clients) - frames,
            lateness=quantile(sorted(lateness), 0.99),
        )

    def idle(self) -> None:
        self._turn(0.0)

    def _turn(self, wait: float) -> None:
        """Read whatever there is to read, and write what could not be written."""
        now = time.monotonic()
        if now - self._wrote > _KEEPALIVE:
            self._wrote = now
            for connection in (*self._senders, *self._sinks.values()):
                connection.stage(KEEPALIVE_FRAME)
                connection.push()
        for descriptor, _ in self._epoll.poll(wait):
            client = self._clients.get(descriptor)
            if client is not None:
                contents = client.read()
                client.flush()
                now = time.monotonic()
                for content in contents:
                    run, number = _NUMBER.unpack_from(content)
                    if run == self._run:
                        self._down[number] = now - self._down_at[number]
            elif descriptor in self._listeners:
                before = set(self._sinks)
                self._accept(*self._listeners[descriptor])
                for new in set(self._sinks) - before:
                    self._epoll.register(new, select.EPOLLIN)
            elif descriptor in self._sinks:
                self._swallow(self._sinks[descriptor])

    def _swallow(self, sink: Any) -> None:
        parts = [sink._half]
        try:
            while data := sink.socket.recv(1 << 16):
                parts.append(data)
        except ssl.SSLWantReadError:
            pass
        data, start, now = b"".join(parts), 0, time.monotonic()
        while len(data) - start >= HEADER_LENGTH:
            kind, size, _ = HEADER.unpack_from(data, start)
            length = HEADER_LENGTH + (LENGTHS[size] if kind == FrameType.PACKET else 0)
            if len(data) - start < length:
                break
            if kind == FrameType.PACKET and size == SizeClass.REGULAR:
                run, number = _NUMBER.unpack_from(data, start + HEADER_LENGTH)
                if run == self._run:  # not one that is late
                    self._up[number] = now - self._up_at[number]
            start += length
        sink._half = data[start:]

    _run = 0
    _up: "array[float]" = array("d")
    _down: "array[float]" = array("d")
    _up_at: "array[float]" = array("d")
    _down_at: "array[float]" = array("d")


def _poisson(source: random.Random, rate: float, seconds: float, begin: float) -> "array[float]":
    moments, moment = array("d"), begin
    while rate and (moment := moment + source.expovariate(rate)) < begin + seconds:
        moments.append(moment)
    return moments


def serve(orders: Connection, before: Sequence[Player], behind: Sequence[Player]) -> None:
    """As `mixnode_load.serve`, looking after the clients between orders."""
    follow(orders, GatewayLoad, before, behind, 0.01)
