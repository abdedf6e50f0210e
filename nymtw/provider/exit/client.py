"""One client of an exit: its streams, which take turns to send to the client, within limits."""

from collections import OrderedDict, deque
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from nymtw.errors import NymtwError
from nymtw.interfaces import IProviderContext
from nymtw.message.stream import (
    INITIAL_CREDIT,
    STREAM_OVERHEAD,
    STREAM_PART,
    WINDOW,
    StreamError,
    StreamFailure,
    StreamMessage,
    StreamOpen,
)
from nymtw.provider.exit.dialer import Dialer, DialFailed
from nymtw.provider.exit.places import Places
from nymtw.provider.exit.stream import ExitStream

MESSAGE_COST: Final = 1024  # bytes that a message under way counts besides its content
MOST_MESSAGE: Final = STREAM_PART + STREAM_OVERHEAD + MESSAGE_COST
_MOST_NOTICES: Final = 100  # refusals that wait for one client
_REMEMBERED: Final = 20_000


class Ceilings:
    """Limits for one client (streams and bytes in each direction), or for all clients together (bytes).

    Each stream gets INITIAL_CREDIT. Beyond that, bytes from a client are assigned as windows when a stream begins,
    bytes to a client as messages are sent. Nobody gets more than a quarter of the remaining bytes, so that some always
    remain.
    """

    def __init__(self, streams: int, size: int) -> None:
        self._streams, self._size = streams, size
        self.streams = self.windows = self.under_way = 0
        self.waiting: dict[ExitClient, None] = {}  # clients with something to send, in order of arrival

    def admits(self) -> bool:
        """Whether one more stream is allowed."""
        return self.streams < self._streams

    def window(self) -> int:
        """The bytes beyond INITIAL_CREDIT that a new stream may get."""
        return min(WINDOW - INITIAL_CREDIT, (self._size - self.windows) // 4)

    def open(self, window: int) -> None:
        """Count a new stream with this window."""
        self.streams += 1
        self.windows += window - INITIAL_CREDIT

    def close(self, window: int) -> None:
        """Count a stream with this window out."""
        self.streams -= 1
        self.windows -= window - INITIAL_CREDIT

    @property
    def left(self) -> int:
        """The bytes that may still be put on their way to clients."""
        return self._size - self.under_way


class Gone:
    """The newest streams that have ended. Late messages for them get no answer, because the client knows, or is being
    told, that they have ended.
    """

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._most = most
        self._streams: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()

    def add(self, client: bytes, stream: bytes) -> None:
        """Remember that a stream has ended."""
        self._streams[client, stream] = None
        if len(self._streams) > self._most:
            self._streams.popitem(last=False)

    def discard(self, client: bytes, stream: bytes) -> None:
        """Forget a stream whose client could not be told."""
        self._streams.pop((client, stream), None)

    def __contains__(self, stream: tuple[bytes, bytes]) -> bool:
        return stream in self._streams


class ExitClient:
    """Keeps one client's streams (`Keeper`).

    `tag`: 16 bytes, for answers to the client. `own`, `everybodys`: the limits for it and for all. `places`: of all
    streams. `gone`: streams that have ended.
    """

    def __init__(
        self,
        context: IProviderContext,
        tag: bytes,
        dialer: Dialer,
        own: Ceilings,
        everybodys: Ceilings,
        places: Places,
        gone: Gone,
    ) -> None:
        self.clock = context.clock
        self.streams: dict[bytes, ExitStream] = {}
        self._context, self._tag, self._dialer = context, tag, dialer
        self._own, self._all, self._places, self._gone = own, everybodys, places, gone
        self._dials: dict[ExitStream, Deferred[Any]] = {}
        self._turn: deque[ExitStream] = deque()
        self._notices: deque[StreamMessage] = deque()
        self._unsent: tuple[ExitStream, StreamMessage] | None = None
        self._pumping = False

    @property
    def is_done(self) -> bool:
        """Whether no work is left for this client."""
        return not self.streams and not self._notices and not self._own.under_way

    @property
    def waits(self) -> bool:
        """Whether there is something to send to this client."""
        return bool(self._notices or self._turn or self._unsent)

    # from the client

    def take(self, message: StreamMessage) -> None:
        """Handle a message from the client."""
        stream = self.streams.get(message.stream)
        if stream is not None:
            self._give(stream, message)
        elif (self._tag, message.stream) not in self._gone:
            if message.reset:
                self._gone.add(self._tag, message.stream)
            elif message.opened:
                self._refuse("streams-unknown", StreamMessage(stream=message.stream, reset=True))
            elif not self._own.admits():
                self._refuse("streams-busy", StreamMessage(stream=message.stream, failed=StreamFailure.BUSY))
            else:
                self._begin(message)
        self.pump()

    def _begin(self, message: StreamMessage) -> None:
        window = INITIAL_CREDIT + max(0, min(self._own.window(), self._all.window()))
        stream = self.streams[message.stream] = ExitStream(self, message.stream, window)
        self._own.open(window)
        self._all.open(window)
        self._places.wait(stream, self)
        self._give(stream, message)

    def _give(self, stream: ExitStream, message: StreamMessage) -> None:
        if message.reset:
            self.end(stream, "streams-reset")
            return
        try:
            stream.take(message)
        except StreamError:
            self.end(stream, "streams-broken", self.reset(stream))
            return
        if message.payment and stream.price and not stream.over:
            price, stream.price = stream.price, ""
            if self._places.price.accepts(price, self._tag, stream.id, message.payment):
                self._dial(stream)
            else:
                self._fail(stream, "streams-unpaid", StreamFailure.NOT_ALLOWED)

    def _refuse(self, why: str, notice: StreamMessage) -> None:
        self._context.metrics.count(why)
        self._gone.add(self._tag, notice.stream)
        self._notify(notice)

    @staticmethod
    def reset(stream: ExitStream) -> StreamMessage:
        """The notice that a stream was reset."""
        return StreamMessage(stream=stream.id, reset=True)

    def end(self, stream: ExitStream, why: str, notice: StreamMessage | None = None) -> None:
        """End a stream, and send `notice` to the client. Pass none if the client knows already."""
        if stream.over:
            return
        self._context.metrics.count(why)
        stream.abort()
        del self.streams[stream.id]
        self._gone.add(self._tag, stream.id)
        self._own.close(stream.window)
        self._all.close(stream.window)
        self._places.leave(stream)
        if self._unsent is not None and self._unsent[0] is stream:
            self._unsent = None
        dial = self._dials.pop(stream, None)
        if dial is not None:
            dial.cancel()
        if notice is not None:
            self._notify(notice)
            self.pump()

    def close(self, why: str, *, tell: bool) -> None:
        """End all streams of this client."""
        for stream in list(self.streams.values()):
            self.end(stream, why, self.reset(stream) if tell else None)
            if not tell:
                self._gone.discard(self._tag, stream.id)
        while self._notices and not tell:
            self._undelivered(self._notices.pop())

    # Keeper, for the streams

    def dial(self, stream: ExitStream, where: StreamOpen) -> None:
        """As `Keeper`."""
        stream.where = where
        stream.price = self._places.price.ask(self._places.load)
        if stream.price:
            self._context.metrics.count("streams-priced")
            self._notify(StreamMessage(stream=stream.id, price=stream.price))
        else:
            self._dial(stream)

    def evict(self, stream: ExitStream) -> None:
        """A stream makes room for one of another client."""
        self.end(stream, "streams-evicted", self.reset(stream))

    def _fail(self, stream: ExitStream, why: str, failure: StreamFailure) -> None:
        self.end(stream, why, StreamMessage(stream=stream.id, failed=failure))

    def _dial(self, stream: ExitStream) -> None:
        where = stream.where
        assert where is not None, "it is known before anything is asked for it"
        if not self._places.enter(stream, self):
            self._fail(stream, "streams-busy", StreamFailure.BUSY)
            return
        dial = self._dialer.dial(self._tag, where.host, where.port, _Once(stream))
        if not dial.called:
            self._dials[stream] = dial
        dial.addCallbacks(self._dialled, self._not_dialled, callbackArgs=(stream,), errbackArgs=(stream,))

    def _dialled(self, _: object, stream: ExitStream) -> None:
        self._dials.pop(stream, None)
        if stream.over:
            stream.abort()
            return
        self._context.metrics.count("streams-opened")
        stream.opened()

    def _not_dialled(self, failure: Failure, stream: ExitStream) -> None:
        if stream.over:
            return
        self._dials.pop(stream, None)
        error = failure.value
        why = error.failure if isinstance(error, DialFailed) else StreamFailure.GENERAL
        refused = why is StreamFailure.NOT_ALLOWED
        self._fail(stream, "streams-refused" if refused else f"streams-failed-{why}", why)

    def ready(self, stream: ExitStream) -> None:
        """As `Keeper`."""
        if not stream.in_turn:
            stream.in_turn = True
            self._turn.append(stream)
        self.pump()

    def finished(self, stream: ExitStream) -> None:
        """As `Keeper`."""
        self.end(stream, "streams-finished")

    def broken(self, stream: ExitStream) -> None:
        """As `Keeper`."""
        self.end(stream, "streams-reset-by-server", self.reset(stream))

    # to the client

    def pump(self) -> None:
        """Send as much as the limits allow now, one message of each stream in turn."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.waits and self._may_send() and self._send_one():
                pass
        finally:
            self._pumping = False
        if self.waits and self._own.left >= MOST_MESSAGE and not self._may_send():
            self._all.waiting[self] = None

    def _may_send(self) -> bool:
        if not self._own.under_way and self._all.left >= MOST_MESSAGE:
            return True
        return min(self._own.left, self._all.left // 4 - self._own.under_way) >= MOST_MESSAGE

    def _send_one(self) -> bool:
        """Send one message. False if none can be sent at the moment."""
        if self._notices:
            notice = self._notices.popleft()
            if not self._post(None, notice):
                self._undelivered(notice)
            return True
        if self._unsent is None:
            stream = self._turn.popleft()
            stream.in_turn = False
            message = stream.produce()
            if message is None:
                return True
            self._unsent = (stream, message)
        if not self._post(*self._unsent):
            return False
        self._unsent = None
        return True

    def _post(self, stream: ExitStream | None, message: StreamMessage) -> bool:
        """False if there is no reply block: the client's streams wait until it sends some."""
        data = message.encode()
        try:
            arrived: Deferred[bool] = self._context.reply(self._tag, data)
        except NymtwError:
            return False
        cost = len(data) + MESSAGE_COST
        self._own.under_way += cost
        self._all.under_way += cost
        arrived.addCallback(self._arrived, stream, message, cost)
        return True

    def _arrived(self, came: bool, stream: ExitStream | None, message: StreamMessage, cost: int) -> None:
        self._own.under_way -= cost
        self._all.under_way -= cost
        if not came:
            self._gone.discard(self._tag, message.stream)
            self.close("streams-lost", tell=False)
        elif stream is not None:
            stream.arrived(message.number)
        self.pump()
        for _ in range(len(self._all.waiting)):
            if self._all.left < MOST_MESSAGE:
                break
            client = next(iter(self._all.waiting))
            del self._all.waiting[client]
            client.pump()

    def _notify(self, notice: StreamMessage) -> None:
        if len(self._notices) < _MOST_NOTICES:
            self._notices.append(notice)
        else:
            self._undelivered(notice)

    def _undelivered(self, notice: StreamMessage) -> None:
        self._context.metrics.count("untold")
        self._gone.discard(self._tag, notice.stream)


class _Once(Factory):
    """Returns the given protocol for the one connection. Must not log its start."""

    noisy = False

    def __init__(self, stream: ExitStream) -> None:
        self._stream = stream

    def buildProtocol(self, addr: object) -> ExitStream:
        return self._stream
