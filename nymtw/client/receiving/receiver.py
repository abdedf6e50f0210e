"""Mail from the provider: opened, reassembled, and stored before the provider may delete it."""

from collections.abc import Callable
from enum import Enum
from typing import Any

from twisted.internet.interfaces import IReactorTime

from nymtw.client.store import ClientStore
from nymtw.errors import EncodingError
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.message.fragments import Fragment, FragmentKind
from nymtw.message.reassembly import Arrival, Ledger, ReassemblyLimits

EXPIRE_INTERVAL = 60.0  # seconds


class Fate(Enum):
    """The answer to the provider about an item."""

    CONFIRM = "confirm"  # it may be forgotten now
    WHEN_WRITTEN = "when written"  # it may be forgotten once the store has committed
    KEEP = "keep"  # there is no room for it here


class Receiver:
    """Fragments in, whole messages out: `complete(key, body)` once for each, before it is durable.

    `body` is what the fragments carried. A key is the message id (16 bytes), for a reply with its scope in front.
    `try_again()` is called, once a minute at most, after fragments were refused: they should be brought again.
    """

    def __init__(
        self,
        store: ClientStore,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        *,
        private_key: bytes,
        public_key: bytes,
        loop_returned: Callable[[bytes], bool],
        complete: Callable[[bytes, bytes], None],
        try_again: Callable[[], None] = lambda: None,
        limits: ReassemblyLimits | None = None,
        cryptography: Cryptography = SPHINX,
    ) -> None:
        self._store, self._clock, self._wall_clock = store, clock, wall_clock
        self._private_key, self._public_key = private_key, public_key
        self._loop_returned, self._complete = loop_returned, complete
        self._try_again = try_again
        self._limits, self._cryptography = limits, cryptography
        self._timer: Any = None
        self._refused = False
        self.malformed = self.fragments = self.refused = 0
        self.load()

    def load(self) -> None:
        """Begin with what the store has: at the start, and after a write has failed."""
        now = self._clock.seconds()
        self._ledger = Ledger(self._limits)
        for key, whole in self._store.delivered():
            self._ledger.finish(key, now, whole)
        for key, plaintext in self._store.fragments():
            if self._ledger.add(Fragment.parse(plaintext), now, key[:-16]) is Arrival.REFUSED:
                self._ledger.give_up(key, now)
        self._give_up(self._ledger.take_dropped())

    def start(self) -> None:
        """Look after messages that never become whole."""
        clock: Any = self._clock
        self._timer = clock.callLater(EXPIRE_INTERVAL, self._expire)

    def stop(self) -> None:
        """Leave no timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __len__(self) -> int:
        """The number of incomplete messages."""
        return len(self._ledger)

    def sealed(self, content: bytes, full: bool = False) -> Fate:
        """An item that is sealed to this client; where it is `full` it takes cover alone."""
        try:
            plaintext = self._cryptography.unseal(content, self._private_key, self._public_key)
            fragment = Fragment.parse(plaintext)
        except EncodingError:
            self.malformed += 1
            return Fate.CONFIRM
        if fragment.kind is FragmentKind.LOOP:
            self._loop_returned(fragment.message_id)
            return Fate.CONFIRM
        if fragment.kind is not FragmentKind.MESSAGE:
            self.malformed += 1
            return Fate.CONFIRM
        if full:
            return Fate.KEEP
        if self.fragment(fragment, plaintext) is Arrival.REFUSED:
            return Fate.KEEP
        # A repeat too waits for the commit, which writes the first copy.
        return Fate.WHEN_WRITTEN

    def fragment(self, fragment: Fragment, plaintext: bytes, scope: bytes = b"") -> Arrival:
        """One fragment, `plaintext` its bytes. Unless REFUSED, it may be confirmed when the store has committed."""
        key = scope + fragment.message_id
        self.fragments += 1
        arrival = self._ledger.add(fragment, self._clock.seconds(), scope)
        if arrival is Arrival.REFUSED:
            self._refused = True
            self.refused += 1
        if arrival in (Arrival.NEW, Arrival.COMPLETE):
            self._store.add_fragment(key, fragment.number, plaintext)
        if arrival is Arrival.COMPLETE:
            # The last piece may not be written yet: it is put in its place by hand.
            pieces = dict(self._store.pieces(key))
            pieces[fragment.number] = plaintext
            if len(pieces) < fragment.count:
                self._store.commit()
                pieces = dict(self._store.pieces(key))
            self._complete(key, joined(pieces[number] for number in range(fragment.count)))
        self._give_up(self._ledger.take_dropped())
        return arrival

    def received(self, key: bytes, count: int) -> bytes:
        """Which of the `count` fragments of a message came, as a bitmap; none of one that was given up."""
        return self._ledger.received(key, count)

    def _give_up(self, keys: list[bytes]) -> None:
        for key in keys:
            self._store.consumed(key, self._wall_clock(), whole=False)

    def _expire(self) -> None:
        self.start()
        self._give_up(self._ledger.expire(self._clock.seconds()))
        limits = self._ledger.limits
        # As many as the ledger remembers, of those that were complete and of those that were given up.
        self._store.forget_delivered(self._wall_clock() - limits.remember, limits.remembered)
        if self._refused:
            self._refused = False
            self._try_again()


def joined(pieces: Any) -> bytes:
    """The body in the encoded fragments of a message, given in order."""
    return b"".join(Fragment.parse(piece).content for piece in pieces)
