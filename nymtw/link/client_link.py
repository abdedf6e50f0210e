"""The client's end of the link to its edge, a provider or a gateway; `nymtw.link.edge_link` is the other one.

The client pins the edge's identity and shows no certificate.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nacl.signing import SigningKey

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from nymtw.errors import RegistrationRefused
from nymtw.link import control
from nymtw.link.connection import FramedProtocol, Housekeeper
from nymtw.link.downlink import MOST_UNANSWERED
from nymtw.link.frames import Frame, FrameError, FrameParser, FrameType, encode_submit
from nymtw.link.security import ILinkSecurity


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLinkLimits:
    """Bounds of the client's link, at both ends: seconds, connections."""

    connect: float = 10.0
    handshake: float = 20.0  # from the connection to a login
    half_frame: float = 20.0
    keepalive: float = 20.0
    silence: float = 70.0
    stalled: float = 60.0
    closing: float = 2.0
    unauthenticated: int = 1024  # connections that have not logged in
    unauthenticated_per_address: int = 64
    sessions: int = 10_000
    registrations: int = 2000  # in an hour, from all addresses
    registrations_per_address: int = 200  # in an hour
    failed_logins_per_address: int = 100  # in ten minutes


def connect_to_provider(
    reactor: Any,
    host: str,
    port: int,
    identity: bytes,
    security: ILinkSecurity,
    *,
    mailbox_key: SigningKey,
    lost: Callable[[], object],
    limits: ClientLinkLimits | None = None,
) -> "Deferred[ProviderConnection]":
    """Connect to the provider or gateway with this identity. Fires with a `ProviderConnection` once that is proved.

    Fails with Twisted's connection error, or OpenSSL's, if it cannot be reached or has another identity; cancel it to
    give up. `lost` is called once when a connection that was handed out ends, whichever end closed it.
    """
    factory = _ProviderFactory(reactor, security, mailbox_key, lost, limits or ClientLinkLimits())
    wrapped = security.client(factory, identity)
    factory.connector = reactor.connectTCP(host, port, wrapped, factory.limits.connect)
    return factory.connected


class _ProviderFactory(ClientFactory):
    noisy = False
    connector: Any = None
    _protocol: "ProviderConnection | None" = None

    def __init__(
        self,
        clock: IReactorTime,
        security: ILinkSecurity,
        mailbox_key: SigningKey,
        lost: Callable[[], object],
        limits: ClientLinkLimits,
    ) -> None:
        self.security: Any = security
        self.mailbox_key = mailbox_key
        self.tell_lost = lost
        self.limits = limits
        self.housekeeper = Housekeeper(clock, min(limits.handshake, limits.half_frame) / 4)
        self.connected: Deferred[ProviderConnection] = Deferred(self._cancel)

    def buildProtocol(self, addr: Any) -> "ProviderConnection":
        self._protocol = ProviderConnection(self)
        return self._protocol

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        if not self.connected.called:
            self.connected.errback(reason)

    def _cancel(self, _: Any) -> None:
        if self._protocol is not None:
            self._protocol.abort()
        else:
            self.connector.stopConnecting()


