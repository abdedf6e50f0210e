"""The client as a service in a simulated network: the Python API, registration, a provider that goes and comes."""

import asyncio
import random
from typing import Any

import pytest

from twisted.internet.defer import Deferred

from nymtw.client import Client
from nymtw.client.config import ClientConfig, ClientSection
from nymtw.client.edge_connection import TOKEN_SETTING
from nymtw.client.sending.messages import State
from nymtw.client.service import Environment
from nymtw.client.sockets.requests import parse_recipient
from nymtw.directory.config import RecommendedSection
from nymtw.errors import DeliveryFailed, NymtwError
from nymtw.message import arq
from nymtw.testing.directories import RemoteDirectory
from nymtw.testing.security import MemorySecurity
from nymtw.testing.simulation import SimulatedNetwork
from nymtw.topology.address import Address

pytestmark = pytest.mark.long

QUIET = RecommendedSection(
    loop_cover_traffic_rate=0.5, message_sending_rate=5.0, drop_cover_traffic_rate=0.1, fetch_message_rate=2.0
)


def environment(network: SimulatedNetwork, name: str, seed: str = "") -> Environment:
    source = random.Random(f"{name} {seed}")
    return Environment(
        random=source,
        wall_clock=network.clock.wall_clock,
        directory=RemoteDirectory(network, network.network.host(name)),
        trust=network.trust,
        security=MemorySecurity(None, source),
    )


def open_client(network: SimulatedNetwork, name: str, seed: str = "", **section: Any) -> Client:
    opening: Any = Client.open(
        home=network.home("client", name),
        config=ClientConfig(client=ClientSection(id=name, **section)),
        reactor=network.network.host(name),
        environment=environment(network, name, seed),
    )
    return network.clock.wait_for(opening, 120)


def wait(network: SimulatedNetwork, work: Any, limit: float = 120) -> Any:
    return network.clock.wait_for(work if isinstance(work, Deferred) else Deferred.fromCoroutine(work), limit)


def test_the_python_api_sends_receives_and_replies() -> None:
    with SimulatedNetwork(1, recommended=QUIET, clients=(), refresh=5.0) as network:
        alice, bob = open_client(network, "alice"), open_client(network, "bob")

        async def answer_one() -> bytes:
            async for message in bob.messages():
                await message.reply(message.data.upper())
                return message.data
            return b""

        async def ask() -> bytes:
            sent = await alice.send(b"hello", bob.address, surbs=3)
            await sent.delivered()
            progress = sent.progress()
            assert progress is not None
            assert progress.state is State.DONE
            async for message in alice.messages():
                with pytest.raises(NymtwError, match="no way to reply"):
                    await message.reply(b"")
                return message.data
            return b""

        answering = Deferred.fromCoroutine(answer_one())
        assert wait(network, ask()) == b"HELLO"
        assert wait(network, answering) == b"hello"
        assert len(bob.core.inbox) == len(alice.core.inbox) == 0
        wait(network, alice.close())
        wait(network, bob.close())


def test_a_client_that_asks_for_it_is_listed_for_as_long_as_it_does() -> None:
    with SimulatedNetwork(7, recommended=QUIET, clients=(), refresh=5.0, providers=1) as network:
        alice, bob = open_client(network, "alice", listed=True), open_client(network, "bob")
        network.run(15)
        [found] = bob.core.clients()
        assert found == alice.core.details()
        assert parse_recipient(found, bob.core.network) == alice.core.address
        wait(network, alice.close())
        alice = open_client(network, "alice", "again")
        network.run(15)
        assert bob.core.clients() == []
        wait(network, alice.close())
        wait(network, bob.close())


def test_a_provider_whose_list_is_full_serves_the_client_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with SimulatedNetwork(8, recommended=QUIET, clients=(), refresh=5.0, providers=1) as network:
        monkeypatch.setattr(network.nodes["provider-1"].public_clients, "limit", 0)
        alice = open_client(network, "alice", listed=True)
        assert alice.core.status()["ready"]
        token = alice.service.store.setting(TOKEN_SETTING)
        assert token
        monkeypatch.setattr(network.nodes["provider-1"].public_clients, "limit", 1)
        alice.service.link.drop()  # the next session asks again
        network.run(15)
        assert len(alice.core.clients()) == 1
        assert alice.service.store.setting(TOKEN_SETTING) == token
        wait(network, alice.close())


