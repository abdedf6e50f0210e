"""The client's link to its provider: `ClientLinkFactory` is the provider's end, `connect_to_provider` the client's.

The client pins the provider's identity and shows no certificate. It proves itself by the mailbox's token and by a
signature, with the mailbox key, of the TLS exporter, which no other connection has: nothing can be replayed.
"""

import hmac
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nacl.signing import SigningKey

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ClientFactory, Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.errors import DiskError, NymtwError, RegistrationRefused
from nymtw.link import control
from nymtw.link.connection import Allowance, Ceiling, Door, FramedProtocol, Housekeeper
from nymtw.link.control import is_signed, token_hash
from nymtw.link.frames import Frame, FrameError, FrameParser, FrameType, encode_submit, split_submit
from nymtw.link.security import ILinkSecurity
from nymtw.topology.address import mailbox_id

_LOGGED_IN: Final = frozenset({FrameType.KEEPALIVE, FrameType.SUBMIT, FrameType.PULL})


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
    strangers: int = 1024  # connections that have not logged in
    strangers_per_address: int = 64
    sessions: int = 10_000
    registrations_per_address: int = 1000  # in an hour


def _list_nobody(mailbox: bytes, address: str) -> bool:
    return not address


class ClientLinkFactory:
    """The provider's end of all its clients' links. Listen with `.factory`.

    `store` is an `IMailboxStore`; `submit(first_hop, size_class, epoch, packet)` takes what a logged-in client sends;
    `slots` is the number of slots of every pull. `random` makes tokens. `list_client(mailbox, address)` is told at each
    login which address the client wants to have listed ("" for none), and may refuse; by default nobody is listed.
    """

    def __init__(
        self,
        clock: IReactorTime,
        security: ILinkSecurity,
        *,
        store: Any,
        submit: Callable[[bytes, int, int, bytes], object],
        slots: int,
        random: random.Random,
        list_client: Callable[[bytes, str], bool] = _list_nobody,
        limits: ClientLinkLimits | None = None,
    ) -> None:
        self.security: Any = security
        self.store = store
        self.submit = submit
        self.slots = slots
        self.random = random
        self.list_client = list_client
        self.limits = limits or ClientLinkLimits()
        self.housekeeper = Housekeeper(clock, min(self.limits.handshake, self.limits.half_frame) / 4)
        self.sessions: dict[bytes, ClientSession] = {}
        self.registrations = Allowance(clock, self.limits.registrations_per_address, 3600.0)
        ceiling = Ceiling(self.limits.strangers, self.limits.strangers_per_address)
        self.factory = Door(ceiling, security.server(_SessionFactory(self, ceiling), False))

    def stop(self) -> Deferred[None]:
        """Close all connections; fires when none is left. The listening port is the caller's."""
        self.factory.open = False
        return self.housekeeper.close_all(self.limits.closing)


class _SessionFactory(Factory):
    noisy = False

    def __init__(self, links: ClientLinkFactory, ceiling: Ceiling) -> None:
        self._links = links
        self._ceiling = ceiling

    def buildProtocol(self, addr: Any) -> "ClientSession":
        return ClientSession(self._links, self._ceiling, addr)


