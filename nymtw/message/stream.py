"""The protocol between a client and an exit: TCP connections in numbered messages, and the bookkeeping of both ends.

A stream is one connection that the exit opens for the client. Each `StreamMessage` travels as one message of the
mixnet: from the client to the address of the service `exit`, from the exit to the client over reply blocks. It arrives
once or is reported lost, and may overtake others. So each end numbers its messages, and sorts those that it receives:

    sending = SendWindow()              # numbers, and the amount that may be sent
    receiving = ReceiveWindow(WINDOW)   # order, repeats, and the credit for the other end

To send:
* A message has at most `sending.room()` bytes of data, and the number `sending.take(len(data))`.
* When the message has arrived, call `sending.arrived(number)`. If the mixnet gives it up, the stream is over (RESET).

To receive:
* Call `receiving.take(message)` for every message. It returns the messages that are in order now.
* `credit` (`sending.allow`), `reset` and `failed` count at once, in any order. `data` and then `end` count in order.
* When the reader has taken data, call `receiving.consumed(length)`. If `receiving.credit()` is not 0, the next message
  carries it; if there is no next message, one is sent for the credit alone.

The life of a stream:
* The client sends `open` with number 0. Data may follow at once, without waiting for an answer.
* The exit answers `opened`, or `failed` and nothing else. Before that it may ask a `price`, for which the client sends
  a `payment`.
* Each end sends `end` once, with or after its last data. When both have done so, the stream is over.
* `reset` from either end ends the stream at once, without an answer. So does a message that the mixnet gives up.

After its first message from the exit, a client sets `opened` in all its messages. If the exit was restarted meanwhile,
it does not know the stream, sees that it should, and resets it. Messages without `opened` may have overtaken their
`open`, so the exit keeps them for a while. Such a reset needs a reply block: a client that only sends should include
one now and then. A client ignores messages for streams that it does not know any more.
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from nymtw.encoding import from_cbor, to_cbor
from nymtw.errors import EncodingError, NymtwError
from nymtw.message.opening import PRICE_LENGTH

SERVICE: Final = "exit"
ID_LENGTH: Final = 16
STREAM_PART: Final = 64 * 1024  # the most bytes of data in one message
STREAM_OVERHEAD: Final = 192  # the most bytes of a message besides its data and the host of its `open`
INITIAL_CREDIT: Final = STREAM_PART  # bytes that each end may send before the first credit
WINDOW: Final = 2**21  # bytes that a receiver is usually ready to take: three seconds of 300 packets
MAX_AHEAD: Final = 512  # messages that may be sent beyond the oldest that has not arrived
MAX_HOST_LENGTH: Final = 255
MAX_PAYMENT: Final = 1024
_MAX_MESSAGE: Final = STREAM_PART + STREAM_OVERHEAD + MAX_HOST_LENGTH
_MESSAGE_COST: Final = 512  # bytes of memory that a message takes which waits for its turn, besides its data

_Id = Annotated[bytes, msgspec.Meta(min_length=ID_LENGTH, max_length=ID_LENGTH)]
_Host = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z._:-]{1,255}\Z")]
_Data = Annotated[bytes, msgspec.Meta(max_length=STREAM_PART)]


class StreamError(NymtwError):
    """The other end of a stream breaks the rules: reset the stream."""


class StreamFailure(StrEnum):
    """The reason why an exit could not open a connection."""

    GENERAL = "general"
    NOT_ALLOWED = "not-allowed"  # the exit's policy, or a private address
    NETWORK_UNREACHABLE = "network-unreachable"
    HOST_UNREACHABLE = "host-unreachable"
    NAME_UNKNOWN = "name-unknown"
    REFUSED = "refused"
    TIMED_OUT = "timed-out"
    BUSY = "busy"  # the limit of connections, of this client or of the exit, is reached

    @property
    def socks5(self) -> int:
        """The matching reply of SOCKS 5 (RFC 1928, section 6)."""
        return _SOCKS5[self]


_SOCKS5: Final = {
    StreamFailure.GENERAL: 1,
    StreamFailure.NOT_ALLOWED: 2,
    StreamFailure.NETWORK_UNREACHABLE: 3,
    StreamFailure.HOST_UNREACHABLE: 4,
    StreamFailure.NAME_UNKNOWN: 4,
    StreamFailure.REFUSED: 5,
    StreamFailure.TIMED_OUT: 6,
    StreamFailure.BUSY: 1,
}


class StreamOpen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The target: a name (an international one in ASCII form), or a literal address without brackets or zone."""

    host: _Host
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class StreamMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Message `number` (from 0, of this direction) of the stream with the random id `stream` (16 bytes).

    The other fields may be combined; fields that are not set are left out of the encoding.
    * `open`: to the exit, in number 0.
    * `opened`: from the exit, the connection is open; from the client, it knows that.
    * `failed`: from the exit, the connection could not be opened.
    * `data`: at most STREAM_PART bytes. `end`: no data will follow.
    * `credit`: the total bytes since the beginning that the other end may send; never less than before.
    * `reset`: the stream is over.
    * `price`: from the exit, what opening costs now (`nymtw.message.opening`); `payment`: the client's answer.

    `failed`, `reset`, `price` and `payment` need no number, because they count at once.
    """

    stream: _Id
    number: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    open: StreamOpen | None = None
    opened: bool = False
    failed: StreamFailure | None = None
    data: _Data = b""
    end: bool = False
    credit: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] = 0
    reset: bool = False
    price: Annotated[str, msgspec.Meta(max_length=PRICE_LENGTH)] = ""
    payment: Annotated[bytes, msgspec.Meta(max_length=MAX_PAYMENT)] = b""

    def encode(self) -> bytes:
        """The CBOR form."""
        return to_cbor(self)

    @classmethod
    def parse(cls, data: bytes) -> "StreamMessage":
        """Parse the result of `encode`. Raises `EncodingError`, also for an `open` that is not number 0."""
        message = from_cbor(data, cls, _MAX_MESSAGE)
        if message.open is not None and message.number:
            raise EncodingError("a stream must begin with its opening")
        return message


class Sequencer:
    """Sorts the messages of one direction: each comes out once, after all earlier ones.

    Keeps at most `ahead` messages beyond the next one.
    """

    def __init__(self, ahead: int = MAX_AHEAD) -> None:
        self._ahead = ahead
        self._waiting: dict[int, StreamMessage] = {}
        self.next = 0
        self.size = 0

    def is_new(self, number: int) -> bool:
        """Whether no message with this number has arrived yet."""
        return number >= self.next and number not in self._waiting

    def add(self, message: StreamMessage) -> list[StreamMessage]:
        """The messages that are in order now; none for a repeat, or while one before it is missing.

        Raises `StreamError` for one that is too far ahead. `size`: the approximate bytes of memory of waiting messages.
        """
        if not self.is_new(message.number):
            return []
        if message.number > self.next + self._ahead:
            raise StreamError("a message is too far ahead of those that have arrived")
        self._waiting[message.number] = message
        self.size += len(message.data) + _MESSAGE_COST
        ready = []
        while (found := self._waiting.pop(self.next, None)) is not None:
            self.size -= len(found.data) + _MESSAGE_COST
            self.next += 1
            ready.append(found)
        return ready


class ReceiveWindow:
    """One direction at its receiver: order and credit.

    At most `window` bytes (at least INITIAL_CREDIT) wait to be consumed.
    """

    def __init__(self, window: int = WINDOW, ahead: int = MAX_AHEAD) -> None:
        if window < INITIAL_CREDIT:
            raise ValueError("a window must be at least INITIAL_CREDIT")
        self._sequencer = Sequencer(ahead)
        self._window = window
        self._limit = INITIAL_CREDIT  # the credit that the other end knows
        self._came = self._consumed = 0
        self._end: int | None = None

    @property
    def next(self) -> int:
        """The number of the next message in order: all earlier ones have arrived."""
        return self._sequencer.next

    @property
    def size(self) -> int:
        """The approximate bytes of memory of waiting messages."""
        return self._sequencer.size

    def take(self, message: StreamMessage) -> list[StreamMessage]:
        """The messages whose data and `end` are in order now.

        Raises `StreamError` for a message too far ahead, data beyond the credit, or data after the end.
        """
        if self._sequencer.is_new(message.number):
            self._came += len(message.data)
            if self._came > self._limit:
                raise StreamError("there is more data than the credit allows")
        ready = self._sequencer.add(message)
        for one in ready:
            if self._end is not None and (one.data or one.end):
                raise StreamError("there is data after the end")
            if one.end:
                self._end = one.number
        return ready

    def consumed(self, length: int) -> None:
        """Note that the reader has taken `length` bytes of the data in order."""
        self._consumed += length

    def credit(self) -> int:
        """The credit to announce now, which then counts as announced; 0 if it is too early.

        A credit is due when a quarter of the window has been used since the last one. After `end` no more is announced.
        """
        limit = self._consumed + self._window
        if self._end is not None or 4 * (limit - self._limit) < self._window:
            return 0
        self._limit = limit
        return limit


class SendWindow:
    """One direction at its sender: numbers, arrivals, and the amount that may be sent."""

    def __init__(self, ahead: int = MAX_AHEAD) -> None:
        self._ahead = ahead
        self._limit = INITIAL_CREDIT
        self._next = 0
        self._under_way: dict[int, int] = {}  # number: bytes of data, in ascending order
        self.sent = self.under_way = 0

    def allow(self, limit: int) -> None:
        """Take a credit: the other end accepts `limit` bytes in total. A lower one than before is old, and ignored."""
        self._limit = max(self._limit, limit)

    def may_send(self) -> bool:
        """Whether a message may be sent, even without data: not while too many messages have not arrived."""
        oldest = next(iter(self._under_way), self._next)
        return self._next - oldest < self._ahead

    def room(self) -> int:
        """The bytes of data that the next message may have: at most STREAM_PART."""
        return min(self._limit - self.sent, STREAM_PART) if self.may_send() else 0

    def take(self, length: int = 0) -> int:
        """The number of the next message, which has `length` bytes of data.

        Raises `StreamError` for more than `room`, or if `may_send` is false.
        """
        if length > self.room() or not self.may_send():
            raise StreamError("more data than may be sent now")
        number, self._next = self._next, self._next + 1
        self._under_way[number] = length
        self.sent += length
        self.under_way += length
        return number

    def arrived(self, number: int) -> None:
        """Note that a message has arrived. Further calls for the same number change nothing."""
        self.under_way -= self._under_way.pop(number, 0)

    @property
    def is_empty(self) -> bool:
        """Whether all sent messages have arrived."""
        return not self._under_way
