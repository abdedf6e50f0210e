"""Names to addresses on an asyncio loop."""

import asyncio
from typing import Any

import pytest

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IResolutionReceiver
from zope.interface import implementer

from nymtw.client.asyncio_resolver import AsyncioResolver

pytestmark = pytest.mark.pythons


@implementer(IResolutionReceiver)
class Receiver:
    def __init__(self) -> None:
        self.found: list[Any] = []
        self.complete = asyncio.Event()

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        self.name = resolutionInProgress.name

    def addressResolved(self, address: Any) -> None:
        self.found.append(address)

    def resolutionComplete(self) -> None:
        self.complete.set()


async def resolve(name: str, kinds: Any = None) -> list[Any]:
    receiver = Receiver()
    AsyncioResolver(asyncio.get_running_loop()).resolveHostName(receiver, name, 80, kinds)
    assert receiver.name == name
    await receiver.complete.wait()
    return receiver.found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("127.0.0.1", [IPv4Address("TCP", "127.0.0.1", 80)]),
        ("::1", [IPv6Address("TCP", "::1", 80)]),
        ("x" * 64 + ".example", []),
    ],
)
def test_addresses_and_names_that_are_none(name: str, found: list[Any]) -> None:
    assert asyncio.run(resolve(name)) == found


def test_only_addresses_of_the_kinds_that_are_wanted() -> None:
    assert asyncio.run(resolve("127.0.0.1", [IPv6Address])) == []
    assert IPv4Address("TCP", "127.0.0.1", 80) in asyncio.run(resolve("localhost", [IPv4Address]))


def test_what_is_cancelled_tells_nothing_more() -> None:
    async def main() -> list[Any]:
        receiver = Receiver()
        resolution = AsyncioResolver(asyncio.get_running_loop()).resolveHostName(receiver, "127.0.0.1", 80)
        resolution.cancel()
        await resolve("127.0.0.1")  # asked for later, answered
        assert not receiver.complete.is_set()
        return receiver.found

    assert asyncio.run(main()) == []
