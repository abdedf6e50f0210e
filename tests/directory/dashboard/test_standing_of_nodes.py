"""Uptime and loss of mix loops, from the nodes that have them to what a node's page shows."""

from twisted.internet.defer import Deferred, maybeDeferred

from nymtw.directory.dashboard.history import Standing, open_history
from nymtw.directory.dashboard.live_feed import LiveFeed
from nymtw.directory.dashboard.recorder import Recorder
from nymtw.testing.simulation import SimulatedNetwork

RATE = 2.0


def test_what_mixnodes_report_is_how_they_stand(seed: int) -> None:
    with SimulatedNetwork(seed, mixnodes_per_layer=1, providers=1, clients=(), refresh=5.0, mix_loops=RATE) as network:
        clock = network.clock
        clock.advance(10)
        recorder = Recorder(clock, clock.wall_clock, lambda: open_history(":memory:"), maybeDeferred)
        live = LiveFeed(clock, clock.wall_clock, network.directory, recorder, [])
        recorder.startService()
        live.startService()
        identity = bytes(network.nodes["mixnode-2-1"].parts.identity.verify_key)

        def standing() -> Standing:
            found: Standing = clock.wait_for(Deferred.fromCoroutine(recorder.standing(identity)), 1)[0]
            return found

        clock.advance(60)
        found = standing()
        assert 50 <= found.watched <= 61
        assert found.watched - 2 <= found.up <= found.watched
        assert 0.7 * RATE * found.watched < found.loops_sent < 1.3 * RATE * found.watched
        assert 0.95 * found.loops_sent < found.loops_returned <= 1.02 * found.loops_sent
        # One that is gone is not up any more; what it reported stays.
        network.kill("mixnode-2-1")
        clock.advance(60)
        after = standing()
        assert after.watched >= 110
        assert found.up <= after.up <= 70
        assert found.loops_sent <= after.loops_sent <= found.loops_sent + 10 * RATE
        clock.wait_for(maybeDeferred(live.stopService), 5)
        clock.wait_for(recorder.stopService(), 5)
        network.restart("mixnode-2-1")
        clock.advance(10)
