"""The load generator of `provider_store.py`, all in one process: mixnodes of layer 3 before the provider, one of layer
1 behind it, to which the acks go, and clients that pull at a fixed rate.
"""

import random
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from gateway_load import _NUMBER, _SLOT, LENGTHS, GatewayLoad
from mixnode_load import follow
from mixnode_network import HOST, Player, current_epoch
from nacl.signing import SigningKey
from OpenSSL import SSL

from nymtw.link import control
from nymtw.link.frames import HEADER, HEADER_LENGTH, FrameType
from nymtw.sphinx import SizeClass
from nymtw.topology.address import mailbox_id
from nymtw.topology.document import NodeRecord

_BURST = 22  # frames that a busy node sends at once
_PATIENCE = 60.0  # seconds without anything


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run: messages, seconds until the last ack was here, and until the last message was; pulls, and how many had a
    message in them.
    """

    count: int
    stored: float
    pulled: float
    pulls: int
    full: int


class Client:
    """One that is logged in, and pulls when it is time to."""

    def __init__(self, plain: socket.socket, secured: SSL.Connection, slots: int) -> None:
        self.socket, self.secured, self.slots = plain, secured, slots
        self.due = 0.0
        self.waits = False
        self.confirming: list[int] = []
        self._frame = HEADER_LENGTH + control.mail_length(slots)
        self._half = b""

    def pull(self) -> None:
        confirmed, self.confirming = self.confirming[: self.slots], self.confirming[self.slots :]
        self.secured.send(control.encode_pull(confirmed, self.slots))
        self.waits = True

    def read(self) -> list[bytes] | None:
        """The contents of the items in an answer, once all of it has come."""
        parts = [self._half]
        try:
            while True:
                parts.append(self.secured.recv(1 << 17))
        except SSL.WantReadError:
            pass
        data = b"".join(parts)
        while data and data[0] == FrameType.KEEPALIVE:
            data = data[HEADER_LENGTH:]
        if len(data) < self._frame:
            self._half = data
            return None
        self._half = data[self._frame :]
        found = []
        for slot in range(HEADER_LENGTH, self._frame, control.SLOT_LENGTH):
            number, _, size = _SLOT.unpack_from(data, slot)
            if number:
                self.confirming.append(number)
                found.append(data[slot + _SLOT.size : slot + _SLOT.size + size])
        self.waits = False
        return found


class StoreLoad(GatewayLoad):
    """Mail in, acks out, and clients that pull."""

    def __init__(self, before: Sequence[Player], behind: Sequence[Player]) -> None:
        super().__init__(before, behind)
        self._pulling: dict[int, Client] = {}
        self._built: list[bytes] = []
        self._acks = 0

    def log_in(self, count: int, provider: NodeRecord) -> None:
        """Register and log in so many clients."""
        context = SSL.Context(SSL.TLS_METHOD)
        for _ in range(count):
            key = SigningKey.generate()
            plain = socket.create_connection((HOST, provider.client_port), timeout=10)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(None)
            secured = SSL.Connection(context, plain)
            secured.set_connect_state()
            secured.do_handshake()
            public = bytes(key.verify_key)
            token = self._ask(secured, control.Register(public, self._sign(secured, key, control.REGISTER_LABEL))).token
            login = control.Login(public, token, self._sign(secured, key, control.LOGIN_LABEL))
            slots = self._ask(secured, login).slots
            plain.setblocking(False)
            self._pulling[plain.fileno()] = Client(plain, secured, slots)
            self._mailboxes.append(mailbox_id(public))
            self._epoll.register(plain.fileno(), select.EPOLLIN)

    def build(self, count: int, provider: NodeRecord, seed: int) -> None:
        """The packets of the next run."""
        self._built = self.mail(count, provider, seed)

    def run_store(self, pull_rate: float, window: int, seed: int) -> Outcome:
        """Send what was built, at most `window` without an ack; each client pulls so many times a second."""
        mail, source, count = self._built, random.Random(seed), len(self._built)
        clients, senders = list(self._pulling.values()), self._senders
        header = HEADER.pack(FrameType.PACKET, SizeClass.REGULAR, current_epoch())
        started = heard = time.monotonic()
        for client in clients:
            client.due = started + source.uniform(0, 1 / pull_rate)
        self._acks = sent = pulls = full = 0
        missing = set(range(count))
        stored = 0.0
        while missing or self._acks < count or any(client.confirming or client.waits for client in clients):
            now = time.monotonic()
            if now - heard > _PATIENCE:
                raise RuntimeError(f"{count - self._acks} acks and {len(missing)} messages have not come")
            while sent < count and sent - self._acks < window:
                sender = senders[sent // _BURST % len(senders)]
                if sender.blocked:
                    sender.push()
                    break
                for packet in mail[sent : sent + _BURST]:
                    sender.stage(header + packet)
                sent = min(sent + _BURST, count)
                sender.push()
            for sender in senders:
                if sender.blocked:
                    sender.push()
            for client in clients:
                if client.due <= now and not client.waits:
                    client.pull()
                    client.due = max(client.due + 1 / pull_rate, now)
                    pulls += 1
            for descriptor, _ in self._epoll.poll(0.001):
                heard = now
                if descriptor in self._pulling:
                    contents = self._pulling[descriptor].read()
                    full += bool(contents)
                    for content in contents or ():
                        run, number = _NUMBER.unpack_from(content)
                        if run == seed:
                            missing.remove(number)  # a KeyError: it came twice
                elif descriptor in self._sinks:
                    self._swallow(self._sinks[descriptor])
                elif descriptor in self._listeners:
                    before = set(self._sinks)
                    self._accept(*self._listeners[descriptor])
                    for new in set(self._sinks) - before:
                        self._epoll.register(new, select.EPOLLIN)
            if not stored and self._acks == count:
                stored = time.monotonic() - started
        return Outcome(count, stored, time.monotonic() - started, pulls, full)

    def idle(self) -> None:
        for client in self._pulling.values():
            client.read()
        super().idle()

    def _swallow(self, sink: Any) -> None:
        parts = [sink._half]
        try:
            while data := sink.socket.recv(1 << 16):
                parts.append(data)
        except OSError:  # there is no more
            pass
        data, start = b"".join(parts), 0
        while len(data) - start >= HEADER_LENGTH:
            kind, size, _ = HEADER.unpack_from(data, start)
            length = HEADER_LENGTH + (LENGTHS[size] if kind == FrameType.PACKET else 0)
            if len(data) - start < length:
                break
            self._acks += kind == FrameType.PACKET and size == SizeClass.ACK
            start += length
        sink._half = data[start:]


def serve(orders: Connection, before: Sequence[Player], behind: Sequence[Player]) -> None:
    """As `mixnode_load.serve`."""
    follow(orders, StoreLoad, before, behind, 0.01)
