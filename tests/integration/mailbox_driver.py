"""A process that a test kills: `mailbox_driver.py PLACE FIRST`. It stores numbered mail from FIRST on, some at a time,
and pulls and confirms; it says each thing once it has been promised, in a line. What is refused is stored again.
"""

import os
import random
import sys
from typing import Any

from twisted.internet import reactor as module
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.task import deferLater

from nymtw.errors import DiskError
from nymtw.storage.mailboxes import SQLiteMailboxes
from nymtw.storage.postgresql import PostgreSQLMailboxes

reactor: Any = module
MAILBOX = b"a" * 32
AT_ONCE = 20
SLOTS = 16


def report(words: str) -> None:
    os.write(1, words.encode() + b"\n")


async def store_from(mailboxes: Any, number: int) -> None:
    """Every AT_ONCE-th from `number` on, one after the other."""
    while True:
        try:
            await mailboxes.store(MAILBOX, 1, number.to_bytes(8, "big") + bytes(1600))
        except DiskError:
            report("refused")
            await deferLater(reactor, 0.05)
        else:
            report(f"stored {number}")
            number += AT_ONCE


async def fetch(mailboxes: Any) -> None:
    while True:
        await deferLater(reactor, 0.003)
        try:
            items = await maybeDeferred(mailboxes.pull, MAILBOX, SLOTS, 0)
            # A quarter stays, so that there is always something to lose.
            done = [item for item in items if int.from_bytes(item.content[:8], "big") % 4]
            for item in done:
                report(f"pulled {item.number} {int.from_bytes(item.content[:8], 'big')}")
            await maybeDeferred(mailboxes.confirm, MAILBOX, [item.number for item in done])
        except DiskError:
            report("refused")
            await deferLater(reactor, 0.05)
        else:
            for item in done:
                report(f"gone {item.number} {int.from_bytes(item.content[:8], 'big')}")
            if len(items) == SLOTS and not done:
                keep = [item.number for item in items[:8]]
                for item in items[:8]:
                    report(f"pulled {item.number} {int.from_bytes(item.content[:8], 'big')}")
                await maybeDeferred(mailboxes.confirm, MAILBOX, keep)
                for item in items[:8]:
                    report(f"gone {item.number} {int.from_bytes(item.content[:8], 'big')}")


async def run(place: str, first: int) -> None:
    mailboxes: Any
    if place.startswith("postgresql:"):
        mailboxes = PostgreSQLMailboxes(place, "nymtw_killed", reactor, reactor, random=random.Random(first))
        await mailboxes.open()
    else:
        mailboxes = SQLiteMailboxes(place, reactor)
    await mailboxes.register(MAILBOX, bytes(32), bytes(32))
    report("ready")
    working = [store_from(mailboxes, first + offset) for offset in range(AT_ONCE)]
    for each in (*working, fetch(mailboxes)):
        ensureDeferred(each).addErrback(end)
    await Deferred()


def end(failure: Any) -> None:
    failure.printTraceback()
    os._exit(1)


ensureDeferred(run(sys.argv[1], int(sys.argv[2]))).addErrback(end)
reactor.run()
