"""Turns an `IService` into an `IProvider`: opens and reassembles messages to it, and enforces its limits."""

import inspect
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from nacl.bindings import crypto_scalarmult_base

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.errors import EncodingError, MailboxFull, QueueFull, UnknownDestination
from nymtw.interfaces import IProvider
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.message.envelope import Envelope, EnvelopeKind, ReplyReceipt
from nymtw.message.fragments import Fragment, FragmentKind
from nymtw.message.reassembly import Reassembler, ReassemblyLimits
from nymtw.provider.api import Request, ServiceLimits
from nymtw.provider.delivery import Delivery, MailKind
from nymtw.provider.services.dispatch import Dispatch
from nymtw.provider.services.metrics import Faults, Metrics

# The counts of every service, made here, by the service host and by the watchdog.
COUNTS: Final = (
    *("requests", "answered", "unanswered", "failed", "timed-out", "busy", "refused-replies", "malformed"),
    *("incomplete", "failed-timers", "timers-left", "blocked"),
)
_EXPIRE_INTERVAL: Final = 30.0
_IDLE: Final = 300.0  # seconds without a new fragment after which an incomplete request is given up
_REMEMBER: Final = 3600.0
_REMEMBERED: Final = 2**16


@dataclass(slots=True, eq=False)
class _Running:
    request: Request
    answer: Any = None
    timer: Any = None


