"""Whoever comes back after a long time: mail that waits, and reply blocks that are of another time."""

import os
from typing import Any

import pytest

from twisted.internet.defer import Deferred

from nymtw.directory.config import RecommendedSection
from nymtw.errors import NymtwError
from nymtw.testing.simulation import SimulatedNetwork

DAY = 86400.0
AWAY = 29 if os.environ.get("NYMTW_FULL") else 2  # days; mail is kept for 30
QUIET = RecommendedSection(
    loop_cover_traffic_rate=0.5, message_sending_rate=5.0, drop_cover_traffic_rate=0.1, fetch_message_rate=2.0
)


def network(seed: int) -> SimulatedNetwork:
    return SimulatedNetwork(
        seed, mixnodes_per_layer=1, providers=1, recommended=QUIET, crypto="none", refresh=600.0, epoch_seconds=86400
    )


def stop_time(net: SimulatedNetwork, days: float) -> None:
    """Let days pass in which nothing runs but the directory, then start everything again."""
    names = list(net.nodes)
    for name in names:
        net.kill(name)
    net.clock.advance(days * DAY)
    for name in names:
        net.restart(name)


def test_mail_waits_for_a_recipient_who_is_away_for_long(seed: int) -> None:
    with network(seed) as net:
        net.kill("bob")
        sent = net.send("alice", "bob", b"see you in a month")
        net.run_until(lambda: net.clients["alice"].progress(sent).state == "done", 600)
        stop_time(net, AWAY)
        net.restart("bob")
        net.run_until(lambda: net.clients["bob"].received == [b"see you in a month"], 1200)


def test_reply_blocks_of_another_time_are_an_error_or_a_failure_and_new_ones_work(seed: int) -> None:
    with network(seed) as net:
        tags: list[Any] = []

        def ask() -> None:
            heard = net.clients["bob"].core.inbox
            heard.pump(heard.subscribe(lambda message: tags.append(message.tag)))
            net.clients["alice"].send(net.clients["bob"], b"question", surbs=3)
            before = len(tags)
            net.run_until(lambda: len(tags) > before, 600)

        ask()
        stop_time(net, 3)  # the keys that the blocks were made for are gone
        net.run_until(lambda: all(client.is_ready() for client in net.clients.values()), 1200)
        replied = Deferred.fromCoroutine(net.clients["bob"].core.reply(tags[-1], b"too late"))
        with pytest.raises(NymtwError, match="reply"):
            net.clock.wait_for(replied, 60)
        ask()
        net.clock.wait_for(Deferred.fromCoroutine(net.clients["bob"].core.reply(tags[-1], b"in time")), 60)
        net.run_until(lambda: b"in time" in net.clients["alice"].received, 600)
        assert b"too late" not in net.clients["alice"].received
