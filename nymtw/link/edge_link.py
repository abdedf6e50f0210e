"""An edge's end of its clients' links: a provider's, which they pull their mail from, or a gateway's, which pushes it.

A client proves itself by the mailbox's token and by a signature, with the mailbox key, of the TLS exporter, which no
other connection has: nothing can be replayed.
"""

import hmac
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.drop_reasons import DropReason
from nymtw.errors import DiskError, NymtwError, RegistrationRefused
from nymtw.link import control
from nymtw.link.allowance import Allowance
from nymtw.link.client_link import ClientLinkLimits
from nymtw.link.connection import Ceiling, Door, FramedProtocol, Housekeeper
from nymtw.link.control import is_signed, token_hash
from nymtw.link.downlink import Downlink, Push
from nymtw.link.frames import Frame, FrameError, FrameParser, FrameType, split_submit
from nymtw.link.limits import strangers
from nymtw.link.security import ILinkSecurity
from nymtw.topology.address import mailbox_id

_LOGGED_IN: Final = frozenset({FrameType.KEEPALIVE, FrameType.SUBMIT, FrameType.PULL})
_SHARE_THAT_CHANGES: Final = 0.1  # of the sessions with an old downlink, at each look
_HOUR: Final = 3600.0
_TEN_MINUTES: Final = 600.0
_TOUCH_INTERVAL: Final = 6 * _HOUR


def _list_nobody(mailbox: bytes, address: str) -> bool:
    return not address


def _forget(reason: DropReason) -> None:
    pass


def _open_to_all() -> str:
    return ""


class ClientLinkFactory:
    """An edge's end of all its clients' links. Listen with `.factory`, and give it the mailboxes with `use_store`.

    `submit(first_hop, size_class, epoch, packet)` takes what a logged-in client sends; `slots` is the number of slots
    of every pull. `random` makes tokens. `list_client(mailbox, address)` is told at each login which address the client
    wants to have listed ("" for none), and may refuse; by default nobody is listed. With a `downlink` mail is pushed
    instead; when another takes its place, those who logged in before have to log in again, within a few minutes.
    `verifier`, an `ICredentialVerifier`, says how much a client
    may send, everything without one; `dropped(reason)` is told of each packet that was more.
    """

    def __init__(
        self,
        clock: IReactorTime,
        security: ILinkSecurity,
        *,
        submit: Callable[[bytes, int, int, bytes], object],
        slots: int,
        random: random.Random,
        list_client: Callable[[bytes, str], bool] = _list_nobody,
        downlink: Downlink | None = None,
        verifier: Any = None,
        dropped: Callable[[DropReason], object] = _forget,
        limits: ClientLinkLimits | None = None,
    ) -> None:
        self.security: Any = security
        self.store: Any = None
        # The reason why clients cannot register now; empty if they can.
        self.closed: Callable[[], str] = _open_to_all
        self.submit = submit
        self.slots = slots
        self.random = random
        self.list_client = list_client
        self.downlink = downlink
        self.verifier = verifier
        self.dropped = dropped
        self.limits = limits or ClientLinkLimits()
        self.housekeeper = Housekeeper(clock, min(self.limits.handshake, self.limits.half_frame) / 4)
        self.sessions: dict[bytes, ClientSession] = {}
        self.registrations = Allowance(clock, self.limits.registrations_per_address, _HOUR)
        self.all_registrations = Allowance(clock, self.limits.registrations, _HOUR)
        self.refused_registrations = 0
        self.failures = Allowance(clock, self.limits.failed_logins_per_address, _TEN_MINUTES)
        self.failed_logins = 0
        ceiling = Ceiling(strangers(self.limits.unauthenticated), self.limits.unauthenticated_per_address)
        self.factory = Door(ceiling, security.server(_SessionFactory(self, ceiling), False))

    def use_store(self, store: Any) -> None:
        """Serve the mailboxes of this `IMailboxStore` from now on."""
        self.store = store
        if self.downlink is not None:
            store.subscribe(self._mail_came)

    def stop(self) -> Deferred[None]:
        """Close all connections; fires when none is left. The listening port is the caller's."""
        self.factory.open = False
        return self.housekeeper.close_all(self.limits.closing)

    def _mail_came(self, mailbox: bytes) -> None:
        session = self.sessions.get(mailbox)
        if session is not None and session.push is not None:
            session.push.mail_came()


class _SessionFactory(Factory):
    noisy = False

    def __init__(self, links: ClientLinkFactory, ceiling: Ceiling) -> None:
        self._links = links
        self._ceiling = ceiling

    def buildProtocol(self, addr: Any) -> "ClientSession":
        return ClientSession(self._links, self._ceiling, addr)


