"""Heartbeats are never behind packets: a node that gets more than it can carry still says every time that it is there.

A packet costs the node processor time here: for so long its process does nothing else.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nymtw.directory.config import RecommendedSection
from nymtw.interfaces import IDirectory
from nymtw.message import cryptography
from nymtw.node.announce.presence import INTERVAL
from nymtw.sphinx import Unwrapper
from nymtw.testing import SimulatedNetwork

COST = 0.01  # seconds that one packet takes, a hundred times the usual: a hundred a second are all that the node can
SECONDS = 8
# With the acks every layer gets twice as many packets as the client sends.
RATES = RecommendedSection(
    loop_cover_traffic_rate=1.0, message_sending_rate=80.0, fetch_message_rate=5.0, average_packet_delay=0.02
)


class Costs:
    """Takes the processor time of one host, from when `host` is set."""

    def __init__(self) -> None:
        self.host: Any = None
        self.taken = 0.0

    def charge(self, packets: int) -> None:
        host = self.host
        host.asleep_until = max(host.asleep_until, host.seconds()) + COST * packets
        self.taken += COST * packets


@implementer(IDirectory)
class Listening:
    """A directory, and when one node announced itself to it."""

    def __init__(self, directory: Any, clock: Any, beats: list[float]) -> None:
        self._directory, self._clock, self._beats = directory, clock, beats

    def announce(self, path: str, heartbeat: Mapping[str, Any]) -> "Deferred[None]":
        self._beats.append(self._clock.seconds())
        return self._directory.announce(path, heartbeat)

    def topology(self) -> "Deferred[bytes]":
        return self._directory.topology()

    def report(self, metric: Mapping[str, Any]) -> "Deferred[None]":
        return self._directory.report(metric)


@pytest.mark.parametrize("name", ["mixnode-1-1", "provider-1"])
def test_heartbeats_go_out_in_time_while_packets_are_too_many(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    costs, made, beats = Costs(), [], {}

    class Costly(Unwrapper):
        def __init__(self, keys: Any) -> None:
            super().__init__(keys)
            made.append(self)

        def unwrap_many(self, packets: Sequence[tuple[int, bytes]], fresh: Any = None) -> Any:
            if costs.host is not None and made.index(self) == list(network.nodes).index(name):
                costs.charge(len(packets))
            return super().unwrap_many(packets, fresh)

    monkeypatch.setattr(cryptography, "Unwrapper", Costly)
    network = SimulatedNetwork(5, mixnodes_per_layer=1, providers=1, clients=("alice",), recommended=RATES)
    seen_from = network.directories.seen_from
    monkeypatch.setattr(
        network.directories,
        "seen_from",
        lambda host: Listening(seen_from(host), network.clock, beats.setdefault(host.name, [])),
    )
    with network:
        costs.host, start = network.network.host(name), network.clock.seconds()
        network.run(SECONDS)
        assert costs.taken > 0.9 * SECONDS  # there was more to do than it could
        times = [start, *(beat for beat in beats[name] if beat > start), network.clock.seconds()]
        # A turn of the reactor reads a bounded number of bytes of each connection, here half a second's work. A post
        # takes three turns. The directory calls a node silent after 5 s.
        gaps = [later - sooner for sooner, later in pairwise(times)]
        assert max(gaps) < 1.1 * INTERVAL + 2.0
        assert len(gaps) > SECONDS / 4.2
        costs.host = None
