"""A gateway as a process: messages both ways, kill -9, a client that is away meanwhile; everything arrives once."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from localnet_start import complete

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError

from nymtw.localnet.client_socket import ClientSocket, ClientSocketError, from_base64, to_base64
from nymtw.localnet.localnet import Localnet
from nymtw.localnet.processes import sleep

pytestmark = pytest.mark.integration
GATEWAY = "gateway-1"


class Conversation:
    """alice, at the gateway, and bob, at a provider; `arrived` is how often each has which message."""

    def __init__(self, reactor: Any, localnet: Localnet) -> None:
        self.reactor, self.localnet = reactor, localnet
        self.sockets: dict[str, ClientSocket] = {}
        self.addresses: dict[str, str] = {}
        self.arrived: dict[str, Counter[bytes]] = {"alice": Counter(), "bob": Counter()}

    async def open(self, name: str) -> None:
        """A socket of this client, and what has come for it."""

        def pushed(kind: str, body: Any) -> None:
            if kind == "received":
                self.arrived[name][from_base64(body["message"])] += 1

        await self.until(lambda: self._connect(name, pushed))
        self.addresses[name] = (await self.sockets[name].request("details"))["details"]["address"]
        await self.sockets[name].request("subscribe")

    async def _connect(self, name: str, pushed: Any) -> bool:
        try:
            self.sockets[name] = await self.localnet.client(name, pushed)
        except ConnectError:
            return False
        return True

    async def send(self, sender: str, recipient: str, message: bytes) -> str:
        wanted = {"message": to_base64(message), "recipient": self.addresses[recipient]}
        while True:
            try:
                return str((await self.sockets[sender].request("send", wanted))["id"])
            except ClientSocketError as error:
                # A gateway that was killed is back in the next topology.
                if "not in the topology" not in str(error):
                    raise
                await sleep(self.reactor, 0.5)

    async def stored(self, sender: str, identifier: str) -> None:
        """Until the sender knows that it is where the recipient's messages are kept."""

        async def is_done() -> bool:
            return bool((await self.sockets[sender].request("progress", {"id": identifier}))["state"] == "done")

        await self.until(is_done)

    async def there(self, name: str, message: bytes) -> None:
        async def has() -> bool:
            return self.arrived[name][message] > 0

        await self.until(has)

    async def connected(self, name: str, wanted: bool) -> None:
        async def is_so() -> bool:
            try:
                return bool((await self.sockets[name].request("status"))["connected"] is wanted)
            except ClientSocketError:
                return False

        await self.until(is_so)

    async def until(self, condition: Any) -> None:
        while not await condition():
            await sleep(self.reactor, 0.1)

    def kill(self, name: str) -> None:
        process = self.localnet.processes[name].popen
        process.kill()
        process.wait()

    def start(self, name: str) -> None:
        self.localnet.processes.start(self.localnet.processes[name].component)

    async def close(self) -> None:
        for socket in self.sockets.values():
            socket.close()
            await socket.lost


@pytest_twisted.inlineCallbacks
def test_a_gateway_is_killed_and_started_again(tmp_path: Path) -> Any:
    from twisted.internet import reactor

    yield Deferred.fromCoroutine(assert_that_nothing_is_lost(reactor, tmp_path)).addTimeout(900, reactor)


async def assert_that_nothing_is_lost(reactor: Any, tmp_path: Path) -> None:
    localnet = Localnet(reactor, tmp_path, 1, 1, 1)
    talk = Conversation(reactor, localnet)
    try:
        await complete(localnet)
        await talk.open("alice")
        await talk.open("bob")
        assert (await talk.sockets["alice"].request("status"))["pushed"]
        assert not (await talk.sockets["bob"].request("status"))["pushed"]
        await talk.send("alice", "bob", b"from the gateway")
        await talk.send("bob", "alice", b"to the gateway")
        await talk.there("bob", b"from the gateway")
        await talk.there("alice", b"to the gateway")

        # Killed while it is in the middle of both ways, and something is sent while it is away.
        there, back = os.urandom(100_000), os.urandom(100_000)
        sent = {"alice": await talk.send("alice", "bob", there), "bob": await talk.send("bob", "alice", back)}
        await sleep(reactor, 0.5)
        talk.kill(GATEWAY)
        await talk.connected("alice", False)
        meanwhile = await talk.send("alice", "bob", b"meanwhile")
        talk.start(GATEWAY)
        await talk.connected("alice", True)
        for sender, identifier in (*sent.items(), ("alice", meanwhile)):
            await talk.stored(sender, identifier)
        await talk.there("bob", there)
        await talk.there("alice", back)
        await talk.there("bob", b"meanwhile")

        # alice is away; what the gateway has said it has is there after another kill.
        talk.kill("alice")
        await talk.sockets.pop("alice").lost
        kept = os.urandom(20_000)
        await talk.stored("bob", await talk.send("bob", "alice", kept))
        talk.kill(GATEWAY)
        talk.start(GATEWAY)
        talk.start("alice")
        await talk.open("alice")
        await talk.there("alice", kept)
        await talk.stored("bob", await talk.send("bob", "alice", b"the end"))
        await talk.there("alice", b"the end")
        assert talk.arrived["alice"] == Counter([b"to the gateway", back, kept, b"the end"])
        assert talk.arrived["bob"] == Counter([b"from the gateway", there, b"meanwhile"])
        await talk.close()
    finally:
        assert await localnet.stop() == []
