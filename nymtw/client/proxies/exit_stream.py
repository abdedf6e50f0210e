"""One TCP connection through an exit, at the client's end: the data in both directions, and its order.

A message is made when a packet for it may leave, so that data written meanwhile goes together. Each stream has its own
queue in the outbox, so that all streams get their turn.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

import msgspec

from nymtw.client.receiving.circuits import Circuit
from nymtw.client.sending.messages import OutMessage, State
from nymtw.errors import NymtwError
from nymtw.message.envelope import ENVELOPE_OVERHEAD
from nymtw.message.fragments import FRAGMENT_CAPACITY
from nymtw.message.stream import (
    ReceiveWindow,
    SendWindow,
    StreamError,
    StreamFailure,
    StreamMessage,
    StreamOpen,
)

MESSAGE_PACKETS: Final = 16  # the most packets of a message: a lost packet delays its whole message
MESSAGE_LENGTH: Final = MESSAGE_PACKETS * FRAGMENT_CAPACITY - ENVELOPE_OVERHEAD  # fills these packets
MAX_NUMBER: Final = 2**32 - 1
KEPT: Final = 64 * 1024  # bytes that may wait for packets before the writer has to pause
ANSWER_BLOCKS: Final = 2  # reply blocks sent with a message that needs an answer
_DATA_FIELD: Final = 8  # bytes of CBOR around the data of a message of 256 bytes or more


class StreamUser(Protocol):
    """The user of a stream. Nothing is called after `stream_over`."""

    def stream_opened(self) -> None:
        """The exit has opened the connection."""

    def stream_data(self, data: bytes) -> None:
        """Data has arrived."""

    def stream_ended(self) -> None:
        """The other end sends no more."""

    def stream_full(self, full: bool) -> None:
        """Whether to pause writing."""

    def stream_over(self, failure: StreamFailure | None) -> None:
        """The stream is over: both ends have ended (None), it could not be opened, or it broke."""


class ExitStream:
    """One stream. `identifier`: 16 random bytes. Its user calls `write`, `end`, `reset`, `pause` and `resume`."""

    def __init__(
        self,
        circuit: Circuit,
        identifier: bytes,
        user: StreamUser,
        *,
        window: int,
        under_way: int,
        clock: Callable[[], float],
        over: "Callable[[ExitStream], object]",
        pay: "Callable[[str, ExitStream], object]" = lambda price, stream: stream.fail(StreamFailure.BUSY),
    ) -> None:
        """`window`: bytes that may wait for a user that does not read. `under_way`: bytes that may be under way to the
        exit. `over` is called once, when no more messages of the exit are expected. `pay(price, stream)` finds what the
        exit asks for, and calls `paid`; by default the stream fails.
        """
        self.circuit, self.id, self._user = circuit, identifier, user
        self._under_way, self._clock, self._over, self._pay = under_way, clock, over, pay
        self._sending, self._receiving = SendWindow(), ReceiveWindow(window)
        self._opening: StreamOpen | None = None
        self._buffer = bytearray()
        self._unread: deque[bytes] = deque()
        self._posted: dict[int, OutMessage] = {}
        self._in_turn = self._left = self._full = self._paused = self._heard = False
        self._asked = False
        self._ending = self._ended = self._other_ended = self._told_end = False
        self.opened = self.is_over = False
        self.began = self.last_post = clock()

    # -- for the user

    def open(self, host: str, port: int, first: bytes = b"") -> None:
        """Ask for a connection, and send `first` with the request. Raises `NymtwError` if nothing can be sent."""
        self._opening = StreamOpen(host=host, port=port)
        self._buffer += first
        self._post()

    def write(self, data: bytes) -> None:
        """Send data."""
        if not self.is_over and not self._ending:
            self._buffer += data
            self._pump()

    def end(self) -> None:
        """End the sending direction."""
        if not self.is_over and not self._ending:
            self._ending = True
            self._pump()

    def reset(self) -> None:
        """Give up the stream, and tell the exit. `stream_over` is not called."""
        if not self.is_over:
            self._finish(tell=True)

    def pause(self) -> None:
        """Pause the calls of `stream_data`."""
        self._paused = True

    def resume(self) -> None:
        """Resume the calls of `stream_data`."""
        self._paused = False
        self._read()

    # -- for the manager of streams

    def probe(self) -> None:
        """Send a message to test whether the exit still has the stream: it resets an unknown stream."""
        self._pump(probe=True)

    def fail(self, failure: StreamFailure, *, tell: bool = True) -> None:
        """Break the stream. `tell`: whether to tell the exit."""
        if not self.is_over:
            self._finish(tell=tell)
            self._user.stream_over(failure)

    def paid(self, payment: bytes) -> None:
        """Send what the exit has asked for."""
        if self.is_over:
            return
        try:
            message = StreamMessage(stream=self.id, payment=payment, opened=True)
            self.circuit.post(message.encode(), self, blocks=ANSWER_BLOCKS, ended=self._payment_ended)
        except NymtwError:
            self.fail(StreamFailure.GENERAL)

    def _payment_ended(self, state: State) -> None:
        if state is not State.DONE:
            self.fail(StreamFailure.GENERAL)

    def take(self, message: StreamMessage) -> None:
        """Handle a message from the exit."""
        if self.is_over:
            return
        if message.reset or message.failed is not None:
            self.fail(message.failed or StreamFailure.GENERAL, tell=False)
            return
        self._heard = True
        if message.price:
            if not self._asked and not self.opened:
                self._asked = True
                self._pay(message.price, self)
            return
        self._sending.allow(message.credit)
        try:
            ready = self._receiving.take(message)
        except StreamError:
            self.fail(StreamFailure.GENERAL)
            return
        self._unread.extend(one.data for one in ready if one.data)
        self._other_ended = self._other_ended or any(one.end for one in ready)
        if ready and not self.opened:
            self.opened = True
            self._user.stream_opened()
        self._read()

    # -- in

    def _read(self) -> None:
        while self._unread and not self._paused and not self.is_over:
            data = self._unread.popleft()
            self._receiving.consumed(len(data))
            self._user.stream_data(data)
        if self._other_ended and not self._unread and not self._told_end and not self.is_over:
            self._told_end = True
            self._user.stream_ended()
        self._pump()

    # -- out

    def _pump(self, probe: bool = False) -> None:
        """Queue a message, unless one waits already: that one takes new data along."""
        try:
            if not self._in_turn and not self.is_over:
                self._post(probe)
        except NymtwError:
            self.fail(StreamFailure.GENERAL)
        if self.is_over:
            return
        full = len(self._buffer) >= (KEPT // 2 if self._full else KEPT)
        if full is not self._full:
            self._full = full
            self._user.stream_full(full)
        if self._ended and self._told_end:
            self._finish(broken=False)
            self._user.stream_over(None)

    def _post(self, probe: bool = False) -> None:
        sending = self._sending
        if not sending.may_send():
            return
        credit = self._receiving.credit()
        head = StreamMessage(
            stream=self.id, number=MAX_NUMBER, open=self._opening, opened=self._heard, credit=credit, end=True
        )
        length = min(len(self._buffer), sending.room(), max(0, self._under_way - sending.under_way))
        if length:
            length = min(length, MESSAGE_LENGTH - _DATA_FIELD - len(head.encode()))
        end = self._ending and not self._ended and length == len(self._buffer)
        if not (length or credit or end or probe or self._opening is not None):
            return
        number = sending.take(length)
        message = msgspec.structs.replace(head, number=number, data=bytes(self._buffer[:length]), end=end)
        del self._buffer[:length]
        posted = self.circuit.post(
            message.encode(),
            self,
            blocks=ANSWER_BLOCKS if probe or self._opening is not None else 0,
            taken=self._taken,
            ended=partial(self._gone, number),
        )
        self._posted[number] = posted
        self._in_turn, self._opening, self.last_post = True, None, self._clock()
        self._ended = self._ended or end

    def _taken(self) -> None:
        self._in_turn, self._left = False, True
        self._pump()

    def _gone(self, number: int, state: State) -> None:
        self._posted.pop(number, None)
        if state is not State.DONE:
            self.fail(StreamFailure.GENERAL)
        elif not self.is_over:
            self._sending.arrived(number)
            self._pump()

    def _finish(self, *, broken: bool = True, tell: bool = False) -> None:
        """End the stream. `broken`: do not resend messages under way. `tell`: tell the exit."""
        self.is_over = True
        self._buffer.clear()
        self._unread.clear()
        if broken:
            for message in self._posted.values():
                self.circuit.cancel(message)
            if tell and self._left:
                with suppress(NymtwError):
                    self.circuit.post(StreamMessage(stream=self.id, reset=True).encode(), self)
        self._posted.clear()
        self._over(self)
