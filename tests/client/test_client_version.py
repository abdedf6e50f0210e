"""A client that is older than its network wants: it says so, sends nothing, and goes on when it may."""

from dataclasses import replace

import pytest

from nymtw.client.service import VERSION
from nymtw.errors import ClientTooOld
from nymtw.testing.simulation import SimulatedNetwork


def ask_for(network: SimulatedNetwork, least: str) -> None:
    """What an operator does with `--minimum-client-version` and a restart; time passes until clients know."""
    publisher = network.directory.publisher
    publisher.terms = replace(publisher.terms, minimum_client_version=least)
    network.run(15)


@pytest.mark.long
def test_an_old_client_sends_nothing_says_why_and_goes_on_when_it_may(seed: int) -> None:
    with SimulatedNetwork(seed, mixnodes_per_layer=1, providers=1, clients=["alice", "bob"], refresh=5.0) as network:
        alice = network.clients["alice"]
        network.deliver("bob", "alice", b"before")
        ask_for(network, "99.0")
        sent = alice.core.status()["loopsSent"]
        network.run(20)
        status = alice.core.status()
        assert status["loopsSent"] == sent, "cover goes on"
        assert not status["ready"]
        reason = f"this client is nymtw {VERSION}, but the network requires 99.0 or later: upgrade it"
        assert status["trouble"] == f"nothing is sent: {reason}"
        for waiting in (alice.service.ready(), alice.service.logged_in()):
            with pytest.raises(ClientTooOld, match=r"requires 99\.0 or later"):
                network.clock.wait_for(waiting, 1)
        message = alice.send(alice, b"is kept")
        network.run(20)
        assert b"is kept" not in alice.received
        ask_for(network, VERSION)
        network.run_until(lambda: b"is kept" in alice.received, 60)
        assert alice.progress(message) is not None
        assert alice.core.status()["ready"]
        assert network.clock.wait_for(alice.service.ready(), 1) is alice.core


def test_who_waits_for_an_old_client_is_told(seed: int) -> None:
    with SimulatedNetwork(seed, mixnodes_per_layer=1, providers=1, clients=["alice"], refresh=5.0) as network:
        ask_for(network, "99.0")
        network.kill("alice")
        network.restart("alice")
        waiting = network.clients["alice"].service.logged_in()
        with pytest.raises(ClientTooOld):
            network.clock.wait_for(waiting, 30)
