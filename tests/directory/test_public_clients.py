"""Providers with more listed clients than a heartbeat has room for: pages of them, put together again, and bounded."""

import json
import random
from typing import Any

import pytest
from registered_nodes import World, identity

from nymtw.directory import registry as registry_module
from nymtw.encoding import key_text
from nymtw.errors import EncodingError
from nymtw.provider.public_clients import PublicClients
from nymtw.sphinx import generate_keypair
from nymtw.topology.address import Address
from nymtw.topology.presence import CLIENTS_PER_PAGE, MAX_PUBLIC_CLIENTS
from nymtw.web.http import BODY_LIMIT

NETWORK = bytes(16)


class Provider:
    """A provider, its list, and what a directory makes of it."""

    def __init__(self, world: World, number: int = 3) -> None:
        self.world, self.number = world, number
        self.listed = PublicClients(identity(number), NETWORK)
        _, self.key = generate_keypair(random.Random(number))

    def address(self, mailbox: int) -> str:
        return Address(mailbox.to_bytes(32, "big"), self.key, identity(self.number)).encode(NETWORK)

    def list(self, *mailboxes: int) -> None:
        for mailbox in mailboxes:
            assert self.listed.put(mailbox.to_bytes(32, "big"), self.address(mailbox))

    def leave(self, mailbox: int) -> None:
        assert self.listed.put(mailbox.to_bytes(32, "big"), "")

    def heartbeat_fields(self) -> dict[str, Any]:
        page = self.listed.next_page()
        return {
            "registered_clients": page.addresses,
            "page": page.number,
            "pages": page.count,
        }

    def speak(self, times: int = 1) -> None:
        """So many heartbeats."""
        for _ in range(times):
            self.world.announce(self.number, "mixproviders", "provider", **self.heartbeat_fields())
            self.world.clock.advance(2)

    def shown(self) -> set[str]:
        entry = self.world.registry.find(identity(self.number))
        assert entry is not None
        assert len(set(entry.clients)) == len(entry.clients)
        return {client.address for client in entry.clients}


@pytest.mark.long
def test_ten_thousand_are_listed_in_heartbeats_of_bounded_length() -> None:
    world = World()
    provider = Provider(world)
    provider.list(*range(MAX_PUBLIC_CLIENTS))
    assert not provider.listed.put(MAX_PUBLIC_CLIENTS.to_bytes(32, "big"), provider.address(MAX_PUBLIC_CLIENTS)), (
        "it is full"
    )
    longest = json.dumps(world.heartbeat(3, "provider", **provider.heartbeat_fields()))
    assert len(longest) < BODY_LIMIT / 2
    provider.speak(2 * MAX_PUBLIC_CLIENTS // CLIENTS_PER_PAGE)
    assert provider.shown() == set(provider.listed.addresses())
    assert len(provider.shown()) == MAX_PUBLIC_CLIENTS
    assert len(world.publisher.topology().clients) == MAX_PUBLIC_CLIENTS
    [post] = world.directory.presence()["MixProviderNodes"]
    assert {client["address"] for client in post["registeredClients"]} == provider.shown()
    assert "clientsPage" not in post
    # What stays the same makes no new topology.
    version = world.registry.version
    provider.speak(150)
    assert world.registry.version == version


def test_who_comes_and_goes_is_told_within_two_heartbeats_and_nobody_else_is_moved() -> None:
    world = World()
    provider = Provider(world)
    provider.list(*range(1000))
    provider.speak(20)
    for step in range(30):
        provider.leave(30 * step)
        provider.speak(2)
        assert provider.shown() == set(provider.listed.addresses())
        provider.list(5000 + step)
        provider.speak(2)
        assert provider.shown() == set(provider.listed.addresses())
    assert len(provider.shown()) == 1000


def test_who_comes_and_goes_all_the_time_keeps_nobody_from_being_listed() -> None:
    world = World()
    provider = Provider(world)
    provider.list(*range(1000))
    provider.speak(20)
    world.clock.advance(10)  # the directory has forgotten it
    for _ in range(20):
        provider.leave(1)
        provider.list(1)
        provider.speak()
    assert len(provider.shown()) == 1000


def test_a_list_that_has_become_short_is_told_in_one_piece() -> None:
    world = World()
    provider = Provider(world)
    provider.list(*range(CLIENTS_PER_PAGE + 1))
    provider.speak(3)
    again = Provider(world)  # restarted: it lists those who log in again
    again.list(1, 2)
    again.speak()
    assert again.shown() == {again.address(1), again.address(2)}
    assert "clientsPages" not in world.heartbeat(3, "provider", **again.heartbeat_fields())


def test_pages_that_cannot_be_are_refused() -> None:
    world = World()
    provider = Provider(world)
    provider.list(*range(CLIENTS_PER_PAGE + 1))
    addresses = provider.listed.addresses()
    for heartbeat_fields, error in (
        ({"page": 2, "pages": 2}, "must be lower"),
        ({"page": 100, "pages": 101}, "clientsPage"),
        ({"page": 0, "pages": 2, "registered_clients": addresses}, "a page has at most 100"),
    ):
        with pytest.raises(EncodingError, match=error):
            world.announce(3, "mixproviders", "provider", **heartbeat_fields)


def test_all_lists_together_are_bounded_and_a_node_without_room_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "MOST_LISTED", 250)
    world = World()
    first, second = Provider(world, 3), Provider(world, 4)
    first.list(*range(200))
    second.list(*range(200))
    for _ in range(4):
        first.speak()
        second.speak()
        world.clock.advance(-2)
    assert len(first.shown()) + len(second.shown()) <= 250
    assert len(world.registry) == 2
    keys = {post["identityKey"] for post in world.directory.presence()["MixProviderNodes"]}
    assert keys == {key_text(identity(3)), key_text(identity(4))}
    for mailbox in range(200):
        first.leave(mailbox)
    for _ in range(6):
        first.speak()
        second.speak()
        world.clock.advance(-2)
    assert (len(first.shown()), len(second.shown())) == (0, 200)
