"""A client that is killed while it sends, and started again, finishes the job."""

import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from localnet_start import complete

from twisted.internet.defer import Deferred

from nymtw.localnet.client_socket import from_base64, to_base64
from nymtw.localnet.localnet import Localnet
from nymtw.localnet.processes import sleep

pytestmark = pytest.mark.integration


async def progress(localnet: Localnet, identifier: str) -> Any:
    """What alice says of her message: None while she is not there."""
    try:
        alice = await localnet.client("alice", lambda kind, body: None)
    except Exception:
        return None
    try:
        return await alice.request("progress", {"id": identifier})
    finally:
        alice.close()
        await alice.lost


@pytest_twisted.inlineCallbacks
def test_alice_is_killed_while_she_sends(tmp_path: Path) -> Any:
    from twisted.internet import reactor

    yield Deferred.fromCoroutine(assert_that_she_finishes(reactor, tmp_path)).addTimeout(750, reactor)


async def assert_that_she_finishes(reactor: Any, tmp_path: Path) -> None:
    message = os.urandom(300_000)
    received: Deferred[bytes] = Deferred()

    def pushed_by_bob(kind: str, body: Any) -> None:
        if kind == "received":
            received.callback(from_base64(body["message"]))

    localnet = Localnet(reactor, tmp_path, 1, 1)
    try:
        await complete(localnet)
        bob = await localnet.client("bob", pushed_by_bob)
        recipient = (await bob.request("details"))["details"]["address"]
        await bob.request("subscribe")
        alice = await localnet.client("alice", lambda kind, body: None)
        sent = await alice.request("send", {"message": to_base64(message), "recipient": recipient})
        assert sent["fragments"] > 150
        acknowledged = 0
        while acknowledged < sent["fragments"] // 4:
            acknowledged = (await alice.request("progress", {"id": sent["id"]}))["acknowledged"]
            await sleep(reactor, 0.05)
        localnet.processes["alice"].popen.kill()
        await alice.lost
        localnet.processes["alice"].popen.wait()
        localnet.processes.start(localnet.processes["alice"].component)
        assert await received == message
        while (state := await progress(localnet, sent["id"])) is None or state["state"] == "sending":
            await sleep(reactor, 0.2)
        assert state["state"] == "done"
        bob.close()
        await bob.lost
    finally:
        assert await localnet.stop() == []
