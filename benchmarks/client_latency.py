"""What a message of one packet takes beyond the delays and waits that were drawn for it, on a network that runs.

    NYMTW_HOME=HOME python benchmarks/client_latency.py SENDER RECEIVER MESSAGES

SENDER and RECEIVER are clients that `nym-client init` made in HOME; both run in this process. Prints the excess of each
message in seconds, as a JSON list.

A message that is handed over at t leaves, ideally, at the first event of the sender's sending stream that was drawn for
t or later, is at the provider when the delays drawn for its mixnodes are over, and is handed over at the first event of
the receiver's fetching stream that was drawn for that time or later. The excess is what it takes beyond that.
"""

import asyncio
import json
import random
import sys
from bisect import bisect_left
from typing import Any

from nymtw.client import Client

GAP = 0.25  # seconds between messages, on average
PATIENCE = 60.0


def record(stream: Any) -> list[float]:
    """From now on, when each event of this stream was drawn for, on the reactor's clock."""
    due: list[float] = []
    fire = stream._fire

    def fired() -> None:
        due.append(stream._due)
        fire()

    stream._fire = fired
    return due


def first_from(due: list[float], when: float) -> float:
    return due[bisect_left(due, when)]


async def main(sender: str, receiver: str, messages: int) -> list[float]:
    source = random.SystemRandom()
    alice, bob = await Client.open(sender), await Client.open(receiver)
    now = alice.core.clock.seconds
    sending, fetching = record(alice.core.streams._sending), record(bob.core.streams._fetching)
    handed: dict[bytes, float] = {}
    arrived: dict[bytes, float] = {}
    bob.core.inbox.pump(bob.core.inbox.subscribe(lambda got: arrived.setdefault(got.message_id, now())))
    await asyncio.sleep(5)
    for number in range(messages):
        await asyncio.sleep(source.expovariate(1 / GAP))
        start = now()
        sent = await alice.send(b"message %d" % number, bob.address, explain=True)
        handed[sent.id] = start
    for _ in range(int(PATIENCE)):
        if len(arrived) == messages:
            break
        await asyncio.sleep(1)
    await asyncio.sleep(2)
    excess = []
    for message_id, start in handed.items():
        packet = alice.core.trace(message_id)[0]
        stored = first_from(sending, start) + sum(packet["delays"])
        excess.append(arrived[message_id] - first_from(fetching, stored))
    await alice.close()
    await bob.close()
    return excess


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
