"""A large message where every link loses, doubles and reorders; a fake clock, real work for a core."""

import math
import os
import random

import pytest

from nymtw.client.config import DebugSection
from nymtw.client.sending.messages import State
from nymtw.testing.simulation import SimulatedNetwork

pytestmark = pytest.mark.integration

# No cover when there is nothing to send: at that loss most of the time is spent waiting for acks.
QUIET = DebugSection(
    message_sending_rate=150.0,
    loop_cover_traffic_rate=0.1,
    fetch_message_rate=10.0,
    rate_compliant_cover_messages_disabled=True,
)


SIZE = (5 if os.environ.get("NYMTW_FULL") else 1) * 1024 * 1024


def test_a_large_message_arrives_intact_and_once_at_20_percent_loss_on_every_link() -> None:
    data = random.Random(5).randbytes(SIZE)
    with SimulatedNetwork(5, refresh=30.0, debug=QUIET) as network:
        alice, bob = network.clients["alice"], network.clients["bob"]
        network.impair(None, loss=0.2, duplicate=0.1, reorder=0.2)
        message_id = alice.send(bob, data)

        def is_over() -> bool:
            progress = alice.progress(message_id)
            return progress is None or progress.state is not State.SENDING

        network.run_until(is_over, 3600)
        network.run(60)
        progress = alice.progress(message_id)
        assert progress is not None
        assert progress.state is State.DONE
        assert bob.received == [data]
        # Of each link's packets a fifth was lost: an ack comes back for one transmission in six, within 3 deviations.
        sent = progress.fragments + alice.core.status()["retransmissions"]
        rare = 3 * math.sqrt((1 - 0.8**8) / progress.fragments)
        assert sent / progress.fragments == pytest.approx(0.8**-8, rel=rare)
        for name, impairment in network.impairments.items():
            if name not in network.clients:
                assert min(impairment.lost, impairment.doubled, impairment.reordered) > 20 * SIZE >> 20, name