class ProviderConnection(FramedProtocol):
    """The client's end: `register` or `login` first, one at a time, then `submit`, and `pull` or, where mail is pushed,
    `pushed` and `confirm`.
    """

    def __init__(self, factory: _ProviderFactory) -> None:
        parser = FrameParser({FrameType.CONTROL}, control.CONTROL_LIMIT)
        super().__init__(factory.housekeeper, factory.limits, parser)
        self.factory = factory
        self._handed_out = False
        self._answer: Deferred[Any] | None = None
        self._mail: Deferred[list[control.MailItem]] | None = None
        self._at_once = False
        self._unclaimed: list[list[control.MailItem]] = []
        self._take_mail: Callable[[list[control.MailItem]], object] | None = None
        self._confirmed: deque[int] = deque()
        self.slots = 0  # of every pull or pushed frame, known after login
        self.push = False  # whether mail is pushed, known after login
        self.kept = 0  # seconds without a login after which the edge deletes the mailbox; 0: never

    def register(self) -> "Deferred[bytes]":
        """Make the mailbox. Fires with its token (32 bytes); fails with `RegistrationRefused`."""
        key = bytes(self.factory.mailbox_key.verify_key)
        return self._ask(control.Register(key, self.signature(control.REGISTER_LABEL)))

    def login(self, token: bytes, listing: str = "", credential: bytes = b"") -> "Deferred[int]":
        """Open the mailbox. Fires with the number of slots of every pull; fails with `RegistrationRefused`.

        `listing`: the client's address, if others are to find it in the topology; `credential` (at most 1,024 bytes):
        what lets it send, where the edge asks for that. Afterwards `push` says whether mail is pushed, and `kept` for
        how long the mailbox is kept without a login.
        """
        key = bytes(self.factory.mailbox_key.verify_key)
        return self._ask(control.Login(key, token, self.signature(control.LOGIN_LABEL), listing, credential))

    def submit(self, first_hop: bytes, epoch: int, packet: bytes) -> bool:
        """Ask the provider to pass a packet to the node `first_hop`. False where it was not sent: not logged in, or
        the provider does not read; the packet stays with the caller."""
        if not self.up or self.blocked:
            return False
        self.send(encode_submit(first_hop, epoch, packet))
        return True

    @property
    def pulling(self) -> bool:
        """Whether a pull waits for its answer."""
        return self._mail is not None

    def pull(self, confirm: Sequence[int] = ()) -> "Deferred[list[control.MailItem]]":
        """Confirm up to `slots` items, and fetch up to `slots`. One at a time: ask `pulling` first.

        Raises RuntimeError before login, while `pulling` or where mail is pushed, ValueError for more to confirm than
        slots.
        """
        if not self.up or self.push or self._mail is not None:
            raise RuntimeError("a pull needs a login, the answer to the pull before it, and an edge that does not push")
        frame = control.encode_pull(confirm, self.slots)
        self._mail = Deferred()
        self.send(frame)
        return self._mail

    @property
    def pushed(self) -> Callable[[list[control.MailItem]], object] | None:
        """For pushed mail: the callback for each frame's items, dummies left out, if there are any.

        Frames that come before it is set wait for it; an edge sends 64 at most that are not answered.
        """
        return self._take_mail

    @pushed.setter
    def pushed(self, take: Callable[[list[control.MailItem]], object] | None) -> None:
        self._take_mail = take
        while self._take_mail is not None and self._unclaimed:
            self._take_pushed(self._unclaimed.pop(0))

    def confirm(self, numbers: Sequence[int]) -> None:
        """For pushed mail: confirm these items in the answers to the next frames."""
        self._confirmed.extend(numbers)
        while self._at_once and self._confirmed and self.up:
            self._answer_mail()

    # the connection

    def handshakeCompleted(self) -> None:
        if self.ended:
            return
        self._handed_out = True
        self.factory.connected.callback(self)

    def frames_received(self, frames: list[Frame]) -> None:
        for frame in frames:
            if self.ended:
                return
            if frame.type is FrameType.CONTROL:
                self._take_answer(control.parse_answer(frame.body))
            elif frame.type is FrameType.MAIL and self.push:
                items = control.parse_mail(frame.body, self.slots)
                if self._take_mail is not None:
                    self._take_pushed(items)
                elif len(self._unclaimed) < MOST_UNANSWERED:
                    self._unclaimed.append(items)
                else:
                    raise FrameError("more mail than the limit of unanswered items")
            elif frame.type is FrameType.MAIL:
                mail, self._mail = self._mail, None
                if mail is None:
                    raise FrameError("mail without a pull")
                mail.callback(control.parse_mail(frame.body, self.slots))

    def lost(self) -> None:
        waiting = [self._answer, self._mail]
        self._answer = self._mail = None
        if not self._handed_out and not self.factory.connected.called:
            waiting.append(self.factory.connected)
        for deferred in waiting:
            if deferred is not None:
                deferred.errback(self.reason)
        if self._handed_out:
            self.factory.tell_lost()

    def _take_pushed(self, items: list[control.MailItem]) -> None:
        """Every frame has one answer, whatever was in it, before anybody can have done anything with it."""
        self._answer_mail()
        if items and self._take_mail is not None:
            self._take_mail(items)

    def _answer_mail(self) -> None:
        numbers = [self._confirmed.popleft() for _ in range(min(self.slots, len(self._confirmed)))]
        if self.up:
            self.send(control.encode_pull(numbers, self.slots))

    def signature(self, label: bytes) -> bytes:
        """The mailbox key's signature (64 bytes) of the exporter for `label`: worth nothing on another connection."""
        exporter = self.factory.security.exporter(self.transport, label)
        return bytes(self.factory.mailbox_key.sign(exporter).signature)

    def _ask(self, request: control.Register | control.Login) -> "Deferred[Any]":
        if self.up or self._answer is not None or self.ended:
            raise RuntimeError("register and login come one at a time, before anything else")
        self._answer = Deferred()
        self._answer_kind = control.Registered if isinstance(request, control.Register) else control.LoggedIn
        self.send(control.encode_control(request))
        return self._answer

    def _take_answer(self, answer: control.Registered | control.LoggedIn | control.Refused) -> None:
        waiting, self._answer = self._answer, None
        if waiting is None:
            raise FrameError("an answer without a request")
        if isinstance(answer, control.Refused):
            waiting.errback(RegistrationRefused(answer.reason))
        elif not isinstance(answer, self._answer_kind):
            self._answer = waiting
            raise FrameError("an answer to another request")
        elif isinstance(answer, control.Registered):
            self.kept = answer.kept
            waiting.callback(answer.token)
        else:
            self.up = True
            self.kept = answer.kept
            self.slots, self.push, self._at_once = answer.slots, answer.push, answer.at_once
            self.parser.allowed = frozenset({FrameType.KEEPALIVE, FrameType.MAIL})
            self.parser.limit = control.mail_length(answer.slots)
            waiting.callback(answer.slots)
