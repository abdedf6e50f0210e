"""What a `SimulatedNetwork` is made of besides the real services: a client's user, the way to the directory, a record
of all that crossed the network.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from nymtw.client.core import ClientCore
from nymtw.client.outbox import Progress
from nymtw.client.service import ClientService
from nymtw.directory.core import LocalDirectory
from nymtw.errors import DirectoryError
from nymtw.interfaces import IDirectory
from nymtw.testing.network import MemoryHost
from nymtw.topology.address import Address

if TYPE_CHECKING:
    from nymtw.testing.simulation import SimulatedNetwork

ACCEPT_LIMIT: Final = 60.0  # seconds


class Transcript:
    """A digest of every byte that crossed the network, with its time and its two ends."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def __call__(self, seconds: float, sender: str, receiver: str, data: bytes) -> None:
        self._hash.update(f"{seconds!r} {sender} {receiver} {len(data)}\n".encode())
        self._hash.update(data)

    def digest(self) -> str:
        """32 hexadecimal digits that are equal if, and only if, everything was the same so far."""
        return self._hash.hexdigest()


@implementer(IDirectory)
class RemoteDirectory:
    """The directory as one host sees it: every answer takes a way there and back, or fails while it is `away`."""

    def __init__(self, network: "SimulatedNetwork", host: MemoryHost) -> None:
        self._simulation = network
        self._host = host
        self._local = LocalDirectory(network.directory)

    def announce(self, path: str, heartbeat: Mapping[str, Any]) -> "Deferred[None]":
        return self._ask(self._local.announce, path, heartbeat)

    def topology(self) -> "Deferred[bytes]":
        return self._ask(self._local.topology)

    def report(self, metric: Mapping[str, Any]) -> "Deferred[None]":
        return self._ask(self._local.report, metric)

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> "Deferred[Any]":
        def ask() -> Any:
            if self._simulation.directory_away:
                raise DirectoryError("the directory is away")
            return function(*arguments)

        return deferLater(self._host, 2 * self._simulation.network.latency, ask)


class SimulatedClient:
    """A client of the network, and an application that takes every message as it arrives."""

    def __init__(self, network: "SimulatedNetwork", name: str, service: ClientService) -> None:
        self._simulation = network
        self.name = name
        self.service = service
        self.received: list[bytes] = []

    def start(self) -> None:
        self.service.startService()
        inbox = self.core.inbox
        inbox.pump(inbox.subscribe(lambda message: self.received.append(message.data)))

    @property
    def core(self) -> ClientCore:
        """Raises `RuntimeError` while the service does not run."""
        if self.service.core is None:
            raise RuntimeError(f"{self.name} does not run")
        return self.service.core

    @property
    def address(self) -> Address:
        """Where messages to it are sent."""
        return Address.parse(self.core.own_address(), self._simulation.trust.network)

    def is_ready(self) -> bool:
        """Whether it is logged in and can send."""
        return bool(self.core.status()["ready"])

    def send(self, recipient: "SimulatedClient | Address", message: bytes, surbs: int = 0) -> bytes:
        """Hand over a message and let time pass until it is accepted; returns its id (16 bytes)."""
        address = recipient if isinstance(recipient, Address) else recipient.address
        sent = Deferred.fromCoroutine(self.core.send(message, address, surbs=surbs))
        return self._simulation.clock.wait_for(sent, ACCEPT_LIMIT).message_id

    def progress(self, message_id: bytes) -> Progress | None:
        """How far a message of this client is."""
        return self.core.progress(message_id)
