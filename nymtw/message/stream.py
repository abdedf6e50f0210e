"""What a client and an exit say to each other: TCP connections in numbered messages, and the bookkeeping of both ends.

A stream is one connection that the exit opens for the client. Each `StreamMessage` travels as one message of the
mixnet (client to exit: to the address of the service `exit`; exit to client: over reply blocks), arrives once or is
reported lost, and may overtake others. So each end numbers what it sends, and puts what it gets in order:

    sending = SendWindow()              # how much may be sent, and which number it has
    receiving = ReceiveWindow(WINDOW)   # order, repeats, how much the other end may send

To send: at most `sending.room()` bytes of data in a message with the number `sending.take(len(data))`; when the mixnet
says that it has arrived, `sending.arrived(number)`; when it was given up, the stream is over (RESET).

To receive, for every message: `receiving.take(message)` gives those that are in order now. A `credit` counts when its
message comes, in whatever order (`sending.allow`), and so do `reset` and `failed`; `data` and then `end` count in
order. When the reader has taken data, `receiving.consumed(length)`; when `receiving.credit()` is a number, the next
message carries it, and if there is none to come, one is sent for it alone.

A life: the client sends `open` with number 0, at once followed by data, if it has some: no answer is awaited. The exit
answers `opened`, or `failed` and nothing else. Each end sends `end` once, in or behind its last data; when both have,
the stream is over. `reset` from either end ends it at once, without an answer; so does a message that the mixnet gives
up. From the first message of the exit that it gets, a client sets `opened` in all its own: an exit that was restarted
meanwhile does not know the stream, sees that it should, and resets it; messages without it may have overtaken their
`open`, and are kept for a while. Such a reset needs a reply block: who only sends should give one now and then. What
comes for a stream that a client does not know any more is to be ignored.
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from nymtw.encoding import from_cbor, to_cbor
from nymtw.errors import EncodingError, NymtwError

SERVICE: Final = "exit"
ID_LENGTH: Final = 16
STREAM_PART: Final = 64 * 1024  # bytes of data in one message, at most
STREAM_OVERHEAD: Final = 192  # bytes of a message besides its data and the host of its `open`, at most
INITIAL_CREDIT: Final = STREAM_PART  # bytes that each end may send before the other has given credit
WINDOW: Final = 2**21  # bytes that a receiver is usually ready to take: three seconds of 300 packets
MAX_AHEAD: Final = 512  # messages that may be sent beyond the oldest that has not arrived
MAX_HOST_LENGTH: Final = 255
_MAX_MESSAGE: Final = STREAM_PART + STREAM_OVERHEAD + MAX_HOST_LENGTH
_MESSAGE_COST: Final = 512  # bytes of memory that a message takes which waits for its turn, besides its data

_Id = Annotated[bytes, msgspec.Meta(min_length=ID_LENGTH, max_length=ID_LENGTH)]
_Host = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z._:-]{1,255}\Z")]
_Data = Annotated[bytes, msgspec.Meta(max_length=STREAM_PART)]


class StreamError(NymtwError):
    """The other end of a stream does not keep to the rules: the stream is to be reset."""


class StreamFailure(StrEnum):
    """Why an exit could not open a connection."""

    GENERAL = "general"
    NOT_ALLOWED = "not-allowed"  # the exit's policy, or a private address
    NETWORK_UNREACHABLE = "network-unreachable"
    HOST_UNREACHABLE = "host-unreachable"
    NAME_UNKNOWN = "name-unknown"
    REFUSED = "refused"
    TIMED_OUT = "timed-out"
    BUSY = "busy"  # this client, or the exit, has as many connections as it may

    @property
    def socks5(self) -> int:
        """The reply of SOCKS 5 that says this (RFC 1928, section 6)."""
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
    """Where to: a name (international ones in their ASCII form), or a literal address without brackets or zone."""

    host: _Host
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class StreamMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Message `number` (from 0, of this direction) of the stream with the random id `stream` (16 bytes).

    Any of the others may go together; what is not said is left out of the encoding. `open`: to the exit, in number 0.
    `opened`: from the exit, the connection is there; from the client, it knows. `failed`: from the exit, the connection
    could not be opened. `data`: at most STREAM_PART bytes; `end`: none will follow. `credit`: how many bytes in all the
    other end may have sent since the beginning, never less than before. `reset`: the stream is over. `failed` and
    `reset` need no number: both count as soon as they come.
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

    def encode(self) -> bytes:
        """The CBOR of it."""
        return to_cbor(self)

    @classmethod
    def parse(cls, data: bytes) -> "StreamMessage":
        """The message behind `encode`. Raises `EncodingError`, for an `open` that is not number 0 too."""
        message = from_cbor(data, cls, _MAX_MESSAGE)
        if message.open is not None and message.number:
            raise EncodingError("a stream begins with its opening")
        return message


class Sequencer:
    """Puts the messages of one direction in order: each comes out once, after all before it.

    At most `ahead` messages beyond the next one are kept.
    """

    def __init__(self, ahead: int = MAX_AHEAD) -> None:
        self._ahead = ahead
        self._waiting: dict[int, StreamMessage] = {}
        self.next = 0
        self.size = 0

    def is_new(self, number: int) -> bool:
        """Whether no message with this number has come yet."""
        return number >= self.next and number not in self._waiting

    def add(self, message: StreamMessage) -> list[StreamMessage]:
        """The messages that are in order now; none for a repeat, or while one before it is missing.

        Raises `StreamError` for one that is too far ahead. `size` is about how many bytes of memory wait.
        """
        if not self.is_new(message.number):
            return []
        if message.number > self.next + self._ahead:
            raise StreamError("a message is too far ahead of what has come")
        self._waiting[message.number] = message
        self.size += len(message.data) + _MESSAGE_COST
        ready = []
        while (found := self._waiting.pop(self.next, None)) is not None:
            self.size -= len(found.data) + _MESSAGE_COST
            self.next += 1
            ready.append(found)
        return ready


class ReceiveWindow:
    """One direction at its receiver: the order, and the credit.

    At most `window` bytes (at least INITIAL_CREDIT) wait to be consumed.
    """

    def __init__(self, window: int = WINDOW, ahead: int = MAX_AHEAD) -> None:
        if window < INITIAL_CREDIT:
            raise ValueError("a window is at least what may be sent before there is credit")
        self._sequencer = Sequencer(ahead)
        self._window = window
        self._limit = INITIAL_CREDIT  # what the other end knows that it may send
        self._came = self._consumed = 0
        self._end: int | None = None

    @property
    def next(self) -> int:
        """The number of the next message in order: all before it have come."""
        return self._sequencer.next

    @property
    def size(self) -> int:
        """About how many bytes of memory are taken by what waits for its turn."""
        return self._sequencer.size

    def take(self, message: StreamMessage) -> list[StreamMessage]:
        """The messages whose data and `end` are in order now.

        Raises `StreamError` for one too far ahead, data beyond the credit, or data behind the end.
        """
        if self._sequencer.is_new(message.number):
            self._came += len(message.data)
            if self._came > self._limit:
                raise StreamError("there is more data than there was credit for")
        ready = self._sequencer.add(message)
        for one in ready:
            if self._end is not None and (one.data or one.end):
                raise StreamError("there is data behind the end")
            if one.end:
                self._end = one.number
        return ready

    def consumed(self, length: int) -> None:
        """The reader has taken this much of the data that was in order."""
        self._consumed += length

    def credit(self) -> int:
        """The credit to announce now, which then counts as announced; 0 where it is too early.

        It is not too early where a quarter of the window has been used up since the last. Behind an end nothing more
        will come, and nothing is announced.
        """
        limit = self._consumed + self._window
        if self._end is not None or 4 * (limit - self._limit) < self._window:
            return 0
        self._limit = limit
        return limit


class SendWindow:
    """One direction at its sender: the numbers, what has arrived, and how much more may be sent."""

    def __init__(self, ahead: int = MAX_AHEAD) -> None:
        self._ahead = ahead
        self._limit = INITIAL_CREDIT
        self._next = 0
        self._under_way: dict[int, int] = {}  # number: bytes of data, in ascending order
        self.sent = self.under_way = 0

    def allow(self, limit: int) -> None:
        """Credit came: the other end takes `limit` bytes in all. A lower one than before is an old one."""
        self._limit = max(self._limit, limit)

    def may_send(self) -> bool:
        """Whether a message may go out, even without data: not where too many have left that did not arrive."""
        oldest = next(iter(self._under_way), self._next)
        return self._next - oldest < self._ahead

    def room(self) -> int:
        """Bytes of data that the next message may have: at most STREAM_PART."""
        return min(self._limit - self.sent, STREAM_PART) if self.may_send() else 0

    def take(self, length: int = 0) -> int:
        """The number of the next message, which has `length` bytes of data.

        Raises `StreamError` for more than `room`, or where `may_send` is false.
        """
        if length > self.room() or not self.may_send():
            raise StreamError("more is sent than may be")
        number, self._next = self._next, self._next + 1
        self._under_way[number] = length
        self.sent += length
        self.under_way += length
        return number

    def arrived(self, number: int) -> None:
        """The mixnet says that this message has arrived. Once for each number; others change nothing."""
        self.under_way -= self._under_way.pop(number, 0)

    @property
    def is_empty(self) -> bool:
        """Whether everything that was sent has arrived."""
        return not self._under_way