def test_what_is_not_sent_is_sent_when_the_client_is_opened_again() -> None:
    with SimulatedNetwork(2, recommended=QUIET, clients=(), refresh=5.0) as network:
        alice, bob = open_client(network, "alice"), open_client(network, "bob")
        data = random.Random(2).randbytes(20_000)
        address = bob.address
        wait(network, alice.send(data, address))
        wait(network, alice.close())
        alice = open_client(network, "alice", "again")
        assert len(alice.core.outbox) == 1

        async def receive() -> bytes:
            async for message in bob.messages():
                return message.data
            return b""

        assert wait(network, receive()) == data
        assert bob.address == address
        wait(network, alice.close())
        wait(network, bob.close())


def test_a_provider_that_is_restarted_in_the_middle_costs_no_data() -> None:
    with SimulatedNetwork(3, recommended=QUIET, clients=(), refresh=5.0, providers=1) as network:
        alice, bob = open_client(network, "alice"), open_client(network, "bob")
        data = random.Random(3).randbytes(20_000)
        sent = wait(network, alice.send(data, bob.address))
        network.run(1.5)
        network.kill("provider-1")
        network.run(10)
        assert not alice.core.status()["connected"]
        assert alice.core.status()["trouble"]
        assert sent.progress().state is State.SENDING
        network.restart("provider-1")

        async def receive() -> bytes:
            async for message in bob.messages():
                return message.data
            return b""

        assert wait(network, receive(), 300) == data
        wait(network, sent.delivered(), 300)
        wait(network, alice.close())
        wait(network, bob.close())


def test_a_message_that_is_given_up_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arq, "MAX_ATTEMPTS", 3)
    with SimulatedNetwork(4, recommended=QUIET, clients=(), refresh=60.0) as network:
        alice = open_client(network, "alice")
        own = alice.core.address
        sent = wait(network, alice.send(b"anybody there?", Address(b"n" * 32, own.encryption_key, own.provider)))
        with pytest.raises(DeliveryFailed):
            wait(network, sent.delivered())
        assert alice.core.status()["retransmissions"] == 2
        wait(network, alice.close())


def test_an_asyncio_task_awaits_the_same_calls() -> None:
    with SimulatedNetwork(5, recommended=QUIET, clients=(), refresh=5.0) as network:

        async def main() -> bytes:
            opening = Client.open(
                home=network.home("client", "alice"),
                config=ClientConfig(client=ClientSection(id="alice")),
                reactor=network.network.host("alice"),
                environment=environment(network, "alice"),
            )
            assert asyncio.isfuture(opening)
            network.run(15)
            alice = await opening
            sending = alice.send(b"note to myself", alice.address)
            network.run(5)
            sent = await sending
            await sent.delivered()
            got = b""
            async for message in alice.messages():
                got = message.data
                break
            closing = alice.close()
            network.run(1)
            await closing
            return got

        assert asyncio.run(main()) == b"note to myself"


def test_loss_repeats_and_disorder_on_every_layer_cost_time_and_not_data() -> None:
    with SimulatedNetwork(6, recommended=QUIET, refresh=10.0) as network:
        alice, bob = network.clients["alice"], network.clients["bob"]
        network.run(3)
        for layer in (1, 2, 3):
            network.impair(layer, loss=0.2, duplicate=0.1, reorder=0.2)
        data = random.Random(6).randbytes(15_000)
        message_id = alice.send(bob, data)

        def is_done() -> bool:
            progress = alice.progress(message_id)
            return progress is not None and progress.state is State.DONE

        network.run_until(is_done, 1200)
        network.run(30)
        assert bob.received == [data]
        assert alice.core.status()["retransmissions"] > 8
