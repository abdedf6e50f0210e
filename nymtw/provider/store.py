"""The store-and-forward provider, the default: keeps packets that end here until clients pull them."""

from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python import usage
from zope.interface import implementer

from nymtw.interfaces import IMailboxHost, IMailboxStore, IProviderContext
from nymtw.node.engine.mix_node import positive
from nymtw.node.option_types import whole_number
from nymtw.provider.delivery import Delivery
from nymtw.storage.mailbox_limits import MailboxLimits
from nymtw.storage.mailboxes import SQLiteMailboxes
from nymtw.storage.postgresql import PostgreSQLMailboxes

DATABASE: Final = "mailboxes.sqlite"
_GIBIBYTE: Final = 2**30
_MEBIBYTE: Final = 2**20
_DAY: Final = 86400
_DEFAULTS: Final = MailboxLimits()

days = whole_number(0, 36_500, "days")


class Options(usage.Options):
    """The command line of `--impl=store`."""

    optParameters = [
        ["store", None, None, "Database for mail: postgresql://USER@HOST/NAME [default: SQLite in the node's home]"],
        ["mailboxes", None, _DEFAULTS.mailboxes, "Maximum of mailboxes", positive],
        ["mailbox-items", None, _DEFAULTS.items_per_mailbox, "Maximum of items in one mailbox", positive],
        ["mailbox-mib", None, _DEFAULTS.bytes_per_mailbox // _MEBIBYTE, "Maximum of MiB in one mailbox", positive],
        [
            "mail-days",
            None,
            int(_DEFAULTS.item_age) // _DAY,
            "Days after which unread mail is deleted",
            positive,
        ],
        [
            "unused-days",
            None,
            int(_DEFAULTS.unused_age) // _DAY,
            "Days after which a mailbox is deleted that nobody has used; 0: never",
            days,
        ],
        [
            "abandoned-days",
            None,
            int(_DEFAULTS.abandoned_age) // _DAY,
            "Days without a login after which a mailbox is deleted; 0: never",
            days,
        ],
        ["storage-gib", None, _DEFAULTS.total_bytes // _GIBIBYTE, "Maximum of GiB in all mailboxes", positive],
    ]


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "StoreProvider":
    """Make the provider, for the plugin."""
    limits = MailboxLimits(
        mailboxes=options["mailboxes"],
        items_per_mailbox=options["mailbox-items"],
        bytes_per_mailbox=options["mailbox-mib"] * _MEBIBYTE,
        item_age=float(options["mail-days"] * _DAY),
        total_bytes=options["storage-gib"] * _GIBIBYTE,
        unused_age=float(options["unused-days"] * _DAY),
        abandoned_age=float(options["abandoned-days"] * _DAY),
    )
    return StoreProvider(context, limits, options["store"] or "")


@implementer(IMailboxHost)
class StoreProvider:
    """An `IMailboxHost` with mailboxes in the context's data folder, or in the database at `url`.

    Raises `ConfigError` for an invalid URL.
    """

    mailboxes: IMailboxStore

    def __init__(self, context: IProviderContext, limits: MailboxLimits, url: str = "") -> None:
        self._context = context
        self._limits = limits
        self._postgresql = self._in_postgresql(url) if url else None

    def start(self) -> "Deferred[None] | None":
        """Open the mailboxes. Raises `DiskError`."""
        if self._postgresql is not None:
            self.mailboxes = self._postgresql
            if self._postgresql.has_password:
                self._context.log.warn("The password in --store is visible to everyone on this machine")
            self._context.log.info("The mailboxes are in PostgreSQL, schema {schema}", schema=self._postgresql.schema)
            return maybeDeferred(self._postgresql.open)
        self.mailboxes = SQLiteMailboxes(
            self._context.data / DATABASE,
            self._context.clock,
            limits=self._limits,
            wall_clock=self._context.wall_clock,
        )
        return None

    def deliver(self, delivery: Delivery) -> "Deferred[None]":
        """Store the packet. The Deferred fires when it survives kill -9: only then may the ack leave."""
        stored: Deferred[None] = self.mailboxes.store(delivery.destination, delivery.kind, delivery.content)
        return stored

    def stop(self) -> Any:
        """Write pending changes, and close. May wait."""
        return self.mailboxes.close()

    def _in_postgresql(self, url: str) -> PostgreSQLMailboxes:
        return PostgreSQLMailboxes(
            url,
            schema_of(self._context.identity),
            self._context.clock,
            self._context.reactor,
            random=self._context.random,
            limits=self._limits,
            wall_clock=self._context.wall_clock,
        )


def schema_of(identity: bytes) -> str:
    """The schema for the provider with this identity: providers that share a database have separate tables."""
    return f"nymtw_{identity[:16].hex()}"