class ClientSession(FramedProtocol):
    """The provider's end of one connection of a client."""

    _log = Logger()

    def __init__(self, links: ClientLinkFactory, ceiling: Ceiling, address: Any) -> None:
        super().__init__(links.housekeeper, links.limits, FrameParser({FrameType.CONTROL}, control.CONTROL_LIMIT))
        self._links = links
        self._leave = ceiling.enter(address, self)
        self._address = address
        self._registering = False
        self._mailbox = b""
        self._cursor = 0  # the newest item that this session was given

    def frames_received(self, frames: list[Frame]) -> None:
        pulled = False
        for frame in frames:
            if self.ended:
                return
            if frame.type is FrameType.SUBMIT:
                first_hop, packet = split_submit(frame)
                self._links.submit(first_hop, frame.size_class, frame.epoch, packet)
            elif frame.type is FrameType.PULL:
                # A client pulls again when it has the answer: more is an attempt to make us buffer without bound.
                if pulled or self.blocked:
                    raise FrameError("a second pull before the first is answered")
                pulled = True
                self._answer_pull(frame.body)
            elif frame.type is FrameType.CONTROL:
                self._answer_control(control.parse_request(frame.body))

    def write_blocked(self) -> None:
        # Whoever does not read is not read from.
        super().write_blocked()
        self.transport.pauseProducing()

    def write_unblocked(self) -> None:
        super().write_unblocked()
        self._heard = self.clock.seconds()
        self.transport.resumeProducing()

    def lost(self) -> None:
        self._leave()
        if self._links.sessions.get(self._mailbox) is self:
            del self._links.sessions[self._mailbox]

    # registration and login

    def _answer_control(self, request: control.Register | control.Login) -> None:
        if self.up or self._registering:
            raise FrameError("a control message out of turn")
        if isinstance(request, control.Register):
            self._register(request)
        else:
            self._login(request)

    def _register(self, request: control.Register) -> None:
        exporter = self._links.security.exporter(self.transport, control.REGISTER_LABEL)
        if not is_signed(request.mailbox_key, exporter, request.signature):
            self._refuse("the signature is wrong")
            return
        if not self._links.registrations.take(self._address):
            self._refuse("too many registrations from one address; try again in an hour")
            return
        self._registering = True
        token = self._links.random.randbytes(control.TOKEN_LENGTH)
        mailbox = mailbox_id(request.mailbox_key)
        stored: Deferred[Any] = self._links.store.register(mailbox, request.mailbox_key, token_hash(token))
        stored.addCallbacks(lambda _: self._registered(token), self._not_registered)

    def _registered(self, token: bytes) -> None:
        self._registering = False
        if not self.ended:
            self.send(control.encode_control(control.Registered(token)))

    def _not_registered(self, failure: Failure) -> None:
        self._registering = False
        if not isinstance(failure.value, NymtwError):
            self._log.failure("A registration failed", failure)
        self._refuse("the provider takes no more mailboxes")

    def _login(self, request: control.Login) -> None:
        links = self._links
        mailbox = mailbox_id(request.mailbox_key)
        exporter = links.security.exporter(self.transport, control.LOGIN_LABEL)
        try:
            record = links.store.find(mailbox)
        except DiskError:
            self._refuse("the provider cannot read its mailboxes")
            return
        # An unknown mailbox takes the same path and time as a wrong token.
        expected = record.token_hash if record is not None else bytes(32)
        token_right = hmac.compare_digest(token_hash(request.token), expected)
        signature_right = is_signed(request.mailbox_key, exporter, request.signature)
        if not (token_right & signature_right):
            self._refuse("the mailbox, the token or the signature is wrong")
            return
        older = links.sessions.get(mailbox)
        if older is None and len(links.sessions) >= links.limits.sessions:
            self._refuse("the provider serves as many clients as it can")
            return
        if not links.list_client(mailbox, request.listing):
            self._refuse("the address to be listed is not one of this mailbox, or the list is full")
            return
        links.sessions[mailbox] = self
        if older is not None:
            older.abort()
        self._mailbox = mailbox
        self._leave()
        self.parser.allowed = _LOGGED_IN
        self.up = True
        self.send(control.encode_control(control.LoggedIn(links.slots)))

    def _refuse(self, reason: str) -> None:
        if not self.ended:
            self.send(control.encode_control(control.Refused(reason)))
            self.close()

    # mail

    def _answer_pull(self, body: bytes) -> None:
        links = self._links
        confirmed = control.parse_pull(body, links.slots)
        if confirmed:
            links.store.confirm(self._mailbox, confirmed)
        try:
            items = links.store.pull(self._mailbox, links.slots, self._cursor)
        except DiskError:
            self.abort()
            return
        if items:
            self._cursor = items[-1].number
        self.send(control.encode_mail(items, links.slots))


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
    """Connect to the provider with this identity. Fires with a `ProviderConnection` when it has proved that it is.

    Fails with Twisted's connection error, or OpenSSL's, where it cannot be reached or is somebody else; cancel it to
    give up. `lost` is called once when a connection that was handed out ends, whoever ended it.
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
    """The client's end: `register` or `login` first, one at a time, then `submit` and `pull`."""

    def __init__(self, factory: _ProviderFactory) -> None:
        parser = FrameParser({FrameType.CONTROL}, control.CONTROL_LIMIT)
        super().__init__(factory.housekeeper, factory.limits, parser)
        self._factory = factory
        self._handed_out = False
        self._answer: Deferred[Any] | None = None
        self._mail: Deferred[list[control.MailItem]] | None = None
        self.slots = 0  # of every pull, known after login

    def register(self) -> "Deferred[bytes]":
        """Make the mailbox. Fires with its token (32 bytes); fails with `RegistrationRefused`."""
        key = bytes(self._factory.mailbox_key.verify_key)
        return self._ask(control.Register(key, self._sign(control.REGISTER_LABEL)))

    def login(self, token: bytes, listing: str = "") -> "Deferred[int]":
        """Open the mailbox. Fires with the number of slots of every pull; fails with `RegistrationRefused`.

        `listing`: the client's address, if others are to find it in the topology.
        """
        key = bytes(self._factory.mailbox_key.verify_key)
        return self._ask(control.Login(key, token, self._sign(control.LOGIN_LABEL), listing))

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

        Raises RuntimeError before login or while `pulling`, ValueError for more to confirm than slots.
        """
        if not self.up or self._mail is not None:
            raise RuntimeError("a pull needs a login, and the answer to the pull before it")
        frame = control.encode_pull(confirm, self.slots)
        self._mail = Deferred()
        self.send(frame)
        return self._mail

    # the connection

    def handshakeCompleted(self) -> None:
        if self.ended:
            return
        self._handed_out = True
        self._factory.connected.callback(self)

    def frames_received(self, frames: list[Frame]) -> None:
        for frame in frames:
            if self.ended:
                return
            if frame.type is FrameType.CONTROL:
                self._take_answer(control.parse_answer(frame.body))
            elif frame.type is FrameType.MAIL:
                mail, self._mail = self._mail, None
                if mail is None:
                    raise FrameError("mail that was not asked for")
                mail.callback(control.parse_mail(frame.body, self.slots))

    def lost(self) -> None:
        waiting = [self._answer, self._mail]
        self._answer = self._mail = None
        if not self._handed_out and not self._factory.connected.called:
            waiting.append(self._factory.connected)
        for deferred in waiting:
            if deferred is not None:
                deferred.errback(self.reason)
        if self._handed_out:
            self._factory.tell_lost()

    def _sign(self, label: bytes) -> bytes:
        exporter = self._factory.security.exporter(self.transport, label)
        return bytes(self._factory.mailbox_key.sign(exporter).signature)

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
            raise FrameError("an answer that was not asked for")
        if isinstance(answer, control.Refused):
            waiting.errback(RegistrationRefused(answer.reason))
        elif not isinstance(answer, self._answer_kind):
            self._answer = waiting
            raise FrameError("the answer to another question")
        elif isinstance(answer, control.Registered):
            waiting.callback(answer.token)
        else:
            self.up = True
            self.slots = answer.slots
            self.parser.allowed = frozenset({FrameType.KEEPALIVE, FrameType.MAIL})
            self.parser.limit = control.mail_length(answer.slots)
            waiting.callback(answer.slots)
