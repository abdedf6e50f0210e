"""What every mailbox store shares: the counts of items and bytes in each mailbox, and the subscribers to new mail."""

from collections.abc import Callable, Iterable
from typing import Final

from twisted.logger import Logger

from nymtw.errors import MailboxFull, UnknownDestination
from nymtw.storage.mailbox_limits import MailboxLimits

SWEEP: Final = 1000  # items examined in one step, so that nothing else waits for long
LARGEST: Final = 2**63 - 1  # the highest number of an item
_LONGEST_INTERVAL: Final = 3600.0


def sweep_interval(limits: MailboxLimits) -> float:
    """Seconds between two searches for items and mailboxes that are too old."""
    ages = [age for age in (limits.item_age, limits.unused_age, limits.abandoned_age) if age]
    return min(_LONGEST_INTERVAL, min(ages) / 4)


class MailboxUsage:
    """How many items and bytes each mailbox holds, in memory. Items that are not yet durable count too, so that a store
    can refuse at once what would exceed a limit.
    """

    def __init__(self, limits: MailboxLimits) -> None:
        self.limits = limits
        self.counts: dict[bytes, int] = {}  # items in every mailbox
        self.sizes: dict[bytes, int] = {}  # bytes in each mailbox that is not empty
        self.bytes = 0
        self._coming: set[bytes] = set()

    def start_from(self, mailboxes: Iterable[bytes], held: Iterable[tuple[bytes, int, int]]) -> None:
        """Restart the counts from all mailboxes, and from (mailbox, items, bytes) of those that are not empty."""
        self.counts = dict.fromkeys(mailboxes, 0)
        self.sizes = {}
        self._coming.clear()
        self.bytes = 0
        for mailbox, count, size in held:
            self.bytes += size
            if mailbox in self.counts:  # mail may be left of one that has expired, until it is too old itself
                self.counts[mailbox], self.sizes[mailbox] = count, size

    def expect(self, mailbox: bytes) -> None:
        """Reserve a place for a mailbox that is about to be registered, perhaps again. Raises `MailboxFull`."""
        if mailbox in self.counts or mailbox in self._coming:
            return
        if len(self.counts) + len(self._coming) >= self.limits.mailboxes:
            raise MailboxFull
        self._coming.add(mailbox)

    def registered(self, mailboxes: Iterable[bytes]) -> None:
        """Count mailboxes whose registration is durable."""
        for mailbox in mailboxes:
            self._coming.discard(mailbox)
            self.counts.setdefault(mailbox, 0)

    def not_registered(self, mailboxes: Iterable[bytes]) -> None:
        """Release the places of mailboxes whose registration failed."""
        self._coming.difference_update(mailboxes)

    def expired(self, mailboxes: Iterable[bytes]) -> None:
        """Forget mailboxes that were deleted."""
        for mailbox in mailboxes:
            self.counts.pop(mailbox, None)
            self.sizes.pop(mailbox, None)

    def take(self, mailbox: bytes, size: int) -> None:
        """Add an item. Raises `UnknownDestination` or `MailboxFull`; nothing is added then."""
        count = self.counts.get(mailbox)
        if count is None:
            raise UnknownDestination
        limits, held, total = self.limits, self.sizes.get(mailbox, 0) + size, self.bytes + size
        if count >= limits.items_per_mailbox or held > limits.bytes_per_mailbox or total > limits.total_bytes:
            raise MailboxFull
        self.counts[mailbox], self.sizes[mailbox], self.bytes = count + 1, held, total

    def count_out(self, gone: Iterable[tuple[bytes, int]]) -> None:
        """Subtract items that were deleted or could not be stored: (mailbox, bytes) of each."""
        for mailbox, size in gone:
            self.bytes -= size
            if mailbox not in self.counts:
                continue
            self.counts[mailbox] -= 1
            left = self.sizes.get(mailbox, 0) - size
            if left > 0:
                self.sizes[mailbox] = left
            else:
                self.sizes.pop(mailbox, None)


class Subscribers:
    """Callbacks for new mail. An error in one is logged; the others are still called."""

    _log = Logger()

    def __init__(self) -> None:
        self._callbacks: list[Callable[[bytes], object]] = []

    def add(self, callback: Callable[[bytes], object]) -> None:
        """Add a callback."""
        self._callbacks.append(callback)

    def tell(self, mailboxes: Iterable[bytes]) -> None:
        """Announce that mail of these mailboxes has become durable, once for each mailbox."""
        if self._callbacks:
            for mailbox in dict.fromkeys(mailboxes):
                for callback in self._callbacks:
                    try:
                        callback(mailbox)
                    except Exception:
                        self._log.failure("A callback for new mail failed")
