"""Messages from alice to bob, over the sockets of their clients."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from nymtw.errors import DeliveryFailed, NymtwError
from nymtw.localnet.client_socket import ClientSocket, from_base64, to_base64
from nymtw.localnet.localnet import Localnet

T = TypeVar("T")

# (fragments acknowledged, fragments)
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Delivered(Generic[T]):
    """The outcome of a message: the result of `keep` at bob's end, seconds on the way, number of fragments."""

    kept: T
    seconds: float
    fragments: int


@dataclass(slots=True)
class _Sending:
    progress: Progress
    stored: "Deferred[None]"
    fragments: int


class Mail(Generic[T]):
    """alice's socket to send with, bob's to receive with. `keep` takes every message that bob receives."""

    def __init__(self, reactor: Any, localnet: Localnet, keep: Callable[[bytes], T]) -> None:
        self._reactor = reactor
        self._localnet = localnet
        self._keep = keep
        self._sockets: list[ClientSocket] = []
        self._sending: dict[str, _Sending] = {}
        self._arrivals: dict[str, Deferred[tuple[T, float]]] = {}
        self._closed = False

    async def open(self) -> None:
        """Connect to both clients. From now on bob's messages arrive."""
        alice = await self._connect("alice", self._pushed_by_alice)
        bob = await self._connect("bob", self._pushed_by_bob)
        self._address = (await bob.request("details"))["details"]["address"]
        # Unconfirmed messages stay in the client, for others.
        await alice.request("subscribe", {"progress": True, "confirm": True})
        await bob.request("subscribe", {"confirm": True})

    async def deliver(self, message: bytes, progress: Progress = lambda done, total: None) -> Delivered[T]:
        """Send to bob, and wait until bob has it and alice knows that it is stored.

        Raises `DeliveryFailed` where alice's client gives up, `NymtwError` where a client refuses or closes its socket.
        """
        alice, started = self._sockets[0], self._reactor.seconds()
        answer = await alice.request("send", {"message": to_base64(message), "recipient": self._address})
        sending = self._sending[answer["id"]] = _Sending(progress, Deferred(), answer["fragments"])
        arrival = self._arrivals.setdefault(answer["id"], Deferred())
        progress(0, sending.fragments)
        await sending.stored
        kept, when = await arrival
        return Delivered(kept, when - started, sending.fragments)

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        for socket in self._sockets:
            socket.close()

    async def _connect(self, name: str, pushed: Callable[[str, Mapping[str, Any]], None]) -> ClientSocket:
        socket = await self._localnet.client(name, pushed)
        socket.lost.addCallback(lambda _: self._lost(name))
        self._sockets.append(socket)
        return socket

    def _pushed_by_alice(self, kind: str, body: Mapping[str, Any]) -> None:
        sending = self._sending.get(body["id"]) if kind == "progress" else None
        if sending is None or sending.stored.called:
            return
        sending.progress(body["acknowledged"], body["fragments"])
        if body["state"] == "done":
            sending.stored.callback(None)
        elif body["state"] == "failed":
            sending.stored.errback(DeliveryFailed())

    def _pushed_by_bob(self, kind: str, body: Mapping[str, Any]) -> None:
        if kind != "received":
            return
        when, kept = self._reactor.seconds(), self._keep(from_base64(body["message"]))
        arrival = self._arrivals.setdefault(body["id"], Deferred())
        if not arrival.called:
            arrival.callback((kept, when))
        confirmed = self._sockets[1].request("confirm", {"ids": [body["id"]]})
        confirmed.addErrback(lambda failure: failure.trap(NymtwError))

    def _lost(self, name: str) -> None:
        """The connection is lost: fail for those who wait."""
        if self._closed:
            return
        error = NymtwError(f"{name} has closed its socket")
        for identifier, sending in self._sending.items():
            arrival = self._arrivals[identifier]
            if not sending.stored.called:
                sending.stored.errback(error)
                # Nobody will look at it any more.
                arrival.addErrback(lambda failure: None)
            if not arrival.called:
                arrival.errback(error)
