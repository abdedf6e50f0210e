"""Mail that an edge pushes: at a fixed rate, filled with dummies, so that an observer of a client's line sees no
difference between idle and receiving; or at once, for those who would rather have it so.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.errors import DiskError
from nymtw.link.control import encode_mail
from nymtw.link.frames import FrameError

MOST_UNANSWERED: Final = 64  # MAIL frames that a client may owe an answer for
SHORTEST_INTERVAL: Final = 0.02  # seconds between the frames of one client, at least
_TURN: Final = 0.005  # seconds between two turns of the wheel, at least
_ROUNDING: Final = 1e-6  # a timer may be early by so many seconds
_MOST_CONFIRMED: Final = 10_000
_READ_AHEAD: Final = 16  # items kept in memory for a client, about


class Downlink:
    """`rate` slots a second to each client: frames of `slots` slots, `interval` seconds apart, mail or no mail.

    A rate of 0 pushes at once: frames of one slot, when there is mail. One timer serves all clients, who get their
    frames in turn; none runs while there is no client. A frame that a busy reactor is late for by more than the time
    between two is skipped, everybody's alike, and not made up for: `skipped` counts such rounds.
    """

    def __init__(self, clock: IReactorTime, rate: float) -> None:
        self._clock: Any = clock
        self.rate = rate
        self.slots = max(1, ceil(rate * SHORTEST_INTERVAL - 1e-9))
        self.interval = self.slots / rate if rate else 0.0
        self.dummies = encode_mail((), self.slots)
        turns = max(1, int(self.interval / _TURN))
        self._step = self.interval / turns
        self._wheel: list[dict[Push, None]] = [{} for _ in range(turns)]
        self._turn = 0
        self._due = 0.0
        self._timer: IDelayedCall | None = None
        self.skipped = 0  # rounds, in each of which every client would have had a frame

    @property
    def at_once(self) -> bool:
        """Whether mail goes out when it comes."""
        return not self.rate

    def join(self, push: "Push") -> None:
        """Give this client its turn from now on."""
        if self.at_once:
            return
        min(self._wheel, key=len)[push] = None
        if self._timer is None:
            self._due = self._clock.seconds() + self._step
            self._arm()

    def leave(self, push: "Push") -> None:
        """This client is gone."""
        for members in self._wheel:
            members.pop(push, None)
        if self._timer is not None and not any(self._wheel):
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        while not self._wheel[self._turn]:  # turns of nobody; somebody is there
            self._turn = (self._turn + 1) % len(self._wheel)
            self._due += self._step
        self._timer = self._clock.callLater(max(0.0, self._due - self._clock.seconds()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        rounds = int((now - self._due) / self.interval)
        if rounds:
            self.skipped += rounds
            self._due += rounds * self.interval
        while self._due <= now + _ROUNDING:
            members = list(self._wheel[self._turn])
            # All are made before the first is sent: who has mail must not delay the others' frames.
            frames = [push.next_frame() for push in members]
            for push, frame in zip(members, frames, strict=True):
                push.send(frame)
            for push in members:
                push.go_on()
            self._turn = (self._turn + 1) % len(self._wheel)
            self._due += self._step
        if any(self._wheel):
            self._arm()


class PushedSession(Protocol):
    """What a `Push` needs of the connection."""

    blocked: bool
    ended: bool

    def send(self, data: bytes) -> None:
        """Write whole frames."""

    def abort(self) -> None:
        """End the connection."""


class Push:
    """One session's mail on its way to the client: read from the store ahead of its turn, each item once."""

    __slots__ = (
        "_confirmed",
        "_cursor",
        "_deleting",
        "_fetching",
        "_idle",
        "_mailbox",
        "_more",
        "_ready",
        "_session",
        "_store",
        "_unanswered",
        "downlink",
    )
    _log = Logger()

    def __init__(self, downlink: Downlink, session: PushedSession, store: Any, mailbox: bytes) -> None:
        self.downlink = downlink
        self._session = session
        self._store = store
        self._mailbox = mailbox
        self._ready: deque[Any] = deque()
        self._cursor = 0  # the newest item that was read
        self._fetching = False
        self._more = False  # the store may have more
        self._unanswered = 0
        self._confirmed: list[int] = []  # what is to be deleted next
        self._deleting = False
        self._idle: Deferred[None] | None = None

    def start(self) -> None:
        """Begin with the oldest item that is not confirmed."""
        self.downlink.join(self)
        self.mail_came()

    def stop(self) -> None:
        """The connection is gone."""
        self.downlink.leave(self)

    def mail_came(self) -> None:
        """The store has more than before."""
        self._more = True
        self._fetch()

    def answered(self) -> None:
        """The client has answered a frame. Raises `FrameError` for one that was not sent."""
        if self._unanswered:
            self._unanswered -= 1
        elif not self.downlink.at_once:
            raise FrameError("an answer to mail that was not sent")
        if self.downlink.at_once:
            self.go_on()

    def confirm(self, numbers: Sequence[int]) -> None:
        """The client is done with these items. They are deleted in time; nothing on the line waits for it.

        Raises `FrameError` where far more are to be deleted than the store has got done.
        """
        self._confirmed += numbers
        if len(self._confirmed) > _MOST_CONFIRMED:
            raise FrameError("too many items are confirmed at once")
        if not self._deleting:
            self._deleting = True
            self._delete()

    def wait_until_idle(self) -> "Deferred[None]":
        """Fires once everything that was confirmed is deleted; ask it once, of a session that has ended."""
        self._idle = Deferred()
        if not self._deleting:
            self._idle.callback(None)
        return self._idle

    def _delete(self) -> None:
        numbers, self._confirmed = self._confirmed, []
        if numbers:
            deleted = maybeDeferred(self._store.confirm, self._mailbox, numbers)
            deleted.addErrback(self._failed).addCallback(lambda _: self._delete())
            return
        self._deleting = False
        if self._idle is not None:
            self._idle.callback(None)

    def go_on(self) -> None:
        """There may be room again: read what the store has, and send at once what goes out so."""
        if self.downlink.at_once:
            while self._ready and self.send(self.next_frame()):
                pass
        self._fetch()

    def next_frame(self) -> bytes:
        """What the next turn sends; empty where the client owes too many answers or does not read: then nothing is."""
        session, ready, slots = self._session, self._ready, self.downlink.slots
        if session.ended or session.blocked or self._unanswered >= MOST_UNANSWERED:
            return b""
        if not ready:
            return self.downlink.dummies
        return encode_mail([ready.popleft() for _ in range(min(slots, len(ready)))], slots)

    def send(self, frame: bytes) -> bool:
        """Send what `next_frame` gave; False for nothing."""
        if not frame:
            return False
        self._unanswered += 1
        self._session.send(frame)
        return True

    def _fetch(self) -> None:
        wanted = max(_READ_AHEAD, self.downlink.slots)
        if self._more and not self._fetching and len(self._ready) <= wanted // 2 and not self._session.ended:
            self._fetching, self._more = True, False
            found = maybeDeferred(self._store.pull, self._mailbox, wanted, self._cursor)
            found.addCallback(partial(self._fetched, wanted)).addErrback(self._failed)

    def _fetched(self, wanted: int, items: Sequence[Any]) -> None:
        self._fetching = False
        if items:
            self._cursor = items[-1].number
            self._ready.extend(items)
            self._more = self._more or len(items) == wanted
        self.go_on()

    def _failed(self, failure: Failure) -> None:
        if not failure.check(DiskError):
            self._log.failure("Mail could not be read or deleted", failure)
        self._session.abort()
