"""A client and an exit in a whole network in memory: an impaired one, an exit that is killed, one that is stopped."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from exit_bench import Serving

from twisted.internet.defer import maybeDeferred

from nymtw.client.config import DebugSection
from nymtw.client.proxies.exit_streams import ExitStreams
from nymtw.message.stream import StreamFailure
from nymtw.testing.simulation import SimulatedNetwork

pytestmark = pytest.mark.long

FAST = DebugSection(message_sending_rate=150.0, fetch_message_rate=40.0, loop_cover_traffic_rate=0.5)
EXIT = "provider-2"


class User:
    """Who reads a stream."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.opened = self.ended = self.over = False
        self.failure: StreamFailure | None = None

    def stream_opened(self) -> None:
        self.opened = True

    def stream_data(self, data: bytes) -> None:
        self.got += data

    def stream_ended(self) -> None:
        self.ended = True

    def stream_full(self, full: bool) -> None:
        pass

    def stream_over(self, failure: StreamFailure | None) -> None:
        self.over, self.failure = True, failure


class Network(SimulatedNetwork):
    """alice, whose provider is the first; the second is an exit. `streams` are hers."""

    def __init__(self, seed: int) -> None:
        super().__init__(
            seed,
            mixnodes_per_layer=1,
            crypto="none",
            clients=["alice"],
            refresh=5.0,
            implementations={EXIT: ["--impl=exit", "--exit-private"]},
            debug=FAST,
        )

    def __enter__(self) -> "Network":
        super().__enter__()
        self.serving = Serving(echo=True, answer=b"")
        self.site = self.network.host("site").listenTCP(8000, self.serving)
        alice: Any = self.clients["alice"]
        host = self.network.host("alice")
        self.streams = ExitStreams(alice.core, host, random.Random(self.seed), lambda: alice.service.watch.current)
        return self

    def open(self, first: bytes = b"") -> tuple[Any, User]:
        user = User()
        return self.streams.open("127.0.0.1", 8000, user, first=first), user

    def leave(self) -> None:
        self.streams.close()
        self.site.stopListening()
        self.run(5)


@pytest.fixture
def network(seed: int) -> Iterator[Network]:
    with Network(seed) as network:
        yield network
        network.leave()


def test_the_topology_lists_it(network: Network) -> None:
    topology: Any = network.clients["alice"].service.watch.current
    assert len(topology.services("exit")) == 1


def test_packets_out_of_order_doubled_and_lost(network: Network) -> None:
    network.impair(loss=0.1, duplicate=0.1, reorder=0.1)
    data = random.Random(network.seed).randbytes(200_000)
    stream, user = network.open(data[:1000])
    stream.write(data[1000:])
    stream.end()
    network.run_until(lambda: user.over, 300)
    assert bytes(user.got) == data
    assert (user.opened, user.ended, user.failure) == (True, True, None)


def test_an_exit_that_is_killed_and_comes_back_resets_what_the_client_still_uses(network: Network) -> None:
    stream, user = network.open(b"hello")
    network.run_until(lambda: user.got == b"hello", 60)
    network.kill(EXIT)
    network.run(1)
    network.restart(EXIT)
    network.run(2)
    stream.write(b"are you there?")
    network.run_until(lambda: user.over, 60)
    assert user.failure is StreamFailure.GENERAL
    assert user.got == b"hello"
    again, other = network.open(b"anew")
    network.run_until(lambda: other.got == b"anew", 60)
    again.reset()


def test_an_exit_that_is_stopped_says_so(network: Network) -> None:
    _, user = network.open(b"hello")
    network.run_until(lambda: user.got == b"hello", 60)
    stopped = maybeDeferred(network.nodes.pop(EXIT).stopService)
    network.run_until(lambda: user.over, 5)
    assert user.failure is StreamFailure.GENERAL
    network.clock.wait_for(stopped, 60)
    assert network.serving.connections[0].lost is not None
