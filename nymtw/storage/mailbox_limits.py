"""Limits of mailboxes: how many, how many items and bytes in each, and how long unread mail is kept."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxLimits:
    """What a provider keeps at most.

    `mailboxes`: their number. `items_per_mailbox`, `bytes_per_mailbox`: items, and bytes of content, in each.
    `total_bytes`: bytes of content in all of them. `item_age`: seconds, after which unread items are deleted.
    `unused_age`, `abandoned_age`: seconds after which a mailbox is deleted to which its owner has never come, or has
    not come since; 0: never.
    """

    mailboxes: int = 100_000
    items_per_mailbox: int = 100_000
    bytes_per_mailbox: int = 256 << 20
    total_bytes: int = 32 << 30
    item_age: float = 30 * 86400.0
    unused_age: float = 86400.0
    abandoned_age: float = 180 * 86400.0

    @property
    def expire(self) -> bool:
        """Whether mailboxes expire."""
        return bool(self.unused_age or self.abandoned_age)

    def expiry(self, now: float) -> tuple[int, int]:
        """Mailboxes that nobody has used, and others, expire where they were last seen before these times."""
        return tuple(int(now - age) if age else 0 for age in (self.unused_age, self.abandoned_age))  # type: ignore[return-value]  # two