class ClientSession(FramedProtocol):
    """The edge's end of one connection of a client.

    One request at a time: while the store or the verifier takes its time nothing more is read.
    """

    _log = Logger()

    def __init__(self, links: ClientLinkFactory, ceiling: Ceiling, address: Any) -> None:
        super().__init__(links.housekeeper, links.limits, FrameParser({FrameType.CONTROL}, control.CONTROL_LIMIT))
        self._links = links
        self._leave = ceiling.enter(address, self)
        self._address = address
        self._working = False
        self._held: list[Frame] | None = None  # what had been read when a request began to wait
        self._idle: Deferred[None] | None = None
        self._mailbox = b""
        self._slots = 0
        self._touched = 0.0
        self._cursor = 0  # the newest item that this session was given, where it pulls
        self._allowance: Any = None
        self.push: Push | None = None

    def frames_received(self, frames: list[Frame]) -> None:
        if self._working:
            self._hold(frames)
            return
        pulled = False
        for position, frame in enumerate(frames):
            if self.ended:
                return
            if frame.type is FrameType.SUBMIT:
                self._submit(frame)
            elif frame.type is FrameType.PULL and self.push is not None:
                self._confirm(self.push, frame.body)
            elif frame.type is FrameType.PULL:
                # A client pulls again when it has the answer: more is an attempt to make us buffer without bound.
                if pulled or self.blocked:
                    raise FrameError("a second pull before the first is answered")
                pulled = True
                self._begin(self._answer_pull(frame.body))
            elif frame.type is FrameType.CONTROL:
                self._answer_control(control.parse_request(frame.body))
            if self._working:
                self._hold(frames[position + 1 :])
                return

    def write_blocked(self) -> None:
        # A client that does not read is not read from.
        super().write_blocked()
        self._read_or_not()

    def write_unblocked(self) -> None:
        super().write_unblocked()
        self._heard = self.clock.seconds()
        self._read_or_not()
        if self.push is not None:
            self.push.go_on()

    def lost(self) -> None:
        self._leave()
        if self.push is not None:
            self.push.stop()
        if self._links.sessions.get(self._mailbox) is self:
            del self._links.sessions[self._mailbox]

    def check(self, now: float) -> None:
        """As every connection; one whose downlink is no longer that of the edge has to be made again, by and by."""
        super().check(now)
        if self.up and now - self._touched >= _TOUCH_INTERVAL:
            self._touch()
        push, links = self.push, self._links
        old = push is not None and push.downlink is not links.downlink
        if old and not self.ended and links.random.random() < _SHARE_THAT_CHANGES:
            self.close()

    # requests that may wait

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._working = True
        Deferred.fromCoroutine(work).addErrback(self._failed).addCallback(self._finished)
        if self._working:
            self._held = []
            self._read_or_not()

    def _hold(self, frames: list[Frame]) -> None:
        """Keep what was read together with a request that waits: packets."""
        if any(frame.type in (FrameType.CONTROL, FrameType.PULL) for frame in frames):
            raise FrameError("a request before the one before it is answered")
        if self._held is not None:
            self._held += frames

    def _failed(self, failure: Failure) -> None:
        if not failure.check(FrameError, DiskError):
            self._log.failure("A client's request failed", failure)
        self.abort()

    def _finished(self, _: object) -> None:
        self._working = False
        held, self._held = self._held, None
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)
        if held is None:
            return
        self._heard = self.clock.seconds()
        try:
            self.frames_received(held)
        except FrameError:
            self.abort()
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self.blocked or self._working:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def _wait_until_idle(self) -> "Deferred[None]":
        """Fires once the store has answered what this session, which has ended, last asked of it."""
        if self.push is not None:
            return self.push.wait_until_idle()
        if not self._working:
            return succeed(None)
        self._idle = Deferred()
        return self._idle

    # registration and login

    def _answer_control(self, request: control.Register | control.Login) -> None:
        if self.up:
            raise FrameError("a control message out of turn")
        self._begin(self._register(request) if isinstance(request, control.Register) else self._login(request))

    async def _register(self, request: control.Register) -> None:
        # What costs nothing comes before the signature; one that is wrong counts, too.
        if closed := self._links.closed():
            self._refuse(closed)
            return
        if not self._links.registrations.take(self._address):
            self._links.refused_registrations += 1
            self._refuse("too many registrations from one address; try again later")
            return
        if self._links.all_registrations.is_used_up(None):
            self._links.refused_registrations += 1
            self._refuse("too many registrations; try again later")
            return
        exporter = self._links.security.exporter(self.transport, control.REGISTER_LABEL)
        if not is_signed(request.mailbox_key, exporter, request.signature):
            self._refuse("the signature is wrong")
            return
        self._links.all_registrations.take(None)
        token = self._links.random.randbytes(control.TOKEN_LENGTH)
        mailbox = mailbox_id(request.mailbox_key)
        try:
            await maybeDeferred(self._links.store.register, mailbox, request.mailbox_key, token_hash(token))
        except NymtwError:
            self._refuse("no more mailboxes are taken here")
        except Exception:
            self._log.failure("A registration failed")
            self._refuse("no more mailboxes are taken here")
        else:
            if not self.ended:
                kept = int(self._links.store.limits.unused_age)
                self.send(control.encode_control(control.Registered(token, kept)))

    async def _login(self, request: control.Login) -> None:
        links = self._links
        if links.failures.is_used_up(self._address):
            self._refuse("too many failed logins from one address; try again in ten minutes")
            return
        mailbox = mailbox_id(request.mailbox_key)
        exporter = links.security.exporter(self.transport, control.LOGIN_LABEL)
        try:
            record = await maybeDeferred(links.store.find, mailbox)
        except DiskError:
            self._refuse("the mailboxes cannot be read")
            return
        # An unknown mailbox takes the same path and time as a wrong token.
        expected = record.token_hash if record is not None else bytes(32)
        token_right = hmac.compare_digest(token_hash(request.token), expected)
        signature_right = is_signed(request.mailbox_key, exporter, request.signature)
        if not (token_right & signature_right):
            links.failures.take(self._address)
            links.failed_logins += 1
            self._refuse(control.WRONG_LOGIN)
            return
        if links.verifier is not None:
            try:
                self._allowance = await maybeDeferred(links.verifier.verify, mailbox, request.credential)
            except RegistrationRefused as refusal:
                self._refuse(str(refusal)[:200])
                return
        if self.ended:
            return
        older = links.sessions.get(mailbox)
        if older is None and len(links.sessions) >= links.limits.sessions:
            self._refuse("as many clients are served here as can be")
            return
        if not links.list_client(mailbox, request.listing):
            self._refuse("the address to be listed is not one of this mailbox, or the list is full")
            return
        links.sessions[mailbox] = self
        self._mailbox = mailbox
        self._leave()
        if older is not None:
            # What it has confirmed is deleted before this session reads.
            older.abort()
            await older._wait_until_idle()
        if not self.ended:
            self._open()

    def _open(self) -> None:
        """The client is who it says."""
        links, downlink = self._links, self._links.downlink
        self._slots = links.slots if downlink is None else downlink.slots
        self.parser.allowed = _LOGGED_IN
        self.parser.limit = control.pull_length(self._slots)
        self.up = True
        self._touch()
        kept = int(links.store.limits.abandoned_age)
        if downlink is None:
            self.send(control.encode_control(control.LoggedIn(self._slots, kept=kept)))
        else:
            self.send(control.encode_control(control.LoggedIn(self._slots, True, downlink.at_once, kept)))
            self.push = Push(downlink, self, links.store, self._mailbox)
            self.push.start()

    def _touch(self) -> None:
        """The mailbox is in use: it does not expire."""
        self._touched = self.clock.seconds()
        self._links.store.touch(self._mailbox)

    def _refuse(self, reason: str) -> None:
        if not self.ended:
            self.send(control.encode_control(control.Refused(reason)))
            self.close()

    # packets and mail

    def _submit(self, frame: Frame) -> None:
        reason = None if self._allowance is None else self._allowance.take()
        if reason is not None:
            self._links.dropped(reason)
            return
        first_hop, packet = split_submit(frame)
        self._links.submit(first_hop, frame.size_class, frame.epoch, packet)

    def _confirm(self, push: Push, body: bytes) -> None:
        """The client's answer to a frame of mail: it has these items."""
        confirmed = control.parse_pull(body, self._slots)
        push.answered()
        if confirmed:
            push.confirm(confirmed)

    async def _answer_pull(self, body: bytes) -> None:
        confirmed = control.parse_pull(body, self._slots)
        if confirmed:
            await maybeDeferred(self._links.store.confirm, self._mailbox, confirmed)
        items = await maybeDeferred(self._links.store.pull, self._mailbox, self._slots, self._cursor)
        if items:
            self._cursor = items[-1].number
        if not self.ended:
            self.send(control.encode_mail(items, self._slots))