@implementer(IProvider)
class ServiceProvider:
    """An `IProvider` around `service`. `private_key` (32 bytes) is the key of the service's address.

    Its counts are `COUNTS`; `docs/writing-a-provider.md` explains them.
    """

    def __init__(
        self,
        service: Any,
        clock: Any,
        private_key: bytes,
        dispatch: Dispatch,
        metrics: Metrics,
        faults: Faults,
        cryptography: Cryptography = SPHINX,
    ) -> None:
        self.service = service
        self._clock, self._private_key = clock, private_key
        self._public_key = crypto_scalarmult_base(private_key)
        self._cryptography = cryptography
        self._dispatch, self._metrics, self._faults = dispatch, metrics, faults
        self._limits: ServiceLimits = service.limits
        self._reassembler = Reassembler(
            ReassemblyLimits(size=self._limits.memory, idle=_IDLE, remember=_REMEMBER, remembered=_REMEMBERED)
        )
        self._waiting: deque[Request] = deque()
        self._waiting_size = 0
        self._running: set[_Running] = set()
        self._expiry: Any = None
        self._stopped = False

    async def start(self) -> None:
        """Start the service."""
        await maybeDeferred(self.service.start)
        self._expiry = self._clock.callLater(_EXPIRE_INTERVAL, self._expire)

    def deliver(self, delivery: Delivery) -> None:
        """Take one fragment of a message to the service.

        Raises `MailboxFull` if there is no room for it, or for the request that it completes: then its sender is not
        told that it has arrived, and sends it again. `UnknownDestination` if it is not a message, `EncodingError` if it
        was not sealed to this service.
        """
        if delivery.kind is not MailKind.MESSAGE:
            raise UnknownDestination
        try:
            fragment = Fragment.parse(self._unseal(delivery.content))
            if fragment.kind is FragmentKind.REPLY:
                raise EncodingError("a reply without a question")
        except EncodingError:
            self._metrics.count("malformed")
            raise
        if fragment.kind is FragmentKind.LOOP:
            return
        try:
            body = self._reassembler.whole_with(fragment)
            envelope = None if body is None else self._opened(body)
            if envelope is not None and envelope.kind is EnvelopeKind.DATA and self._is_full(envelope):
                raise MailboxFull
            self._reassembler.add(fragment, self._clock.seconds())
        except MailboxFull:
            self._metrics.count("busy")
            raise
        if envelope is not None:
            self._whole(envelope)

    def _unseal(self, content: bytes) -> bytes:
        return self._cryptography.unseal(content, self._private_key, self._public_key)

    def leave(self) -> "Deferred[Any]":
        """Let the service send shutdown messages."""
        return maybeDeferred(self.service.leave)

    def stop(self) -> "Deferred[Any]":
        """End running requests, then stop the service."""
        self._stopped = True
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._waiting.clear()
        for running in list(self._running):
            self._abandon(running)
        return maybeDeferred(self.service.stop)

    def __len__(self) -> int:
        """The number of requests that run or wait."""
        return self.running + self.waiting

    @property
    def running(self) -> int:
        """The number of requests being handled."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return len(self._waiting)

    # one message

    def _opened(self, body: bytes) -> Envelope | None:
        try:
            return Envelope.parse(body)
        except EncodingError:
            self._metrics.count("malformed")
            return None

    def _whole(self, envelope: Envelope) -> None:
        try:
            receipt = ReplyReceipt.parse(envelope.data) if envelope.kind is EnvelopeKind.RECEIPT else None
        except EncodingError:
            self._metrics.count("malformed")
            return
        if envelope.tag is not None:
            self._dispatch.take_blocks(envelope.tag, envelope.blocks)
            if receipt is not None:
                self._dispatch.receipt(envelope.tag, receipt)
        if envelope.kind is EnvelopeKind.DATA:
            self._request(envelope)

    def _is_full(self, envelope: Envelope) -> bool:
        limits = self._limits
        full = len(self._waiting) >= limits.waiting or self._waiting_size + len(envelope.data) > limits.memory
        return bool(self._waiting) and full

    def _request(self, envelope: Envelope) -> None:
        self._metrics.count("requests")
        self._waiting.append(Request(envelope.data, envelope.tag, self._reply))
        self._waiting_size += len(envelope.data)
        self._next()

    def _reply(self, sender: bytes, message: bytes) -> "Deferred[bool]":
        try:
            return self._dispatch.reply(sender, message)
        except QueueFull:
            self._metrics.count("refused-replies")
            raise

    # running them

    def _next(self) -> None:
        while self._waiting and len(self._running) < self._limits.concurrent and not self._stopped:
            request = self._waiting.popleft()
            self._waiting_size -= len(request.message)
            self._run(request)

    def _run(self, request: Request) -> None:
        running = _Running(request)
        self._running.add(running)
        try:
            answer = self.service.handle(request)
            if inspect.iscoroutine(answer):
                answer = Deferred.fromCoroutine(answer)
        except Exception:
            self._failed(Failure(), running)
            return
        if not isinstance(answer, Deferred):
            self._answered(answer, running)
            return
        running.answer = answer
        if not answer.called or answer.paused:
            running.timer = self._clock.callLater(self._limits.seconds, self._timed_out, running)
        answer.addCallbacks(self._answered, self._failed, callbackArgs=(running,), errbackArgs=(running,))

    def _answered(self, answer: Any, running: _Running) -> None:
        if not self._finish(running):
            return
        request = running.request
        try:
            if isinstance(answer, bytes):
                request.reply(answer)
                self._metrics.count("answered")
            elif answer is None:
                self._metrics.count("unanswered")
            else:
                raise TypeError("an answer must be bytes or None")
        except Exception as error:
            self._metrics.count("failed")
            self._faults.report_error(error)
        request.over = True
        self._next()

    def _failed(self, failure: Failure, running: _Running) -> None:
        if not self._finish(running):
            return
        running.request.over = True
        self._metrics.count("failed")
        self._faults.report_error(failure.value or RuntimeError())
        self._next()

    def _timed_out(self, running: _Running) -> None:
        running.timer = None
        self._metrics.count("timed-out")
        self._faults.report("did not answer in time")
        self._abandon(running)
        self._next()

    def _finish(self, running: _Running) -> bool:
        """End a request. False if it had ended before."""
        if running not in self._running:
            return False
        self._running.discard(running)
        if running.timer is not None:
            running.timer.cancel()
            running.timer = None
        return True

    def _abandon(self, running: _Running) -> None:
        self._finish(running)
        running.request.over = True
        try:
            if running.answer is not None:
                running.answer.cancel()
        except Exception as error:
            self._faults.report_error(error)

    def _expire(self) -> None:
        self._expiry = self._clock.callLater(_EXPIRE_INTERVAL, self._expire)
        given_up = self._reassembler.expire(self._clock.seconds())
        if given_up:
            self._metrics.count("incomplete", len(given_up))
