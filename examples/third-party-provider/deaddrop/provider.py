"""A dead drop: senders leave sealed messages through the mixnet, and whoever has the key fetches the files.

It has no clients of its own and answers nobody: the ack that the node sends once `deliver` has succeeded is all that a
sender ever gets back.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.python import usage
from zope.interface import implementer

from nymtw.errors import MailboxFull, UnknownDestination
from nymtw.interfaces import IProvider, IProviderContext
from nymtw.provider.delivery import Delivery, MailKind


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("this is a whole number from 1")
    return int(text)


count.coerceDoc = "must be a whole number from 1."


class Options(usage.Options):
    """What this provider adds to the command line of `nym-provider`."""

    optParameters = [["keep", None, 10_000, "How many messages the folder may hold", count]]


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "DeadDrop":
    """What `ProviderFactory` calls."""
    return DeadDrop(context, options["keep"])


@implementer(IProvider)
class DeadDrop:
    """Writes each message, 1,618 sealed bytes, to a file of its own in the context's data folder."""

    def __init__(self, context: IProviderContext, keep: int) -> None:
        self._folder: Path = context.data
        self._random = context.random
        self._log = context.log
        self._keep = keep
        self._held = 0

    def start(self) -> None:
        """Count what is there from the last time."""
        self._held = sum(1 for _ in self._folder.glob("*.sealed"))
        self._log.info("The dead drop holds {held} messages", held=self._held)

    def deliver(self, delivery: Delivery) -> None:
        """The message survives a kill -9 when this returns: then the node tells the sender."""
        if delivery.kind is not MailKind.MESSAGE:
            raise UnknownDestination
        if self._held >= self._keep:
            # The owner may have fetched some since.
            self._held = sum(1 for _ in self._folder.glob("*.sealed"))
            if self._held >= self._keep:
                raise MailboxFull
        # A random name: neither the order nor the time of arrival is worth telling.
        path = self._folder / f"{self._random.randbytes(16).hex()}.sealed"
        scratch = path.with_suffix(".new")
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(delivery.content)
        scratch.rename(path)
        os.utime(path, (0, 0))
        self._held += 1

    def stop(self) -> None:
        """Nothing is pending."""
