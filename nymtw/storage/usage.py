"""What every mailbox store shares: its records, its limits, how much there is of what, and who is told of new mail."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from twisted.logger import Logger

from nymtw.errors import MailboxFull, UnknownDestination
from nymtw.storage.limits import MailboxLimits

SWEEP: Final = 1000  # items looked at in one go, so that nothing else waits for long
LARGEST: Final = 2**63 - 1  # number of an item
_LONGEST_INTERVAL: Final = 3600.0


class MailboxRecord(msgspec.Struct, frozen=True):
    """What a provider knows of a mailbox: its owner's Ed25519 key and the hash of its token, 32 bytes each."""

    public_key: bytes
    token_hash: bytes


class StoredItem(msgspec.Struct, frozen=True, gc=False):
    """One item of mail. Numbers grow and are never used twice."""

    number: int
    kind: int
    content: bytes


def sweep_interval(limits: MailboxLimits) -> float:
    """Seconds between two looks for what is too old."""
    return min(_LONGEST_INTERVAL, limits.item_age / 4)


class MailboxUsage:
    """How many items and bytes each mailbox holds, in memory: what is not yet durable is counted too, so that a store
    can refuse at once what would be too much.
    """

    def __init__(self, limits: MailboxLimits) -> None:
        self.limits = limits
        self.counts: dict[bytes, int] = {}  # of every mailbox
        self.sizes: dict[bytes, int] = {}  # of those that hold something
        self.bytes = 0
        self._coming: set[bytes] = set()

    def start_from(self, mailboxes: Iterable[bytes], held: Iterable[tuple[bytes, int, int]]) -> None:
        """Count anew: all mailboxes, and (mailbox, items, bytes) of those that hold something."""
        self.counts = dict.fromkeys(mailboxes, 0)
        self.sizes = {}
        self._coming.clear()
        for mailbox, count, size in held:
            self.counts[mailbox], self.sizes[mailbox] = count, size
        self.bytes = sum(self.sizes.values())

    def expect(self, mailbox: bytes) -> None:
        """A mailbox is about to be registered, perhaps again. Raises `MailboxFull`."""
        if mailbox in self.counts or mailbox in self._coming:
            return
        if len(self.counts) + len(self._coming) >= self.limits.mailboxes:
            raise MailboxFull
        self._coming.add(mailbox)

    def registered(self, mailboxes: Iterable[bytes]) -> None:
        """These are there now."""
        for mailbox in mailboxes:
            self._coming.discard(mailbox)
            self.counts.setdefault(mailbox, 0)

    def not_registered(self, mailboxes: Iterable[bytes]) -> None:
        """These could not be registered after all."""
        self._coming.difference_update(mailboxes)

    def take(self, mailbox: bytes, size: int) -> None:
        """Count an item in. Raises `UnknownDestination` or `MailboxFull`, and counts nothing then."""
        count = self.counts.get(mailbox)
        if count is None:
            raise UnknownDestination
        limits, held, total = self.limits, self.sizes.get(mailbox, 0) + size, self.bytes + size
        if count >= limits.items_per_mailbox or held > limits.bytes_per_mailbox or total > limits.total_bytes:
            raise MailboxFull
        self.counts[mailbox], self.sizes[mailbox], self.bytes = count + 1, held, total

    def count_out(self, gone: Iterable[tuple[bytes, int]]) -> None:
        """(mailbox, bytes) of each item that is no longer there, or was not stored after all."""
        for mailbox, size in gone:
            self.counts[mailbox] -= 1
            self.bytes -= size
            left = self.sizes.get(mailbox, 0) - size
            if left > 0:
                self.sizes[mailbox] = left
            else:
                self.sizes.pop(mailbox, None)


class Subscribers:
    """Who is told of new mail. One that raises is logged and keeps nobody else from being told."""

    _log = Logger()

    def __init__(self) -> None:
        self._callbacks: list[Callable[[bytes], object]] = []

    def add(self, callback: Callable[[bytes], object]) -> None:
        """Tell this one too, from now on."""
        self._callbacks.append(callback)

    def tell(self, mailboxes: Iterable[bytes]) -> None:
        """Mail of these mailboxes has become durable; each is told once, however often it is named."""
        if self._callbacks:
            for mailbox in dict.fromkeys(mailboxes):
                for callback in self._callbacks:
                    try:
                        callback(mailbox)
                    except Exception:
                        self._log.failure("Who was told of new mail failed")
