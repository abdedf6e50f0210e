"""The load generator of `mixnode.py`: the nodes before the mixnode and those behind it, all in one process.

It speaks TLS 1.3 with Python's `ssl`, sends packets when they are due, and notes when each of them comes out.
"""

import gc
import random
import select
import socket
import ssl
import tempfile
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from mixnode_network import HOST, PAYLOAD_LENGTH, RECORD_LENGTH, Player, current_epoch

from nymtw.link.frames import HEADER, HEADER_LENGTH, KEEPALIVE_FRAME, FrameType
from nymtw.sphinx import FinalHop, Hop, build_packet, process_packet, recover_message
from nymtw.sphinx.geometry import HEADER_LENGTH as SPHINX_HEADER_LENGTH
from nymtw.sphinx.geometry import MAC_LENGTH, SizeClass
from nymtw.topology.document import NodeRecord

FRAME_LENGTH = HEADER_LENGTH + SPHINX_HEADER_LENGTH + PAYLOAD_LENGTH
_MAC = slice(HEADER_LENGTH + 32, HEADER_LENGTH + 32 + MAC_LENGTH)
_KEEPALIVE_INTERVAL = 10.0
_PATIENCE = 5.0  # seconds behind the last packet that is due to leave the node, for one that is late


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the packets of one run. Times are in seconds.

    `added` is what the node added to the drawn delay: from the moment the packet was given to TLS, to the one at which
    it had been read behind the node; sorted. `added_late` is the same for the last tenth of the packets.
    `lateness` is how far behind its schedule the generator was, 99 % of packets less.
    """

    sent: int
    received: int
    seconds: float
    lateness: float
    added: "array[float]"
    added_late: "array[float]"


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted values lie; infinite where there are none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("inf")


class Generator:
    """Twenty peers in, ten out, or as many as it is given."""

    def __init__(self, before: Sequence[Player], behind: Sequence[Player]) -> None:
        self._before = before
        self._behind = behind
        self._folder = tempfile.TemporaryDirectory(prefix="nymtw-load-")
        self._frame_header = HEADER.pack(FrameType.PACKET, SizeClass.REGULAR, current_epoch())
        self._payload = random.Random(1).randbytes(PAYLOAD_LENGTH)
        self._senders: list[_Sender] = []
        self._sinks: dict[int, _Sink] = {}
        self._listeners = {}
        for player in behind:
            listener = socket.create_server((HOST, 0))
            listener.setblocking(False)
            self._listeners[listener.fileno()] = listener, self._context(player, ssl.PROTOCOL_TLS_SERVER)
        self._kept_alive = time.monotonic()

    def ports(self) -> list[int]:
        """Where each of those behind the node listens."""
        return [listener.getsockname()[1] for listener, _ in self._listeners.values()]

    def connect(self, node: NodeRecord) -> None:
        """Connect all that are before the node to it."""
        for player in self._before:
            plain = socket.create_connection((node.host, node.port), timeout=10)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secured = self._context(player, ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain)
            if secured.recv(HEADER_LENGTH) != KEEPALIVE_FRAME:
                raise RuntimeError("the node does not admit a peer")
            secured.setblocking(False)
            self._senders.append(_Sender(secured))

    def check(self, node: NodeRecord) -> None:
        """Send whole packets from each peer to each, and compare what comes out with what was put in."""
        source = random.Random(2)
        key = node.sphinx_key(current_epoch())
        receivers = [Hop(player.identity, player.sphinx_public) for player in self._behind]
        messages = set()
        for sender in self._senders:
            for receiver in receivers:
                messages.add(message := source.randbytes(1000))
                route = [Hop(node.identity, key), receiver]
                sender.stage(self._frame_header + build_packet(message, route, [10**6], bytes(32), random=source))
        for sender in self._senders:
            sender.push()
        privates = [player.sphinx_private for player in self._behind]
        deadline = time.monotonic() + 10
        while messages:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(messages)} packets were lost on an idle node")
            for sink in self._wait(0.1):
                for frame in sink.frames():
                    for private in privates:
                        try:
                            hop = process_packet(frame[HEADER_LENGTH:], private)
                        except Exception:  # for another receiver
                            continue
                        assert isinstance(hop, FinalHop)
                        messages.remove(recover_message(hop.payload))

    def run(self, records: bytes, rate: float, seed: int) -> Outcome:
        """Send a packet for each record of `build_headers`, as a Poisson process of `rate` packets/s in all."""
        source = random.Random(seed)
        count = len(records) // RECORD_LENGTH
        header, mac_end = SPHINX_HEADER_LENGTH, SPHINX_HEADER_LENGTH + MAC_LENGTH
        frame_header, payload, senders = self._frame_header, self._payload, self._senders
        indexes, delays = {}, array("d")
        for index, start in enumerate(range(0, len(records), RECORD_LENGTH)):
            indexes[records[start + header : start + mac_end]] = index
            delays.append(int.from_bytes(records[start + mac_end : start + RECORD_LENGTH], "big") / 1e9)
        through = [source.choice(senders) for _ in range(count)]
        due, lateness = array("d"), array("d")
        sent_at, added_at = array("d", bytes(8 * count)), array("d", [-1.0]) * count
        moment = time.monotonic() + 0.05
        for _ in range(count):
            moment += source.expovariate(rate)
            due.append(moment)
        deadline = moment + max(delays, default=0.0) + _PATIENCE
        sent = 0
        last = 0.0
        while indexes:
            now = time.monotonic()
            if now > deadline:
                break
            pushed = set()
            while sent < count and due[sent] <= now:
                start = sent * RECORD_LENGTH
                through[sent].stage(frame_header + records[start : start + header] + payload)
                pushed.add(through[sent])
                lateness.append(now - due[sent])
                sent_at[sent] = now
                sent += 1
            for sender in pushed:
                sender.push()
            wait = min(due[sent] - time.monotonic(), 0.05) if sent < count else 0.05
            for sink in self._wait(max(wait, 0.0)):
                frames = sink.frames()
                last = time.monotonic()
                for frame in frames:
                    if not frame.startswith(frame_header):
                        raise RuntimeError("the node has sent something that is no regular packet of this epoch")
                    index = indexes.pop(frame[_MAC])
                    added_at[index] = last - sent_at[index] - delays[index]
        tail = array("d", sorted(value for value in added_at[count * 9 // 10 :] if value >= 0))
        added = array("d", sorted(value for value in added_at if value >= 0))
        seconds = last - sent_at[0]
        return Outcome(sent, count - len(indexes), seconds, quantile(sorted(lateness), 0.99), added, tail)

    def idle(self) -> None:
        """To be called every few seconds between runs."""
        self._wait(0.0)

    def close(self) -> None:
        for connection in (*self._senders, *self._sinks.values()):
            connection.socket.close()
        self._folder.cleanup()

    def _wait(self, seconds: float) -> list["_Sink"]:
        """Wait for at most so long; write what can be written, and answer who has something to read."""
        now = time.monotonic()
        if now - self._kept_alive > _KEEPALIVE_INTERVAL:
            self._kept_alive = now
            for connection in (*self._senders, *self._sinks.values()):
                connection.stage(KEEPALIVE_FRAME)
                connection.push()
        blocked = [sender for sender in self._senders if sender.blocked]
        # select, not epoll: its timeout has microseconds.
        reading = [*self._sinks, *self._listeners, *(sender.socket for sender in self._senders)]
        readable, writable, _ = select.select(reading, [sender.socket for sender in blocked], [], seconds)
        for sender in blocked:
            if sender.socket in writable:
                sender.push()
        sinks = []
        for ready in readable:
            if ready in self._sinks:
                sinks.append(self._sinks[ready])
            elif ready in self._listeners:
                self._accept(*self._listeners[ready])
            else:
                next(sender for sender in self._senders if sender.socket is ready).frames()
        return sinks

    def _accept(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        plain, _ = listener.accept()
        plain.settimeout(10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured = context.wrap_socket(plain, server_side=True)
        secured.setblocking(False)
        sink = _Sink(secured)
        sink.stage(KEEPALIVE_FRAME)
        sink.push()
        self._sinks[secured.fileno()] = sink

    def _context(self, player: Player, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # who the others are is not what is measured; the node checks it
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0
        path = Path(self._folder.name) / "certificate.pem"
        path.write_bytes(_certificate(player.seed))
        context.load_cert_chain(path)
        path.unlink()
        return context


class _Connection:
    def __init__(self, secured: ssl.SSLSocket) -> None:
        self.socket = secured
        self.blocked = False
        self._staged: list[bytes] = []
        self._rest = b""
        self._half = b""

    def stage(self, frame: bytes) -> None:
        self._staged.append(frame)

    def push(self) -> None:
        """Write all that is staged, in as few writes as that takes."""
        while self._rest or self._staged:
            if not self._rest:
                self._rest = b"".join(self._staged)
                self._staged.clear()
            try:
                self._rest = self._rest[self.socket.send(self._rest) :]
            except ssl.SSLWantWriteError:
                self.blocked = True
                return
        self.blocked = False

    def frames(self) -> list[bytes]:
        """Packet frames that have come, header included."""
        parts = [self._half]
        try:
            while data := self.socket.recv(1 << 16):
                parts.append(data)
            raise RuntimeError("the node has closed a link")
        except ssl.SSLWantReadError:
            pass
        data, start, frames = b"".join(parts), 0, []
        while len(data) - start >= HEADER_LENGTH:
            if data[start] == FrameType.KEEPALIVE:
                start += HEADER_LENGTH
            elif len(data) - start >= FRAME_LENGTH:
                frames.append(data[start : start + FRAME_LENGTH])
                start += FRAME_LENGTH
            else:
                break
        self._half = data[start:]
        return frames


class _Sender(_Connection):
    """A node before the mixnode."""


class _Sink(_Connection):
    """A node behind it."""


def _certificate(seed: bytes) -> bytes:
    """Key and self-signed certificate, PEM, for the Ed25519 key of `seed`."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "load")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, tzinfo=UTC))
        .sign(key, None)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def serve(orders: Connection, before: Sequence[Player], behind: Sequence[Player]) -> None:
    """The generator's process: `follow` until there are no more orders."""
    follow(orders, Generator, before, behind, 1.0)


def follow(
    orders: Connection, make: Callable[..., Any], before: Sequence[Player], behind: Sequence[Player], idle: float
) -> None:
    """Make a load, and answer (method, arguments) with (result, None) or (None, what went wrong), until EOF.

    Between orders the load's `idle` is called every `idle` seconds.
    """
    gc.disable()  # nothing here makes cycles, and a collection would count as latency of the node
    load = make(before, behind)
    try:
        while True:
            while not orders.poll(idle):
                load.idle()
            method, arguments = orders.recv()
            try:
                answer: tuple[Any, str | None] = getattr(load, method)(*arguments), None
            except Exception as error:
                answer = None, f"{type(error).__name__}: {error}"
            orders.send(answer)
    except EOFError:
        load.close()
