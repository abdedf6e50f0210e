"""Limits of mailboxes: how many, how many items and bytes in each, and how long unread mail is kept."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxLimits:
    """What a provider keeps at most.

    `mailboxes`: their number. `items_per_mailbox`, `bytes_per_mailbox`: items, and bytes of content, in each.
    `total_bytes`: bytes of content in all of them. `item_age`: seconds, after which unread items are deleted.
    """

    mailboxes: int = 100_000
    items_per_mailbox: int = 100_000
    bytes_per_mailbox: int = 256 << 20
    total_bytes: int = 32 << 30
    item_age: float = 30 * 86400.0
